package durabletest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/mcpagent/mcpagent/durable"
)

// closes makes a scenario of what becomes of children when their parent ends.
func closes(name, rule string, parent func(ctx context.Context, env *Env) error, end func(t *T, r *durable.Run) error) Scenario {
	return Scenario{Name: "children/" + name, Row: "Children", Rule: rule, New: func(env *Env) *Play {
		kid := durable.NewWorkflow("kid", func(ctx context.Context, _ none) (string, error) {
			if err := durable.Sleep(ctx, env.Hours(8)); err != nil {
				_ = durable.Sleep(durable.WithoutCancel(ctx), env.Hours(0.5)) // time to clean up
				return "", err
			}
			return "slept", nil
		}, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			for i, p := range []durable.ParentClose{durable.ParentCloseCancel, durable.ParentCloseTerminate, durable.ParentCloseAbandon} {
				if _, err := kid.Child(ctx, none{}, &durable.ChildOptions{ID: fmt.Sprint("kid", i), ParentClose: p}); err != nil {
					return "", err
				}
			}
			env.Note("children")
			return "", parent(ctx, env)
		}, &durable.WorkflowOptions{FailOnProblem: true})
		return &Play{Defs: durable.Set{wf, kid}, Drive: func(t *T) {
			r := try(wf.Start(t.Context(), t.Engine, none{}, &durable.StartOptions{ID: "r", Timeout: env.Hours(3)})).or(t, "start")
			t.OK("wait for the children", t.Wait(t.Context(), "children", 1))
			if end != nil {
				t.Pass(1)
				t.OK("end the parent", end(t, r))
			}
			_, _ = r.Result(t.Context())
			t.Pass(2)
			var states []durable.State
			for i := range 3 {
				states = append(states, t.Describe(t.Engine.Run(fmt.Sprint("kid", i), "")).State)
			}
			t.Equal("children with cancel, terminate, abandon", states, []durable.State{durable.Cancelled, durable.Terminated, durable.Running})
			result(t, kid, t.Engine.Run("kid2", ""), "slept")
		}}
	}}
}

// childCancel makes a scenario of a child whose caller is cancelled.
func childCancel(name, rule, want string, child func(ctx context.Context, env *Env) (string, error)) Scenario {
	return solo("children/"+name, "Cancel", rule, want, func(env *Env) (func(ctx context.Context) (string, error), durable.Set) {
		kid := durable.NewWorkflow("kid", func(ctx context.Context, _ none) (string, error) { return child(ctx, env) }, nil)
		return func(ctx context.Context) (string, error) {
			in, cancel := durable.WithTimeout(ctx, env.Hours(1))
			defer cancel()
			began := durable.Now(ctx)
			out, err := kid.Run(in, none{})
			var re *durable.RunError
			if errors.As(err, &re) {
				out = string(re.State)
			}
			return fmt.Sprintf("%s after %d", out, env.Since(ctx, began)), nil
		}, durable.Set{kid}
	})
}

var children = []Scenario{
	closes("parent-completes", "When a parent ends, its children are asked to cancel by default; or terminated, or left alone.",
		func(ctx context.Context, env *Env) error { return durable.Sleep(ctx, env.Hours(1)) }, nil),
	closes("parent-fails", "So it is when the parent fails.",
		func(ctx context.Context, env *Env) error {
			_ = durable.Sleep(ctx, env.Hours(1))
			return errors.New("no")
		}, nil),
	closes("parent-panics", "And when it panics, where that is a failure.",
		func(ctx context.Context, env *Env) error { _ = durable.Sleep(ctx, env.Hours(1)); panic("no") }, nil),
	closes("parent-terminated", "And when it is terminated.",
		func(ctx context.Context, env *Env) error { return durable.Sleep(ctx, env.Hours(100)) },
		func(t *T, r *durable.Run) error { return r.Terminate(t.Context(), "") }),
	closes("parent-cancelled", "And when it is cancelled.",
		func(ctx context.Context, env *Env) error { return durable.Sleep(ctx, env.Hours(100)) },
		func(t *T, r *durable.Run) error { return r.Cancel(t.Context(), "") }),
	closes("parent-timed-out", "And when its time is up.",
		func(ctx context.Context, env *Env) error { return durable.Sleep(ctx, env.Hours(100)) }, nil),
	childCancel("cancel-waits-for-success", "A cancelled caller waits for the child's real outcome, even success.", "tidied after 2",
		func(ctx context.Context, env *Env) (string, error) {
			_ = durable.Sleep(ctx, env.Hours(100))
			return "tidied", durable.Sleep(durable.WithoutCancel(ctx), env.Hours(1))
		}),
	childCancel("cancel-waits-for-the-cancelled", "It sees a child that was cancelled as cancelled.", "cancelled after 1",
		func(ctx context.Context, env *Env) (string, error) { return "", durable.Sleep(ctx, env.Hours(100)) }),
	childCancel("cancel-waits-for-failure", "And one that failed as failed.", "failed after 1",
		func(ctx context.Context, env *Env) (string, error) {
			_ = durable.Sleep(ctx, env.Hours(100))
			return "", errors.New("no")
		}),
	childCancel("cancel-waits-for-the-deaf", "One that takes no notice is waited for.", "slept after 3",
		func(ctx context.Context, env *Env) (string, error) {
			return "slept", durable.Sleep(durable.WithoutCancel(ctx), env.Hours(3))
		}),
	{
		Name: "children/start-returns-when-started",
		Row:  "Children",
		Rule: "Child returns when the child has started, with its address; also where the child is quicker than that.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[string]("s")
			slow := durable.NewWorkflow("slow", func(ctx context.Context, _ none) (string, error) { return sig.Receive(ctx) }, takes(sig))
			quick := durable.NewWorkflow("quick", func(_ context.Context, fail bool) (string, error) {
				if fail {
					return "", errors.New("at once")
				}
				return "quick", nil
			}, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				c, err := slow.Child(ctx, none{}, nil)
				if err != nil {
					return "", err
				}
				if c.Ready() || c.WorkflowID == "" || c.RunID == "" {
					return "", fmt.Errorf("slow child: ready %v, %q %q", c.Ready(), c.WorkflowID, c.RunID)
				}
				if err := sig.Send(ctx, durable.Address(c.WorkflowID, c.RunID), "hi", nil); err != nil {
					return "", err
				}
				for i := range 6 {
					q, err := quick.Child(ctx, i%2 == 1, nil)
					if err != nil || q.WorkflowID == "" || q.RunID == "" {
						return "", fmt.Errorf("quick child %d: %+v, %w", i, q, err)
					}
					if _, err := q.Get(ctx); (err != nil) != (i%2 == 1) {
						return "", fmt.Errorf("quick child %d: %w", i, err)
					}
				}
				return c.Get(ctx)
			}, nil)
			return &Play{Defs: durable.Set{wf, slow, quick}, Drive: func(t *T) {
				result(t, wf, start(t, wf, none{}, "r"), "hi")
			}}
		},
	},
	{
		Name: "children/taken-id",
		Row:  "Children",
		Rule: "A child whose id is taken by an unfinished run is an error of the call; when that run has ended, the id is free.",
		New: func(env *Env) *Play {
			kid := durable.NewWorkflow("kid", func(ctx context.Context, h float64) (string, error) { return "kid", durable.Sleep(ctx, env.Hours(h)) }, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				_, err := kid.Child(ctx, 1, &durable.ChildOptions{ID: "taken"})
				if err := durable.Sleep(ctx, env.Hours(4)); err != nil {
					return "", err
				}
				c, cerr := kid.Child(ctx, 1, &durable.ChildOptions{ID: "taken"})
				if cerr != nil {
					return "", cerr
				}
				s, gerr := c.Get(ctx)
				return says(err) + ", " + s, gerr
			}, nil)
			return &Play{Defs: durable.Set{wf, kid}, Drive: func(t *T) {
				start(t, kid, 2, "taken")
				result(t, wf, start(t, wf, none{}, "r"), "id taken, kid")
			}}
		},
	},
	solo("children/continue-as-new", "Children",
		"A child may continue as new: its caller gets the result of the chain.", "last",
		func(env *Env) (func(ctx context.Context) (string, error), durable.Set) {
			kid := durable.NewWorkflow("kid", func(ctx context.Context, n int) (string, error) {
				if err := durable.Sleep(ctx, env.Hours(0.5)); err != nil {
					return "", err
				}
				if n > 0 {
					return "", durable.ContinueAsNew(n - 1)
				}
				return "last", nil
			}, nil)
			return func(ctx context.Context) (string, error) { return kid.Run(ctx, 4) }, durable.Set{kid}
		}),
	{
		Name: "children/cancel-reaches-the-chain",
		Row:  "Children",
		Rule: "A cancel reaches the newest run of a child's chain.",
		New: func(env *Env) *Play {
			forever := durable.NewWorkflow("forever", func(ctx context.Context, n int) (string, error) {
				if err := durable.Sleep(ctx, env.Hours(1)); err != nil {
					return "", fmt.Errorf("cancelled: %w", err)
				}
				return "", durable.ContinueAsNew(n + 1)
			}, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				in, cancel := durable.WithTimeout(ctx, env.Hours(3.5))
				defer cancel()
				_, err := forever.Run(in, 0)
				return fmt.Sprint(says(err), " ", strings.Contains(fmt.Sprint(err), "cancelled: ")), nil
			}, nil)
			return &Play{Defs: durable.Set{wf, forever}, Loose: "how often the child continues in that time", Drive: func(t *T) {
				result(t, wf, start(t, wf, none{}, "r"), "canceled true")
			}}
		},
	},
	{
		Name: "children/states-and-tags",
		Row:  "Children",
		Rule: "A child that timed out or was terminated says so; it has its parent, its tags and its timeout.",
		New: func(env *Env) *Play {
			kid := durable.NewWorkflow("kid", func(ctx context.Context, _ none) (string, error) { return "", durable.Sleep(ctx, env.Hours(100)) },
				&durable.WorkflowOptions{Timeout: env.Hours(1)})
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				_, e1 := kid.Run(ctx, none{})
				c, err := kid.Child(ctx, none{}, &durable.ChildOptions{ID: "k2", Timeout: env.Hours(50), Tags: map[string]string{"a": "b"}})
				if err != nil {
					return "", err
				}
				env.Note("second")
				_, e2 := c.Get(ctx)
				var r1, r2 *durable.RunError
				if !errors.As(e1, &r1) || !errors.As(e2, &r2) {
					return "", errors.Join(e1, e2)
				}
				return fmt.Sprint(r1.State, " ", errors.Is(e1, durable.ErrTimeout), " ", r2.State), nil
			}, nil)
			return &Play{Defs: durable.Set{wf, kid}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.OK("wait for the second child", t.Wait(t.Context(), "second", 1))
				runs := try(t.Engine.List(t.Context(), &durable.Filter{Tags: map[string]string{"a": "b"}})).or(t, "list by tag").Runs
				if len(runs) != 1 || runs[0].WorkflowID != "k2" || runs[0].Parent == nil || runs[0].Parent.RunID != r.RunID {
					t.Fatalf("list by tag: %+v", runs)
				}
				t.OK("terminate", t.Engine.Run("k2", "").Terminate(t.Context(), "enough"))
				result(t, wf, r, "timed_out true terminated")
			}}
		},
	},
	{
		Name: "children/in-parallel",
		Row:  "Children",
		Rule: "Children run beside one another, over restarts, and their failures are told apart.",
		New: func(env *Env) *Play {
			line := durable.NewWorkflow("line", func(ctx context.Context, n int) (int, error) {
				if err := durable.Sleep(ctx, env.Hours(float64(n))); err != nil {
					return 0, err
				}
				if n == 3 {
					return 0, poor.New("no line 3")
				}
				return n * 10, nil
			}, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, in []int) (string, error) {
				out, err := durable.Map(ctx, in, line.Run, nil)
				return fmt.Sprint(out, " ", errors.Is(err, poor)), nil
			}, nil)
			return &Play{Defs: durable.Set{wf, line}, Drive: func(t *T) {
				r := start(t, wf, []int{4, 3, 1}, "r")
				t.Pass(2)
				t.Restart()
				result(t, wf, r, "[40 0 10] true")
			}}
		},
	},
}

var registration = []Scenario{
	{
		Name: "registration/duplicates",
		Row:  "Registration",
		Rule: "Two definitions under one name, and names out of bounds, are errors when the engine is opened, all at once.",
		New: func(env *Env) *Play {
			fn := func(context.Context, int) (int, error) { return 0, nil }
			w := func(name string) durable.Definer { return durable.NewWorkflow(name, fn, nil) }
			s := durable.NewStep[int, int]("s", nil, nil)
			one := w("one")
			return &Play{Defs: durable.Set{one, one, s, s.Bind(fn)}, Drive: func(t *T) {
				_, err := durable.NewDefinitions(w("a"), w("a"), w("bad name"), w("__x"), s.Bind(fn), s.Bind(fn), durable.NewStep("s", fn, nil), nil)
				t.Is("definitions", err, durable.ErrDefinedTwice)
				for _, want := range []string{`workflow "a"`, `"bad name"`, `"__x"`, `step "s": defined twice: bound to two`, `step "s": defined twice: two values`, "a definition is nil"} {
					if !strings.Contains(fmt.Sprint(err), want) {
						t.Errorf("the error lacks %q:\n%v", want, err)
					}
				}
			}}
		},
	},
	{
		Name: "registration/what-is-not-in-the-set",
		Row:  "Registration",
		Rule: "A call of what is not in the set fails at once: a step, one that is only declared, a child, a signal that the workflow does not accept.",
		New: func(env *Env) *Play {
			nowhere := durable.NewStep("nowhere", func(context.Context, none) (string, error) { return "", nil }, nil)
			declared := durable.NewStep[none, string]("declared", nil, nil)
			kid := durable.NewWorkflow("kid", func(context.Context, none) (string, error) { return "", nil }, nil)
			sig := durable.NewSignal[int]("undeclared")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				_, e3 := kid.Run(ctx, none{})
				_, e4 := sig.Receive(ctx)
				return strings.Join([]string{says(do(ctx, nowhere)), says(do(ctx, declared)), says(e3), says(e4)}, ", "), nil
			}, nil)
			return &Play{Defs: durable.Set{wf, declared}, Drive: func(t *T) {
				result(t, wf, start(t, wf, none{}, "r"), "not defined, not defined, not defined, not accepted")
			}}
		},
	},
	{
		Name: "registration/unknown-workflow-waits",
		Row:  "Registration",
		Rule: "A recovered run whose workflow the program lacks waits with a problem, keeps its signals, and goes on with a program that has it.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[int]("s")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
				if err := durable.Sleep(ctx, env.Hours(2)); err != nil {
					return 0, err
				}
				return sig.Receive(ctx)
			}, takes(sig))
			return &Play{Defs: durable.Set{wf}, Later: []durable.Set{{echo}}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.Waits(r, "timer")
				t.Deploy(1)
				t.Until("the problem is there", func() bool { return t.Describe(r).Problem != nil })
				d := t.Describe(r)
				t.Equal("state and kind of the problem", fmt.Sprint(d.State, " ", d.Problem.Kind), "running not_defined")
				_, err := t.Of(r).Result(t.Context())
				var b *durable.BlockedError
				if !errors.As(err, &b) {
					t.Errorf("result of a blocked run: %v", err)
				}
				for range 2 {
					t.OK("send", t.Of(r).Signal(t.Context(), "s", []byte("7"), &durable.SendOptions{ID: "once"}))
				}
				t.Deploy(0)
				t.Until("the run goes on", func() bool { return t.Describe(r).Problem == nil })
				result(t, wf, r, 7)
			}}
		},
	},
}
