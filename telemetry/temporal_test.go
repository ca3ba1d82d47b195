package telemetry_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/temporalengine"
	"github.com/mcpagent/mcpagent/internal/temporaltest"
	"github.com/mcpagent/mcpagent/telemetry"
)

// cluster gives what opens engines on a server, with a task queue of their
// own.
func cluster(t *testing.T, server *temporaltest.Server, queue string, defs ...durable.Definer) func(durable.Options) (*durable.Engine, error) {
	return func(o durable.Options) (*durable.Engine, error) {
		opts := &temporalengine.Options{Engine: o, HostPort: server.Addr(), Namespace: server.Namespace(), TaskQueue: queue, Heartbeat: 3 * time.Second}
		opts.Worker.WorkerStopTimeout = time.Second
		return temporalengine.Open(t.Context(), opts, defs...)
	}
}

// One after the other: the workers of a process share their cache of runs.
func TestOnACluster(t *testing.T) {
	t.Parallel()
	server := temporaltest.New(t, &temporaltest.Options{Args: []string{
		// How often a task has to fail for the cluster to report it.
		"-dynamic-config", "system.numConsecutiveWorkflowTaskProblemsToTriggerSearchAttribute=1",
	}})
	t.Run("replays are not seen", func(t *testing.T) { replaysOnACluster(t, server) })
	t.Run("traces are linked", func(t *testing.T) { tracesOnACluster(t, server) })
	t.Run("calls of MCP are linked", func(t *testing.T) {
		callsOfMCP(t, func(e *engine, defs ...durable.Definer) { e.open = cluster(t, server, "mcp", defs...) })
	})
	t.Run("tasks that come to nothing are not seen", func(t *testing.T) { tasksToNothing(t, server) })
	t.Run("gauges tell how a task queue is", func(t *testing.T) { gaugesOfAQueue(t, server) })
}

// Runs on a cluster are seen as they are in memory, and as often: in one pass;
// where each task and each question to a run replays it; where it has another
// worker before each signal; and with two workers at a time.
func replaysOnACluster(t *testing.T, server *temporaltest.Server) {
	var want map[string]float64
	for _, name := range []string{"memory", "cached", "cache 0", "reopened", "two workers"} {
		r, to := newReceiver(t), newTour()
		to.id = "tour " + name
		e := &engine{t: t, r: r, open: cluster(t, server, name, to.defs...)}
		begin, again, end, size, replays := e.start, func() {}, e.stop, 1000, 0.0
		switch name {
		case "memory":
			e.open = func(o durable.Options) (*durable.Engine, error) { return durable.NewMemory(t.Context(), &o, to.defs) }
		case "cache 0":
			size, replays = 0, 20 // at least: each task, each question
			again = func() {
				if _, err := e.Run(to.id, "").Describe(t.Context()); err != nil {
					t.Error(err)
				}
			}
		case "reopened":
			again, replays = func() { e.stop(); e.start() }, 6
		case "two workers":
			size, replays = 0, 10
			other := &engine{t: t, r: r, open: e.open}
			begin = func() { e.start(); other.start() }
			end = func() { e.stop(); other.stop() }
		}
		temporalengine.CacheSize(size)
		begin()
		first := to.walk(t, e, 1, again)
		turns := to.turns(t, e, first)
		end()
		if d := cmp.Diff(wantTour, r.tree(t, callerTrace)); d != "" {
			t.Errorf("%s: spans (-want +got):\n%s", name, d)
		}
		if others := len(r.spans) - strings.Count(wantTour, "\n") + 1; others != 0 {
			t.Errorf("%s: %d spans in other traces", name, others)
		}
		if d := cmp.Diff(wantLines, r.lines(t)); d != "" {
			t.Errorf("%s: log lines (-want +got):\n%s", name, d)
		}
		got := r.totals(notOfRuns...)
		if want == nil {
			want = got
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: metrics (-memory +got):\n%s", name, d)
		}
		all := r.totals()
		if n := all["mcpagent.turns workflow=tour"]; n != turns {
			t.Errorf("%s: %v turns counted, the runs have %v", name, n, turns)
		}
		if n := all["mcpagent.replay.turns workflow=tour"]; n < replays || replays == 0 && n > 2 { // the descriptions
			t.Errorf("%s: %v replays, want %v at least, and none without need", name, n, replays)
		}
	}
}

// A trace that a client begins goes through a run to its steps and children,
// and links lead from a message to who sent it: a client, another run, the run
// itself.
func tracesOnACluster(t *testing.T, server *temporaltest.Server) {
	const wantCaller = `(b7ad6b7169203331)
  run boss run.state=completed
    child kid
      run kid run.state=completed
        started kid
        step step attempts=1
          attempt step attempt=1
    message note
    message note
    received signal note ~ 2222222222222222
    received signal note ~ message note
    received update tell ~ 2222222222222222
    started boss
    step step attempts=1
      attempt step attempt=1
`
	const wantPeer = `(2222222222222222)
  run peer run.state=completed
    received signal note ~ message note
    started peer
`
	for _, on := range []string{"memory", "temporal"} {
		note := durable.NewSignal[string]("note")
		tell := durable.NewUpdate[string, string]("tell")
		step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) { return durable.TraceOf(ctx), nil }, nil)
		kid := durable.NewWorkflow("kid", func(ctx context.Context, _ none) (string, error) { return step.Do(ctx, none{}) }, nil)
		peer := durable.NewWorkflow("peer", func(ctx context.Context, _ none) (string, error) { return note.Receive(ctx) },
			&durable.WorkflowOptions{Accepts: []durable.Accepted{note}})
		boss := durable.NewWorkflow("boss", func(ctx context.Context, to string) (string, error) {
			if err := tell.Handle(ctx, func(ctx context.Context, s string) (string, error) { return s, nil }, nil); err != nil {
				return "", err
			}
			of, err := step.Do(ctx, none{})
			if err != nil {
				return "", err
			}
			if _, err := kid.Run(ctx, none{}); err != nil {
				return "", err
			}
			if err := note.Send(ctx, durable.Address(to, ""), "to another", nil); err != nil {
				return "", err
			}
			if err := note.Send(ctx, durable.Address("boss", ""), "to itself", nil); err != nil {
				return "", err
			}
			for range 2 { // its own and a client's
				if _, err := note.Receive(ctx); err != nil {
					return "", err
				}
			}
			return of, nil
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{note, tell}})
		r := newReceiver(t)
		e := memory(t, r, telemetry.Config{}, boss, peer, kid, step)
		if on == "temporal" {
			e.stop()
			e.open = cluster(t, server, "linked", boss, peer, kid, step)
			e.start()
		}
		ctx := durable.WithTrace(t.Context(), sender)
		other, err := peer.Start(ctx, e.Engine, none{}, &durable.StartOptions{ID: "peer"})
		if err != nil {
			t.Fatal(err)
		}
		run, err := boss.Start(durable.WithTrace(t.Context(), caller), e.Engine, "peer", &durable.StartOptions{ID: "boss"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := peer.Result(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		if _, err := tell.Send(ctx, run, "hi", nil); err != nil {
			t.Error(err)
		}
		if err := note.Send(ctx, run, "from a client", nil); err != nil {
			t.Fatal(err)
		}
		of, err := boss.Result(t.Context(), run)
		if err != nil || !strings.HasPrefix(of, "00-"+callerTrace) {
			t.Fatal(of, err)
		}
		e.stop()
		r.named = true
		seen := func(trace string) string { // but for waits for a signal, which may be there before
			return strings.ReplaceAll(r.tree(t, trace), "    signal note\n", "")
		}
		if d := cmp.Diff(wantCaller, seen(callerTrace)); d != "" {
			t.Errorf("%s: the caller's trace (-want +got):\n%s", on, d)
		}
		if d := cmp.Diff(wantPeer, seen(strings.Split(sender, "-")[1])); d != "" {
			t.Errorf("%s: the peer's trace (-want +got):\n%s", on, d)
		}
	}
}

// A signal comes while the run's last task is at work: the cluster does not
// take its end, and the task is tried again, from a replay. A panic that goes
// away does the same to a task in which there was already something to tell.
func tasksToNothing(t *testing.T, server *temporaltest.Server) {
	var e *engine
	var ends, panics atomic.Int64
	late := durable.NewSignal[int]("late")
	ending := durable.NewWorkflow("ending", func(ctx context.Context, _ none) (int, error) {
		durable.Logger(ctx).Info("the end")
		return durable.SideEffect(ctx, func() int {
			if ends.Add(1) == 1 {
				sent := make(chan error)
				go func() { sent <- late.Send(t.Context(), e.Run("ending", ""), 1, nil) }() //durablevet:ignore the signal has to come while the run ends
				if err := <-sent; err != nil {                                              //durablevet:ignore the same
					t.Error(err)
				}
			}
			return 0
		})
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{late}})
	stumbling := durable.NewWorkflow("stumbling", func(ctx context.Context, _ none) (int, error) {
		if _, err := late.Receive(ctx); err != nil {
			return 0, err
		}
		if panics.Add(1) <= 2 {
			panic("not yet")
		}
		return 0, nil
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{late}})
	r := newReceiver(t)
	e = &engine{t: t, r: r, open: cluster(t, server, "nothing", ending, stumbling)}
	e.start()
	run, err := ending.Start(durable.WithTrace(t.Context(), caller), e.Engine, none{}, &durable.StartOptions{ID: "ending"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ending.Result(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	if run, err = stumbling.Start(durable.WithTrace(t.Context(), caller), e.Engine, none{}, nil); err != nil {
		t.Fatal(err)
	}
	if err := late.Send(t.Context(), run, 1, nil); err != nil {
		t.Fatal(err)
	}
	for {
		_, err := stumbling.Result(t.Context(), run)
		if err == nil {
			break
		}
		if blocked := (*durable.BlockedError)(nil); !errors.As(err, &blocked) {
			t.Fatal(err)
		}
	}
	e.stop()
	if ends.Load() < 2 || panics.Load() != 3 {
		t.Errorf("%d ends, %d panics: nothing was forced", ends.Load(), panics.Load())
	}
	want := `(b7ad6b7169203331)
  run ending run.state=completed
    started ending
  run stumbling run.state=completed
    problem panic error.type=panic ERROR
    received signal late
    signal late
    started stumbling
`
	if d := cmp.Diff(want, r.tree(t, callerTrace)); d != "" {
		t.Errorf("spans (-want +got):\n%s", d)
	}
	if got := r.lines(t); got != "the end < run ending\n" {
		t.Errorf("log lines:\n%s", got)
	}
	got := r.totals()
	for _, name := range []string{
		"mcpagent.runs.started workflow=ending", "mcpagent.runs.ended run.state=completed workflow=ending",
		"mcpagent.runs.started workflow=stumbling", "mcpagent.runs.ended run.state=completed workflow=stumbling",
		"mcpagent.problems problem=panic workflow=stumbling",
	} {
		if got[name] != 1 {
			t.Errorf("%s is %v, want 1", name, got[name])
		}
	}
}

func gaugesOfAQueue(t *testing.T, server *temporaltest.Server) {
	started := make(chan struct{}, 2)
	step := durable.NewStep("step", func(ctx context.Context, _ none) (int, error) {
		started <- struct{}{}
		<-ctx.Done()
		return 0, ctx.Err()
	}, nil)
	work := durable.NewWorkflow("work", func(ctx context.Context, _ none) (int, error) { return step.Do(ctx, none{}) }, nil)
	bad := durable.NewWorkflow("bad", func(ctx context.Context, _ none) (int, error) { panic("a bug") }, nil)
	r := newReceiver(t)
	e := &engine{t: t, r: r, open: cluster(t, server, "gauges", work, bad, step)}
	e.opts.MaxSteps = 1
	e.start()
	for _, name := range []string{"work", "work", "work", "bad"} {
		if _, err := e.Start(t.Context(), name, json.RawMessage(`{}`), nil); err != nil {
			t.Fatal(err)
		}
	}
	<-started
	want := map[string]float64{
		"mcpagent.runs run.state=running": 3,
		"mcpagent.runs run.state=blocked": 1,
		"mcpagent.steps.atwork ":          1,
		"mcpagent.steps.queued ":          2,
		"mcpagent.engine.healthy ":        1,
	}
	for { // the cluster's own figures lag behind
		if err := e.tel.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := r.totals()
		as := true
		for name, n := range want {
			as = as && got[name] == n
		}
		if as {
			break
		}
		if t.Context().Err() != nil {
			t.Fatal(got)
		}
	}
	e.stop()
}
