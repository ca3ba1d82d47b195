package temporalengine_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"google.golang.org/grpc"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/temporalengine"
)

// TestEndsWhileDescribed: what the cluster says of a run and what its code says
// are two questions, and a run that ends between them is told as one that has
// ended.
func TestEndsWhileDescribed(t *testing.T) {
	t.Parallel()
	ctx := within(t, time.Minute)
	paid := durable.NewSignal[string]("paid")
	state := durable.NewStatus[string]("state")
	flow := durable.NewWorkflow("flow", func(ctx context.Context, _ string) (string, error) {
		state.Set(ctx, "waits")
		if _, err := paid.Receive(ctx); err != nil {
			return "", err
		}
		state.Set(ctx, "paid")
		return "done", nil
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{paid}})

	var between atomic.Pointer[func()] // after the cluster's answer
	looks := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		err := invoke(ctx, method, req, reply, cc, opts...)
		if method == workflowservice.WorkflowService_DescribeWorkflowExecution_FullMethodName {
			if f := between.Swap(nil); f != nil {
				(*f)()
			}
		}
		return err
	}
	theirs, err := client.DialContext(ctx, client.Options{
		HostPort: anyServer(t), Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler)),
		ConnectionOptions: client.ConnectionOptions{DialOptions: []grpc.DialOption{grpc.WithUnaryInterceptor(looks)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(theirs.Close)
	o := temporalengine.Options{TaskQueue: queue(t), Engine: durable.Options{Logger: quietLog}}
	worker := on(t, o, flow, state)
	run, err := flow.Start(ctx, worker, "", &durable.StartOptions{ID: id(t)})
	if err != nil {
		t.Fatal(err)
	}
	describes(t, ctx, run, func(d *durable.Description) bool { return string(d.Status["state"]) == `"waits"` })
	o.Client, o.ClientOnly = theirs, true
	desk := on(t, o, flow, state).Run(run.WorkflowID, "")
	ends := func() {
		if err := paid.Send(ctx, run, "", nil); err != nil {
			t.Error(err)
		}
		if _, err := flow.Result(ctx, run); err != nil {
			t.Error(err)
		}
	}
	between.Store(&ends)
	d, err := desk.Describe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if d.State != durable.Completed || string(d.Result) != `"done"` || string(d.Status["state"]) != `"paid"` {
		t.Errorf("a run that ended while it was described is %s with result %s and status %s", d.State, d.Result, d.Status["state"])
	}
}

// TestListensBeforeItBegins: who listens to a run that no worker has taken yet
// waits for one.
func TestListensBeforeItBegins(t *testing.T) {
	t.Parallel()
	ctx := within(t, time.Minute)
	says, nudge := durable.NewStream[string]("says"), durable.NewSignal[string]("nudge")
	flow := durable.NewWorkflow("flow", func(ctx context.Context, _ string) (string, error) {
		says.Append(ctx, "hello")
		return "", nil
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{says, nudge}})
	o := temporalengine.Options{TaskQueue: queue(t), ClientOnly: true, Engine: durable.Options{Logger: quietLog}}
	desk := on(t, o, flow)
	run, err := flow.Start(ctx, desk, "", &durable.StartOptions{ID: id(t)})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // what comes for it does not make it one that has begun
		if err := nudge.Send(ctx, run, "", nil); err != nil {
			t.Fatal(err)
		}
	}
	heard := make(chan error, 1)
	go func() {
		for it, err := range says.Read(ctx, run, 0) {
			if err == nil && it.Value != "hello" {
				err = fmt.Errorf("heard %q", it.Value)
			}
			heard <- err
			return
		}
	}()
	select {
	case err := <-heard:
		t.Fatalf("nobody has said anything: %v", err)
	case <-time.After(7 * time.Second): // longer than a worker is waited for
	}
	o.ClientOnly = false
	on(t, o, flow)
	if err := <-heard; err != nil {
		t.Fatal(err)
	}
}
