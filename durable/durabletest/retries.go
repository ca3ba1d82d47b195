package durabletest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

// tries makes a scenario of a step and of how it is tried: its workflow tells
// the outcome, the attempts of a failure, and the whole hours that it took.
func tries(name, row, rule, want string, program func(env *Env) (durable.StepOptions, func(ctx context.Context, attempt int) (string, error))) Scenario {
	return solo(name, row, rule, want, func(env *Env) (func(ctx context.Context) (string, error), durable.Set) {
		o, fn := program(env)
		step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) {
			i, _ := durable.StepInfoOf(ctx)
			return fn(ctx, i.Attempt)
		}, &o)
		return func(ctx context.Context) (string, error) {
			began := durable.Now(ctx)
			out, err := step.Do(ctx, none{})
			took := env.Since(ctx, began)
			var se *durable.StepError
			switch {
			case errors.As(err, &se):
				return fmt.Sprintf("%s, attempts %d, %d hours", kindOf(err), se.Attempts, took), nil
			case err != nil:
				return "", fmt.Errorf("want a StepError, got %w", err)
			}
			return fmt.Sprintf("%s, %d hours", out, took), nil
		}, durable.Set{step}
	})
}

var busy = durable.NewErrorType("BUSY")

func kindOf(err error) string {
	var e *durable.Error
	if s := says(err); s != fmt.Sprint(err) || !errors.As(err, &e) {
		return s
	}
	return e.Type
}

func fails(context.Context, int) (string, error) { return "", busy.New("come back") }

var retries = []Scenario{
	{
		Name: "retries/defaults",
		Row:  "Policy",
		Rule: "By default a step is tried until it succeeds, after 1 s, 2 s, 4 s and so on, without jitter.",
		New: func(env *Env) *Play {
			step := durable.NewStep("step", func(ctx context.Context, _ none) (int, error) {
				if i, _ := durable.StepInfoOf(ctx); i.Attempt < 4 {
					return 0, errors.New("not yet")
				}
				return 1, nil
			}, nil)
			most := 8 * time.Second
			if env.Hours(1) < time.Hour {
				most = 14 * time.Second // a server, perhaps on a busy machine
			}
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				began := durable.Now(ctx)
				n, err := step.Do(ctx, none{})
				if took := durable.Now(ctx).Sub(began); took < 7*time.Second || took > most {
					return "", fmt.Errorf("took %v, want 7 s", took)
				}
				return fmt.Sprint(n), err
			}, nil)
			return &Play{Defs: durable.Set{wf, step}, Drive: func(t *T) {
				result(t, wf, start(t, wf, none{}, "r"), "1")
			}}
		},
	},
	tries("retries/backoff-and-max", "Policy",
		"The wait grows by its factor up to Max, for MaxAttempts attempts.", "BUSY, attempts 5, 10 hours",
		func(env *Env) (durable.StepOptions, func(context.Context, int) (string, error)) {
			return durable.StepOptions{Retry: &durable.Retry{Initial: env.Hours(1), Backoff: 3, Max: env.Hours(3), MaxAttempts: 5}}, fails // 1, 3, 3, 3
		}),
	tries("retries/attempt-timeout", "Policy",
		"An attempt that takes longer than Timeout is given up and made again.", "timeout, attempts 2, 5 hours",
		func(env *Env) (durable.StepOptions, func(context.Context, int) (string, error)) {
			return durable.StepOptions{Timeout: env.Hours(2), Retry: &durable.Retry{Initial: env.Hours(1), MaxAttempts: 2}},
				func(ctx context.Context, _ int) (string, error) { return "", ended(ctx) }
		}),
	tries("retries/total-timeout-bounds-the-attempt", "Policy",
		"TotalTimeout bounds an attempt too.", "timeout, attempts 1, 2 hours",
		func(env *Env) (durable.StepOptions, func(context.Context, int) (string, error)) {
			return durable.StepOptions{TotalTimeout: env.Hours(2), Timeout: env.Hours(100), Retry: &durable.Retry{Initial: env.Hours(1)}},
				func(ctx context.Context, _ int) (string, error) { return "", ended(ctx) }
		}),
	tries("retries/total-timeout-keeps-the-cause", "Policy",
		"Where the next attempt would come after TotalTimeout, the step fails now with the real cause.", "BUSY, attempts 3, 3 hours",
		func(env *Env) (durable.StepOptions, func(context.Context, int) (string, error)) {
			return durable.StepOptions{TotalTimeout: env.Hours(6), Retry: &durable.Retry{Initial: env.Hours(1)}}, fails // 1, 2, and 4 would be too many
		}),
	tries("retries/after-is-not-cut", "`RetryAfter(d)`",
		"RetryAfter is not cut by Max, and counts as an attempt.", "second, 5 hours",
		func(env *Env) (durable.StepOptions, func(context.Context, int) (string, error)) {
			return durable.StepOptions{Retry: &durable.Retry{Initial: env.Hours(1), Max: env.Hours(2), MaxAttempts: 2}},
				func(_ context.Context, attempt int) (string, error) {
					if attempt == 1 {
						return "", fmt.Errorf("wrapped: %w", durable.RetryAfter(env.Hours(5), busy.New("slow down")))
					}
					return "second", nil
				}
		}),
	tries("retries/after-zero-is-the-backoff", "`RetryAfter(d)`",
		"RetryAfter of nothing is the normal backoff.", "third, 3 hours",
		func(env *Env) (durable.StepOptions, func(context.Context, int) (string, error)) {
			return durable.StepOptions{Retry: &durable.Retry{Initial: env.Hours(1)}},
				func(_ context.Context, attempt int) (string, error) {
					if attempt < 3 {
						return "", durable.RetryAfter(time.Duration(1-attempt), busy.New("slow down"))
					}
					return "third", nil
				}
		}),
	tries("retries/after-the-last-attempt", "`RetryAfter(d)`",
		"RetryAfter in the last attempt fails now, with the real cause.", "BUSY, attempts 1, 0 hours",
		func(env *Env) (durable.StepOptions, func(context.Context, int) (string, error)) {
			return durable.StepOptions{Retry: &durable.Retry{MaxAttempts: 1}},
				func(context.Context, int) (string, error) {
					return "", durable.RetryAfter(env.Hours(50), busy.New("slow down"))
				}
		}),
	tries("retries/after-the-total-timeout", "`RetryAfter(d)`",
		"RetryAfter past TotalTimeout fails now, with the real cause.", "BUSY, attempts 1, 0 hours",
		func(env *Env) (durable.StepOptions, func(context.Context, int) (string, error)) {
			return durable.StepOptions{TotalTimeout: env.Hours(10)},
				func(context.Context, int) (string, error) {
					return "", durable.RetryAfter(env.Hours(10), busy.New("slow down"))
				}
		}),
	tries("retries/permanent-in-wrappers", "Errors",
		"A permanent error is not tried again, however it is wrapped.", "BUSY, attempts 1, 0 hours",
		func(env *Env) (durable.StepOptions, func(context.Context, int) (string, error)) {
			return durable.StepOptions{}, func(context.Context, int) (string, error) {
				return "", fmt.Errorf("a: %w", errors.Join(durable.Permanent(busy.New("x")), errors.New("y")))
			}
		}),
	tries("retries/permanent-beats-after", "Errors",
		"A permanent error inside RetryAfter is permanent.", "BUSY, attempts 1, 0 hours",
		func(env *Env) (durable.StepOptions, func(context.Context, int) (string, error)) {
			return durable.StepOptions{}, func(context.Context, int) (string, error) {
				return "", durable.RetryAfter(env.Hours(1), durable.Permanent(busy.New("x")))
			}
		}),
	tries("retries/non-retryable-types", "Errors",
		"An error whose type the policy calls non-retryable is not tried again.", "BUSY, attempts 1, 0 hours",
		func(env *Env) (durable.StepOptions, func(context.Context, int) (string, error)) {
			return durable.StepOptions{Retry: &durable.Retry{NonRetryable: []string{"BUSY"}}}, func(ctx context.Context, n int) (string, error) {
				return "", fmt.Errorf("wrapped: %w", busy.New("x"))
			}
		}),
	{
		Name: "retries/policy-is-recorded-with-the-call",
		Row:  "Policy",
		Rule: "The policy is resolved when the call is made and recorded with it: a later configuration changes new calls only.",
		New: func(env *Env) *Play {
			program := func(attempts int) (*durable.Workflow[none, string], *durable.Step[none, string]) {
				step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) {
					env.Note("ran")
					return fails(ctx, 0)
				}, &durable.StepOptions{Retry: &durable.Retry{Initial: env.Hours(2), Backoff: 1, MaxAttempts: attempts}})
				wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
					var out []int
					for range 2 {
						_, err := step.Do(ctx, none{})
						var se *durable.StepError
						if !errors.As(err, &se) {
							return "", err
						}
						out = append(out, se.Attempts)
					}
					return fmt.Sprint(out), nil
				}, nil)
				return wf, step
			}
			wf, step := program(3)
			wf2, step2 := program(2)
			return &Play{Defs: durable.Set{wf, step}, Later: []durable.Set{{wf2, step2}}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.OK("wait for the step", t.Wait(t.Context(), "ran", 1))
				t.Pass(1)
				t.Deploy(1)
				result(t, wf2, r, "[3 2]")
			}}
		},
	},
	{
		Name: "retries/configured-policy",
		Row:  "Policy",
		Rule: "A configured policy is laid over the declared one, field by field; With changes the calls made through it.",
		New: func(env *Env) *Play {
			flaky := durable.NewStep("shop.flaky", func(ctx context.Context, _ none) (string, error) { return fails(ctx, 0) },
				&durable.StepOptions{Retry: &durable.Retry{Initial: env.Hours(1), Backoff: 1, MaxAttempts: 7}})
			plain := durable.NewStep("plain", func(ctx context.Context, _ none) (string, error) { return fails(ctx, 0) },
				&durable.StepOptions{Retry: &durable.Retry{Initial: env.Hours(1), MaxAttempts: 2}})
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				attempts := func(s *durable.Step[none, string]) int {
					_, err := s.Do(ctx, none{})
					var se *durable.StepError
					if !errors.As(err, &se) {
						return -1
					}
					return se.Attempts
				}
				began := durable.Now(ctx)
				a := attempts(flaky)
				took := env.Since(ctx, began)
				return fmt.Sprint(a, " in ", took, "; ", attempts(plain), attempts(plain.With(&durable.StepOptions{Retry: &durable.Retry{MaxAttempts: 1}})), attempts(plain)), nil
			}, nil)
			return &Play{Defs: durable.Set{wf, flaky, plain},
				Options: func(o *durable.Options) { o.Policies = durable.Policies{"flaky": {MaxAttempts: 3}} },
				Drive: func(t *T) {
					result(t, wf, start(t, wf, none{}, "r"), "3 in 2; 2 1 2")
				}}
		},
	},
	{
		Name:  "retries/a-lost-attempt-counts",
		Row:   "Policy",
		Rule:  "An attempt that was lost with its process counts, and the next one comes after the usual wait.",
		Needs: []Ability{Killing},
		New: func(env *Env) *Play {
			step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) {
				i, _ := durable.StepInfoOf(ctx)
				env.Note("attempt", i.Attempt)
				if i.Attempt == 1 {
					return "", ended(ctx)
				}
				return fmt.Sprint("attempt ", i.Attempt), nil
			}, &durable.StepOptions{Timeout: env.Hours(100), Retry: &durable.Retry{Initial: env.Hours(2)}})
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				began := durable.Now(ctx)
				s, err := step.Do(ctx, none{})
				if env.Since(ctx, began) < 2 {
					return "", fmt.Errorf("the next attempt came after %v", durable.Now(ctx).Sub(began))
				}
				return s, err
			}, nil)
			return &Play{Defs: durable.Set{wf, step}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.OK("wait for the step", t.Wait(t.Context(), "attempt", 1))
				t.Kill()
				result(t, wf, r, "attempt 2")
				t.Equal("attempts", t.Notes("attempt"), []string{"1", "2"})
			}}
		},
	},
	{
		Name: "retries/shutdown-is-not-a-failure",
		Row:  "Policy",
		Rule: "An attempt that was cut off by a graceful end is lost, never failed or cancelled.",
		New: func(env *Env) *Play {
			step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) {
				if env.Note("began") < 4 {
					return "", ended(ctx)
				}
				return "done", nil
			}, &durable.StepOptions{Timeout: env.Hours(100), Retry: &durable.Retry{Initial: env.Hours(1), Backoff: 1, MaxAttempts: 2}})
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) { return step.Do(ctx, none{}) }, nil)
			return &Play{Defs: durable.Set{wf, step}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				for i := range 3 {
					t.OK("wait for the step", t.Wait(t.Context(), "began", i+1))
					t.Restart()
				}
				result(t, wf, r, "done")
			}}
		},
	},
	{
		Name: "retries/none-after-cancel",
		Row:  "Policy",
		Rule: "There is no further attempt once cancel was asked.",
		New: func(env *Env) *Play {
			step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) {
				env.Note("ran")
				return fails(ctx, 0)
			}, &durable.StepOptions{Retry: &durable.Retry{Initial: env.Hours(100)}})
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				_, err := step.Do(ctx, none{})
				return kindOf(err), nil
			}, nil)
			return &Play{Defs: durable.Set{wf, step}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.OK("wait for the step", t.Wait(t.Context(), "ran", 1))
				t.Pass(1)
				t.OK("cancel", r.Cancel(t.Context(), ""))
				if t.Can(LastError) {
					result(t, wf, r, "BUSY")
				} else {
					result(t, wf, r, "canceled")
				}
				t.Pass(5)
				t.Equal("how often the step ran", t.Count("ran"), 1)
			}}
		},
	},
	{
		Name: "heartbeat/demanded",
		Row:  "Heartbeats",
		Rule: "A step that must call Heartbeat and does not is given up; the next attempt reads what the last one said.",
		New: func(env *Env) *Play {
			step := durable.NewStep("copy", func(ctx context.Context, _ none) (string, error) {
				i, _ := durable.StepInfoOf(ctx)
				from, ok := durable.LastHeartbeat[int](ctx)
				env.Note("from", from, " ", ok)
				for n := from + 1; n <= from+3; n++ {
					if err := durable.Heartbeat(ctx, n); err != nil {
						return "", err
					}
					if err := durable.Sleep(ctx, env.Hours(1)); err != nil {
						return "", err
					}
				}
				if i.Attempt < 3 {
					return "", ended(ctx) // hangs
				}
				return "copied", nil
			}, &durable.StepOptions{Heartbeat: env.Hours(3), Timeout: env.Hours(100), Retry: &durable.Retry{Initial: env.Hours(1)}})
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) { return step.Do(ctx, none{}) }, nil)
			return &Play{Defs: durable.Set{wf, step}, Drive: func(t *T) {
				result(t, wf, start(t, wf, none{}, "r"), "copied")
				t.Equal("where the attempts began", t.Notes("from"), []string{"0 false", "3 true", "6 true"})
			}}
		},
	},
	{
		Name: "heartbeat/tells-of-cancel",
		Row:  "Heartbeats",
		Rule: "A heartbeat tells the step that it was asked to stop.",
		New: func(env *Env) *Play {
			step := durable.NewStep("loop", func(ctx context.Context, _ none) (string, error) {
				for i := 0; ; i++ {
					if err := durable.Heartbeat(ctx, i); err != nil {
						return "stopped: " + says(err), nil
					}
					env.Note("beat")
					_ = durable.Sleep(context.WithoutCancel(ctx), env.Hours(0.25)) // it does not look at ctx
				}
			}, &durable.StepOptions{Timeout: env.Hours(100)})
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) { return step.Do(ctx, none{}) }, nil)
			return &Play{Defs: durable.Set{wf, step}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.OK("wait for the step", t.Wait(t.Context(), "beat", 2))
				t.OK("cancel", r.Cancel(t.Context(), ""))
				result(t, wf, r, "stopped: canceled")
			}}
		},
	},
	{
		Name:  "steps/queue-timeout",
		Needs: []Ability{OnePlace},
		Row:   "Not started",
		Rule:  "A call that gets no place within QueueTimeout was never started, and says so.",
		New: func(env *Env) *Play {
			long := durable.NewStep("long", func(ctx context.Context, _ none) (string, error) {
				env.Note("long")
				return "long", durable.Sleep(ctx, env.Hours(5))
			}, &durable.StepOptions{Timeout: env.Hours(100)})
			short := durable.NewStep("short", func(context.Context, none) (string, error) { env.Note("short"); return "", nil },
				&durable.StepOptions{QueueTimeout: env.Hours(1)})
			once := durable.NewStep("once", func(context.Context, none) (string, error) { env.Note("once"); return "", nil },
				&durable.StepOptions{QueueTimeout: env.Hours(1), AtMostOnce: true})
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				f := long.Start(ctx, none{})
				if err := durable.Sleep(ctx, env.Hours(1)); err != nil {
					return "", err
				}
				a, b := short.Start(ctx, none{}), once.Start(ctx, none{})
				_, e1 := a.Get(ctx)
				_, e2 := b.Get(ctx)
				s, err := f.Get(ctx)
				return says(e1) + ", " + says(e2) + ", " + s, err
			}, nil)
			return &Play{Defs: durable.Set{wf, long, short, once}, Options: func(o *durable.Options) { o.MaxSteps = 1 },
				Drive: func(t *T) {
					result(t, wf, start(t, wf, none{}, "r"), "not started, not started, long")
					t.Pass(1)
					t.Equal("what ran beside the long one", t.Count("short")+t.Count("once"), 0)
				}}
		},
	},
	{
		Name: "steps/not-defined-waits",
		Row:  "Not started",
		Rule: "A call of a step that the program lacks waits visibly and uses up nothing; it is sent when there is one again.",
		New: func(env *Env) *Play {
			step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) {
				i, _ := durable.StepInfoOf(ctx)
				if env.Note("ran"); i.Attempt == 1 {
					return "", errors.New("not yet")
				}
				return fmt.Sprint("attempt ", i.Attempt), nil
			}, &durable.StepOptions{Retry: &durable.Retry{Initial: env.Hours(2), MaxAttempts: 2}})
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) { return step.Do(ctx, none{}) }, nil)
			return &Play{Defs: durable.Set{wf, step}, Later: []durable.Set{{wf}}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.OK("wait for the step", t.Wait(t.Context(), "ran", 1))
				t.Settle()
				t.Deploy(1)
				t.Pass(4)
				d := t.Describe(r)
				t.Equal("state without the step", d.State, durable.Running)
				if d.Problem != nil {
					t.Errorf("a problem of the run: %+v", *d.Problem)
				}
				t.Waits(r, "step")
				t.Deploy(0)
				result(t, wf, r, "attempt 2")
				t.Equal("how often it ran", t.Count("ran"), 2)
			}}
		},
	},
	{
		Name: "steps/late-result-is-dropped",
		Row:  "Not started",
		Rule: "A result that comes after its attempt was given up is dropped, and noted.",
		New: func(env *Env) *Play {
			step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) {
				i, _ := durable.StepInfoOf(ctx)
				if i.Attempt == 1 {
					_ = durable.Sleep(context.WithoutCancel(ctx), env.Hours(6)) // it does not look at ctx
					return "late", nil
				}
				return "second", nil
			}, &durable.StepOptions{Timeout: env.Hours(2), Retry: &durable.Retry{Initial: env.Hours(1)}})
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				s, err := step.Do(ctx, none{})
				if err != nil {
					return "", err
				}
				return s, durable.Sleep(ctx, env.Hours(8))
			}, nil)
			return &Play{Defs: durable.Set{wf, step}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				result(t, wf, r, "second")
				noted := false
				for _, rec := range t.History(r) {
					for _, n := range rec.Notes {
						noted = noted || n.Kind == "dropped" && n.Call == "0/1" && n.Attempt == 1
					}
				}
				t.Equal("the history tells of the late result", noted, t.Can(Notes))
			}}
		},
	},
	{
		Name: "steps/effect-key",
		Row:  "Effect key",
		Rule: "The effect key is the same for every attempt and every life, and another one for every call, child, continuation and run.",
		New: func(env *Env) *Play {
			step := durable.NewStep("step", func(ctx context.Context, what string) (string, error) {
				i, _ := durable.StepInfoOf(ctx)
				env.Note("key "+i.WorkflowID+what+i.Call, i.Key)
				env.Note("all", i.Key)
				if i.Attempt < 3 {
					return "", errors.New("not yet")
				}
				return "", nil
			}, &durable.StepOptions{Retry: &durable.Retry{Initial: env.Hours(0.5), Backoff: 1}})
			kid := durable.NewWorkflow("kid", func(ctx context.Context, _ none) (string, error) { return step.Do(ctx, " kid ") }, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, n int) (string, error) {
				for range 2 {
					if _, err := step.Do(ctx, fmt.Sprint(" ", n, " ")); err != nil {
						return "", err
					}
				}
				if _, err := kid.Run(ctx, none{}); err != nil {
					return "", err
				}
				if n > 0 {
					return "", durable.ContinueAsNew(n - 1)
				}
				return "done", nil
			}, nil)
			return &Play{Defs: durable.Set{wf, kid, step}, Drive: func(t *T) {
				a, b := start(t, wf, 1, "a"), start(t, wf, 1, "b")
				t.Pass(0.75)
				t.Restart()
				result(t, wf, a, "done")
				result(t, wf, b, "done")
				calls := map[string]int{}
				for _, k := range t.Notes("all") {
					calls[k]++
				}
				t.Equal("keys", len(calls), 12) // 2 runs × 2 links × (2 steps + 1 in a child)
				for k, n := range calls {
					if n < 3 || k == "" {
						t.Errorf("key %q was seen %d times, want 3", k, n)
					}
				}
			}}
		},
	},
}
