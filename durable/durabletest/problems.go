package durabletest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/mcpagent/mcpagent/durable"
)

// blockedBy waits for a problem of a run and checks its kind and text.
func blockedBy(t *T, r *durable.Run, kind string, texts ...string) {
	_, err := t.Of(r).Result(t.Context())
	var b *durable.BlockedError
	if !errors.As(err, &b) || b.Problem.Kind != kind {
		t.Fatalf("result: %v, want a problem of kind %s", err, kind)
	}
	for _, s := range texts {
		if !strings.Contains(b.Problem.Text, s) {
			t.Errorf("the problem does not tell of %q: %s", s, b.Problem.Text)
		}
	}
	d := t.Describe(r)
	t.Equal("state of a blocked run", d.State, durable.Running)
}

var putAway = []Scenario{
	{
		Name: "put-away/defers-run-and-do-nothing",
		Row:  "Put away",
		Rule: "Deferred functions run when a run is put away: durable calls in them end the goroutine again, and loggers, statuses and streams are mute.",
		New: func(env *Env) *Play {
			tidy := durable.NewStep("tidy", func(context.Context, none) (string, error) { env.Note("tidied"); return "", nil }, nil)
			st := durable.NewStatus[int]("st")
			str := durable.NewStream[int]("str")
			sig := durable.NewSignal[int]("s")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (out string, err error) {
				//durablevet:ignore deferred calls are what the scenario is for
				defer func() { err = errors.Join(err, do(ctx, tidy)) }()
				//durablevet:ignore deferred calls are what the scenario is for
				defer func() { _ = durable.Sleep(ctx, env.Hours(1)) }()
				//durablevet:ignore deferred calls are what the scenario is for
				defer func() { _ = str.Append(ctx, 1); st.Set(ctx, 1) }()
				defer func() { _ = durable.Now(ctx); _ = durable.UUID(ctx, "x") }()
				defer func() { _ = recover() }()
				in, cancel := durable.WithTimeout(ctx, env.Hours(300))
				defer cancel()
				g, gctx := durable.NewGroup(in, nil)
				for range 3 {
					g.Go(func(ctx context.Context) error {
						//durablevet:ignore deferred calls are what the scenario is for
						defer func() { _ = durable.Sleep(ctx, env.Hours(0.5)) }()
						_, err := sig.Receive(gctx)
						return err
					})
				}
				return "end", g.Wait()
			}, takes(st, str, sig))
			return &Play{Defs: durable.Set{wf, tidy}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				for range 3 {
					t.Pass(1)
					t.Restart()
					_, ok, err := st.Of(t.Context(), t.Of(r))
					t.Equal("a status of a run that waits", fmt.Sprint(ok, err), "false <nil>")
					t.OK("send", sig.Send(t.Context(), t.Of(r), 1, nil))
				}
				result(t, wf, r, "end")
				n := 0
				for _, err := range str.Read(t.Context(), t.Of(r), 0) {
					t.OK("read", err)
					n++
				}
				t.Equal("entries of the stream, tidied", fmt.Sprint(n, t.Count("tidied")), "1 1")
			}}
		},
	},
	{
		Name: "put-away/no-goroutine-is-left",
		Row:  "Put away",
		Rule: "A run that is put away leaves no goroutine, also where its code recovers, or catches the end in a deferred function.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[int]("s")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, depth int) (string, error) {
				g, _ := durable.NewGroup(ctx, nil)
				for range 5 {
					g.Go(func(ctx context.Context) (err error) {
						defer func() {
							if p := recover(); p != nil {
								err = fmt.Errorf("caught %v", p)
							}
						}()
						_, err = sig.Receive(ctx)
						return err
					})
				}
				return "end", g.Wait()
			}, takes(sig))
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, 3, "r")
				for range 5 {
					t.Waits(r, "signal")
					t.Restart()
					t.OK("send", sig.Send(t.Context(), t.Of(r), 1, nil))
				}
				result(t, wf, r, "end")
			}}
		},
	},
	{
		Name: "put-away/replay-from-zero",
		Row:  "Put away",
		Rule: "A run goes on after a restart where it stood: variables, scopes, open calls and mailboxes are what they were.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[int]("s")
			step := durable.NewStep("step", func(ctx context.Context, n int) (int, error) {
				env.Note("ran", n)
				return n * n, nil
			}, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				var log []string
				in, cancel := durable.WithTimeout(ctx, env.Hours(7))
				defer cancel()
				for i := range 4 {
					n, err := step.Do(ctx, i)
					if err != nil {
						return "", err
					}
					k, err := sig.ReceiveTimeout(in, env.Hours(2))
					log = append(log, fmt.Sprint(n, " ", k, " ", says(err)))
				}
				return strings.Join(log, ", "), nil
			}, takes(sig))
			return &Play{Defs: durable.Set{wf, step}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.Pass(1)
				t.Restart()
				t.OK("send", sig.Send(t.Context(), t.Of(r), 7, nil)) // at 1 h; then 3 h, 5 h, and the scope at 7 h
				for range 5 {
					t.Pass(1)
					t.Restart()
				}
				result(t, wf, r, "0 7 ok, 1 0 timeout, 4 0 timeout, 9 0 deadline")
				t.Equal("what ran", t.Notes("ran"), []string{"0", "1", "2", "3"})
			}}
		},
	},
}

var problems = []Scenario{
	{
		Name: "problems/panic-goes-on-after-a-fix",
		Row:  "Panic, mismatch",
		Rule: "A panic in workflow code is a problem and not a failure: Result says so and never hangs; the run goes on after a fixed deploy.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[string]("s")
			program := func(broken bool) *durable.Workflow[none, string] {
				return durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
					s, err := sig.Receive(ctx)
					if err != nil {
						return "", err
					}
					if broken {
						panic("bad day")
					}
					return s, nil
				}, takes(sig))
			}
			wf, fixed := program(true), program(false)
			return &Play{Defs: durable.Set{wf}, Later: []durable.Set{{fixed}}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.OK("send", sig.Send(t.Context(), r, "hello", nil))
				blockedBy(t, r, "panic", "bad day", "problems.go")
				t.OK("a signal while it is blocked", sig.Send(t.Context(), r, "more", nil))
				t.Deploy(1)
				t.Until("the run goes on", func() bool { return t.Describe(r).Problem == nil })
				result(t, fixed, r, "hello")
			}}
		},
	},
	{
		Name: "problems/goexit",
		Row:  "Panic, mismatch",
		Rule: "Code that ends its goroutine, as FailNow of a test does, gives the baton back and is a problem.",
		New: func(env *Env) *Play {
			program := func(broken bool) *durable.Workflow[none, string] {
				return durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
					g, _ := durable.NewGroup(ctx, nil)
					g.Go(func(ctx context.Context) error {
						err := durable.Sleep(ctx, env.Hours(1))
						if broken {
							runtime.Goexit()
						}
						return err
					})
					return "end", g.Wait()
				}, nil)
			}
			wf, fixed := program(true), program(false)
			return &Play{Defs: durable.Set{wf}, Later: []durable.Set{{fixed}}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				blockedBy(t, r, "panic", "Goexit")
				t.Deploy(1)
				t.Until("the run goes on", func() bool { return t.Describe(r).Problem == nil })
				result(t, fixed, r, "end")
			}}
		},
	},
	{
		Name: "problems/mismatch",
		Row:  "Panic, mismatch",
		Rule: "Code that makes another call than the history has is a mismatch: nothing is lost, and the run goes on with code that fits.",
		New: func(env *Env) *Play {
			a := durable.NewStep("a", func(_ context.Context, s string) (string, error) { env.Note("ran", "a"); return s + "a", nil }, nil)
			b := durable.NewStep("b", func(_ context.Context, s string) (string, error) { env.Note("ran", "b"); return s + "b", nil }, nil)
			sig := durable.NewSignal[string]("s")
			program := func(step *durable.Step[string, string]) *durable.Workflow[none, string] {
				return durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
					s, err := step.Do(ctx, "x")
					if err != nil {
						return "", err
					}
					more, err := sig.Receive(ctx)
					return s + more, err
				}, takes(sig))
			}
			wf, other := program(a), program(b)
			return &Play{Defs: durable.Set{wf, a, b}, Later: []durable.Set{{other, a, b}}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.Waits(r, "signal")
				t.Deploy(1)
				t.OK("send", sig.Send(t.Context(), t.Of(r), "!", nil))
				if t.Can(BothSides) {
					blockedBy(t, r, "mismatch", `step "a"`, `step "b"`)
				} else {
					blockedBy(t, r, "mismatch", `0/1 a`)
				}
				t.Deploy(0)
				t.Until("the run goes on", func() bool { return t.Describe(r).Problem == nil })
				result(t, wf, r, "xa!")
				t.Equal("what ran", t.Notes("ran"), []string{"a"})
			}}
		},
	},
	{
		Name: "problems/missing-and-surplus-calls",
		Row:  "Panic, mismatch",
		Rule: "A call that the code makes no more, and one that the history does not have, are mismatches too.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[string]("s")
			program := func(n int) *durable.Workflow[none, string] {
				return durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
					for range n {
						if _, err := echo.Do(ctx, "x"); err != nil {
							return "", err
						}
					}
					return sig.Receive(ctx)
				}, takes(sig))
			}
			wf, less, more := program(2), program(1), program(3)
			return &Play{Defs: durable.Set{wf, echo}, Later: []durable.Set{{less, echo}, {more, echo}}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.Waits(r, "signal")
				t.Deploy(1)
				t.OK("send", sig.Send(t.Context(), t.Of(r), "!", nil))
				blockedBy(t, r, "mismatch")
				t.Deploy(2)
				t.OK("resume", t.Of(r).Resume(t.Context(), nil))
				blockedBy(t, r, "mismatch")
				t.Deploy(0)
				t.Until("the run goes on", func() bool { return t.Describe(r).Problem == nil })
				result(t, wf, r, "!")
			}}
		},
	},
	{
		Name: "problems/changed-input-is-no-mismatch",
		Row:  "Panic, mismatch",
		Rule: "Only kind, name and id must match: a changed input is a warning, and the recorded outcome holds.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[string]("s")
			program := func(in string) *durable.Workflow[none, string] {
				return durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
					a, err := echo.Do(ctx, in)
					if err != nil {
						return "", err
					}
					b, err := sig.Receive(ctx)
					return a + b, err
				}, takes(sig))
			}
			wf, other := program("one"), program("two")
			return &Play{Defs: durable.Set{wf, echo}, Later: []durable.Set{{other, echo}}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.Waits(r, "signal")
				t.Deploy(1)
				t.OK("send", sig.Send(t.Context(), t.Of(r), "!", nil))
				result(t, other, r, "one!")
				var input string
				for _, rec := range t.History(r) {
					for _, c := range rec.Calls {
						if c.Kind == "step" {
							input = string(c.Input)
						}
					}
				}
				t.Equal("the history has what the code asked for then", input == `"one"`, t.Can(BothSides))
			}}
		},
	},
	{
		Name: "problems/watchdog",
		Row:  "Watchdog",
		Rule: "Code that holds the baton too long is a problem of kind deadlock with its stack; other runs go on, and it can be terminated.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[int]("s")
			stuck := durable.NewWorkflow("stuck", func(context.Context, none) (string, error) {
				env.Stuck("let go")
				return "at last", nil
			}, nil)
			fine := durable.NewWorkflow("fine", func(ctx context.Context, _ none) (string, error) { return "fine", durable.Sleep(ctx, env.Hours(2)) }, nil)
			return &Play{Defs: durable.Set{stuck, fine}, Options: func(o *durable.Options) { o.Watchdog = env.Hours(1) }, Drive: func(t *T) {
				a, b := start(t, stuck, none{}, "a"), start(t, stuck, none{}, "b")
				f := start(t, fine, none{}, "f")
				for _, r := range []*durable.Run{a, b} {
					if t.Can(Stacks) {
						blockedBy(t, r, "deadlock", "problems.go")
					} else {
						blockedBy(t, r, "deadlock")
					}
				}
				result(t, fine, f, "fine")
				var be *durable.BlockedError
				if err := a.Signal(t.Context(), "s", nil, nil); !errors.As(err, &be) && !errors.Is(err, durable.ErrNotAccepted) {
					t.Errorf("a signal to a stuck run: %v", err)
				}
				t.OK("terminate", a.Terminate(t.Context(), "stuck"))
				_, err := a.Result(t.Context())
				var re *durable.RunError
				if !errors.As(err, &re) || re.State != durable.Terminated {
					t.Errorf("result of the terminated run: %v", err)
				}
				_ = sig
				t.Note("let go")
				t.Until("the other one came back", func() bool { return t.Describe(b).Problem == nil })
				result(t, stuck, b, "at last")
				t.Equal("state of the terminated run after its code came back", t.Describe(a).State, durable.Terminated)
			}}
		},
	},
}

var recoveries = []Scenario{
	{
		Name:  "recovery/poison",
		Row:   "Poison",
		Rule:  "A step at work at three deaths in a row becomes a problem instead of a fourth one; other runs go on; resume tries it again.",
		Needs: []Ability{Killing, Poison},
		New: func(env *Env) *Play {
			step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) {
				env.Note("ran")
				if env.Count("cured") > 0 {
					return "done", nil
				}
				return "", ended(ctx)
			}, &durable.StepOptions{Timeout: env.Hours(1000), Retry: &durable.Retry{Initial: env.Hours(0.1), Backoff: 1}})
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) { return step.Do(ctx, none{}) }, nil)
			fine := durable.NewWorkflow("fine", func(ctx context.Context, _ none) (string, error) { return "fine", durable.Sleep(ctx, env.Hours(20)) }, nil)
			return &Play{Defs: durable.Set{wf, fine, step}, Drive: func(t *T) {
				r, f := start(t, wf, none{}, "r"), start(t, fine, none{}, "f")
				for i := range 3 {
					t.OK("wait for the step", t.Wait(t.Context(), "ran", i+1))
					if d := t.Describe(r); d.Problem != nil {
						t.Fatalf("a problem after %d deaths: %+v", i, *d.Problem)
					}
					t.Kill()
				}
				blockedBy(t, r, "poison")
				t.Pass(2)
				t.Equal("how often the step ran", t.Count("ran"), 3)
				t.Restart()
				blockedBy(t, r, "poison")
				t.Note("cured")
				t.OK("resume", t.Of(r).Resume(t.Context(), nil))
				result(t, wf, r, "done")
				result(t, fine, f, "fine")
			}}
		},
	},
	{
		Name:  "recovery/progress-is-no-poison",
		Row:   "Poison",
		Rule:  "Deaths count only without progress in between.",
		Needs: []Ability{Killing},
		New: func(env *Env) *Play {
			step := durable.NewStep("step", func(ctx context.Context, n int) (int, error) {
				i, _ := durable.StepInfoOf(ctx)
				if env.Note("ran"); i.Attempt == 1 {
					return 0, ended(ctx) // it dies over each first attempt
				}
				return n, nil
			}, &durable.StepOptions{Timeout: env.Hours(1000), Retry: &durable.Retry{Initial: env.Hours(0.1), Backoff: 1}})
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
				for i := range 4 {
					if _, err := step.Do(ctx, i); err != nil {
						return i, err
					}
				}
				return 4, nil
			}, nil)
			return &Play{Defs: durable.Set{wf, step}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				for i := range 4 {
					t.OK("wait for the step", t.Wait(t.Context(), "ran", 2*i+1))
					t.Kill()
				}
				result(t, wf, r, 4)
			}}
		},
	},
	{
		Name:  "recovery/deaths-all-over",
		Row:   "Commit before effect",
		Rule:  "A run over steps, timers, signals, a child and a group has the outcome and the log of an undisturbed one, though its process dies again and again.",
		Needs: []Ability{Killing},
		New: func(env *Env) *Play {
			sig := durable.NewSignal[int]("s")
			step := durable.NewStep("step", func(_ context.Context, n int) (int, error) { return n * n, nil }, nil)
			kid := durable.NewWorkflow("kid", func(ctx context.Context, n int) (int, error) { return n, durable.Sleep(ctx, env.Hours(float64(n))) }, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				squares, err := durable.Map(ctx, []int{1, 2, 3, 4}, step.Do, &durable.GroupOptions{Limit: 2})
				if err != nil {
					return "", err
				}
				g, _ := durable.NewGroup(ctx, nil)
				sum := 0
				for i := range 3 {
					g.Go(func(ctx context.Context) error {
						n, err := kid.Run(ctx, i+1)
						sum += n
						return err
					})
				}
				g.Go(func(ctx context.Context) error {
					for range 2 {
						n, err := sig.Receive(ctx)
						if err != nil {
							return err
						}
						sum += 10 * n
					}
					return nil
				})
				err = g.Wait()
				return fmt.Sprint(squares, " ", sum), err
			}, takes(sig))
			return &Play{Defs: durable.Set{wf, kid, step}, Options: func(o *durable.Options) { o.MaxDeaths = -1 }, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				for i := range 6 {
					t.Kill()
					t.Pass(0.5)
					if i == 1 || i == 3 {
						t.OK("send", sig.Send(t.Context(), t.Of(r), i, &durable.SendOptions{ID: fmt.Sprint(i)}))
					}
				}
				result(t, wf, r, "[1 4 9 16] 46")
			}}
		},
	},
}
