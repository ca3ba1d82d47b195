package temporalengine_test

import (
	"context"
	"testing"
	"time"

	historypb "go.temporal.io/api/history/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/temporalengine"
)

// A turn that a worker had taken, and that it had not brought to its end, was
// shown as if it had: what nobody had decided could be read.
func TestUndecidedTurn(t *testing.T) {
	t.Parallel()
	ctx := within(t, time.Minute)
	done := durable.NewSignal[string]("done")
	state := durable.NewStatus[string]("state")
	says := durable.NewStream[string]("says")
	flow := durable.NewWorkflow("flow", func(ctx context.Context, _ string) (string, error) {
		for _, now := range []string{"waits", "done"} {
			state.Set(ctx, now)
			says.Append(ctx, now)
			if _, err := done.Receive(ctx); err != nil {
				return "", err
			}
		}
		return "", nil
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{done}})
	o := temporalengine.Options{HostPort: anyServer(t), TaskQueue: queue(t), ClientOnly: true, Engine: durable.Options{Logger: quietLog}}
	desk := on(t, o, flow, state, says)
	start := func(id string) *durable.Run {
		t.Helper()
		run, err := flow.Start(ctx, desk, "", &durable.StartOptions{ID: id})
		if err != nil {
			t.Fatal(err)
		}
		return run
	}
	// taken is a turn that a worker takes, and does not bring to its end.
	taken := func() {
		t.Helper()
		task, err := dial(t, o.HostPort).WorkflowService().PollWorkflowTaskQueue(ctx, &workflowservice.PollWorkflowTaskQueueRequest{
			Namespace: client.DefaultNamespace, TaskQueue: &taskqueuepb.TaskQueue{Name: o.TaskQueue}, Identity: "mortal",
		})
		if err != nil || len(task.GetTaskToken()) == 0 {
			t.Fatalf("no task: %v, %v", task, err)
		}
	}
	look := func(run *durable.Run, turns int64, status string) {
		t.Helper()
		d, err := run.Describe(ctx)
		if err != nil || d.Turns != turns || string(d.Status["state"]) != status || d.Problem != nil || len(d.Waiting) == 0 {
			t.Errorf("it is %+v, %v; want %d turns and the status %s", d, err, turns, status)
		}
	}

	// The second turn.
	o.ClientOnly, o.Worker.WorkerStopTimeout = false, time.Second
	worker, err := temporalengine.Open(ctx, &o, flow, state, says)
	if err != nil {
		t.Fatal(err)
	}
	run := start(id(t))
	describes(t, ctx, run, func(d *durable.Description) bool { return string(d.Status["state"]) == `"waits"` })
	if err := worker.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if err := done.Send(ctx, run, "", nil); err != nil {
		t.Fatal(err)
	}
	taken()
	look(run, 1, `"waits"`)
	past := &historypb.History{Events: events(t, dial(t, o.HostPort), run.WorkflowID)}
	b, err := protojson.Marshal(past)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := temporalengine.Replay(ctx, b, nil, flow, state, says); err != nil || out.Turns != 1 {
		t.Errorf("a replay: %+v, %v", out, err)
	}

	// The first one.
	run = start(id(t) + "-new")
	taken()
	look(run, 0, "")
}
