package durabletest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/mcpagent/mcpagent/durable"
)

// adder is a workflow that adds up what updates bring, up to a sum.
func adder(env *Env, add *durable.Update[int, int], until int) func(ctx context.Context, _ none) (int, error) {
	return func(ctx context.Context, _ none) (int, error) {
		total := 0
		err := add.Handle(ctx, func(ctx context.Context, n int) (int, error) {
			if err := durable.Sleep(ctx, env.Hours(0.5)); err != nil {
				return 0, err
			}
			if n%2 == 1 && n > 10 {
				return 0, busy.New("%d is odd", n)
			}
			total += n
			return total, nil
		}, func(n int) error {
			if n < 0 {
				return errors.New("negative")
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
		err = durable.Await(ctx, func() bool { return total >= until })
		return total, err
	}
}

var updates = []Scenario{
	{
		Name: "updates/answer",
		Row:  "Updates",
		Rule: "An update is carried out on a coroutine of its own and answered; its error is the application's own.",
		New: func(env *Env) *Play {
			add := durable.NewUpdate[int, int]("add")
			wf := durable.NewWorkflow("wf", adder(env, add, 6), takes(add))
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				send := func(id string, n int) (int, error) { return add.Send(t.Context(), r, n, &durable.SendOptions{ID: id}) }
				t.Equal("first", try(send("a", 1)).or(t, "update"), 1)
				for range 2 {
					_, err := send("b", 11)
					t.Is("one that fails, and again", err, busy)
				}
				t.Equal("second", try(send("c", 5)).or(t, "update"), 6)
				result(t, wf, r, 6)
			}}
		},
	},
	{
		Name: "updates/same-id-same-answer",
		Row:  "Updates",
		Rule: "An accepted id returns the same answer: while it is at work, after it, after a restart, after the end of the run.",
		New: func(env *Env) *Play {
			add := durable.NewUpdate[int, int]("add")
			wf := durable.NewWorkflow("wf", adder(env, add, 6), takes(add))
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				for range 3 {
					t.Go(func() {
						n, err := add.Send(t.Context(), r, 2, &durable.SendOptions{ID: "x"})
						t.Note("answer", n, " ", says(err))
					})
				}
				t.OK("wait for the answers", t.Wait(t.Context(), "answer", 3))
				t.Equal("answers", t.Notes("answer"), []string{"2 ok", "2 ok", "2 ok"})
				again := func(when string) {
					t.Equal("the answer "+when, try(add.Send(t.Context(), t.Of(r), 2, &durable.SendOptions{ID: "x"})).or(t, "update "+when), 2)
				}
				again("once more")
				t.Restart()
				again("after a restart")
				t.Equal("another one", try(add.Send(t.Context(), t.Of(r), 4, &durable.SendOptions{ID: "y"})).or(t, "update"), 6)
				result(t, wf, r, 6)
				again("after the end")
				_, err := add.Send(t.Context(), t.Of(r), 1, &durable.SendOptions{ID: "z"})
				t.Is("a new one after the end", err, durable.ErrFinished)
			}}
		},
	},
	{
		Name: "updates/rejection-leaves-no-trace",
		Row:  "Updates",
		Rule: "A rejection leaves no trace and frees its id; an input that does not fit is refused.",
		New: func(env *Env) *Play {
			add := durable.NewUpdate[int, int]("add")
			wf := durable.NewWorkflow("wf", adder(env, add, 3), takes(add))
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.Waits(r, "condition")
				before := len(t.History(r))
				_, err := add.Send(t.Context(), r, -1, &durable.SendOptions{ID: "x"})
				t.Is("one that the validator refuses", err, durable.ErrRejected)
				if !strings.Contains(fmt.Sprint(err), "negative") {
					t.Errorf("the rejection does not say why: %v", err)
				}
				_, err = r.Update(t.Context(), "add", []byte(`"a"`), nil)
				t.Is("one that does not fit", err, durable.ErrBadInput)
				t.Equal("records that the refused ones left", len(t.History(r))-before, 0)
				t.Equal("the same id", try(add.Send(t.Context(), r, 3, &durable.SendOptions{ID: "x"})).or(t, "update"), 3)
				result(t, wf, r, 3)
			}}
		},
	},
	{
		Name: "updates/no-handler",
		Row:  "Updates",
		Rule: "Updates are not buffered for a handler: they are refused until it is set; a handler set before the run first blocks is in time for one that comes with the start.",
		New: func(env *Env) *Play {
			early, late := durable.NewUpdate[int, int]("early"), durable.NewUpdate[int, int]("late")
			same := func(_ context.Context, n int) (int, error) { return n, nil }
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				_ = early.Handle(ctx, same, nil)
				if err := durable.Sleep(ctx, env.Hours(2)); err != nil {
					return "", err
				}
				_ = late.Handle(ctx, same, nil)
				env.Note("set")
				return "end", durable.Sleep(ctx, env.Hours(3))
			}, takes(early, late))
			bare := durable.NewWorkflow("bare", func(ctx context.Context, _ none) (string, error) { return "", durable.Sleep(ctx, env.Hours(1)) }, nil)
			return &Play{Defs: durable.Set{wf, bare}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.Equal("an update right after the start", try(early.Send(t.Context(), r, 1, &durable.SendOptions{ID: "a"})).or(t, "update"), 1)
				_, err := late.Send(t.Context(), r, 1, &durable.SendOptions{ID: "b"})
				t.Is("no handler yet", err, durable.ErrNoHandler)
				t.OK("wait for the handler", t.Wait(t.Context(), "set", 1))
				t.Equal("by now", try(late.Send(t.Context(), r, 2, &durable.SendOptions{ID: "b"})).or(t, "update"), 2)
				_, err = early.Send(t.Context(), start(t, bare, none{}, "bare"), 1, nil)
				t.Is("not declared", err, durable.ErrNotAccepted)
				_, err = early.Send(t.Context(), t.Engine.Run("nobody", ""), 1, nil)
				t.Is("no such run", err, durable.ErrNotFound)
				result(t, wf, r, "end")
			}}
		},
	},
	{
		Name: "updates/validator-is-read-only",
		Row:  "Updates",
		Rule: "A validator is read-only: a durable call in it, and a panic, reject the update; it does not run in a replay.",
		New: func(env *Env) *Play {
			u := durable.NewUpdate[string, string]("u")
			sig := durable.NewSignal[int]("s")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				err := u.Handle(ctx, func(_ context.Context, s string) (string, error) { return s, nil }, func(how string) error {
					env.Note("validated", how)
					switch how {
					case "sleep":
						return durable.Sleep(ctx, env.Hours(1)) //durablevet:ignore the misuse that the scenario is for
					case "panic":
						panic("bad validator")
					}
					return nil
				})
				if err != nil {
					return "", err
				}
				_, err = sig.Receive(ctx)
				return "end", err
			}, takes(u, sig))
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				for _, how := range []string{"sleep", "panic"} {
					_, err := u.Send(t.Context(), r, how, nil)
					t.Is(how, err, durable.ErrRejected)
				}
				t.Equal("one that is fine", try(u.Send(t.Context(), r, "fine", &durable.SendOptions{ID: "f"})).or(t, "update"), "fine")
				t.Restart()
				t.OK("send", sig.Send(t.Context(), t.Of(r), 1, nil))
				result(t, wf, r, "end")
				t.Equal("what was validated", t.Notes("validated"), []string{"sleep", "panic", "fine"})
			}}
		},
	},
	{
		Name:  "updates/acknowledged-survives",
		Row:   "Updates",
		Rule:  "The answer of an update leaves the run when it is on disk.",
		Needs: []Ability{Killing},
		New: func(env *Env) *Play {
			u := durable.NewUpdate[int, string]("u")
			sig := durable.NewSignal[int]("s")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				got := ""
				err := u.Handle(ctx, func(_ context.Context, n int) (string, error) { got += fmt.Sprint(n); return got, nil }, nil)
				if err != nil {
					return "", err
				}
				_, err = sig.Receive(ctx)
				return got, err
			}, takes(u, sig))
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				want := ""
				for i := range 3 {
					want += fmt.Sprint(i)
					t.Equal("answer", try(u.Send(t.Context(), t.Of(r), i, &durable.SendOptions{ID: fmt.Sprint("u", i)})).or(t, "update"), want)
					t.Kill()
				}
				t.OK("send", sig.Send(t.Context(), t.Of(r), 1, nil))
				result(t, wf, r, "012")
			}}
		},
	},
	{
		Name: "updates/handler-panics",
		Row:  "Panic, mismatch",
		Rule: "A panic in an update handler is a problem of the run; after a fixed deploy the update is taken.",
		New: func(env *Env) *Play {
			u := durable.NewUpdate[int, int]("u")
			sig := durable.NewSignal[int]("s")
			program := func(broken bool) *durable.Workflow[none, int] {
				return durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
					_ = u.Handle(ctx, func(_ context.Context, n int) (int, error) {
						if broken {
							panic("bad day")
						}
						return n, nil
					}, nil)
					return sig.Receive(ctx)
				}, takes(u, sig))
			}
			wf, fixed := program(true), program(false)
			return &Play{Defs: durable.Set{wf}, Later: []durable.Set{{fixed}}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				_, err := u.Send(t.Context(), r, 1, &durable.SendOptions{ID: "u1"})
				var b *durable.BlockedError
				if !errors.As(err, &b) {
					t.Errorf("update: %v, want a BlockedError", err)
				}
				t.Deploy(1)
				t.OK("resume", t.Of(r).Resume(t.Context(), nil))
				t.Until("the run goes on", func() bool { return t.Describe(r).Problem == nil })
				t.Equal("the update after the repair", try(u.Send(t.Context(), t.Of(r), 1, &durable.SendOptions{ID: "u1"})).or(t, "update"), 1)
				t.OK("send", sig.Send(t.Context(), t.Of(r), 5, nil))
				result(t, fixed, r, 5)
			}}
		},
	},
}

// asked is a workflow that can be queried whatever becomes of it.
func asked(q *durable.Query[string, string], sig *durable.Signal[string]) func(ctx context.Context, _ none) (string, error) {
	return func(ctx context.Context, _ none) (string, error) {
		last := "nothing"
		_ = q.Handle(ctx, func(in string) (string, error) {
			switch in {
			case "panic":
				panic("bad query")
			case "error":
				return "", errors.New("bad question")
			}
			return in + last, nil
		})
		for {
			s, err := sig.Receive(ctx)
			if err != nil {
				return "", err
			}
			switch s {
			case "panic":
				panic("bad day")
			case "end":
				return last, nil
			case "fail":
				return "", busy.New("failed")
			}
			last = s
		}
	}
}

// query makes a scenario of queries of a run in some state.
func query(state, want string, blocked bool, bring func(t *T, r *durable.Run, send func(s ...string))) Scenario {
	return Scenario{Name: "queries/" + state, Row: "Queries",
		Rule: "A run that is " + state + " answers queries, and they write nothing.",
		New: func(env *Env) *Play {
			q := durable.NewQuery[string, string]("q")
			unset := durable.NewQuery[none, int]("unset")
			sig := durable.NewSignal[string]("s")
			wf := durable.NewWorkflow("wf", asked(q, sig), takes(q, unset, sig))
			return &Play{Defs: durable.Set{wf}, Blocked: blocked, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				bring(t, r, func(all ...string) {
					for _, s := range all {
						t.OK("send", sig.Send(t.Context(), r, s, nil))
					}
					t.Settle()
				})
				look := func(when string) {
					r := t.Of(r)
					before := len(t.History(r))
					t.Equal("query "+when, try(q.Ask(t.Context(), r, "last: ")).or(t, "query "+when), want)
					_, err := q.Ask(t.Context(), r, "panic")
					if err == nil || !strings.Contains(err.Error(), "bad query") {
						t.Errorf("query that panics %s: %v", when, err)
					}
					_, err = q.Ask(t.Context(), r, "error")
					if err == nil || !strings.Contains(err.Error(), "bad question") {
						t.Errorf("query that fails %s: %v", when, err)
					}
					_, err = unset.Ask(t.Context(), r, none{})
					t.Is("query without a handler "+when, err, durable.ErrNoHandler)
					_, err = r.Query(t.Context(), "undeclared", nil)
					t.Is("query that is not accepted "+when, err, durable.ErrNotAccepted)
					_, err = r.Query(t.Context(), "q", []byte(`1`))
					t.Is("query that does not fit "+when, err, durable.ErrBadInput)
					t.Equal("records that queries made "+when, len(t.History(r))-before, 0)
				}
				look("first")
				if !blocked { // a blocked run is tried again, which is noted
					t.Restart()
					look("after a restart")
				}
			}}
		}}
}

var queries = []Scenario{
	query("waiting", "last: b", false, func(t *T, r *durable.Run, send func(...string)) { send("a", "b") }),
	query("paused", "last: b", false, func(t *T, r *durable.Run, send func(...string)) {
		send("b")
		t.OK("pause", r.Pause(t.Context(), nil))
		send("c")
	}),
	query("blocked", "last: x", true, func(t *T, r *durable.Run, send func(...string)) {
		send("x") // a cluster may give what comes together in one task, which fails as a whole
		send("panic", "y")
	}),
	query("completed", "last: z", false, func(t *T, r *durable.Run, send func(...string)) { send("z", "end") }),
	query("failed", "last: w", false, func(t *T, r *durable.Run, send func(...string)) { send("w", "fail") }),
	query("terminated", "last: v", false, func(t *T, r *durable.Run, send func(...string)) {
		send("v")
		t.OK("terminate", r.Terminate(t.Context(), ""))
	}),
	{
		Name: "queries/read-only",
		Row:  "Queries",
		Rule: "A durable call in a query is refused; it may look at the run's clock.",
		New: func(env *Env) *Play {
			q := durable.NewQuery[none, string]("q")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				_ = q.Handle(ctx, func(none) (string, error) {
					if durable.Now(ctx).IsZero() {
						return "", errors.New("the run has no clock")
					}
					return "", durable.Sleep(ctx, env.Hours(1)) //durablevet:ignore the misuse that the scenario is for
				})
				return "end", durable.Sleep(ctx, env.Hours(1))
			}, takes(q))
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				_, err := q.Ask(t.Context(), r, none{})
				t.Is("query", err, durable.ErrReadOnly)
				result(t, wf, r, "end")
			}}
		},
	},
	{
		Name:  "queries/see-what-is-committed",
		Row:   "Queries",
		Rule:  "A query is answered between turns, after the commit: what it says survives a death.",
		Needs: []Ability{Killing},
		New: func(env *Env) *Play {
			q := durable.NewQuery[none, int]("q")
			sig := durable.NewSignal[int]("s")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
				sum := 0
				_ = q.Handle(ctx, func(none) (int, error) { return sum, nil })
				for sum < 6 {
					n, err := sig.Receive(ctx)
					if err != nil {
						return 0, err
					}
					sum += n
				}
				return sum, nil
			}, takes(q, sig))
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				sum := 0
				for i := range 3 {
					t.OK("send", sig.Send(t.Context(), t.Of(r), i+1, nil))
					sum += i + 1
					t.Equal("the sum", try(q.Ask(t.Context(), t.Of(r), none{})).or(t, "ask"), sum)
					t.Kill()
					t.Equal("the sum after a death", try(q.Ask(t.Context(), t.Of(r), none{})).or(t, "ask"), sum)
				}
				result(t, wf, r, 6)
			}}
		},
	},
}
