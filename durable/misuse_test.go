package durable_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

type key struct{}

// TestMisuse: each rail of DURABLE §4.1.1 ends in its own error.
func TestMisuse(t *testing.T) {
	step := durable.NewStep("step", func(ctx context.Context, _ struct{}) (string, error) {
		err := durable.Sleep(ctx, time.Second) // plain wait
		return "ok", err
	}, nil)
	unbound := durable.NewStep[struct{}, string]("unbound", nil, nil)
	once := durable.NewStep("once", func(context.Context, struct{}) (string, error) { return "x", nil }, &durable.StepOptions{AtMostOnce: true})
	sig := durable.NewSignal[int]("sig")
	kid := durable.NewWorkflow("kid", func(context.Context, struct{}) (string, error) { return "kid", nil }, nil)
	inStep := func(fn func(ctx context.Context) error) *durable.Step[struct{}, string] {
		return durable.NewStep("in_step", func(ctx context.Context, _ struct{}) (string, error) { return "", durable.Permanent(fn(ctx)) }, nil)
	}
	var other context.Context
	cases := []struct {
		name string
		wf   func(ctx context.Context) error
		want error
		in   *durable.Step[struct{}, string]
	}{
		{"std WithTimeout", func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			return durable.Sleep(ctx, time.Hour)
		}, durable.ErrForeignContext, nil},
		{"std WithCancel", func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			_, err := step.Do(ctx, struct{}{})
			return err
		}, durable.ErrForeignContext, nil},
		{"WithValue is fine", func(ctx context.Context) error {
			_, err := step.Do(context.WithValue(ctx, key{}, 1), struct{}{})
			return err
		}, nil, nil},
		{"goroutine", func(ctx context.Context) error {
			ch := make(chan error)
			go func() { ch <- durable.Sleep(ctx, time.Hour) }()
			return <-ch
		}, durable.ErrForeignGoroutine, nil},
		{"lost context", func(context.Context) error { return durable.Sleep(context.Background(), time.Hour) }, durable.ErrLostContext, nil},
		{"lost context, step", func(context.Context) error {
			_, err := step.Do(context.Background(), struct{}{})
			return err
		}, durable.ErrLostContext, nil},
		{"another run's context", func(ctx context.Context) error { return durable.Sleep(other, time.Hour) }, durable.ErrWrongRun, nil},
		{"undefined step", func(ctx context.Context) error {
			_, err := durable.NewStep("nowhere", func(context.Context, int) (int, error) { return 0, nil }, nil).Do(ctx, 1)
			return err
		}, durable.ErrNotDefined, nil},
		{"declared step", func(ctx context.Context) error { _, err := unbound.Do(ctx, struct{}{}); return err }, durable.ErrNotDefined, nil},
		{"undeclared signal", func(ctx context.Context) error { _, err := sig.Receive(ctx); return err }, durable.ErrNotAccepted, nil},
		{"queue", func(ctx context.Context) error {
			_, err := step.With(&durable.StepOptions{Queue: "gpu"}).Do(ctx, struct{}{})
			return err
		}, durable.ErrUnsupported, nil},
		{"child in a step", nil, durable.ErrInStep, inStep(func(ctx context.Context) error { _, err := kid.Run(ctx, struct{}{}); return err })},
		{"at most once in a step", nil, durable.ErrInStep, inStep(func(ctx context.Context) error { _, err := once.Do(ctx, struct{}{}); return err })},
		{"signal in a step", nil, durable.ErrInStep, inStep(func(ctx context.Context) error { _, err := sig.Receive(ctx); return err })},
		{"map in a step", nil, durable.ErrInStep, inStep(func(ctx context.Context) error {
			_, err := durable.Map(ctx, []int{1}, func(context.Context, int) (int, error) { return 0, nil }, nil)
			return err
		})},
		{"step in a step is inline", nil, nil, inStep(func(ctx context.Context) error { _, err := step.Do(ctx, struct{}{}); return err })},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			scenario(t, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
				stop := durable.NewWorkflow("stop", func(ctx context.Context, _ struct{}) (string, error) {
					other = ctx
					return "", durable.Sleep(ctx, 1000*time.Hour)
				}, nil)
				var seen error
				wf := durable.NewWorkflow("wf", func(ctx context.Context, _ struct{}) (string, error) {
					if c.in != nil {
						_, seen = c.in.Do(ctx, struct{}{})
					} else {
						seen = c.wf(ctx)
					}
					return "", nil
				}, nil)
				defs := durable.Set{wf, stop, step, unbound, once, kid}
				if c.in != nil {
					defs = append(defs, c.in)
				}
				e := open(defs)
				must[*durable.Run](t)(stop.Start(t.Context(), e, struct{}{}, nil))
				synctest.Wait()
				r := must[*durable.Run](t)(wf.Start(t.Context(), e, struct{}{}, nil))
				must[string](t)(wf.Result(t.Context(), r))
				if !errors.Is(seen, c.want) || c.want == nil && seen != nil {
					t.Errorf("error = %v, want %v", seen, c.want)
				}
			})
		})
	}
}

func TestEngineOperationsInsideAWorkflowAreRefused(t *testing.T) {
	scenario(t, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		var e *durable.Engine
		var errs [2]error
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ struct{}) (string, error) {
			_, errs[0] = e.List(ctx, nil)
			_, errs[1] = e.List(context.Background(), nil)
			return "", nil
		}, nil)
		e = open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, struct{}{}, nil))
		must[string](t)(wf.Result(t.Context(), r))
		for i, err := range errs {
			if !errors.Is(err, durable.ErrInWorkflow) {
				t.Errorf("%d: %v", i, err)
			}
		}
	})
}

func TestQueriesAreReadOnly(t *testing.T) {
	scenario(t, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		q := durable.NewQuery[struct{}, string]("q")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ struct{}) (string, error) {
			_ = q.Handle(ctx, func(struct{}) (string, error) {
				_ = durable.Now(ctx)
				return "", durable.Sleep(ctx, time.Hour)
			})
			return "", durable.Sleep(ctx, time.Hour)
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{q}})
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, struct{}{}, nil))
		if _, err := q.Ask(t.Context(), r, struct{}{}); !errors.Is(err, durable.ErrReadOnly) {
			t.Errorf("query: %v", err)
		}
		must[string](t)(wf.Result(t.Context(), r))
	})
}

func TestPanicIsAProblemAndTheRunGoesOn(t *testing.T) {
	scenario(t, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		broken := true
		sig := durable.NewSignal[string]("s")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ struct{}) (string, error) {
			s, err := sig.Receive(ctx)
			if err != nil {
				return "", err
			}
			if broken {
				panic("bad day")
			}
			return s, nil
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, struct{}{}, nil))
		if err := sig.Send(t.Context(), r, "hello", nil); err != nil {
			t.Fatal(err)
		}
		_, err := wf.Result(t.Context(), r)
		var b *durable.BlockedError
		if !errors.As(err, &b) || b.Problem.Kind != "panic" || !strings.Contains(b.Problem.Text, "bad day") || !strings.Contains(b.Problem.Text, "misuse_test.go") {
			t.Fatalf("result of a blocked run: %v", err)
		}
		d := must[*durable.Description](t)(r.Describe(t.Context()))
		if d.State != durable.Running || d.Problem == nil {
			t.Errorf("description: %+v", d)
		}
		broken = false // the fixed deploy
		if err := r.Resume(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if got := must[string](t)(wf.Result(t.Context(), r)); got != "hello" {
			t.Errorf("got %q", got)
		}
	})
}

func TestMisuseWithoutAnErrorIsAProblem(t *testing.T) {
	scenario(t, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ struct{}) (string, error) {
			return durable.Now(context.Background()).String(), nil
		}, nil)
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, struct{}{}, nil))
		_, err := wf.Result(t.Context(), r)
		var b *durable.BlockedError
		if !errors.As(err, &b) || !strings.Contains(b.Problem.Text, "durable.Now") {
			t.Fatalf("result: %v", err)
		}
	})
}

func TestAChangedWorkflowIsAMismatchAndNothingIsLost(t *testing.T) {
	scenario(t, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		version := 1
		a := durable.NewStep("a", func(_ context.Context, s string) (string, error) { return s + "a", nil }, nil)
		b := durable.NewStep("b", func(_ context.Context, s string) (string, error) { return s + "b", nil }, nil)
		sig := durable.NewSignal[string]("s")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ struct{}) (string, error) {
			s := "x"
			var err error
			if version == 2 {
				s, err = b.Do(ctx, s)
			} else {
				s, err = a.Do(ctx, s)
			}
			if err != nil {
				return "", err
			}
			t, err := sig.Receive(ctx)
			return s + t, err
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		e := open(wf, a, b)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, struct{}{}, nil))
		synctest.Wait()
		version = 2
		// Filling the memory with other runs is not needed in paranoid mode,
		// and when awake the run is not replayed: then there is no mismatch.
		if err := sig.Send(t.Context(), r, "!", nil); err != nil {
			t.Fatal(err)
		}
		out, err := wf.Result(t.Context(), r)
		var be *durable.BlockedError
		if err != nil {
			if !errors.As(err, &be) || be.Problem.Kind != "mismatch" || !strings.Contains(be.Problem.Text, `step "b"`) || !strings.Contains(be.Problem.Text, `step "a"`) {
				t.Fatalf("result: %v", err)
			}
			version = 1
			if err := r.Resume(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			out = must[string](t)(wf.Result(t.Context(), r))
		}
		if out != "xa!" {
			t.Errorf("result = %q", out)
		}
	})
}

func TestVersionAdmitsAChange(t *testing.T) {
	scenario(t, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		deployed := 1
		a := durable.NewStep("a", func(_ context.Context, s string) (string, error) { return s + "a", nil }, nil)
		sig := durable.NewSignal[string]("s")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ struct{}) (string, error) {
			s, err := a.Do(ctx, "")
			if err != nil {
				return "", err
			}
			if deployed >= 2 && durable.Version(ctx, "twice", 1) >= 1 {
				if s, err = a.Do(ctx, s); err != nil {
					return "", err
				}
			}
			x, err := sig.Receive(ctx)
			return s + x, err
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		e := open(wf, a)
		old := must[*durable.Run](t)(wf.Start(t.Context(), e, struct{}{}, nil))
		synctest.Wait()
		deployed = 2
		young := must[*durable.Run](t)(wf.Start(t.Context(), e, struct{}{}, nil))
		synctest.Wait()
		for r, want := range map[*durable.Run]string{old: "a!", young: "aa!"} {
			if err := sig.Send(t.Context(), r, "!", nil); err != nil {
				t.Fatal(err)
			}
			if got := must[string](t)(wf.Result(t.Context(), r)); got != want {
				t.Errorf("result = %q, want %q", got, want)
			}
		}
	})
}

func TestAStuckRunIsReportedAndCostsOnlyItself(t *testing.T) {
	scenario(t, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		gate := make(chan struct{})
		stuck := durable.NewWorkflow("stuck", func(ctx context.Context, _ struct{}) (string, error) { <-gate; return "at last", nil }, nil)
		fine := durable.NewWorkflow("fine", func(ctx context.Context, _ struct{}) (string, error) {
			return "fine", durable.Sleep(ctx, time.Minute)
		}, nil)
		e := open(stuck, fine)
		s := must[*durable.Run](t)(stuck.Start(t.Context(), e, struct{}{}, nil))
		f := must[*durable.Run](t)(fine.Start(t.Context(), e, struct{}{}, nil))
		_, err := stuck.Result(t.Context(), s)
		var b *durable.BlockedError
		if !errors.As(err, &b) || b.Problem.Kind != "deadlock" || !strings.Contains(b.Problem.Text, "misuse_test.go") {
			t.Fatalf("result of a stuck run: %v", err)
		}
		if got := must[string](t)(fine.Result(t.Context(), f)); got != "fine" {
			t.Errorf("got %q", got)
		}
		close(gate)
		synctest.Wait()
		if got := must[string](t)(stuck.Result(t.Context(), s)); got != "at last" {
			t.Errorf("got %q", got)
		}
	})
}

func TestAStuckRunCanBeTerminated(t *testing.T) {
	scenario(t, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		gate := make(chan struct{})
		stuck := durable.NewWorkflow("stuck", func(ctx context.Context, _ struct{}) (string, error) {
			<-gate
			return "too late", durable.Sleep(ctx, time.Minute)
		}, nil)
		e := open(stuck)
		s := must[*durable.Run](t)(stuck.Start(t.Context(), e, struct{}{}, nil))
		time.Sleep(2 * time.Second)
		var b *durable.BlockedError
		if err := s.Cancel(t.Context(), ""); !errors.As(err, &b) || b.Problem.Kind != "deadlock" {
			t.Errorf("cancel of a stuck run: %v", err)
		}
		if _, err := s.Query(t.Context(), "q", nil); !errors.As(err, &b) {
			t.Errorf("query of a stuck run: %v", err)
		}
		if err := s.Terminate(t.Context(), "stuck"); err != nil {
			t.Fatal(err)
		}
		_, err := stuck.Result(t.Context(), s)
		var re *durable.RunError
		if !errors.As(err, &re) || re.State != durable.Terminated {
			t.Errorf("result: %v", err)
		}
		close(gate)
		synctest.Wait()
		if d := must[*durable.Description](t)(s.Describe(t.Context())); d.State != durable.Terminated || d.Failure.Message != "stuck" {
			t.Errorf("description after the code came back: %+v", d)
		}
	})
}

// A run that is terminated while its code is stuck asks nobody any more.
func TestTheQuestionsOfAStuckRunGoWithIt(t *testing.T) {
	scenario(t, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		gate := make(chan struct{})
		ask := durable.NewQuestion[bool]("ask")
		stuck := durable.NewWorkflow("stuck", func(ctx context.Context, _ struct{}) (string, error) {
			g, ctx := durable.NewGroup(ctx, nil)
			g.Go(func(ctx context.Context) error { _, err := ask.Ask(ctx, "?", nil); return err })
			if err := durable.Sleep(ctx, time.Minute); err != nil {
				return "", err
			}
			<-gate
			return "", g.Wait()
		}, nil)
		e := open(stuck, ask)
		s := must[*durable.Run](t)(stuck.Start(t.Context(), e, struct{}{}, nil))
		time.Sleep(30 * time.Second)
		if qs := must[[]*durable.QuestionInfo](t)(e.Questions(t.Context(), nil)); len(qs) != 1 {
			t.Fatalf("open questions before: %d, want 1", len(qs))
		}
		time.Sleep(time.Minute)
		if err := s.Terminate(t.Context(), "stuck"); err != nil {
			t.Fatal(err)
		}
		if qs := must[[]*durable.QuestionInfo](t)(e.Questions(t.Context(), nil)); len(qs) != 0 {
			t.Errorf("open questions after: %d, want none", len(qs))
		}
		close(gate)
	})
}

func TestDefinitionsReportAllMistakesAtOnce(t *testing.T) {
	t.Parallel()
	w := func(name string) durable.Definer {
		return durable.NewWorkflow(name, func(context.Context, int) (int, error) { return 0, nil }, nil)
	}
	s := durable.NewStep[int, int]("s", nil, nil)
	fn := func(context.Context, int) (int, error) { return 0, nil }
	_, err := durable.NewDefinitions(w("a"), w("a"), w("bad name"), w("__x"), s.Bind(fn), s.Bind(fn), durable.NewStep("s", fn, nil),
		durable.NewStep("r", fn, &durable.StepOptions{Retry: &durable.Retry{Backoff: 0.5}}), nil)
	if !errors.Is(err, durable.ErrDefinedTwice) {
		t.Fatalf("error = %v", err)
	}
	for _, want := range []string{`workflow "a"`, `"bad name"`, `"__x"`, `step "s": defined twice: bound to two`, `step "s": defined twice: two values`, `backoff 0.5`, "a definition is nil"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q:\n%v", want, err)
		}
	}
	one := w("one")
	if _, err := durable.NewDefinitions(one, one, s, s.Bind(fn), s); err != nil {
		t.Errorf("the same value twice: %v", err)
	}
	_ = fmt.Sprint()
}
