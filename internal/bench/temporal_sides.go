package main

import (
	"context"
	"log/slog"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/temporalengine"
)

// The same workflows twice: on our engine, and as they are written by hand on
// the plain SDK. Each side has a connection and a worker of its own, both with
// the SDK's settings, and is used as its documentation says.

// side is one of the two.
type side struct {
	name  string
	start func(ctx context.Context, workflow string, n int) (talk, error)
	close func()
}

// talk is a conversation with a run.
type talk struct {
	id     string
	signal func(context.Context) error
	query  func(context.Context) error
	update func(context.Context) error
	wait   func(context.Context) error
}

// The workflows.
const (
	chainName  = "chain"  // n steps one after the other
	fanName    = "fan"    // n steps at once
	listenName = "listen" // n signals; a query and an update meanwhile
)

// work is what a step of either side does.
func workOn(_ context.Context, v small) (small, error) { v.Amount++; return v, nil }

// quiet is for figures, not for logs.
var quiet = slog.New(slog.DiscardHandler)

func dial(ctx context.Context, addr string) (client.Client, error) {
	return client.DialContext(ctx, client.Options{HostPort: addr, Logger: log.NewStructuredLogger(quiet)})
}

// --- ours

var (
	benchStep   = durable.NewStep("bench.step", workOn, nil)
	benchTell   = durable.NewSignal[int]("tell")
	benchHeard  = durable.NewQuery[int, int]("heard")
	benchRaise  = durable.NewUpdate[int, int]("raise")
	benchChain  = durable.NewWorkflow(chainName, oursChain, nil)
	benchFan    = durable.NewWorkflow(fanName, oursFan, nil)
	benchListen = durable.NewWorkflow(listenName, oursListen, &durable.WorkflowOptions{Accepts: []durable.Accepted{benchTell, benchHeard, benchRaise}})
)

func oursChain(ctx context.Context, n int) (int, error) {
	v := payload("bench")
	for range n {
		var err error
		if v, err = benchStep.Do(ctx, v); err != nil {
			return 0, err
		}
	}
	return int(v.Amount), nil
}

func oursFan(ctx context.Context, n int) (int, error) {
	all := make([]*durable.Future[small], n)
	for i := range all {
		all[i] = benchStep.Start(ctx, payload("bench"))
	}
	sum := 0
	for _, f := range all {
		v, err := f.Get(ctx)
		if err != nil {
			return 0, err
		}
		sum += int(v.Amount)
	}
	return sum, nil
}

func oursListen(ctx context.Context, n int) (int, error) {
	heard := 0
	if err := benchHeard.Handle(ctx, func(by int) (int, error) { return heard + by, nil }); err != nil {
		return 0, err
	}
	if err := benchRaise.Handle(ctx, func(_ context.Context, by int) (int, error) { heard += by; return heard, nil }, nil); err != nil {
		return 0, err
	}
	for range n {
		if _, err := benchTell.Receive(ctx); err != nil {
			return 0, err
		}
	}
	return n, nil
}

func oursOn(ctx context.Context, addr string) (*side, error) {
	c, err := dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	e, err := temporalengine.Open(ctx, &temporalengine.Options{Client: c, TaskQueue: "bench-ours", Engine: durable.Options{Logger: quiet}},
		benchStep, benchChain, benchFan, benchListen)
	if err != nil {
		c.Close()
		return nil, err
	}
	s := &side{name: "ours", close: func() { _ = e.Close(context.WithoutCancel(ctx)); c.Close() }}
	wfs := map[string]*durable.Workflow[int, int]{chainName: benchChain, fanName: benchFan, listenName: benchListen}
	s.start = func(ctx context.Context, name string, n int) (talk, error) {
		r, err := wfs[name].Start(ctx, e, n, nil)
		if err != nil {
			return talk{}, err
		}
		return talk{
			id:     r.WorkflowID,
			signal: func(ctx context.Context) error { return benchTell.Send(ctx, r, 1, nil) },
			query:  func(ctx context.Context) error { _, err := benchHeard.Ask(ctx, r, 1); return err },
			update: func(ctx context.Context) error { _, err := benchRaise.Send(ctx, r, 1, nil); return err },
			wait:   func(ctx context.Context) error { _, err := wfs[name].Result(ctx, r); return err },
		}, nil
	}
	return s, nil
}

// --- by hand

func handOptions(ctx workflow.Context) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: durable.DefaultStepTimeout})
}

func handChain(ctx workflow.Context, n int) (int, error) {
	ctx = handOptions(ctx)
	v := payload("bench")
	for range n {
		if err := workflow.ExecuteActivity(ctx, "bench.step", v).Get(ctx, &v); err != nil {
			return 0, err
		}
	}
	return int(v.Amount), nil
}

func handFan(ctx workflow.Context, n int) (int, error) {
	ctx = handOptions(ctx)
	all := make([]workflow.Future, n)
	for i := range all {
		all[i] = workflow.ExecuteActivity(ctx, "bench.step", payload("bench"))
	}
	sum := 0
	for _, f := range all {
		var v small
		if err := f.Get(ctx, &v); err != nil {
			return 0, err
		}
		sum += int(v.Amount)
	}
	return sum, nil
}

func handListen(ctx workflow.Context, n int) (int, error) {
	heard := 0
	if err := workflow.SetQueryHandler(ctx, "heard", func(by int) (int, error) { return heard + by, nil }); err != nil {
		return 0, err
	}
	if err := workflow.SetUpdateHandler(ctx, "raise", func(_ workflow.Context, by int) (int, error) { heard += by; return heard, nil }); err != nil {
		return 0, err
	}
	tell := workflow.GetSignalChannel(ctx, "tell")
	for range n {
		var v int
		tell.Receive(ctx, &v)
	}
	return n, nil
}

func handOn(ctx context.Context, addr string) (*side, error) {
	c, err := dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	const queue = "bench-plain"
	w := worker.New(c, queue, worker.Options{})
	w.RegisterActivityWithOptions(workOn, activity.RegisterOptions{Name: "bench.step"})
	w.RegisterWorkflowWithOptions(handChain, workflow.RegisterOptions{Name: chainName})
	w.RegisterWorkflowWithOptions(handFan, workflow.RegisterOptions{Name: fanName})
	w.RegisterWorkflowWithOptions(handListen, workflow.RegisterOptions{Name: listenName})
	if err := w.Start(); err != nil {
		c.Close()
		return nil, err
	}
	s := &side{name: "plain SDK", close: func() { w.Stop(); c.Close() }}
	s.start = func(ctx context.Context, name string, n int) (talk, error) {
		r, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{TaskQueue: queue}, name, n)
		if err != nil {
			return talk{}, err
		}
		return talk{
			id:     r.GetID(),
			signal: func(ctx context.Context) error { return c.SignalWorkflow(ctx, r.GetID(), r.GetRunID(), "tell", 1) },
			query: func(ctx context.Context) error {
				v, err := c.QueryWorkflow(ctx, r.GetID(), r.GetRunID(), "heard", 1)
				if err != nil {
					return err
				}
				var got int
				return v.Get(&got)
			},
			update: func(ctx context.Context) error {
				u, err := c.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{WorkflowID: r.GetID(), RunID: r.GetRunID(), UpdateName: "raise",
					Args: []any{1}, WaitForStage: client.WorkflowUpdateStageCompleted})
				if err != nil {
					return err
				}
				var got int
				return u.Get(ctx, &got)
			},
			wait: func(ctx context.Context) error { var n int; return r.Get(ctx, &n) },
		}, nil
	}
	return s, nil
}
