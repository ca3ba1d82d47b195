package temporalengine

import (
	"context"
	"errors"
	"fmt"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/mcpagent/mcpagent/durable"
)

// NewPlugin makes workflows and steps part of a worker that is the user's own,
// beside plain workflows and activities:
//
//	p, err := temporalengine.NewPlugin(&temporalengine.Options{Client: c}, process, pay)
//	w := worker.New(c, "orders", worker.Options{Plugins: []worker.Plugin{p}})
//
// Options.Client is needed. Of the other options those of the engine, Blobs and
// Heartbeat count: the rest is the worker's own. To start runs there, open an
// engine with ClientOnly, the same client and TaskQueue "orders".
func NewPlugin(o *Options, defs ...durable.Definer) (worker.Plugin, error) {
	h, err := prepare(o, defs)
	if err != nil {
		return nil, err
	}
	if h.client = h.opts.Client; h.client == nil {
		return nil, errors.New("temporal: option Client is missing: a plugin works with the client of its worker")
	}
	if err := h.adopt(); err != nil {
		return nil, err
	}
	return &plugin{h: h}, nil
}

// plugin brings our part of a worker to it.
type plugin struct {
	worker.PluginBase
	h *shared
}

// Name implements [worker.Plugin].
func (p *plugin) Name() string { return "github.com/mcpagent/mcpagent/durable/temporalengine" }

// ConfigureWorker implements [worker.Plugin]. The SDK panics with its error.
func (p *plugin) ConfigureWorker(_ context.Context, o worker.PluginConfigureWorkerOptions) error {
	w := o.WorkerOptions
	if w.WorkflowPanicPolicy != worker.BlockWorkflow {
		return fmt.Errorf("temporal: the worker of task queue %q has a WorkflowPanicPolicy other than BlockWorkflow: a run whose code is stuck waits for a repair, and must not fail; leave it out, or make another worker", o.TaskQueue)
	}
	p.h.queue = o.TaskQueue
	w.Interceptors = append([]interceptor.WorkerInterceptor{&intercept{h: p.h}}, w.Interceptors...)
	return nil
}

// StartWorker implements [worker.Plugin].
func (p *plugin) StartWorker(ctx context.Context, o worker.PluginStartWorkerOptions, next func(context.Context, worker.PluginStartWorkerOptions) error) error {
	p.h.limits(ctx)
	p.h.register(o.WorkerRegistry)
	return next(ctx, o)
}

// registry is what of a worker our part needs.
type registry interface {
	RegisterWorkflowWithOptions(any, workflow.RegisterOptions)
	RegisterActivityWithOptions(any, activity.RegisterOptions)
}

// adopt takes the namespace from the user's client, which has it and does not
// tell: only a request that leaves it open is filled in.
func (h *shared) adopt() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // nothing is to be sent
	req := &workflowservice.CountWorkflowExecutionsRequest{}
	_, _ = h.client.CountWorkflow(ctx, req)
	switch {
	case req.Namespace == "" || req.Namespace == h.opts.Namespace:
	case h.opts.Namespace == "":
		h.space = req.Namespace
	default:
		return fmt.Errorf("temporal: option Namespace is %q, and that of Client is %q: leave the option out", h.opts.Namespace, req.Namespace)
	}
	return nil
}
