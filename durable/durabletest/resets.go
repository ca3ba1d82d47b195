package durabletest

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/mcpagent/mcpagent/durable"
)

// booking is a program of three steps, the last of which fails in the first
// version: what a reset is for.
type booking struct {
	sig        *durable.Signal[string]
	wf, fixed  *durable.Workflow[none, string]
	hotel, fly *durable.Step[string, string]
}

func newBooking(env *Env, once bool) *booking {
	b := &booking{sig: durable.NewSignal[string]("seat")}
	effect := func(what string) func(ctx context.Context, s string) (string, error) {
		return func(ctx context.Context, s string) (string, error) {
			i, _ := durable.StepInfoOf(ctx)
			env.Note(what, s)
			env.Note(what+" key", i.Key)
			return what + " " + s, nil
		}
	}
	b.hotel = durable.NewStep("hotel", effect("hotel"), nil)
	b.fly = durable.NewStep("fly", effect("fly"), &durable.StepOptions{AtMostOnce: once})
	program := func(ok bool) *durable.Workflow[none, string] {
		return durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
			h, err := b.hotel.Do(ctx, "one") // 0/1
			if err != nil {
				return "", err
			}
			f, err := b.fly.Do(ctx, "two") // 0/2
			if err != nil {
				return "", err
			}
			s, err := b.sig.Receive(ctx)
			if err != nil {
				return "", err
			}
			if !ok {
				return "", busy.New("no seat %s", s)
			}
			return h + ", " + f + ", " + s, nil
		}, takes(b.sig))
	}
	b.wf, b.fixed = program(false), program(true)
	return b
}

func (b *booking) defs() durable.Set  { return durable.Set{b.wf, b.hotel, b.fly} }
func (b *booking) later() durable.Set { return durable.Set{b.fixed, b.hotel, b.fly} }

// failed plays the booking until it has failed, and deploys what is mended.
func (b *booking) failed(t *T) *durable.Run {
	r := start(t, b.wf, none{}, "r")
	t.OK("send", b.sig.Send(t.Context(), r, "9a", nil))
	_, err := r.Result(t.Context())
	t.Is("result of the broken version", err, busy)
	t.Deploy(1)
	return t.Of(r)
}

var resets = []Scenario{
	{
		Name: "reset/repairs",
		Row:  "Reset, fork",
		Rule: "A reset repairs a run that has ended: same id, results before the point kept, what comes after it done again with the same effect keys, later signals given again.",
		New: func(env *Env) *Play {
			b := newBooking(env, false)
			return &Play{Defs: b.defs(), Later: []durable.Set{b.later()}, Drive: func(t *T) {
				r := b.failed(t)
				o := &durable.ResetOptions{Before: "0/2", Reason: "seats again", ID: "once"}
				n := try(r.Reset(t.Context(), o)).or(t, "reset")
				t.Equal("the same reset again", try(r.Reset(t.Context(), o)).or(t, "reset again").RunID, n.RunID)
				t.Equal("id, and whether it is another run", fmt.Sprint(n.WorkflowID, " ", n.RunID != r.RunID), "r true")
				result(t, b.fixed, n, "hotel one, fly two, 9a")
				t.Equal("hotels, flights", fmt.Sprint(t.Notes("hotel"), t.Notes("fly")), "[one] [two two]")
				k := t.Notes("fly key")
				t.Equal("keys of the flights are the same", k[0] == k[1], true)
				d := t.Describe(r)
				t.Equal("the old run", fmt.Sprint(d.State, " ", d.Next == n.RunID), "failed true")
				_, err := r.Reset(t.Context(), nil)
				t.Is("a reset of the old run", err, durable.ErrFinished)
			}}
		},
	},
	{
		Name: "reset/terminates-a-running-run",
		Row:  "Reset, fork",
		Rule: "The old run is terminated where it had not ended; a pause is cleared.",
		New: func(env *Env) *Play {
			b := newBooking(env, false)
			return &Play{Defs: b.later(), Drive: func(t *T) {
				r := start(t, b.fixed, none{}, "r")
				t.Waits(r, "signal")
				t.OK("pause", r.Pause(t.Context(), nil))
				n := try(r.Reset(t.Context(), nil)).or(t, "reset")
				t.Equal("state of the old run", t.Describe(r).State, durable.Terminated)
				t.OK("send", b.sig.Send(t.Context(), n, "1b", nil))
				result(t, b.fixed, n, "hotel one, fly two, 1b")
				t.Equal("hotels, flights", fmt.Sprint(t.Count("hotel"), t.Count("fly")), "2 2")
				t.Equal("the id leads to the new run", t.Describe(t.Engine.Run("r", "")).RunID, n.RunID)
			}}
		},
	},
	{
		Name: "reset/at-most-once",
		Row:  "Reset, fork",
		Rule: "A reset to before an at-most-once step that was sent is refused without AllowRepeat, and changes nothing.",
		New: func(env *Env) *Play {
			b := newBooking(env, true)
			return &Play{Defs: b.defs(), Later: []durable.Set{b.later()}, Drive: func(t *T) {
				r := b.failed(t)
				_, err := r.Reset(t.Context(), &durable.ResetOptions{Before: "0/2"})
				t.Is("without AllowRepeat", err, durable.ErrRepeat)
				t.Equal("runs", len(try(t.Engine.List(t.Context(), nil)).or(t, "list").Runs), 1)
				t.Equal("flights", t.Count("fly"), 1)
				n := try(r.Reset(t.Context(), &durable.ResetOptions{Before: "0/2", AllowRepeat: true})).or(t, "reset")
				result(t, b.fixed, n, "hotel one, fly two, 9a")
				t.Equal("flights after AllowRepeat", t.Count("fly"), 2)
			}}
		},
	},
	{
		Name: "reset/at-most-once-at-work",
		Row:  "Reset, fork",
		Rule: "So it is while the step is at work.",
		New: func(env *Env) *Play {
			step := durable.NewStep("step", func(ctx context.Context, _ none) (string, error) {
				env.Note("ran")
				return "", ended(ctx)
			}, &durable.StepOptions{AtMostOnce: true, Timeout: env.Hours(100)})
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) { return "", do(ctx, step) }, nil)
			return &Play{Defs: durable.Set{wf, step}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.OK("wait for the step", t.Wait(t.Context(), "ran", 1))
				_, err := r.Reset(t.Context(), nil)
				t.Is("without AllowRepeat", err, durable.ErrRepeat)
				t.Equal("state", t.Describe(r).State, durable.Running)
				t.OK("terminate", r.Terminate(t.Context(), ""))
				t.Equal("how often the step ran", t.Count("ran"), 1)
			}}
		},
	},
	{
		Name:  "reset/survives",
		Row:   "Reset, fork",
		Rule:  "A reset is one commit: acknowledged, it is there after a death.",
		Needs: []Ability{Killing},
		New: func(env *Env) *Play {
			b := newBooking(env, false)
			return &Play{Defs: b.later(), Drive: func(t *T) {
				r := start(t, b.fixed, none{}, "r")
				t.Waits(r, "signal")
				n := try(r.Reset(t.Context(), &durable.ResetOptions{Before: "0/2", ID: "once"})).or(t, "reset")
				t.Kill()
				t.Equal("the same reset again", try(t.Of(r).Reset(t.Context(), &durable.ResetOptions{Before: "0/2", ID: "once"})).or(t, "reset again").RunID, n.RunID)
				t.OK("send", b.sig.Send(t.Context(), t.Of(n), "1b", nil))
				result(t, b.fixed, n, "hotel one, fly two, 1b")
				t.Equal("hotels", t.Count("hotel"), 1)
				t.Equal("runs", len(try(t.Engine.List(t.Context(), nil)).or(t, "list").Runs), 2)
			}}
		},
	},
	{
		Name: "fork/answers-from-the-record",
		Row:  "Reset, fork",
		Rule: "A fork is a run of its own id: recorded results are answered by call id and take no effect, signals are given again, and the old run is not touched.",
		New: func(env *Env) *Play {
			b := newBooking(env, true)
			return &Play{Defs: b.defs(), Later: []durable.Set{b.later()}, Drive: func(t *T) {
				r := b.failed(t)
				before := len(t.History(r))
				f := try(r.Fork(t.Context(), &durable.ForkOptions{WorkflowID: "fork"})).or(t, "fork")
				result(t, b.fixed, f, "hotel one, fly two, 9a")
				t.Equal("hotels, flights", fmt.Sprint(t.Count("hotel"), t.Count("fly")), "1 1")
				t.Equal("the old run, and records added to it", fmt.Sprint(t.Describe(r).State, " ", len(t.History(r))-before), "failed 0")
			}}
		},
	},
	{
		Name: "fork/edited-answers-and-own-keys",
		Row:  "Reset, fork",
		Rule: "Outcomes may be edited by call id; what is really made has effect keys of the fork's own.",
		New: func(env *Env) *Play {
			b := newBooking(env, false)
			return &Play{Defs: b.defs(), Later: []durable.Set{b.later()}, Drive: func(t *T) {
				r := b.failed(t)
				f := try(r.Fork(t.Context(), &durable.ForkOptions{WorkflowID: "fork", Before: "0/2",
					Answers: map[string]durable.ForkAnswer{"0/1": {Value: json.RawMessage(`"tent"`)}}})).or(t, "fork")
				result(t, b.fixed, f, "tent, fly two, 9a")
				t.Equal("hotels, flights", fmt.Sprint(t.Count("hotel"), t.Count("fly")), "1 2")
				k := t.Notes("fly key")
				t.Equal("keys of the flights are the same", k[0] == k[1], false)
			}}
		},
	},
}
