package durabletest

import (
	"context"
	"errors"
	"fmt"

	"github.com/mcpagent/mcpagent/durable"
)

var pauses = []Scenario{
	{
		Name: "pause/the-code-does-not-move",
		Row:  "Pause",
		Rule: "While paused, the code does not move: steps that were issued run, are tried again and recorded; timers keep their time; signals are kept; updates are refused; queries answered.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[string]("s")
			u := durable.NewUpdate[none, int]("u")
			q := durable.NewQuery[none, string]("q")
			step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) {
				if env.Note("ran") < 3 {
					return "", errors.New("not yet")
				}
				return "done", nil
			}, &durable.StepOptions{Retry: &durable.Retry{Initial: env.Hours(1), Backoff: 1}})
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				_ = u.Handle(ctx, func(context.Context, none) (int, error) { return 1, nil }, nil)
				_ = q.Handle(ctx, func(none) (string, error) { return "hello", nil })
				f := step.Start(ctx, none{})
				if err := durable.Sleep(ctx, env.Hours(2)); err != nil {
					return "", err
				}
				env.Note("moved")
				s, err := sig.Receive(ctx)
				if err != nil {
					return "", err
				}
				d, err := f.Get(ctx)
				return s + " " + d, err
			}, takes(sig, u, q))
			return &Play{Defs: durable.Set{wf, step}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.Waits(r, "timer")
				t.OK("pause", r.Pause(t.Context(), nil))
				t.OK("wait for the step", t.Wait(t.Context(), "ran", 3))
				t.Pass(2)
				t.OK("send", sig.Send(t.Context(), r, "kept", nil))
				_, err := u.Send(t.Context(), r, none{}, nil)
				t.Is("an update of a paused run", err, durable.ErrPaused)
				t.Equal("a query of a paused run", try(q.Ask(t.Context(), r, none{})).or(t, "ask"), "hello")
				t.Equal("the code moved", t.Count("moved"), 0)
				t.OK("resume", r.Resume(t.Context(), nil))
				result(t, wf, r, "kept done")
			}}
		},
	},
	{
		Name: "pause/who-why-since",
		Row:  "Pause",
		Rule: "A pause is idempotent, says who, why and since when, and survives a restart.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[int]("s")
			wf := durable.NewWorkflow("wf", collect(sig, 1), takes(sig))
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.Waits(r, "signal")
				ann := durable.WithActor(t.Context(), durable.Actor{Name: "ann"})
				for range 2 {
					t.OK("pause", r.Pause(ann, &durable.PauseOptions{ID: "p", Reason: "lunch"}))
				}
				t.OK("send", sig.Send(t.Context(), r, 4, nil))
				t.Pass(1)
				t.Restart()
				d := t.Describe(r)
				if d.State != durable.Paused || d.Paused == nil || d.Paused.By != "ann" || d.Paused.Reason != "lunch" || d.Paused.Since.IsZero() {
					t.Errorf("description: %s %+v", d.State, d.Paused)
				}
				page := try(t.Engine.List(t.Context(), &durable.Filter{States: []durable.State{durable.Paused}})).or(t, "list")
				t.Equal("paused runs in the list", len(page.Runs), 1)
				for range 2 {
					t.OK("resume", orFinished(t.Of(r).Resume(t.Context(), nil)))
				}
				result(t, wf, r, []int{4})
			}}
		},
	},
	{
		Name: "pause/before-the-first-turn",
		Row:  "Pause",
		Rule: "A run that is paused before its first turn does not begin.",
		New: func(env *Env) *Play {
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				env.Note("began")
				return "done", nil
			}, nil)
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := try(wf.Start(t.Context(), t.Engine, none{}, &durable.StartOptions{ID: "r", Delay: env.Hours(2)})).or(t, "start")
				t.OK("pause", r.Pause(t.Context(), nil))
				t.Pass(4)
				t.Equal("it began", t.Count("began"), 0)
				t.Restart()
				t.OK("resume", t.Of(r).Resume(t.Context(), nil))
				result(t, wf, r, "done")
			}}
		},
	},
	{
		Name: "pause/tree",
		Row:  "Pause",
		Rule: "Children are paused and resumed only with Tree.",
		New: func(env *Env) *Play {
			kid := durable.NewWorkflow("kid", func(ctx context.Context, _ none) (string, error) {
				err := durable.Sleep(ctx, env.Hours(1))
				return "kid", err
			}, nil)
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				a, err := kid.Child(ctx, none{}, &durable.ChildOptions{ID: "kid"})
				if err != nil {
					return "", err
				}
				return a.Get(ctx)
			}, nil)
			return &Play{Defs: durable.Set{wf, kid}, Drive: func(t *T) {
				for _, tree := range []bool{false, true} {
					id := fmt.Sprint("r", tree)
					r := start(t, wf, none{}, id)
					k := t.Engine.Run("kid", "")
					t.Waits(r, "child")
					t.Until("the child runs", func() bool { d, err := k.Describe(t.Context()); return err == nil && !d.State.Done() })
					t.OK("pause", r.Pause(t.Context(), &durable.PauseOptions{Tree: tree}))
					t.Pass(3)
					t.Equal(fmt.Sprint("the child has ended, tree ", tree), t.Describe(k).State.Done(), !tree)
					t.OK("resume", r.Resume(t.Context(), &durable.PauseOptions{Tree: tree}))
					result(t, wf, r, "kid")
				}
			}}
		},
	},
	{
		Name: "pause/says-what-it-waits-for",
		Row:  "Pause",
		Rule: "A run that is paused still says what it waits for, also when something was kept for it and after a restart; and so it does when it was resumed.",
		New: func(env *Env) *Play {
			sig, other := durable.NewSignal[int]("s"), durable.NewSignal[int]("other")
			wf := durable.NewWorkflow("wf", collect(sig, 1), takes(sig, other))
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.Waits(r, "signal")
				waits := func(when string) {
					names := []string{}
					for _, w := range t.Describe(r).Waiting {
						names = append(names, w.Kind+" "+w.Name)
					}
					t.Equal("waits "+when, names, []string{"signal s"})
				}
				t.OK("pause", r.Pause(t.Context(), nil))
				waits("while it is paused")
				t.OK("send", other.Send(t.Context(), r, 1, nil))
				waits("with a signal kept")
				t.Restart()
				waits("after a restart")
				t.OK("resume", t.Of(r).Resume(t.Context(), nil))
				waits("when it was resumed")
				t.OK("pause again", t.Of(r).Pause(t.Context(), nil))
				t.OK("resume again", t.Of(r).Resume(t.Context(), nil))
				waits("when nothing had been kept")
				t.Restart()
				waits("after another restart")
				t.OK("send", sig.Send(t.Context(), t.Of(r), 2, nil))
				result(t, wf, r, []int{2})
			}}
		},
	},
}
