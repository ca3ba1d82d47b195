package temporalengine_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/temporalengine"
)

// A run was looked at by the code that was still replaying it, where that did
// not come back in time.
func TestStuckReplay(t *testing.T) {
	t.Parallel()
	ctx := within(t, time.Minute)
	done := durable.NewSignal[string]("done")
	var stuck chan struct{}
	end := make(chan struct{})
	flow := durable.NewWorkflow("flow", func(ctx context.Context, _ string) (string, error) {
		if stuck != nil {
			<-stuck //durablevet:ignore the misuse that the test is for
		}
		return done.Receive(ctx)
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{done}})
	o := temporalengine.Options{HostPort: anyServer(t), TaskQueue: queue(t), Engine: durable.Options{Logger: quietLog}}
	worker, err := temporalengine.Open(ctx, &o, flow)
	if err != nil {
		t.Fatal(err)
	}
	run, err := flow.Start(ctx, worker, "", &durable.StartOptions{ID: id(t)})
	if err != nil {
		t.Fatal(err)
	}
	describes(t, ctx, run, func(d *durable.Description) bool { return len(d.Waiting) == 1 && d.Waiting[0].Kind == "signal" })
	if err := worker.Close(ctx); err != nil {
		t.Fatal(err)
	}
	stuck = end
	defer close(end)
	o.ClientOnly, o.Engine.Watchdog = true, 100*time.Millisecond
	desk := on(t, o, flow)
	d, err := desk.Run(run.WorkflowID, "").Describe(ctx)
	if err != nil || len(d.Waiting) != 1 || !strings.Contains(d.Waiting[0].Text, "has not blocked in a durable call") {
		t.Errorf("it is %+v, %v", d, err)
	}
}
