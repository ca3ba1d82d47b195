package durable_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/durabletest"
)

// scenarioWith is scenario with options of one's own on top of the mode's.
func scenarioWith(t *testing.T, with func(o *durable.Options), fn func(t *testing.T, open func(defs ...durable.Definer) *durable.Engine)) {
	t.Helper()
	for _, m := range durabletest.All() {
		t.Run(m.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fn(t, func(defs ...durable.Definer) *durable.Engine {
					t.Helper()
					o := m.Options
					o.Logger = slog.New(slog.DiscardHandler)
					with(&o)
					e, err := durable.NewMemory(t.Context(), &o, defs...)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() {
						if err := e.Close(context.Background()); err != nil {
							t.Errorf("Close: %v", err)
						}
					})
					return e
				})
			})
		})
	}
}

func quietly(*durable.Options) {}

type none = struct{}

// runOf starts a workflow and waits for its result.
func runOf[In, Out any](t *testing.T, e *durable.Engine, wf *durable.Workflow[In, Out], in In) (Out, error) {
	t.Helper()
	r, err := wf.Start(t.Context(), e, in, nil)
	if err != nil {
		t.Fatal(err)
	}
	return wf.Result(t.Context(), r)
}

// ended waits for the end of ctx, as a well-behaved step does.
func ended(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestHeartbeatsFromSeveralGoroutines(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		many := durable.NewStep("many", func(ctx context.Context, _ none) (int, error) {
			var wg sync.WaitGroup
			var errs atomic.Int32
			for i := range 8 {
				wg.Go(func() {
					for k := range 20 {
						if durable.Heartbeat(ctx, i*100+k) != nil {
							errs.Add(1)
						}
					}
				})
			}
			wg.Wait()
			return int(errs.Load()), nil
		}, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) { return many.Do(ctx, none{}) }, nil)
		if got, err := runOf(t, open(wf, many), wf, none{}); err != nil || got != 0 {
			t.Errorf("%d heartbeats failed, %v", got, err)
		}
	})
}

type typedError struct{ Code int }

func (e *typedError) Error() string { return fmt.Sprint("code ", e.Code) }

func TestErrorsThatMustNotBeRetried(t *testing.T) {
	kind := durable.NewErrorType("BAD_CARD")
	cases := []struct {
		name string
		opts durable.StepOptions
		err  error
		want string // type, permanent
	}{
		{"permanent", durable.StepOptions{}, durable.Permanent(errors.New("x")), "error true"},
		{"permanent inside wrappers", durable.StepOptions{}, fmt.Errorf("a: %w", errors.Join(durable.Permanent(kind.New("x")), errors.New("y"))), "BAD_CARD true"},
		{"non-retryable by type name", durable.StepOptions{Retry: &durable.Retry{NonRetryable: []string{"BAD_CARD"}}}, fmt.Errorf("a: %w", kind.New("x")), "BAD_CARD true"},
		{"non-retryable by Go type", durable.StepOptions{Retry: &durable.Retry{NonRetryable: []string{"durable_test.typedError"}}}, fmt.Errorf("a: %w", &typedError{3}), "durable_test.typedError true"},
		{"non-retryable by bare Go type", durable.StepOptions{Retry: &durable.Retry{NonRetryable: []string{"typedError"}}}, &typedError{3}, "durable_test.typedError true"},
		{"one attempt", durable.StepOptions{Retry: &durable.Retry{MaxAttempts: 1}}, errors.New("x"), "error false"},
		{"permanent beats retry after", durable.StepOptions{}, durable.RetryAfter(time.Second, durable.Permanent(kind.New("x"))), "BAD_CARD true"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
				step := durable.NewStep("step", func(context.Context, none) (int, error) { return 0, c.err }, &c.opts)
				wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
					_, err := step.Do(ctx, none{})
					var se *durable.StepError
					if !errors.As(err, &se) || se.Attempts != 1 || se.Step != "step" || se.Call != "0/1" {
						return "", fmt.Errorf("not as expected: %#v", err)
					}
					return fmt.Sprint(se.Err.Type, " ", se.Err.Permanent), nil
				}, nil)
				if got, err := runOf(t, open(wf, step), wf, none{}); err != nil || got != c.want {
					t.Errorf("got %q, %v; want %q", got, err, c.want)
				}
			})
		})
	}
}

func TestPoliciesMatchTheMostSpecificAndMergeFieldByField(t *testing.T) {
	t.Parallel()
	p := durable.Policies{
		"*":           {MaxAttempts: 1},
		"inv*":        {MaxAttempts: 2},
		"invoice.*":   {MaxAttempts: 3},
		"pay":         {MaxAttempts: 4},
		"invoice.pay": {MaxAttempts: 5},
		"deep.pay":    {MaxAttempts: 6},
	}
	for step, want := range map[string]string{
		"invoice.pay": "invoice.pay", "x.pay": "pay", "pay": "pay", "a.deep.pay": "deep.pay", "invoice.mail": "invoice.*",
		"inventory": "inv*", "other": "*", "xpay": "*", "pay.x": "*",
	} {
		if _, got, ok := p.Match(step); got != want || !ok {
			t.Errorf("Match(%q) = %q, %v; want %q", step, got, ok, want)
		}
	}
	if _, _, ok := (durable.Policies{"a*": {}}).Match("b"); ok {
		t.Error("a policy for a* matches b")
	}
}

func TestACallCancelledInItsOwnTurnStops(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) { return "", ended(ctx) },
			&durable.StepOptions{Retry: &durable.Retry{MaxAttempts: 1}})
		kid := durable.NewWorkflow("kid", func(ctx context.Context, _ none) (string, error) { return "", durable.Sleep(ctx, time.Hour) }, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			began := durable.Now(ctx)
			in, cancel := durable.WithCancel(ctx)
			f := step.Start(in, none{})
			g, _ := durable.NewGroup(ctx, nil)
			g.Go(func(context.Context) error { _, err := kid.Run(in, none{}); return err })
			g.Go(func(context.Context) error { cancel(); return nil })
			_, err := f.Get(ctx)
			kerr := g.Wait()
			return fmt.Sprint(errors.Is(err, context.Canceled), errors.Is(kerr, context.Canceled), durable.Now(ctx).Sub(began)), nil
		}, nil)
		if got, err := runOf(t, open(wf, kid, step), wf, none{}); err != nil || got != "true true 0s" {
			t.Errorf("got %q, %v; want %q", got, err, "true true 0s")
		}
	})
}

func TestAQueuedStepCanBeCancelledAndDoesNotOutliveItsRun(t *testing.T) {
	scenarioWith(t, func(o *durable.Options) { o.MaxSteps = 1 }, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		var ran atomic.Int32
		long := durable.NewStep("long", func(ctx context.Context, _ none) (int, error) { return 1, durable.Sleep(ctx, time.Hour) }, &durable.StepOptions{Timeout: 2 * time.Hour})
		queued := durable.NewStep("queued", func(context.Context, none) (int, error) { ran.Add(1); return 1, nil }, nil)
		hog := durable.NewWorkflow("hog", func(ctx context.Context, _ none) (int, error) { return long.Do(ctx, none{}) }, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			began := durable.Now(ctx)
			_, err := queued.Do(ctx, none{})
			return fmt.Sprint(errors.Is(err, context.Canceled), " ", durable.Now(ctx).Sub(began)), nil
		}, nil)
		e := open(hog, wf, long, queued)
		h := must[*durable.Run](t)(hog.Start(t.Context(), e, none{}, nil))
		time.Sleep(time.Minute)
		a := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		b := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		time.Sleep(time.Minute)
		if err := a.Cancel(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		if err := b.Terminate(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		if got, err := wf.Result(t.Context(), a); err != nil || got != "true 1m0s" {
			t.Errorf("cancelled while queued: %q, %v; want %q", got, err, "true 1m0s")
		}
		must[int](t)(hog.Result(t.Context(), h))
		time.Sleep(time.Minute)
		if ran.Load() != 0 {
			t.Errorf("%d steps of ended runs were started", ran.Load())
		}
	})
}
