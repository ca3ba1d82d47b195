package durabletest

import (
	"context"
	"encoding/json"
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
	query("blocked", "last: x", true, func(t *T, r *durable.Run, send func(...string)) { send("x", "panic", "y") }),
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

type decision struct {
	Approved bool `json:"approved"`
}

type vote struct {
	Points int `json:"points"`
}

// Validate is asked before an answer is taken.
func (v *vote) Validate() error {
	if v.Points > 10 {
		return errors.New("at most 10 points")
	}
	return nil
}

// question finds the one open question.
func question(t *T) *durable.QuestionInfo {
	t.Until("a question is open", func() bool {
		return len(try(t.Engine.Questions(t.Context(), nil)).or(t, "questions")) > 0
	})
	return try(t.Engine.Questions(t.Context(), nil)).or(t, "questions")[0]
}

var questions = []Scenario{
	{
		Name: "questions/answered-after-days",
		Row:  "Questions",
		Rule: "A question waits for days over restarts, and gives the answer with who gave it and why; the first answer stands.",
		New: func(env *Env) *Play {
			ask := durable.NewQuestion[decision]("approve")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				a, err := ask.Ask(ctx, "Pay?", &durable.AskOptions{Expires: env.Hours(60)})
				if err != nil {
					return "", err
				}
				return fmt.Sprint(a.Value.Approved, " ", a.By, " ", a.Note, " ", a.At.IsZero()), nil
			}, takes(ask))
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				t.Pass(20)
				t.Restart()
				q := question(t)
				t.Equal("the question", fmt.Sprint(q.Text, " ", q.WorkflowID, " ", q.RunID == r.RunID, " ", q.Kind, " ", q.Expires.IsZero()), "Pay? r true question false")
				t.Is("an answer that does not fit", t.Engine.Answer(t.Context(), q.ID, []byte(`{"approved":"yes"}`), nil), durable.ErrBadInput)
				alex := durable.WithActor(t.Context(), durable.Actor{Name: "alex"})
				for range 2 {
					t.OK("answer", ask.Answer(alex, t.Engine, q.ID, decision{true}, &durable.AnswerOptions{ID: "a1", Note: "ok"}))
				}
				err := ask.Answer(alex, t.Engine, q.ID, decision{false}, nil)
				if t.Is("another answer", err, durable.ErrAnswered); !strings.Contains(fmt.Sprint(err), "alex") {
					t.Errorf("the refusal does not say who answered: %v", err)
				}
				result(t, wf, r, "true alex ok false")
				t.Is("an unknown question", ask.Answer(alex, t.Engine, "nobody/0/1", decision{true}, nil), durable.ErrNotFound)
			}}
		},
	},
	{
		Name: "questions/expire",
		Row:  "Questions",
		Rule: "At its expiry Ask returns ErrExpired, and an answer comes too late.",
		New: func(env *Env) *Play {
			ask := durable.NewQuestion[decision]("approve")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				began := durable.Now(ctx)
				_, err := ask.Ask(ctx, "Pay?", &durable.AskOptions{Expires: env.Hours(5)})
				return fmt.Sprint(says(err), " after ", env.Since(ctx, began)), durable.Sleep(ctx, env.Hours(2))
			}, takes(ask))
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				q := question(t)
				t.Until("it has expired", func() bool { return len(try(t.Engine.Questions(t.Context(), nil)).or(t, "questions")) == 0 })
				t.Is("an answer", ask.Answer(t.Context(), t.Engine, q.ID, decision{true}, nil), durable.ErrExpired)
				result(t, wf, r, "expired after 5")
				all := try(t.Engine.Questions(t.Context(), &durable.QuestionFilter{WorkflowID: "r", All: true})).or(t, "questions")
				t.Equal("all questions", fmt.Sprint(len(all), " ", all[0].State), "1 expired")
			}}
		},
	},
	{
		Name: "questions/bound-and-validated",
		Row:  "Questions",
		Rule: "An answer that Validate refuses, or that is bound to another subject, is not taken, and the question stays open.",
		New: func(env *Env) *Play {
			ask := durable.NewQuestion[vote]("vote")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
				a, err := ask.Ask(ctx, "How many?", &durable.AskOptions{Digest: "d1", Kind: "approval", Audience: "boss", Context: json.RawMessage(`{"a":1}`)})
				if err != nil {
					return 0, err
				}
				return a.Value.Points, nil
			}, takes(ask))
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				q := question(t)
				t.Equal("the question", fmt.Sprint(q.Kind, " ", q.Audience, " ", string(q.Context), " ", q.Digest), `approval boss {"a":1} d1`)
				t.Is("an answer without the digest", ask.Answer(t.Context(), t.Engine, q.ID, vote{3}, nil), durable.ErrBadInput)
				t.Is("an answer with another digest", ask.Answer(t.Context(), t.Engine, q.ID, vote{3}, &durable.AnswerOptions{Digest: "d2"}), durable.ErrBadInput)
				t.Is("an answer that is refused", ask.Answer(t.Context(), t.Engine, q.ID, vote{11}, &durable.AnswerOptions{Digest: "d1"}), durable.ErrBadInput)
				t.OK("answer", ask.Answer(t.Context(), t.Engine, q.ID, vote{3}, &durable.AnswerOptions{Digest: "d1"}))
				result(t, wf, r, 3)
			}}
		},
	},
	{
		Name: "questions/withdrawn",
		Row:  "Questions",
		Rule: "A question whose scope is cancelled is withdrawn; an answer is refused then.",
		New: func(env *Env) *Play {
			ask := durable.NewQuestion[decision]("approve")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				in, cancel := durable.WithTimeout(ctx, env.Hours(3))
				defer cancel()
				_, err := ask.Ask(in, "Pay?", nil)
				return says(err), durable.Sleep(ctx, env.Hours(2))
			}, takes(ask))
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				q := question(t)
				t.Until("it is withdrawn", func() bool { return len(try(t.Engine.Questions(t.Context(), nil)).or(t, "questions")) == 0 })
				t.Is("an answer", ask.Answer(t.Context(), t.Engine, q.ID, decision{true}, nil), durable.ErrFinished)
				result(t, wf, r, "deadline")
			}}
		},
	},
	{
		Name:  "questions/answer-survives",
		Row:   "Questions",
		Rule:  "An answer that was acknowledged is on disk.",
		Needs: []Ability{Killing},
		New: func(env *Env) *Play {
			ask := durable.NewQuestion[int]("q")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) ([]int, error) {
				var got []int
				for range 3 {
					a, err := ask.Ask(ctx, "?", nil)
					if err != nil {
						return nil, err
					}
					got = append(got, a.Value)
				}
				return got, nil
			}, takes(ask))
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				for i := range 3 {
					t.OK("answer", ask.Answer(t.Context(), t.Engine, question(t).ID, i, nil))
					t.Kill()
				}
				result(t, wf, r, []int{0, 1, 2})
			}}
		},
	},
	{
		Name: "callbacks/completed-from-outside",
		Row:  "Callbacks",
		Rule: "Whoever has the token completes a callback, once; the wait for it may end and begin again.",
		New: func(env *Env) *Play {
			token := durable.NewStatus[string]("token")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) {
				cb, err := durable.NewCallback[decision](ctx)
				if err != nil {
					return "", err
				}
				token.Set(ctx, cb.Token())
				in, cancel := durable.WithTimeout(ctx, env.Hours(1))
				defer cancel()
				_, e1 := cb.Wait(in)
				v, err := cb.Wait(ctx)
				if errors.Is(err, busy) {
					return says(e1) + " refused", nil
				}
				return fmt.Sprint(says(e1), " ", v.Approved), err
			}, takes(token))
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				begin := func(id string) (*durable.Run, string) {
					r := start(t, wf, none{}, id)
					var tok string
					t.Until("the token is published", func() bool { tok, _, _ = token.Of(t.Context(), r); return tok != "" })
					t.Pass(2)
					return r, tok
				}
				yes := []byte(`{"approved":true}`)
				r, tok := begin("r")
				r2, tok2 := begin("r2")
				secret := tok2[strings.LastIndexByte(tok2, '/')+1:]
				for _, bad := range []string{"", "x", "/", r.RunID, r.RunID + "/0/1/", r.RunID + "/0/1/" + secret, tok + "0", tok[:len(tok)-1], "/" + tok} {
					t.Is(fmt.Sprintf("token %.20q", bad), t.Engine.Complete(t.Context(), bad, yes), durable.ErrNotFound)
				}
				if h, err := json.Marshal(t.History(r2)); err != nil || strings.Contains(string(h), secret) {
					t.Errorf("the history shows the secret of the token: %v", err)
				}
				t.Is("what is not JSON", t.Engine.Complete(t.Context(), tok, []byte(`{`)), durable.ErrBadInput)
				t.Restart()
				t.OK("complete", t.Engine.Complete(t.Context(), tok, yes))
				result(t, wf, r, "deadline true")
				t.Is("after the end", t.Engine.Complete(t.Context(), tok, yes), durable.ErrFinished)
				t.Is("a wrong token after the end", t.Engine.Complete(t.Context(), r.RunID+"/0/1/xyz", yes), durable.ErrNotFound)
				t.OK("fail", t.Engine.Fail(t.Context(), tok2, busy.New("no")))
				result(t, wf, r2, "deadline refused")
			}}
		},
	},
	{
		Name: "callbacks/first-completion-stands",
		Row:  "Callbacks",
		Rule: "The first completion stands; another one is refused.",
		New: func(env *Env) *Play {
			token := durable.NewStatus[string]("token")
			wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
				cb, err := durable.NewCallback[int](ctx)
				if err != nil {
					return 0, err
				}
				token.Set(ctx, cb.Token())
				if err := durable.Sleep(ctx, env.Hours(3)); err != nil {
					return 0, err
				}
				return cb.Wait(ctx)
			}, takes(token))
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				r := start(t, wf, none{}, "r")
				var tok string
				t.Until("the token is published", func() bool { tok, _, _ = token.Of(t.Context(), r); return tok != "" })
				t.OK("complete", t.Engine.Complete(t.Context(), tok, []byte(`1`)))
				t.Is("complete again", t.Engine.Complete(t.Context(), tok, []byte(`2`)), durable.ErrAnswered)
				result(t, wf, r, 1)
			}}
		},
	},
}
