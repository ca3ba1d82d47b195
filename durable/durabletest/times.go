package durabletest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

var times = []Scenario{
	solo("time/now-is-the-event", "Time, ids",
		"Now is the time of the event being applied: it stands still while code runs, and never goes back.", "ok 10",
		func(env *Env) (func(ctx context.Context) (string, error), durable.Set) {
			step := durable.NewStep("step", func(ctx context.Context, h float64) (time.Time, error) {
				err := durable.Sleep(ctx, env.Hours(h))
				return durable.Now(ctx), err // of the wall clock
			}, &durable.StepOptions{Timeout: env.Hours(100)})
			return func(ctx context.Context) (string, error) {
				began := durable.Now(ctx)
				for i := range 5 {
					a := durable.Now(ctx)
					x := 0
					for range 1000 {
						x++
					}
					if b := durable.Now(durable.WithoutCancel(ctx)); !a.Equal(b) || a.Location() != time.UTC {
						return "", fmt.Errorf("now moved while code ran: %v, %v", a, b)
					}
					end, err := step.Do(ctx, float64(i))
					if err != nil {
						return "", err
					}
					if c := durable.Now(ctx); c.Before(end.Truncate(time.Microsecond)) || c.Before(a) {
						return "", fmt.Errorf("now is %v after %v, and a step that ended at %v", c, a, end)
					}
				}
				return fmt.Sprint("ok ", env.Since(ctx, began)), nil
			}, durable.Set{step}
		}),
	solo("time/sleep-is-never-early", "Time, ids",
		"A sleep is never early; a time that is not ahead costs nothing.", "[] 0 3",
		func(env *Env) (func(ctx context.Context) (string, error), durable.Set) {
			return func(ctx context.Context) (string, error) {
				began := durable.Now(ctx)
				for _, d := range []time.Duration{0, -1, env.Hours(-1)} {
					if err := durable.Sleep(ctx, d); err != nil {
						return "", err
					}
				}
				if err := durable.SleepUntil(ctx, began.Add(env.Hours(-1))); err != nil {
					return "", err
				}
				free := durable.Now(ctx).Sub(began)
				var early []time.Duration
				for _, d := range []time.Duration{1, 999, 1001, time.Millisecond + 1, env.Hours(1)} {
					at := durable.Now(ctx)
					if err := durable.Sleep(ctx, d); err != nil {
						return "", err
					}
					if took := durable.Now(ctx).Sub(at); took < d {
						early = append(early, d)
					}
				}
				until := durable.Now(ctx).Add(env.Hours(2) + 1)
				if err := durable.SleepUntil(ctx, until); err != nil {
					return "", err
				}
				if durable.Now(ctx).Before(until) {
					early = append(early, -1)
				}
				return fmt.Sprint(early, " ", env.Whole(free), " ", env.Since(ctx, began)), nil
			}, nil
		}),
	solo("time/centuries", "Time, ids",
		"A sleep as long as a duration can be is not over at once, nor is its timeout late.", "a timeout after 1",
		func(env *Env) (func(ctx context.Context) (string, error), durable.Set) {
			return func(ctx context.Context) (string, error) {
				began := durable.Now(ctx)
				soon, cancel := durable.WithTimeout(ctx, env.Hours(1))
				defer cancel()
				err := durable.SleepUntil(soon, time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC))
				if !errors.Is(err, context.DeadlineExceeded) {
					return "", fmt.Errorf("the sleep until 2999: %w", err)
				}
				return fmt.Sprint("a timeout after ", env.Since(ctx, began)), nil
			}, nil
		}),
	{
		Name: "time/days",
		Row:  "Time, ids",
		Rule: "A sleep of days holds nothing, and ends when it is due though nobody ran at times.",
		New: func(env *Env) *Play {
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
				began := durable.Now(ctx)
				err := durable.Sleep(ctx, env.Hours(36))
				return env.Since(ctx, began), err
			}, nil)
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.Pass(12)
				t.Down()
				t.Pass(12)
				t.Up()
				result(t, wf, r, 36)
			}}
		},
	},
	{
		Name: "time/overdue-in-order",
		Row:  "Time, ids",
		Rule: "Timers keep their time while nobody executes; overdue ones take effect in the order in which they were due.",
		New: func(env *Env) *Play {
			ask := durable.NewQuestion[int]("q")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				began := durable.Now(ctx)
				in, cancel := durable.WithTimeout(ctx, env.Hours(4))
				defer cancel()
				var out []string
				say := func(what string, err error) error {
					at := "overdue"
					if env.Since(ctx, began) >= 10 {
						at = "in time"
					}
					out = append(out, what+" "+says(err)+" "+at)
					return nil
				}
				g, _ := durable.NewGroup(ctx, nil)
				g.Go(func(ctx context.Context) error { return say("sleep", durable.Sleep(ctx, env.Hours(10))) })
				g.Go(func(ctx context.Context) error {
					_, err := ask.Ask(ctx, "?", &durable.AskOptions{Expires: env.Hours(2)})
					return say("question", err)
				})
				g.Go(func(context.Context) error { return say("scope", durable.Sleep(in, env.Hours(100))) })
				g.Go(func(context.Context) error { return say("short sleep", durable.Sleep(ctx, env.Hours(3))) })
				err := g.Wait()
				return strings.Join(out, "; "), err
			}, takes(ask))
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.Pass(1)
				t.Down()
				t.Pass(5)
				t.Up()
				result(t, wf, r, "question expired overdue; short sleep ok overdue; scope deadline overdue; sleep ok in time")
			}}
		},
	},
	solo("time/scopes", "Time, ids",
		"WithTimeout and WithCancel are as in package context: errors, causes, deadlines, inheritance, WithoutCancel.",
		"deadline true true true | canceled true | <nil> | canceled <nil> | deadline | canceled",
		func(env *Env) (func(ctx context.Context) (string, error), durable.Set) {
			return func(ctx context.Context) (string, error) {
				outer, cancelOuter := durable.WithTimeout(ctx, env.Hours(1))
				inner, cancelInner := durable.WithTimeout(context.WithValue(outer, ctxKey{}, "v"), env.Hours(2))
				_, has := outer.Deadline()
				err := durable.Sleep(inner, env.Hours(24))
				one := fmt.Sprint(says(err), " ", has, " ", inner.Err() == context.DeadlineExceeded && context.Cause(inner) == context.DeadlineExceeded, " ", inner.Value(ctxKey{}) == "v" && ctx.Err() == nil)
				cancelInner()
				cancelOuter()
				a, cancelA := durable.WithCancel(ctx)
				b, cancelB := durable.WithTimeout(a, env.Hours(1))
				defer cancelB()
				cancelA()
				two := fmt.Sprint(says(b.Err()), " ", context.Cause(b) == context.Canceled && errors.Is(durable.Sleep(b, 1), context.Canceled))
				w := durable.WithoutCancel(b)
				three := fmt.Sprint(w.Err())
				c, cancelC := durable.WithCancel(w)
				cancelC()
				four := fmt.Sprint(says(c.Err()), " ", w.Err())
				d, cancelD := durable.WithTimeout(ctx, -1)
				defer cancelD()
				x, cancelX := durable.WithTimeout(ctx, env.Hours(1))
				cancelX()
				return strings.Join([]string{one, two, three, four, says(d.Err()), says(x.Err())}, " | "), nil
			}, nil
		}),
	solo("time/get-under-another-scope", "Who blocks",
		"The end of a waiter's scope ends that wait and not the call.", "deadline, then done, done",
		func(env *Env) (func(ctx context.Context) (string, error), durable.Set) {
			step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) { return "done", durable.Sleep(ctx, env.Hours(4)) },
				&durable.StepOptions{Timeout: env.Hours(100)})
			return func(ctx context.Context) (string, error) {
				f := step.Start(ctx, none{})
				in, cancel := durable.WithTimeout(ctx, env.Hours(1))
				defer cancel()
				_, e1 := f.Get(in)
				if f.Ready() {
					return "", errors.New("the step is ready")
				}
				a, e2 := f.Get(ctx)
				b, e3 := f.Get(ctx)
				return fmt.Sprintf("%s, then %s, %s", says(e1), a, b), errors.Join(e2, e3)
			}, durable.Set{step}
		}),
	{
		Name: "ids/named-streams",
		Row:  "Time, ids",
		Rule: "UUID and Rand come from named streams of the run: a replay repeats them, and a draw from a new name shifts nothing.",
		New: func(env *Env) *Play {
			q := durable.NewQuery[none, []string]("q")
			sig := durable.NewSignal[int]("s")
			program := func(more bool) *durable.Workflow[none, int] {
				return durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
					var got []string
					_ = q.Handle(ctx, func(none) ([]string, error) { return got, nil })
					for range 3 {
						if more {
							_ = durable.UUID(ctx, "new")
							_ = durable.Rand(ctx, "new").Uint64()
						}
						got = append(got, durable.UUID(ctx, "a"), fmt.Sprint(durable.Rand(ctx, "a").Uint64()), fmt.Sprint(durable.Rand(ctx, "b").Uint64()))
						if _, err := sig.Receive(ctx); err != nil {
							return 0, err
						}
					}
					return len(got), nil
				}, takes(q, sig))
			}
			wf, later := program(false), program(true)
			return &Play{Defs: durable.Set{wf}, Later: []durable.Set{{later}}, Drive: func(t *T) {
				draw := func(r *durable.Run) []string { return try(q.Ask(t.Context(), t.Of(r), none{})).or(t, "ask") }
				r, r2 := start(t, wf, none{}, "r"), start(t, wf, none{}, "r2")
				t.OK("send", sig.Send(t.Context(), r, 1, nil))
				t.Until("two draws", func() bool { return len(draw(r)) == 6 })
				before, other := draw(r), draw(r2)
				seen := map[string]bool{}
				for _, s := range append(other, before...) {
					if seen[s] {
						t.Errorf("%q was drawn twice", s)
					}
					seen[s] = true
				}
				t.Deploy(1)
				t.Equal("the draws after a replay by newer code", draw(r), before)
				for range 2 {
					t.OK("send", sig.Send(t.Context(), t.Of(r), 1, nil))
				}
				result(t, later, r, 9)
				t.Equal("the draws of the finished run", draw(r)[:6], before)
				for range 3 {
					t.OK("send", sig.Send(t.Context(), t.Of(r2), 1, nil))
				}
				result(t, later, r2, 9)
			}}
		},
	},
	{
		Name: "ids/version",
		Row:  "Version",
		Rule: "Version has one answer per change and run: -1 where the code ran before the change, the newest where it did not.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[string]("s")
			program := func(changed bool) *durable.Workflow[none, string] {
				return durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
					s, err := echo.Do(ctx, "a")
					if err != nil {
						return "", err
					}
					if changed {
						v := durable.Version(ctx, "twice", 2)
						if v >= 1 {
							if _, err := echo.Do(ctx, "b"); err != nil {
								return "", err
							}
						}
						s += fmt.Sprint(v, durable.Version(ctx, "twice", 2))
					}
					x, err := sig.Receive(ctx)
					if changed {
						s += fmt.Sprint(durable.Version(ctx, "twice", 2))
					}
					return s + x, err
				}, takes(sig))
			}
			wf, later := program(false), program(true)
			return &Play{Defs: durable.Set{wf, echo}, Later: []durable.Set{{later, echo}}, Drive: func(t *T) {
				old := start(t, wf, none{}, "old")
				t.Waits(old, "signal")
				t.Deploy(1)
				young := start(t, later, none{}, "young")
				t.Waits(young, "signal")
				t.Restart()
				for _, r := range []*durable.Run{old, young} {
					t.OK("send", sig.Send(t.Context(), t.Of(r), "!", nil))
				}
				result(t, later, old, "a-1 -1-1!")
				result(t, later, young, "a2 22!")
			}}
		},
	},
	solo("ids/side-effect", "SideEffect, closures",
		"A side effect runs once, on the coroutine; what it gave is recorded.", "once same",
		func(env *Env) (func(ctx context.Context) (string, error), durable.Set) {
			return func(ctx context.Context) (string, error) {
				n, err := durable.SideEffect(ctx, func() int { return env.Note("effect") })
				if err != nil {
					return "", err
				}
				if err := durable.Sleep(ctx, env.Hours(1)); err != nil {
					return "", err
				}
				m, err := durable.SideEffect(ctx, func() int { return env.Note("effect") })
				if n != 1 || m != 2 {
					return "", fmt.Errorf("side effects gave %d and %d", n, m)
				}
				return "once same", err
			}, nil
		}),
	solo("ids/side-effect-panics", "SideEffect, closures",
		"A panic in a side effect is the code's own; a value that can't be recorded is an error.", "bad effect, bad input",
		func(env *Env) (func(ctx context.Context) (string, error), durable.Set) {
			return func(ctx context.Context) (out string, err error) {
				func() {
					defer func() { out = fmt.Sprint(recover()) }()
					_, _ = durable.SideEffect(ctx, func() int { panic("bad effect") })
				}()
				if err := durable.Sleep(ctx, env.Hours(1)); err != nil {
					return "", err
				}
				_, err = durable.SideEffect(ctx, func() any { return func() {} })
				return out + ", " + says(err), nil
			}, nil
		}),
}
