package temporalengine

import (
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// Versioned makes the worker one version of a deployment (Temporal's worker
// versioning): a run that began on a version stays with it, or with
// autoUpgrade goes on with the deployment's current one.
func (o *Options) Versioned(deployment, buildID string, autoUpgrade bool) {
	behavior := workflow.VersioningBehaviorPinned
	if autoUpgrade {
		behavior = workflow.VersioningBehaviorAutoUpgrade
	}
	o.Worker.DeploymentOptions = worker.DeploymentOptions{
		UseVersioning:             true,
		Version:                   worker.WorkerDeploymentVersion{DeploymentName: deployment, BuildID: buildID},
		DefaultVersioningBehavior: behavior,
	}
}
