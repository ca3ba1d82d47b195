package temporalengine

import (
	"context"
	"fmt"
	"log/slog"

	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/mcpagent/mcpagent/durable"
)

// askHere answers a question about a run without any worker: it replays what
// the cluster has of it in this process, which must define the workflow. It is
// how a run is looked at whose workers are gone, or whose code is stuck.
func (h *shared) askHere(ctx context.Context, ref durable.Ref, req *durable.Request) (*durable.Reply, error) {
	c := &capture{intercept: intercept{h: h}}
	r, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{
		Interceptors: []interceptor.WorkerInterceptor{c}, DisableRegistrationAliasing: true,
	})
	if err != nil {
		return nil, err
	}
	for _, i := range h.defs.Infos() {
		if i.Kind == durable.KindWorkflow {
			r.RegisterWorkflowWithOptions(h.execute, workflow.RegisterOptions{Name: i.Name})
		}
	}
	// An error is what the run's code comes to today; the turns before it are
	// there.
	err = r.ReplayWorkflowExecution(ctx, h.client.WorkflowService(), silent, h.space, workflow.Execution{ID: ref.WorkflowID, RunID: ref.RunID})
	if c.in == nil || c.in.d == nil {
		if err == nil {
			err = fmt.Errorf("run %v has not begun", ref)
		}
		return nil, fmt.Errorf("%w on task queue %q, and a replay here says: %w", durable.ErrNoWorker, h.queue, err)
	}
	rep := c.in.d.run.Do(req)
	c.in.d.run.Close()
	return rep, nil
}

var silent = log.NewStructuredLogger(slog.New(slog.DiscardHandler))

// capture is intercept, and keeps what it made.
type capture struct {
	intercept
	in *inbound
}

func (c *capture) InterceptWorkflow(ctx workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	in := c.intercept.InterceptWorkflow(ctx, next)
	if ours, ok := in.(*inbound); ok {
		c.in = ours
	}
	return in
}
