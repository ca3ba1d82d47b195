package durabletest

import (
	"context"
	"runtime"

	"github.com/mcpagent/mcpagent/durable"
)

var interleaving = []Scenario{
	{
		Name: "turns/one-coroutine-at-a-time",
		Row:  "Interleaving",
		Rule: "Coroutines of a run never run in parallel: between two durable calls nothing else moves.",
		New: func(env *Env) *Play {
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
				inside, worst := 0, 0
				g, _ := durable.NewGroup(ctx, nil)
				for range 8 {
					g.Go(func(ctx context.Context) error {
						for range 5 {
							inside++
							runtime.Gosched() // whoever could run would do so now
							worst = max(worst, inside)
							inside--
							if err := durable.Sleep(ctx, env.Hours(1)); err != nil {
								return err
							}
						}
						return nil
					})
				}
				return worst, g.Wait()
			}, nil)
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				result(t, wf, start(t, wf, none{}, "r"), 1)
			}}
		},
	},
	{
		Name: "turns/replay-repeats-the-interleaving",
		Row:  "Interleaving",
		Rule: "What a run does is a function of its own history: a replay repeats it.",
		New: func(env *Env) *Play {
			step := durable.NewStep("step", func(_ context.Context, s string) (string, error) { return s, nil }, nil)
			sig := durable.NewSignal[string]("s")
			so := durable.NewQuery[none, string]("order")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				order := ""
				if err := so.Handle(ctx, func(none) (string, error) { return order, nil }); err != nil {
					return "", err
				}
				g, _ := durable.NewGroup(ctx, nil)
				for _, name := range []string{"a", "b", "c"} {
					g.Go(func(ctx context.Context) error {
						for range 5 {
							s, err := step.Do(ctx, name)
							if err != nil {
								return err
							}
							order += s
						}
						return nil
					})
				}
				if err := g.Wait(); err != nil {
					return "", err
				}
				return sig.Receive(ctx)
			}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig, so}})
			return &Play{Defs: durable.Set{wf, step}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.Waits(r, "signal")
				order := try(so.Ask(t.Context(), r, none{})).or(t, "ask for the order")
				t.Equal("number of steps", len(order), 15)
				for range 2 {
					t.Restart()
					t.Equal("the order after a replay", try(so.Ask(t.Context(), t.Of(r), none{})).or(t, "ask for the order"), order)
				}
				t.OK("send", sig.Send(t.Context(), t.Of(r), "on", nil))
				result(t, wf, r, "on")
				t.Equal("the order of the finished run", try(so.Ask(t.Context(), t.Of(r), none{})).or(t, "ask for the order"), order)
			}}
		},
	},
}

var steps = []Scenario{
	{
		Name: "steps/once-recorded",
		Row:  "Call id",
		Rule: "A step whose result was recorded is never run again, whatever happens to the process.",
		New: func(env *Env) *Play {
			step := durable.NewStep("step", func(_ context.Context, n int) (int, error) {
				env.Note("ran", n)
				return n * 10, nil
			}, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) ([]int, error) {
				var got []int
				for i := range 4 {
					v, err := step.Do(ctx, i)
					if err != nil {
						return nil, err
					}
					got = append(got, v)
					if err := durable.Sleep(ctx, env.Hours(1)); err != nil {
						return nil, err
					}
				}
				return got, nil
			}, nil)
			return &Play{Defs: durable.Set{wf, step}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				for range 3 {
					t.Pass(1)
					t.Restart()
				}
				result(t, wf, r, []int{0, 10, 20, 30})
				t.Equal("what ran", t.Notes("ran"), []string{"0", "1", "2", "3"})
			}}
		},
	},
	{
		Name: "steps/commit-before-effect",
		Row:  "Commit before effect",
		Rule: "A step begins when the turn that calls it is on disk, and not before.",
		New: func(env *Env) *Play {
			var wf *durable.Workflow[none, int]
			step := durable.NewStep("step", func(ctx context.Context, _ none) (int, error) {
				env.Note("began")
				return 1, env.Wait(ctx, "looked", 1)
			}, &durable.StepOptions{Timeout: env.Hours(100)})
			wf = durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) { return step.Do(ctx, none{}) }, nil)
			return &Play{Defs: durable.Set{wf, step}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.OK("wait for the step", t.Wait(t.Context(), "began", 1))
				calls := 0
				for _, rec := range t.History(r) {
					calls += len(rec.Calls)
				}
				t.Equal("calls in the history when the step has begun", calls, 1)
				t.Note("looked")
				result(t, wf, r, 1)
			}}
		},
	},
}
