package durabletest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/mcpagent/mcpagent/durable"
)

// collect receives n signals and returns them.
func collect(sig *durable.Signal[int], n int) func(ctx context.Context, _ none) ([]int, error) {
	return func(ctx context.Context, _ none) ([]int, error) {
		var got []int
		for range n {
			v, err := sig.Receive(ctx)
			if err != nil {
				return got, err
			}
			got = append(got, v)
		}
		return got, nil
	}
}

var signals = []Scenario{
	{
		Name: "signals/kept-until-received",
		Row:  "Signals",
		Rule: "A signal that comes before anybody waits for it is kept.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[string]("go")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				if err := durable.Sleep(ctx, env.Hours(2)); err != nil {
					return "", err
				}
				return sig.Receive(ctx)
			}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.OK("send", sig.Send(t.Context(), r, "early", nil))
				result(t, wf, r, "early")
			}}
		},
	},
	{
		Name: "signals/in-order",
		Row:  "Signals",
		Rule: "The signals of a run are received in the order in which they were acknowledged.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[int]("n")
			wf := durable.NewWorkflow("wf", collect(sig, 20), &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				var want []int
				for i := range 20 {
					t.OK("send", sig.Send(t.Context(), r, i, nil))
					want = append(want, i)
				}
				result(t, wf, r, want)
			}}
		},
	},
	{
		Name: "signals/one-receiver",
		Row:  "Signals",
		Rule: "Each signal is received by one receiver only, in the order in which they began to wait.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[int]("n")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) ([]int, error) {
				got := make([]int, 3)
				g, _ := durable.NewGroup(ctx, nil)
				for i := range got {
					g.Go(func(ctx context.Context) (err error) { got[i], err = sig.Receive(ctx); return err })
				}
				return got, g.Wait()
			}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.Waits(r, "signal")
				t.OK("send", sig.Send(t.Context(), r, 7, nil))
				t.Settle()
				t.Equal("state while two receivers have nothing", t.Describe(r).State, durable.Running)
				t.OK("send", sig.Send(t.Context(), r, 8, nil))
				t.OK("send", sig.Send(t.Context(), r, 9, nil))
				result(t, wf, r, []int{7, 8, 9})
			}}
		},
	},
	{
		Name: "signals/same-id-once",
		Row:  "Signals",
		Rule: "A signal with the id of one that was sent before is a success and changes nothing.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[int]("n")
			wf := durable.NewWorkflow("wf", collect(sig, 3), &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				for i := range 3 {
					for k := range 3 {
						t.OK("send", sig.Send(t.Context(), r, 10*i+k, &durable.SendOptions{ID: fmt.Sprint("id", i)}))
						if i == 1 && k == 1 {
							t.Restart()
						}
						r = t.Of(r)
					}
				}
				result(t, wf, r, []int{0, 10, 20})
			}}
		},
	},
	{
		Name:  "signals/acknowledged-survives",
		Row:   "Signals",
		Rule:  "A signal that was acknowledged is on disk.",
		Needs: []Ability{Killing},
		New: func(env *Env) *Play {
			sig := durable.NewSignal[int]("n")
			wf := durable.NewWorkflow("wf", collect(sig, 3), &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				for i := range 3 {
					t.OK("send", sig.Send(t.Context(), t.Of(r), i, nil))
					t.Kill()
				}
				result(t, wf, r, []int{0, 1, 2})
			}}
		},
	},
	{
		Name: "signals/undecodable",
		Row:  "Signals",
		Rule: "A signal that does not fit its type is consumed, and its receiver gets a DecodeError.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[int]("n")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				_, err := sig.Receive(ctx)
				var de *durable.DecodeError
				if !errors.As(err, &de) {
					return "", fmt.Errorf("want a DecodeError, got %v", err)
				}
				n, err := sig.Receive(ctx)
				return fmt.Sprint(says(de), " ", de.Name, " ", de.ID, " ", n), err
			}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.OK("send", r.Signal(t.Context(), "n", json.RawMessage(`"x"`), &durable.SendOptions{ID: "odd"}))
				t.OK("send", sig.Send(t.Context(), r, 5, nil))
				result(t, wf, r, "bad input n odd 5")
			}}
		},
	},
	{
		Name: "signals/errors-tell-apart",
		Row:  "Signals",
		Rule: "A finished run, an unknown one, and a signal that is not declared are three errors.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[int]("n")
			wf := durable.NewWorkflow("wf", collect(sig, 1), &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.Is("a signal that is not declared", r.Signal(t.Context(), "m", nil, nil), durable.ErrNotAccepted)
				t.OK("send", sig.Send(t.Context(), r, 1, nil))
				result(t, wf, r, []int{1})
				t.Is("a signal to a finished run", sig.Send(t.Context(), r, 2, nil), durable.ErrFinished)
				t.Is("a signal to an unknown run", sig.Send(t.Context(), t.Engine.Run("nobody", ""), 2, nil), durable.ErrNotFound)
				t.Is("a signal to an unknown run id", sig.Send(t.Context(), t.Engine.Run("r", "nobody"), 2, nil), durable.ErrNotFound)
			}}
		},
	},
	{
		Name: "signals/to-an-exact-run",
		Row:  "Signals",
		Rule: "A workflow id means its current run, a run id that run and those that continue it.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[int]("n")
			wf := durable.NewWorkflow("wf", collect(sig, 1), &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				first := start(t, wf, none{}, "r")
				t.OK("send", sig.Send(t.Context(), first, 1, nil))
				result(t, wf, first, []int{1})
				second := try(wf.Start(t.Context(), t.Engine, none{}, &durable.StartOptions{ID: "r", Reuse: durable.ReuseAllow})).or(t, "start again")
				t.Is("a signal to the first run", sig.Send(t.Context(), first, 2, nil), durable.ErrFinished)
				t.OK("send to the id", sig.Send(t.Context(), t.Engine.Run("r", ""), 3, nil))
				result(t, wf, second, []int{3})
			}}
		},
	},
	{
		Name: "signals/with-a-start",
		Row:  "Signals",
		Rule: "A signal can be sent with a start, in one commit; also to the run that is there.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[int]("n")
			wf := durable.NewWorkflow("wf", collect(sig, 2), &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				with := func(id string, n int) (*durable.Run, error) {
					return wf.Start(t.Context(), t.Engine, none{}, &durable.StartOptions{ID: "r",
						Signal: &durable.SignalWithStart{Name: "n", ID: id, Payload: json.RawMessage(fmt.Sprint(n))}})
				}
				r := try(with("a", 1)).or(t, "start with a signal")
				t.Equal("the run was there before", r.Existing, false)
				t.Equal("the same start: the run was there", try(with("a", 1)).or(t, "again").Existing, true)
				t.Equal("another signal: the run was there", try(with("b", 2)).or(t, "another signal").Existing, true)
				result(t, wf, r, []int{1, 2})
				t.Equal("the same start after the end", try(with("b", 2)).or(t, "again").RunID, r.RunID)
				_, err := with("c", 3)
				t.Is("a new signal after the end", err, durable.ErrFinished)
				_, err = wf.Start(t.Context(), t.Engine, none{}, &durable.StartOptions{ID: "s", Signal: &durable.SignalWithStart{Name: "x"}})
				t.Is("a signal that is not declared", err, durable.ErrNotAccepted)
				_, err = t.Engine.Run("s", "").Describe(t.Context())
				t.Is("the run of the refused start", err, durable.ErrNotFound)
			}}
		},
	},
	{
		Name: "signals/between-workflows",
		Row:  "Signals",
		Rule: "A workflow signals another run durably: once, in order, with the errors that a client has.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[int]("n")
			to := durable.NewWorkflow("to", collect(sig, 4), &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
			from := durable.NewWorkflow("from", func(ctx context.Context, _ none) (string, error) {
				for i := range 3 {
					if err := sig.Send(ctx, durable.Address("to", ""), i, nil); err != nil {
						return "", err
					}
					if err := sig.Send(ctx, durable.Address("to", ""), 10+i, &durable.SendOptions{ID: "same"}); err != nil {
						return "", err
					}
					if err := durable.Sleep(ctx, env.Hours(1)); err != nil {
						return "", err
					}
				}
				e1 := sig.Send(ctx, durable.Address("nobody", ""), 1, nil)
				e2 := durable.Address("from", "").Signal(ctx, "x", nil, nil)
				e3 := sig.Send(ctx, durable.Address("to", ""), 1, nil)
				return says(e1) + ", " + says(e2) + ", " + says(e3), nil
			}, nil)
			return &Play{Defs: durable.Set{from, to}, Drive: func(t *T) {
				b := start(t, to, none{}, "to")
				a := start(t, from, none{}, "from")
				result(t, to, b, []int{0, 10, 1, 2})
				result(t, from, a, "not found, not accepted, finished")
			}}
		},
	},
	{
		Name: "signals/receive-timeout",
		Row:  "`ReceiveTimeout`",
		Rule: "ReceiveTimeout gives a message that is there before an expired time; the loser is cancelled.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[int]("n")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				began := durable.Now(ctx)
				_, e1 := sig.ReceiveTimeout(ctx, env.Hours(1))
				t1 := env.Since(ctx, began)
				if err := durable.Sleep(ctx, env.Hours(3)); err != nil { // one comes meanwhile
					return "", err
				}
				a, e2 := sig.ReceiveTimeout(ctx, 0)
				_, e3 := sig.ReceiveTimeout(ctx, 0)
				b, e4 := sig.ReceiveTimeout(ctx, env.Hours(1000))
				_, ok, e5 := sig.TryReceive(ctx)
				return fmt.Sprint(says(e1), t1, " ", a, says(e2), " ", says(e3), " ", b, says(e4), " ", ok, says(e5)), nil
			}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.Pass(3)
				t.OK("send", sig.Send(t.Context(), r, 4, nil))
				t.Pass(4)
				t.OK("send", sig.Send(t.Context(), r, 5, nil))
				result(t, wf, r, "timeout1 4ok timeout 5ok falseok")
				t.Equal("what a finished run waits for", len(t.Describe(r).Waiting), 0)
			}}
		},
	},
	{
		Name: "signals/many",
		Row:  "Signals",
		Rule: "A run takes thousands of signals without losing one.",
		New: func(env *Env) *Play {
			sig := durable.NewSignal[int]("n")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, n int) (int, error) {
				sum := 0
				for range n {
					v, err := sig.Receive(ctx)
					if err != nil {
						return 0, err
					}
					sum += v
				}
				return sum, nil
			}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				const senders, each = 8, 40
				r := start(t, wf, senders*each, "r")
				for range senders {
					t.Go(func() {
						for range each {
							t.OK("send", sig.Send(t.Context(), r, 1, nil))
						}
					})
				}
				result(t, wf, r, each*senders)
			}}
		},
	},
}
