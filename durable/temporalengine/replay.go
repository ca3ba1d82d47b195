package temporalengine

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/mcpagent/mcpagent/durable"
)

// askHere answers a question about a run without any worker: it replays what
// the cluster has of it in this process, which must define the workflow. It is
// how a run is looked at whose workers are gone, or whose code is stuck.
func (h *shared) askHere(ctx context.Context, info *described, req *durable.Request) (*durable.Reply, error) {
	ref := refOf(info)
	c := &capture{intercept: intercept{h: h}}
	r, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{
		Interceptors: []interceptor.WorkerInterceptor{c}, DisableRegistrationAliasing: true,
	})
	if err != nil {
		return nil, err
	}
	for _, i := range h.defs.Infos() {
		if i.Kind == durable.KindWorkflow && h.host.Defines(i.Kind, i.Name) {
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
		return nil, fmt.Errorf("%w on task queue %q, and a replay here says: %w", durable.ErrNoWorker, queueOf(info, h.queue), err)
	}
	defer c.in.d.run.Close()
	return c.in.d.run.Do(req), nil
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
		ours.held = true // the SDK ends its goroutine when it likes
		c.in = ours
	}
	return in
}

// askUnbegun answers for a run that ended before its code ran.
func (h *shared) askUnbegun(ctx context.Context, ref durable.Ref, req *durable.Request) (*durable.Reply, error) {
	events, err := h.events(ctx, ref)
	if err != nil {
		return nil, err
	}
	a := events[0].GetWorkflowExecutionStartedEventAttributes()
	var carry *commonpb.Payload
	if p := a.GetInput().GetPayloads(); len(p) > 1 {
		carry = p[1]
	}
	start, err := h.startOf(first(a.GetInput()), carry, &durable.HostedStart{
		WorkflowID: ref.WorkflowID, RunID: a.GetOriginalExecutionRunId(), Chain: a.GetFirstExecutionRunId(), Workflow: a.GetWorkflowType().GetName(),
		Created: timeOf(events[0].GetEventTime()).UnixMicro(),
	})
	if err != nil {
		return nil, err
	}
	run, err := h.host.Begin(still{}, start)
	if err != nil {
		return nil, err
	}
	defer run.Close()
	return run.Do(req), nil
}

// still is the cluster of a run that does nothing.
type still struct{ durable.Cluster }

// Now implements [durable.Cluster].
func (still) Now() int64 { return time.Now().UnixMicro() }

// Replaying implements [durable.Cluster].
func (still) Replaying() bool { return true }
