package temporalengine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
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
	events, err := h.events(ctx, ref)
	if err != nil {
		return nil, err
	}
	var d *drive
	if events = decided(events); len(events) > 0 {
		// An error is what the run's code comes to today; the turns before it are
		// there.
		d, err = h.replay(ctx, events, ref)
	}
	if d == nil {
		if err == nil {
			err = fmt.Errorf("run %v %w", ref, errUnbegun)
		}
		return nil, fmt.Errorf("%w on task queue %q, and a replay here says: %w", durable.ErrNoWorker, queueOf(info, h.queue), err)
	}
	defer d.run.Close()
	return d.run.Do(req), nil
}

// errUnbegun says that no turn of a run has come to its end.
var errUnbegun = errors.New("has not begun")

// decided is a history without the turn that a worker is at, which the SDK would
// replay: nobody has decided yet what comes of it. It is empty where that is
// the first one.
func decided(events []*historypb.HistoryEvent) []*historypb.HistoryEvent {
	if n := len(events) - 1; n >= 0 && events[n].GetWorkflowTaskStartedEventAttributes() != nil {
		events = events[:n]
	}
	if !slices.ContainsFunc(events, func(ev *historypb.HistoryEvent) bool { return ev.GetWorkflowTaskCompletedEventAttributes() != nil }) {
		return nil
	}
	return events
}

// stuckAfter is how many times as long as the watchdog waits a turn may take in
// a replay: somebody waits for an answer, and nobody for the turn.
const stuckAfter = 10

// replay replays a history with the workflows of this program, and gives what
// came of the run, which is to be closed; nil: nothing. Code that does not come
// back is left alone with it, where the SDK would go on beside it.
func (h *shared) replay(ctx context.Context, events []*historypb.HistoryEvent, ref durable.Ref) (*drive, error) {
	c := &capture{intercept: intercept{h: h}, late: make(chan struct{})}
	r, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{
		Interceptors: []interceptor.WorkerInterceptor{c}, DisableRegistrationAliasing: true, DisableDeadlockDetection: true,
	})
	if err != nil {
		return nil, err
	}
	for _, i := range h.defs.Infos() {
		if i.Kind == durable.KindWorkflow && h.host.Defines(i.Kind, i.Name) {
			r.RegisterWorkflowWithOptions(h.execute, workflow.RegisterOptions{Name: i.Name})
		}
	}
	done := make(chan error, 1)
	go func() {
		done <- r.ReplayWorkflowHistoryWithOptions(silent, &historypb.History{Events: events}, worker.ReplayWorkflowHistoryOptions{
			OriginalExecution: workflow.Execution{ID: ref.WorkflowID, RunID: ref.RunID},
		})
	}()
	select {
	case err := <-done:
		return c.drive(), err
	case <-c.late:
		limit := stuckAfter * h.watchdog()
		err = errors.New(problem(&durable.Problem{Kind: "deadlock", Text: fmt.Sprintf("the workflow's code has not blocked in a durable call for %v: it waits outside of durable, or computes", limit)}))
	case <-ctx.Done():
		err = ctx.Err()
	}
	go func() {
		if <-done; c.drive() != nil {
			c.drive().run.Close()
		}
	}()
	return nil, err
}

// Replay holds today's code against the history of a run as the cluster has
// it, in JSON (`temporal workflow show --output json`, or the download of the
// web interface): without a cluster, and without any effect. Where a run with
// that history would be blocked by a deploy of this code, the error is a
// [*durable.BlockedError] that says so. It is [durable.Replay] for histories of
// Temporal. Of the options the codec and Blobs count; nil is fine.
func Replay(ctx context.Context, history []byte, o *Options, defs ...durable.Definer) (*durable.Replayed, error) {
	past, err := client.HistoryFromJSON(bytes.NewReader(history), client.HistoryJSONOptions{})
	if err != nil || len(past.GetEvents()) == 0 || past.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes() == nil {
		return nil, fmt.Errorf("replay: %w: it is not the history of a run in the JSON of Temporal (%v)", durable.ErrHistory, err)
	}
	h, err := prepare(o, defs)
	if err != nil {
		return nil, err
	}
	first := past.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes()
	last := past.GetEvents()[len(past.GetEvents())-1]
	state, _, _ := ending(last)
	out := &durable.Replayed{WorkflowID: first.GetWorkflowId(), RunID: first.GetOriginalExecutionRunId(), Workflow: first.GetWorkflowType().GetName(), State: state}
	events := past.GetEvents()
	if made := decided(events); len(made) > 0 {
		events = made
	}
	d, err := h.replay(ctx, events, durable.Ref{WorkflowID: out.WorkflowID, RunID: out.RunID})
	if d != nil {
		defer d.run.Close()
	}
	if err == nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		p := taskProblem(&historypb.WorkflowTaskFailedEventAttributes{Failure: &failurepb.Failure{Message: err.Error()}}, &durable.Problem{})
		return nil, &durable.BlockedError{WorkflowID: out.WorkflowID, RunID: out.RunID, Problem: *p}
	}
	if d != nil {
		if rep := d.run.Do(&durable.Request{Op: durable.OpDescribe}); rep.Run != nil {
			out.Turns = int(rep.Run.Turns)
		}
	}
	return out, nil
}

var silent = log.NewStructuredLogger(slog.New(slog.DiscardHandler))

// capture is intercept, and keeps what it made.
type capture struct {
	intercept
	in   *inbound
	late chan struct{} // closed when the code does not come back
}

// drive is what was made of the run; nil: nothing.
func (c *capture) drive() *drive {
	if c.in == nil {
		return nil
	}
	return c.in.d
}

func (c *capture) InterceptWorkflow(ctx workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	in := c.intercept.InterceptWorkflow(ctx, next)
	if ours, ok := in.(*inbound); ok {
		ours.held = true // the SDK ends its goroutine when it likes
		ours.late = sync.OnceFunc(func() { close(c.late) })
		c.in = ours
	}
	return in
}

// askUnbegun answers for a run that ended before its code ran, or whose first
// turn is a problem.
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
