package durable_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
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

func TestStepAttemptTimeoutIsRetriedAndNamed(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		var n atomic.Int32
		slow := durable.NewStep("slow", func(ctx context.Context, _ none) (int, error) {
			n.Add(1)
			return 0, ended(ctx)
		}, &durable.StepOptions{Timeout: 10 * time.Second, Retry: &durable.Retry{MaxAttempts: 3}})
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			began := durable.Now(ctx)
			_, err := slow.Do(ctx, none{})
			var se *durable.StepError
			if !errors.As(err, &se) || !errors.Is(err, durable.ErrTimeout) {
				return "", fmt.Errorf("want a step error that is a timeout, got %v", err)
			}
			return fmt.Sprint(se.Attempts, " ", durable.Now(ctx).Sub(began)), nil
		}, nil)
		got, err := runOf(t, open(wf, slow), wf, none{})
		if err != nil || got != "3 33s" { // 3 × 10 s, and 1 s and 2 s between
			t.Errorf("got %q, %v; want %q", got, err, "3 33s")
		}
		if n.Load() != 3 {
			t.Errorf("the step ran %d times, want 3", n.Load())
		}
	})
}

func TestStepTotalTimeoutBoundsTheAttemptToo(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		slow := durable.NewStep("slow", func(ctx context.Context, _ none) (int, error) { return 0, ended(ctx) },
			&durable.StepOptions{TotalTimeout: 5 * time.Second})
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			began := durable.Now(ctx)
			_, err := slow.Do(ctx, none{})
			return fmt.Sprint(errors.Is(err, durable.ErrTimeout), " ", durable.Now(ctx).Sub(began)), nil
		}, nil)
		if got, err := runOf(t, open(wf, slow), wf, none{}); err != nil || got != "true 5s" {
			t.Errorf("got %q, %v; want %q", got, err, "true 5s")
		}
	})
}

func TestStepTotalTimeoutEndsRetriesWithTheRealCause(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		kind := durable.NewErrorType("BUSY")
		busy := durable.NewStep("busy", func(context.Context, none) (int, error) { return 0, kind.New("come back") },
			&durable.StepOptions{TotalTimeout: 10 * time.Second})
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			began := durable.Now(ctx)
			_, err := busy.Do(ctx, none{})
			var se *durable.StepError
			if !errors.As(err, &se) || !errors.Is(err, kind) {
				return "", fmt.Errorf("want the real cause, got %v", err)
			}
			return fmt.Sprint(se.Attempts, " ", durable.Now(ctx).Sub(began)), nil
		}, nil)
		// Attempts at 0, 1, 3 and 7 s; the next one would be at 15 s.
		if got, err := runOf(t, open(wf, busy), wf, none{}); err != nil || got != "4 7s" {
			t.Errorf("got %q, %v; want %q", got, err, "4 7s")
		}
	})
}

func TestStepQueueTimeoutIsNotStarted(t *testing.T) {
	scenarioWith(t, func(o *durable.Options) { o.MaxSteps = 1 }, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		var ran atomic.Int32
		long := durable.NewStep("long", func(ctx context.Context, _ none) (int, error) {
			return 1, durable.Sleep(ctx, time.Hour)
		}, &durable.StepOptions{Timeout: 2 * time.Hour})
		short := durable.NewStep("short", func(context.Context, none) (int, error) { ran.Add(1); return 2, nil },
			&durable.StepOptions{QueueTimeout: time.Minute})
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			f := long.Start(ctx, none{})
			if err := durable.Sleep(ctx, time.Second); err != nil {
				return "", err
			}
			began := durable.Now(ctx)
			_, err := short.Do(ctx, none{})
			took := durable.Now(ctx).Sub(began)
			n, lerr := f.Get(ctx)
			return fmt.Sprint(errors.Is(err, durable.ErrNotStarted), " ", took, " ", n, " ", lerr), nil
		}, nil)
		if got, err := runOf(t, open(wf, long, short), wf, none{}); err != nil || got != "true 1m0s 1 <nil>" {
			t.Errorf("got %q, %v; want %q", got, err, "true 1m0s 1 <nil>")
		}
		if ran.Load() != 0 {
			t.Errorf("the step that never got a place ran %d times", ran.Load())
		}
	})
}

func TestHeartbeatIsDemandedAndItsDetailsReachTheNextAttempt(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		var seen []string
		var mu sync.Mutex
		copyAll := durable.NewStep("copy", func(ctx context.Context, _ none) (string, error) {
			i, _ := durable.StepInfoOf(ctx)
			from, ok := durable.LastHeartbeat[int](ctx)
			mu.Lock()
			seen = append(seen, fmt.Sprint(i.Attempt, ":", from, ok))
			mu.Unlock()
			for n := from; n < from+3; n++ {
				if err := durable.Heartbeat(ctx, n+1); err != nil {
					return "", err
				}
				if err := durable.Sleep(ctx, 20*time.Second); err != nil {
					return "", err
				}
			}
			if i.Attempt < 3 {
				return "", ended(ctx) // hangs: no more heartbeats
			}
			return "copied", nil
		}, &durable.StepOptions{Heartbeat: 30 * time.Second, Timeout: time.Hour})
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) { return copyAll.Do(ctx, none{}) }, nil)
		got, err := runOf(t, open(wf, copyAll), wf, none{})
		if err != nil || got != "copied" {
			t.Errorf("got %q, %v", got, err)
		}
		mu.Lock()
		defer mu.Unlock()
		if s := fmt.Sprint(seen); s != "[1:0 false 2:3 true 3:6 true]" {
			t.Errorf("attempts saw %s, want [1:0 false 2:3 true 3:6 true]", s)
		}
	})
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

func TestHeartbeatTellsOfCancel(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		loop := durable.NewStep("loop", func(ctx context.Context, _ none) (string, error) {
			for i := 0; ; i++ {
				if err := durable.Heartbeat(ctx, i); err != nil {
					return fmt.Sprint("stopped: ", errors.Is(err, context.Canceled)), nil
				}
				time.Sleep(time.Second) // does not look at ctx
			}
		}, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) { return loop.Do(ctx, none{}) }, nil)
		e := open(wf, loop)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		time.Sleep(10 * time.Second)
		if err := r.Cancel(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		if got, err := wf.Result(t.Context(), r); err != nil || got != "stopped: true" {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestRetryAfterIsNotCutAndCountsAsAnAttempt(t *testing.T) {
	kind := durable.NewErrorType("LIMIT")
	cases := []struct {
		name  string
		opts  durable.StepOptions
		after []time.Duration // of attempt 1, 2, …; then it succeeds
		want  string
	}{
		{"longer than Max", durable.StepOptions{Retry: &durable.Retry{Max: 2 * time.Second}}, []time.Duration{time.Hour}, "ok 1h0m0s"},
		{"shorter than the backoff", durable.StepOptions{Retry: &durable.Retry{Initial: time.Minute}}, []time.Duration{time.Second}, "ok 1s"},
		{"zero is the normal backoff", durable.StepOptions{}, []time.Duration{0, -5}, "ok 3s"},
		{"backoff goes on beside it", durable.StepOptions{}, []time.Duration{10 * time.Second, 0}, "ok 12s"},
		{"last attempt", durable.StepOptions{Retry: &durable.Retry{MaxAttempts: 2}}, []time.Duration{time.Second, time.Second}, "LIMIT 2 1s"},
		{"past the total timeout", durable.StepOptions{TotalTimeout: time.Minute}, []time.Duration{time.Minute}, "LIMIT 1 0s"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
				step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) {
					i, _ := durable.StepInfoOf(ctx)
					if i.Attempt <= len(c.after) {
						return "", fmt.Errorf("wrapped: %w", durable.RetryAfter(c.after[i.Attempt-1], kind.New("slow down")))
					}
					return "ok", nil
				}, &c.opts)
				wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
					began := durable.Now(ctx)
					out, err := step.Do(ctx, none{})
					if err != nil {
						var se *durable.StepError
						if !errors.As(err, &se) || !errors.Is(err, kind) {
							return "", fmt.Errorf("not the real cause: %v", err)
						}
						out = fmt.Sprint("LIMIT ", se.Attempts)
					}
					return fmt.Sprint(out, " ", durable.Now(ctx).Sub(began)), nil
				}, nil)
				if got, err := runOf(t, open(wf, step), wf, none{}); err != nil || got != c.want {
					t.Errorf("got %q, %v; want %q", got, err, c.want)
				}
			})
		})
	}
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

func TestErrorDetailsAndTypesCrossEveryBorder(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		kind := durable.NewErrorType("INSUFFICIENT_FUNDS")
		pay := durable.NewStep("pay", func(context.Context, none) (int, error) {
			return 0, durable.Permanent(&durable.Error{Type: "INSUFFICIENT_FUNDS", Message: "3 short", Details: []byte(`{"short":3}`)})
		}, nil)
		kid := durable.NewWorkflow("kid", func(ctx context.Context, _ none) (int, error) { return pay.Do(ctx, none{}) }, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) { return kid.Run(ctx, none{}) }, nil)
		_, err := runOf(t, open(wf, kid, pay), wf, none{})
		var re *durable.RunError
		if !errors.Is(err, kind) || !errors.As(err, &re) || re.State != durable.Failed || re.Err == nil || string(re.Err.Details) != `{"short":3}` || re.Err.Type != "INSUFFICIENT_FUNDS" {
			t.Errorf("error of the root run: %#v (%v)", err, err)
		}
	})
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

func TestConfiguredPolicyIsLaidOverTheDeclaredOne(t *testing.T) {
	with := func(o *durable.Options) {
		o.Policies = durable.Policies{"flaky": {MaxAttempts: 3}, "once": {MaxAttempts: 9}}
	}
	scenarioWith(t, with, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		flaky := durable.NewStep("shop.flaky", func(context.Context, none) (int, error) { return 0, errors.New("x") },
			&durable.StepOptions{Retry: &durable.Retry{Initial: 10 * time.Second, Backoff: 1, MaxAttempts: 7}})
		var n atomic.Int32
		once := durable.NewStep("once", func(context.Context, none) (int, error) { n.Add(1); return 0, errors.New("x") },
			&durable.StepOptions{AtMostOnce: true})
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			began := durable.Now(ctx)
			_, err := flaky.Do(ctx, none{})
			var se *durable.StepError
			if !errors.As(err, &se) {
				return "", err
			}
			took := durable.Now(ctx).Sub(began)
			_, oerr := once.Do(ctx, none{})
			return fmt.Sprint(se.Attempts, " ", took, " ", errors.Is(oerr, durable.ErrOutcomeUnknown)), nil
		}, nil)
		if got, err := runOf(t, open(wf, flaky, once), wf, none{}); err != nil || got != "3 20s false" {
			t.Errorf("got %q, %v; want %q", got, err, "3 20s false")
		}
		if n.Load() != 1 {
			t.Errorf("the at-most-once step ran %d times", n.Load())
		}
	})
}

func TestWithChangesOneCall(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		step := durable.NewStep("step", func(ctx context.Context, _ none) (int, error) { return 0, errors.New("x") },
			&durable.StepOptions{Retry: &durable.Retry{MaxAttempts: 2}})
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			attempts := func(s *durable.Step[none, int]) int {
				_, err := s.Do(ctx, none{})
				var se *durable.StepError
				if !errors.As(err, &se) {
					return -1
				}
				return se.Attempts
			}
			return fmt.Sprint(attempts(step), attempts(step.With(&durable.StepOptions{Retry: &durable.Retry{MaxAttempts: 4}})),
				attempts(step.With(&durable.StepOptions{Timeout: time.Second})), attempts(step)), nil
		}, nil)
		if got, err := runOf(t, open(wf, step), wf, none{}); err != nil || got != "2 4 2 2" {
			t.Errorf("got %q, %v; want %q", got, err, "2 4 2 2")
		}
	})
}

func TestPanicInAStepIsAFailureOfTypePanic(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		step := durable.NewStep("step", func(_ context.Context, exit bool) (int, error) { panic("boom") },
			&durable.StepOptions{Retry: &durable.Retry{MaxAttempts: 2}})
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			_, err := step.Do(ctx, true)
			var se *durable.StepError
			if !errors.As(err, &se) {
				return "", err
			}
			return fmt.Sprint(se.Err.Type, " ", se.Attempts, " ", strings.Contains(se.Err.Message, "boom"), " ", strings.Contains(se.Err.Message, "steps_test.go")), nil
		}, nil)
		if got, err := runOf(t, open(wf, step), wf, none{}); err != nil || got != "panic 2 true true" {
			t.Errorf("got %q, %v; want %q", got, err, "panic 2 true true")
		}
	})
}

func TestResultsThatCannotBeRecordedFailOnce(t *testing.T) {
	scenarioWith(t, func(o *durable.Options) { o.MaxPayload = 1000 }, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		var n atomic.Int32
		big := durable.NewStep("big", func(_ context.Context, k int) (string, error) { n.Add(1); return strings.Repeat("x", k), nil }, nil)
		odd := durable.NewStep("odd", func(context.Context, none) (any, error) { n.Add(1); return func() {}, nil }, nil)
		in := durable.NewStep("in", func(_ context.Context, s string) (int, error) { n.Add(1); return len(s), nil }, nil)
		kid := durable.NewWorkflow("kid", func(_ context.Context, s string) (int, error) { n.Add(1); return len(s), nil }, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			_, e1 := big.Do(ctx, 2000)
			var s1, s2 *durable.StepError
			if !errors.As(e1, &s1) || !errors.Is(e1, durable.ErrTooLarge) {
				return "", fmt.Errorf("over-size result: %v", e1)
			}
			_, e2 := odd.Do(ctx, none{})
			if !errors.As(e2, &s2) || !errors.Is(e2, durable.ErrBadInput) {
				return "", fmt.Errorf("unencodable result: %v", e2)
			}
			if _, err := in.Do(ctx, strings.Repeat("x", 2000)); !errors.Is(err, durable.ErrTooLarge) {
				return "", fmt.Errorf("over-size input: %v", err)
			}
			if _, err := kid.Run(ctx, strings.Repeat("x", 2000)); !errors.Is(err, durable.ErrTooLarge) {
				return "", fmt.Errorf("over-size input of a child: %v", err)
			}
			if _, err := durable.PutBlob(ctx, make([]byte, 2000)); !errors.Is(err, durable.ErrTooLarge) {
				return "", fmt.Errorf("over-size blob: %v", err)
			}
			return fmt.Sprint(s1.Attempts, s2.Attempts, s1.Err.Permanent, s2.Err.Permanent), nil
		}, nil)
		e := open(wf, kid, big, odd, in)
		if got, err := runOf(t, e, wf, none{}); err != nil || got != "1 1 true true" {
			t.Errorf("got %q, %v; want %q", got, err, "1 1 true true")
		}
		if n.Load() != 2 {
			t.Errorf("functions ran %d times, want 2", n.Load())
		}
		if _, err := kid.Start(t.Context(), e, strings.Repeat("x", 2000), nil); !errors.Is(err, durable.ErrTooLarge) {
			t.Errorf("start with an over-size input: %v", err)
		}
	})
}

func TestResultOfAWorkflowThatIsTooLargeFailsTheRun(t *testing.T) {
	scenarioWith(t, func(o *durable.Options) { o.MaxPayload = 1000 }, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		wf := durable.NewWorkflow("wf", func(context.Context, none) (string, error) { return strings.Repeat("x", 2000), nil }, nil)
		_, err := runOf(t, open(wf), wf, none{})
		var re *durable.RunError
		if !errors.As(err, &re) || re.State != durable.Failed || !errors.Is(err, durable.ErrTooLarge) {
			t.Errorf("got %v, want a failed run that is too large", err)
		}
	})
}

func TestAtMostOnceIsUnknownExactlyWhereItIs(t *testing.T) {
	kind := durable.NewErrorType("DECLINED")
	cases := []struct {
		name    string
		opts    durable.StepOptions
		fn      func(ctx context.Context) (any, error)
		unknown bool
	}{
		{"success", durable.StepOptions{}, func(context.Context) (any, error) { return "x", nil }, false},
		{"a known failure", durable.StepOptions{}, func(context.Context) (any, error) { return nil, kind.New("no") }, false},
		{"a known failure, retry after", durable.StepOptions{}, func(context.Context) (any, error) { return nil, durable.RetryAfter(1, kind.New("no")) }, false},
		{"permanent", durable.StepOptions{}, func(context.Context) (any, error) { return nil, durable.Permanent(kind.New("no")) }, false},
		{"the step says so", durable.StepOptions{}, func(context.Context) (any, error) {
			return nil, fmt.Errorf("post: %w", durable.OutcomeUnknown(errors.New("connection reset")))
		}, true},
		{"attempt timeout", durable.StepOptions{Timeout: time.Second}, func(ctx context.Context) (any, error) { return nil, ended(ctx) }, true},
		{"total timeout", durable.StepOptions{TotalTimeout: time.Second}, func(ctx context.Context) (any, error) { return nil, ended(ctx) }, true},
		{"heartbeat timeout", durable.StepOptions{Heartbeat: time.Second}, func(ctx context.Context) (any, error) { return nil, ended(ctx) }, true},
		{"panic", durable.StepOptions{}, func(context.Context) (any, error) { panic("x") }, true},
		{"unencodable", durable.StepOptions{}, func(context.Context) (any, error) { return func() {}, nil }, true},
		{"too large", durable.StepOptions{}, func(context.Context) (any, error) { return strings.Repeat("x", 2000), nil }, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			scenarioWith(t, func(o *durable.Options) { o.MaxPayload = 1000 }, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
				var n atomic.Int32
				o := c.opts
				o.AtMostOnce = true
				step := durable.NewStep("step", func(ctx context.Context, _ none) (any, error) { n.Add(1); return c.fn(ctx) }, &o)
				var seen error
				wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (bool, error) {
					_, seen = step.Do(ctx, none{})
					return errors.Is(seen, durable.ErrOutcomeUnknown), nil
				}, nil)
				got, err := runOf(t, open(wf, step), wf, none{})
				if err != nil || got != c.unknown {
					t.Errorf("unknown = %v, %v; want %v (error %v)", got, err, c.unknown, seen)
				}
				if n.Load() != 1 {
					t.Errorf("the step ran %d times", n.Load())
				}
				if c.unknown {
					var se *durable.StepError
					if !errors.As(seen, &se) || se.Attempts != 1 || se.Err.Cause == nil {
						t.Errorf("error %#v has no cause", seen)
					}
				}
			})
		})
	}
}

func TestLateResultIsDroppedAndNoted(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) {
			i, _ := durable.StepInfoOf(ctx)
			if i.Attempt == 1 {
				time.Sleep(10 * time.Second) // does not look at ctx
				return "late", nil
			}
			time.Sleep(500 * time.Millisecond)
			return "second", nil
		}, &durable.StepOptions{Timeout: time.Second})
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			s, err := step.Do(ctx, none{})
			if err != nil {
				return "", err
			}
			return s, durable.Sleep(ctx, time.Minute)
		}, nil)
		e := open(wf, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		if got, err := wf.Result(t.Context(), r); err != nil || got != "second" {
			t.Errorf("got %q, %v; want %q", got, err, "second")
		}
		noted := false
		for _, rec := range must[[]*durable.Record](t)(r.History(t.Context())) {
			for _, n := range rec.Notes {
				noted = noted || n.Kind == "dropped" && n.Call == "0/1" && n.Attempt == 1
			}
		}
		if !noted {
			t.Error("the history does not tell of the late result")
		}
	})
}

func TestCancelOfAStep(t *testing.T) {
	kind := durable.NewErrorType("REAL")
	cases := []struct {
		name string
		fn   func(ctx context.Context, attempt int) (string, error)
		opts durable.StepOptions
		want string
	}{
		{"success all the same", func(ctx context.Context, _ int) (string, error) {
			_ = ended(ctx)
			return "done", durable.Sleep(context.WithoutCancel(ctx), time.Minute)
		}, durable.StepOptions{}, "done <nil> 2m0s"},
		{"a failure of its own", func(ctx context.Context, _ int) (string, error) { _ = ended(ctx); return "", kind.New("x") }, durable.StepOptions{}, "real 1m0s"},
		{"the context's error", func(ctx context.Context, _ int) (string, error) { return "", ended(ctx) }, durable.StepOptions{}, "canceled 1m0s"},
		{"between attempts", func(ctx context.Context, _ int) (string, error) { return "", kind.New("x") }, durable.StepOptions{Retry: &durable.Retry{Initial: time.Hour}}, "real 1m0s"},
		{"it does not listen", func(ctx context.Context, _ int) (string, error) {
			time.Sleep(3 * time.Minute)
			return "done", nil
		}, durable.StepOptions{}, "done <nil> 3m0s"},
		{"it does not listen, timeout", func(ctx context.Context, _ int) (string, error) {
			time.Sleep(3 * time.Minute)
			return "done", nil
		}, durable.StepOptions{Timeout: 2 * time.Minute}, "timeout 2m0s"},
		{"abandon", func(ctx context.Context, _ int) (string, error) {
			time.Sleep(3 * time.Minute)
			return "done", nil
		}, durable.StepOptions{Abandon: true}, "canceled 1m0s"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
				var n atomic.Int32
				step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) {
					return c.fn(ctx, int(n.Add(1)))
				}, &c.opts)
				wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
					began := durable.Now(ctx)
					s, err := step.Do(ctx, none{})
					out := fmt.Sprint(s, " ", err)
					switch {
					case errors.Is(err, kind):
						out = "real"
					case errors.Is(err, durable.ErrTimeout):
						out = "timeout"
					case errors.Is(err, context.Canceled):
						out = "canceled"
					}
					if ctx.Err() == nil {
						out += " (not cancelled)"
					}
					return fmt.Sprint(out, " ", durable.Now(ctx).Sub(began)), nil
				}, nil)
				e := open(wf, step)
				r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
				time.Sleep(time.Minute)
				if err := r.Cancel(t.Context(), "enough"); err != nil {
					t.Fatal(err)
				}
				if got, err := wf.Result(t.Context(), r); err != nil || got != c.want {
					t.Errorf("got %q, %v; want %q", got, err, c.want)
				}
				time.Sleep(time.Hour)
				if n.Load() != 1 {
					t.Errorf("the step ran %d times", n.Load())
				}
			})
		})
	}
}

func TestCallsUnderACancelledContextAreNotSent(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		var n atomic.Int32
		step := durable.NewStep("step", func(context.Context, none) (int, error) { n.Add(1); return 1, nil }, nil)
		kid := durable.NewWorkflow("kid", func(context.Context, none) (int, error) { n.Add(1); return 1, nil }, nil)
		q := durable.NewQuestion[int]("q")
		sig := durable.NewSignal[int]("s")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			in, cancel := durable.WithCancel(ctx)
			cancel()
			bad := 0
			check := func(err error) {
				if !errors.Is(err, context.Canceled) {
					bad++
				}
			}
			_, err := step.Do(in, none{})
			check(err)
			_, err = step.Start(in, none{}).Get(ctx)
			check(err)
			_, err = kid.Run(in, none{})
			check(err)
			_, err = q.Ask(in, "?", nil)
			check(err)
			_, err = sig.Receive(in)
			check(err)
			_, err = sig.ReceiveTimeout(in, time.Hour)
			check(err)
			check(durable.Sleep(in, time.Hour))
			check(durable.Await(in, func() bool { return false }))
			_, err = durable.Select(in, durable.Elapsed(time.Hour))
			check(err)
			_, err = durable.NewCallback[int](in)
			check(err)
			check(durable.Address("x", "").Signal(in, "s", nil, nil))
			check(durable.Address("x", "").Cancel(in, ""))
			return bad, nil
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{q, sig}})
		e := open(wf, kid, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		if got, err := wf.Result(t.Context(), r); err != nil || got != 0 {
			t.Errorf("%d calls did not say Canceled, %v", got, err)
		}
		if n.Load() != 0 {
			t.Errorf("%d effects took place", n.Load())
		}
		for _, rec := range must[[]*durable.Record](t)(r.History(t.Context())) {
			if len(rec.Calls) > 0 {
				t.Errorf("history has the call %+v", rec.Calls[0])
			}
		}
	})
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

func TestEffectKeyIsTheSameForEveryAttempt(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		keys := map[string]int{}
		var mu sync.Mutex
		step := durable.NewStep("step", func(ctx context.Context, _ int) (int, error) {
			i, _ := durable.StepInfoOf(ctx)
			mu.Lock()
			defer mu.Unlock()
			keys[i.Key]++
			if i.Attempt < 3 {
				return 0, errors.New("x")
			}
			return 0, nil
		}, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, n int) (int, error) {
			for range 2 {
				if _, err := step.Do(ctx, 7); err != nil {
					return 0, err
				}
			}
			if n > 0 {
				return 0, durable.ContinueAsNew(n - 1)
			}
			return 0, nil
		}, nil)
		e := open(wf, step)
		for range 2 {
			if _, err := runOf(t, e, wf, 1); err != nil {
				t.Fatal(err)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if len(keys) != 8 {
			t.Errorf("%d keys for 8 calls", len(keys))
		}
		for k, n := range keys {
			if n != 3 || k == "" {
				t.Errorf("key %q was seen %d times, want 3", k, n)
			}
		}
	})
}
