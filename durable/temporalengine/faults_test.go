package temporalengine_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/temporalengine"
	"github.com/mcpagent/mcpagent/internal/temporaltest"
)

// TestForeign: what the cluster knows of a plain workflow is told, and what
// nobody can tell of it is said.
func TestForeign(t *testing.T) {
	t.Parallel()
	ctx := within(t, time.Minute)
	c := dial(t, anyServer(t))
	e := on(t, temporalengine.Options{}, takeOrder, charge)
	work(t, c, queue(t)+"-theirs", func(w worker.Worker) {
		w.RegisterWorkflowWithOptions(func(ctx workflow.Context, name string) (string, error) {
			if err := workflow.SetQueryHandler(ctx, "mood", func() (string, error) { return "fine", nil }); err != nil {
				return "", err
			}
			if err := workflow.SetUpdateHandler(ctx, "grow", func(_ workflow.Context, n int) (int, error) { return n + 1, nil }); err != nil {
				return "", err
			}
			workflow.GetSignalChannel(ctx, "go").Receive(ctx, nil)
			return "hello " + name, nil
		}, workflow.RegisterOptions{Name: "plain"})
	})
	if _, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: id(t), TaskQueue: queue(t) + "-theirs"}, "plain", "sam"); err != nil {
		t.Fatal(err)
	}
	run := e.Run(id(t), "")
	d, err := run.Describe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if d.State != durable.Running || d.Workflow != "plain" || d.Problem != nil || len(d.Waiting) != 1 || !strings.Contains(d.Waiting[0].Text, "not one of this engine") {
		t.Errorf("%+v", d)
	}
	if got, err := run.Query(ctx, "mood", nil); err != nil || string(got) != `"fine"` {
		t.Errorf("query: %s, %v", got, err)
	}
	if got, err := run.Update(ctx, "grow", []byte("1"), nil); err != nil || string(got) != "2" {
		t.Errorf("update: %s, %v", got, err)
	}
	for op, ask := range map[string]func() error{
		"history": func() error { _, err := run.History(ctx); return err },
		"export":  func() error { _, err := run.Export(ctx); return err },
		"pause":   func() error { return run.Pause(ctx, nil) },
		"resume":  func() error { return run.Resume(ctx, nil) },
		"fork":    func() error { _, err := run.Fork(ctx, nil); return err },
		"a stream": func() error {
			for _, err := range run.Stream(ctx, "s", 0) {
				return err
			}
			return nil
		},
		"questions": func() error {
			_, err := e.Questions(ctx, &durable.QuestionFilter{WorkflowID: id(t)})
			return err
		},
	} {
		if err := ask(); !errors.Is(err, durable.ErrUnsupported) || !strings.Contains(err.Error(), id(t)) || !strings.Contains(err.Error(), `"plain"`) {
			t.Errorf("%s: %v", op, err)
		}
	}
	if err := run.Signal(ctx, "go", nil, nil); err != nil {
		t.Error(err)
	}
	if got, err := run.Result(ctx); err != nil || string(got) != `"hello sam"` {
		t.Errorf("%s, %v", got, err)
	}
	if d, err = run.Describe(ctx); err != nil || d.State != durable.Completed || string(d.Result) != `"hello sam"` || len(d.Waiting) != 0 {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestNotAccepted: what a workflow does not declare is refused, also from
// another run, as it is on every engine.
func TestNotAccepted(t *testing.T) {
	t.Parallel()
	other := durable.NewSignal[string]("other")
	deaf := durable.NewWorkflow("deaf", func(ctx context.Context, _ string) (string, error) {
		return "over", durable.Sleep(ctx, time.Hour)
	}, nil)
	tell := durable.NewWorkflow("tell", func(ctx context.Context, to string) (string, error) {
		err := other.Send(ctx, &durable.Run{WorkflowID: to}, "x", nil)
		return fmt.Sprint(errors.Is(err, durable.ErrNotAccepted)), nil
	}, nil)
	memory, err := durable.NewMemory(t.Context(), nil, deaf, tell, other)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = memory.Close(context.Background()) })
	for name, e := range map[string]*durable.Engine{"memory": memory, "temporal": on(t, temporalengine.Options{}, deaf, tell, other)} {
		ctx := within(t, 30*time.Second)
		to, err := deaf.Start(ctx, e, "", &durable.StartOptions{ID: id(t)})
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Send(ctx, to, "x", nil); !errors.Is(err, durable.ErrNotAccepted) {
			t.Errorf("%s, from outside: %v", name, err)
		}
		from, err := tell.Start(ctx, e, id(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tell.Result(ctx, from); err != nil || got != "true" {
			t.Errorf("%s, from a run: refused is %s, %v", name, got, err)
		}
		if err := to.Terminate(ctx, "seen"); err != nil {
			t.Error(err)
		}
	}
}

// TestServerGone: while the server is away nobody is acknowledged anything, an
// operation says who does not answer before its time is up, and the run goes
// on when the server is back.
func TestServerGone(t *testing.T) {
	t.Parallel()
	server := temporaltest.New(t, &temporaltest.Options{File: filepath.Join(t.TempDir(), "temporal.db")})
	working, let := make(chan bool, 1), make(chan bool)
	slow := durable.NewStep("slow", func(ctx context.Context, n int) (int, error) {
		working <- true
		select {
		case <-let:
			return n + 1, nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}, nil)
	next := durable.NewSignal[int]("next")
	flow := durable.NewWorkflow("flow", func(ctx context.Context, n int) (int, error) {
		n, err := slow.Do(ctx, n)
		if err != nil {
			return 0, err
		}
		more, err := next.Receive(ctx)
		return n + more, err
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{next}})
	e := on(t, temporalengine.Options{HostPort: server.Addr()}, flow, slow)
	run, err := flow.Start(t.Context(), e, 1, &durable.StartOptions{ID: "one"})
	if err != nil {
		t.Fatal(err)
	}
	<-working
	if err := next.Send(t.Context(), run, 10, &durable.SendOptions{ID: "acked"}); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	forever := t.Context()
	asks := map[string]func(context.Context) error{
		"describe": func(ctx context.Context) error { _, err := e.Run("one", "").Describe(ctx); return err },
		"describe, with no end to its time": func(context.Context) error {
			_, err := e.Run("one", "").Describe(forever)
			return err
		},
		"signal": func(ctx context.Context) error { return next.Send(ctx, run, 100, nil) },
		"result": func(ctx context.Context) error { _, err := run.Result(ctx); return err },
		"start":  func(ctx context.Context) error { _, err := flow.Start(ctx, e, 2, nil); return err },
		"health": func(ctx context.Context) error {
			h, err := e.Health(ctx)
			if err == nil && !h.OK {
				return errors.New(h.Text)
			}
			return err
		},
	}
	t.Run("away", func(t *testing.T) {
		for name, ask := range asks {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				began := time.Now()
				err := ask(within(t, 2*time.Second))
				if took := time.Since(began); err == nil || !strings.Contains(err.Error(), "the Temporal server at "+server.Addr()+" does not answer") || took > 10*time.Second {
					t.Errorf("after %v: %v", took, err)
				}
			})
		}
	})
	close(let) // the step ends while nobody can be told
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx := within(t, time.Minute)
	if got, err := flow.Result(ctx, e.Run("one", "")); err != nil || got != 12 {
		t.Errorf("%d, %v", got, err)
	}
}

// TestWorkerWithoutTheStep: the run says what it waits for, and goes on with a
// worker that has it.
func TestWorkerWithoutTheStep(t *testing.T) {
	t.Parallel()
	ctx := within(t, time.Minute)
	theirs := queue(t) + "-steps"
	declared := durable.NewStep[order, string]("order.charge", nil, &durable.StepOptions{Queue: theirs})
	flow := durable.NewWorkflow("order", func(ctx context.Context, o order) (string, error) { return declared.Do(ctx, o) }, nil)
	e := on(t, temporalengine.Options{}, flow, declared)
	// Nobody is there: a client is told so.
	nobody := on(t, temporalengine.Options{ClientOnly: true, TaskQueue: queue(t) + "-nobody"}, takeOrder)
	lost, err := takeOrder.Start(ctx, nobody, order{"tea", 5}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := discount.Send(within(t, 3*time.Second), lost, 1, nil); !errors.Is(err, durable.ErrNoWorker) || !strings.Contains(err.Error(), queue(t)+"-nobody") {
		t.Errorf("an update that nobody takes: %v", err)
	}

	// A worker is there, and lacks the step.
	on(t, temporalengine.Options{TaskQueue: theirs}, takeOrder, discount)
	run, err := flow.Start(ctx, e, order{"tea", 5}, &durable.StartOptions{ID: id(t)})
	if err != nil {
		t.Fatal(err)
	}
	said := describes(t, ctx, run, func(d *durable.Description) bool {
		for _, w := range d.Waiting {
			if w.Kind == "step" && strings.Contains(w.Text, `on task queue "`+theirs+`" that defines step order.charge`) {
				return true
			}
		}
		return false
	})
	t.Logf("it waits %s", said.Waiting[0].Text)
	on(t, temporalengine.Options{TaskQueue: theirs}, charge) // deployed
	if got, err := flow.Result(ctx, run); err != nil || got != "paid-tea" {
		t.Errorf("%s, %v", got, err)
	}
}

// describes looks at a run until it is seen as a test wants it.
func describes(t *testing.T, ctx context.Context, run *durable.Run, want func(*durable.Description) bool) *durable.Description {
	t.Helper()
	var last *durable.Description
	for {
		d, err := run.Describe(ctx)
		if err == nil && want(d) {
			return d
		}
		if d != nil {
			last = d
		}
		if ctx.Err() != nil {
			t.Fatalf("the run is not seen as expected: %+v, %v", last, err)
		}
	}
}

// versions of a workflow: an old and a new one, which calls another step
// first.
func versionOf(n int, guarded bool) (*durable.Workflow[string, string], durable.Set) {
	first := durable.NewStep("first", func(_ context.Context, s string) (string, error) { return s + " first", nil }, nil)
	other := durable.NewStep("other", func(_ context.Context, s string) (string, error) { return s + " other", nil }, nil)
	again := durable.NewSignal[string]("again")
	flow := durable.NewWorkflow("flow", func(ctx context.Context, s string) (string, error) {
		step := first
		if guarded && n > 1 {
			if durable.Version(ctx, "other-first", 1) == 1 {
				step = other
			}
		} else if n > 1 {
			step = other
		}
		s, err := step.Do(ctx, s)
		if err != nil {
			return "", err
		}
		if _, err = again.Receive(ctx); err != nil {
			return "", err
		}
		return first.Do(ctx, s)
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{again}})
	return flow, durable.Set{flow, first, other, again}
}

// TestTwoVersions: a run meets code that it did not begin with. That is a
// problem that is seen, and over when the right code is back; code with
// durable.Version just goes on.
func TestTwoVersions(t *testing.T) {
	t.Parallel()
	for _, guarded := range []bool{false, true} {
		t.Run(fmt.Sprint("guarded ", guarded), func(t *testing.T) {
			t.Parallel()
			ctx := within(t, time.Minute)
			flow, old := versionOf(1, guarded)
			_, fresh := versionOf(2, guarded)
			o := temporalengine.Options{HostPort: anyServer(t), TaskQueue: queue(t), Engine: durable.Options{Logger: quietLog}}
			o.Worker.WorkerStopTimeout = time.Second
			a, err := temporalengine.Open(ctx, &o, old)
			if err != nil {
				t.Fatal(err)
			}
			run, err := flow.Start(ctx, a, "run", &durable.StartOptions{ID: id(t)})
			if err != nil {
				t.Fatal(err)
			}
			describes(t, ctx, run, func(d *durable.Description) bool {
				return len(d.Waiting) > 0 && d.Waiting[0].Kind == "signal"
			})
			if err := a.Close(ctx); err != nil {
				t.Fatal(err)
			}
			b := on(t, o, fresh)
			run = b.Run(id(t), "")
			if err := run.Signal(ctx, "again", []byte(`""`), nil); err != nil {
				t.Fatal(err)
			}
			if !guarded {
				d := describes(t, ctx, run, func(d *durable.Description) bool { return d.Problem != nil })
				if d.Problem.Kind != "mismatch" || !strings.Contains(d.Problem.Text, "first") || !strings.Contains(d.Problem.Text, "durable.Version") {
					t.Errorf("the problem: %+v", d.Problem)
				}
				_, err := run.Result(ctx)
				var blocked *durable.BlockedError
				if !errors.As(err, &blocked) {
					t.Errorf("the result: %v", err)
				}
				on(t, o, old) // both work now; the run finds its own
			}
			var got string
			for {
				out, err := flow.Result(ctx, run)
				var blocked *durable.BlockedError
				if errors.As(err, &blocked) && ctx.Err() == nil {
					continue // it may meet the wrong one a few times
				}
				if err != nil {
					t.Fatal(err)
				}
				got = out
				break
			}
			if got != "run first first" {
				t.Errorf("got %q", got)
			}
			// A new run takes the new code, where only that is at work.
			if guarded {
				next, err := flow.Start(ctx, b, "new", nil)
				if err != nil {
					t.Fatal(err)
				}
				if err := next.Signal(ctx, "again", []byte(`""`), nil); err != nil {
					t.Fatal(err)
				}
				if got, err := flow.Result(ctx, next); err != nil || got != "new other first" {
					t.Errorf("%q, %v", got, err)
				}
			}
		})
	}
}
