package durabletest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/mcpagent/mcpagent/durable"
)

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
