package durabletest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

type ctxKey struct{}

type misuse func(ctx context.Context, env *Env, step *durable.Step[none, string]) error

// rail makes a scenario of what a workflow is told about a misuse. The step
// must not have run then, and the run goes on as if nothing had been.
func rail(name, rule, want string, wrong misuse) Scenario {
	return Scenario{
		Name: "rails/" + name,
		Row:  "4.1.1",
		Rule: rule,
		New: func(env *Env) *Play {
			step := durable.NewStep("step", func(context.Context, none) (string, error) { env.Note("ran"); return "", nil }, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				out := says(wrong(ctx, env, step))
				return out, durable.Sleep(ctx, env.Hours(1))
			}, nil)
			return &Play{Defs: durable.Set{wf, step}, Drive: func(t *T) {
				result(t, wf, start(t, wf, none{}, "r"), want)
				ran := 0
				if want == "ok" {
					ran = 1
				}
				t.Equal("how often the step ran", t.Count("ran"), ran)
			}}
		},
	}
}

func do(ctx context.Context, step *durable.Step[none, string]) error {
	_, err := step.Do(ctx, none{})
	return err
}

var rails = []Scenario{
	rail("with-timeout", "A durable call under context.WithTimeout is refused.", "foreign context", withTimeout),
	rail("with-cancel", "A durable call under context.WithCancel is refused.", "foreign context", withCancel),
	rail("value-of-a-cancel", "A value around a foreign context does not hide it.", "foreign context", valueOfCancel),
	rail("sleep-with-timeout", "So is a wait, which would not end with that context in a replay.", "foreign context", sleepWithTimeout),
	rail("with-value", "context.WithValue passes.", "ok",
		func(ctx context.Context, _ *Env, step *durable.Step[none, string]) error {
			return do(context.WithValue(ctx, ctxKey{}, 1), step)
		}),
	rail("without-cancel", "context.WithoutCancel is durable.WithoutCancel.", "ok",
		func(ctx context.Context, _ *Env, step *durable.Step[none, string]) error {
			in, cancel := durable.WithCancel(ctx)
			cancel()
			return do(context.WithoutCancel(in), step)
		}),
	rail("scopes-of-durable", "The scopes of this package pass, also inside one another and around values.", "ok",
		func(ctx context.Context, env *Env, step *durable.Step[none, string]) error {
			a, cancelA := durable.WithTimeout(ctx, env.Hours(5))
			defer cancelA()
			b, cancelB := durable.WithCancel(context.WithValue(a, ctxKey{}, 1))
			defer cancelB()
			return do(context.WithValue(b, ctxKey{}, 2), step)
		}),
	rail("goroutine", "A durable call on a goroutine that is not a coroutine of the run is refused.", "foreign goroutine", goroutine),
	rail("lost-context", "A durable call without the run's context on a coroutine of a run is refused, and never carried out plainly.", "lost context", lostContext),
	rail("lost-context-of-a-member", "That holds in members of groups.", "lost context",
		func(ctx context.Context, _ *Env, step *durable.Step[none, string]) error {
			g, _ := durable.NewGroup(ctx, nil)
			g.Go(func(ctx context.Context) error { return lostContext(ctx, nil, step) })
			return g.Wait()
		}),
	rail("condition", "A durable call in a condition is refused.", "read only", inCondition),
	{
		Name: "rails/another-run",
		Row:  "4.1.1",
		Rule: "A durable call with the context of another run is refused.",
		New: func(env *Env) *Play {
			var other context.Context // within one process
			step := durable.NewStep("step", func(context.Context, none) (string, error) { env.Note("ran"); return "", nil }, nil)
			keep := durable.NewWorkflow("keep", func(ctx context.Context, _ none) (string, error) {
				other = ctx //durablevet:ignore the misuse that the rail is for
				return "", durable.Sleep(ctx, env.Hours(5))
			}, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				if other == nil { //durablevet:ignore a replay in another process has no other run
					return "wrong run", nil
				}
				out := says(do(other, step)) //durablevet:ignore the misuse that the rail is for
				return out, nil
			}, nil)
			return &Play{Defs: durable.Set{keep, wf, step}, Drive: func(t *T) {
				k := start(t, keep, none{}, "keep")
				t.Waits(k, "timer")
				result(t, wf, start(t, wf, none{}, "r"), "wrong run")
				result(t, keep, k, "")
				t.Equal("how often the step ran", t.Count("ran"), 0)
			}}
		},
	},
	{
		Name: "rails/no-error-to-return",
		Row:  "4.1.1",
		Rule: "Misuse of a call that returns no error is a typed panic, so a problem of the run.",
		New: func(env *Env) *Play {
			wf := durable.NewWorkflow("wf", func(context.Context, none) (string, error) { return lostNow(), nil }, nil)
			return &Play{Defs: durable.Set{wf}, Blocked: true, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				_, err := r.Result(t.Context())
				var b *durable.BlockedError
				if !errors.As(err, &b) || b.Problem.Kind != "panic" {
					t.Errorf("result: %v, want a problem of kind panic", err)
				}
			}}
		},
	},
	{
		Name: "rails/engine-operation",
		Row:  "4.1.1",
		Rule: "An operation of the engine inside a workflow is refused.",
		New: func(env *Env) *Play {
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				var e *durable.Engine
				_, e1 := e.List(ctx, nil)                  //durablevet:ignore the misuse that the rail is for
				_, e2 := e.List(context.Background(), nil) //durablevet:ignore the misuse that the rail is for
				return says(e1) + ", " + says(e2), nil
			}, nil)
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				result(t, wf, start(t, wf, none{}, "r"), "in workflow, in workflow")
			}}
		},
	},
	{
		Name: "rails/in-a-step",
		Row:  "In a step",
		Rule: "In a step, a plain step runs inline; an at-most-once step, a child, a group, a signal and the like are refused.",
		New: func(env *Env) *Play {
			plain := durable.NewStep("plain", func(context.Context, none) (string, error) { env.Note("plain"); return "", nil }, nil)
			once := durable.NewStep("once", func(context.Context, none) (string, error) { env.Note("once"); return "", nil }, &durable.StepOptions{AtMostOnce: true})
			kid := durable.NewWorkflow("kid", func(context.Context, none) (string, error) { env.Note("kid"); return "", nil }, nil)
			sig := durable.NewSignal[int]("s")
			ask := durable.NewQuestion[int]("q")
			str := durable.NewStream[int]("str")
			step := durable.NewStep("step", func(ctx context.Context, _ none) ([]string, error) {
				var out []string
				note := func(err error) { out = append(out, says(err)) }
				note(do(ctx, plain))
				note(do(ctx, once))
				_, err := kid.Run(ctx, none{})
				note(err)
				_, err = sig.Receive(ctx)
				note(err)
				_, err = ask.Ask(ctx, "?", nil)
				note(err)
				_, err = durable.Map(ctx, []int{1}, func(context.Context, int) (int, error) { return 0, nil }, nil)
				note(err)
				_, err = durable.Select(ctx, durable.Elapsed(env.Hours(1)))
				note(err)
				note(durable.Await(ctx, func() bool { return true }))
				_, err = durable.NewCallback[int](ctx)
				note(err)
				note(str.Append(ctx, 1))
				return out, durable.Permanent(nil) // no error
			}, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) ([]string, error) { return step.Do(ctx, none{}) },
				&durable.WorkflowOptions{Accepts: []durable.Accepted{sig, ask, str}})
			return &Play{Defs: durable.Set{wf, kid, step, plain, once}, Drive: func(t *T) {
				no := "in step"
				result(t, wf, start(t, wf, none{}, "r"), []string{"ok", no, no, no, no, no, no, no, no, no})
				t.Equal("what ran", fmt.Sprint(t.Count("plain"), t.Count("once"), t.Count("kid")), "1 0 0")
			}}
		},
	},
}

// The misuses. Each is what durablevet finds, too.

//durablevet:ignore the misuse that the rail is for
func withTimeout(ctx context.Context, env *Env, step *durable.Step[none, string]) error {
	ctx, cancel := context.WithTimeout(ctx, env.Hours(1))
	defer cancel()
	return do(ctx, step)
}

//durablevet:ignore the misuse that the rail is for
func withCancel(ctx context.Context, _ *Env, step *durable.Step[none, string]) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return do(ctx, step)
}

//durablevet:ignore the misuse that the rail is for
func valueOfCancel(ctx context.Context, _ *Env, step *durable.Step[none, string]) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return do(context.WithValue(ctx, ctxKey{}, 1), step)
}

//durablevet:ignore the misuse that the rail is for
func sleepWithTimeout(ctx context.Context, env *Env, _ *durable.Step[none, string]) error {
	ctx, cancel := context.WithTimeout(ctx, env.Hours(1))
	defer cancel()
	return durable.Sleep(ctx, env.Hours(100))
}

//durablevet:ignore the misuse that the rail is for
func goroutine(ctx context.Context, _ *Env, step *durable.Step[none, string]) error {
	ch := make(chan error)
	go func() { ch <- do(ctx, step) }()
	return <-ch
}

//durablevet:ignore the misuse that the rail is for
func lostContext(_ context.Context, _ *Env, step *durable.Step[none, string]) error {
	return do(context.Background(), step)
}

//durablevet:ignore the misuse that the rail is for
func lostNow() string { return durable.Now(context.Background()).Format(time.DateOnly) }

//durablevet:ignore the misuse that the rail is for
func inCondition(ctx context.Context, env *Env, step *durable.Step[none, string]) (err error) {
	werr := durable.Await(ctx, func() bool { err = do(ctx, step); return true })
	return errors.Join(err, werr)
}
