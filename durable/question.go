package durable

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// Question asks a person, durably: the wait is part of the run, holds nothing,
// and can be answered from any process, weeks later. All open questions of an
// engine are one inbox ([Engine.Questions], [Engine.Answer]).
type Question[T any] struct{ message }

// NewQuestion defines a question whose answer is a T. If T (or *T) has a
// method Validate() error, answers that it refuses are not taken.
func NewQuestion[T any](name string) *Question[T] {
	return &Question[T]{message{kind: KindQuestion, name: name}}
}

// Describe adds a title and a description, for people and tools.
func (q *Question[T]) Describe(title, description string) *Question[T] {
	q.about = describe{title, description}
	return q
}

func (q *Question[T]) accepted() {}

// Info implements [Definition].
func (q *Question[T]) Info() Info { i := q.info(); i.In = typeOf[T](); return i }

// Define implements [Definer].
func (q *Question[T]) Define(d *Definitions) { d.claim(q, q.Info()) }

// checkAnswer is how the engine, which does not know T, checks an answer.
func (q *Question[T]) checkAnswer(raw json.RawMessage) error {
	v, err := decode[T](raw)
	if err != nil {
		return err
	}
	if x, ok := any(&v).(interface{ Validate() error }); ok {
		if err := x.Validate(); err != nil {
			return fmt.Errorf("%w: %v", ErrBadInput, err)
		}
	}
	return nil
}

type answerChecker interface {
	checkAnswer(raw json.RawMessage) error
}

// AskOptions says more about one question. The zero value is fine.
type AskOptions struct {
	Expires  time.Duration   // after that Ask returns ErrExpired; 0: never
	Kind     string          // approval, elicitation, …; for those who list; empty: "question"
	Audience string          // who is meant, by the application's own names; empty: anybody
	Digest   string          // of what the answer is bound to; an answer must repeat it
	Schema   json.RawMessage // JSON Schema of the answer; empty: made from the type where one is needed
	Context  json.RawMessage // what the question is about, for the person who answers
}

// Answer is what a person answered.
type Answer[T any] struct {
	Value T
	By    string // actor who answered, may be empty
	Note  string
	At    time.Time
}

// Ask asks and waits for the answer. At its expiry the error is
// [ErrExpired]. A cancelled ctx withdraws the question. Runs in the workflow.
func (q *Question[T]) Ask(ctx context.Context, text string, o *AskOptions) (*Answer[T], error) {
	r, err := inRun(ctx, "Question.Ask")
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ask := &journal.Ask{Name: q.name, Text: text, Kind: "question"}
	if o != nil {
		if o.Kind != "" {
			ask.Kind = o.Kind
		}
		if o.Expires < 0 {
			return nil, fmt.Errorf("question %q: negative expiry %v: %w", q.name, o.Expires, ErrBadInput)
		}
		if o.Expires > 0 {
			ask.Expires = r.now + o.Expires.Microseconds()
		}
		ask.Audience, ask.Digest, ask.Schema, ask.Context = o.Audience, o.Digest, o.Schema, o.Context
	}
	var no error
	if !r.recorded(kindQuestion, q.name) {
		no = r.ex.checkSize(len(ask.Text)+len(ask.Schema)+len(ask.Context), "question", q.name)
	}
	f, err := r.offer(ctx, callSpec{kind: kindQuestion, name: q.name, due: ask.Expires, ask: ask}, no)
	if err != nil {
		return nil, err
	}
	if err := r.await(ctx, f); err != nil {
		return nil, err
	}
	if f.fail != nil {
		return nil, fmt.Errorf("question %q: %w", q.name, fromFailure(f.fail))
	}
	v, err := decode[T](f.value)
	if err != nil {
		return nil, fmt.Errorf("answer to question %q: %w", q.name, err)
	}
	return &Answer[T]{Value: v, By: f.by, Note: f.note, At: microTime(f.at)}, nil
}

// Answer answers an open question by its id.
func (q *Question[T]) Answer(ctx context.Context, e *Engine, id string, v T, o *AnswerOptions) error {
	raw, err := encode(v)
	if err != nil {
		return fmt.Errorf("answer to question %q: %w", q.name, err)
	}
	return e.Answer(ctx, id, raw, o)
}

// QuestionInfo is a question as the inbox shows it.
type QuestionInfo struct {
	ID         string          `json:"id"`
	WorkflowID string          `json:"workflow_id"`
	RunID      string          `json:"run_id"`
	Workflow   string          `json:"workflow"`
	Name       string          `json:"name"`
	Kind       string          `json:"kind"`
	Text       string          `json:"text"`
	Schema     json.RawMessage `json:"schema,omitempty"`
	Context    json.RawMessage `json:"context,omitempty"`
	Digest     string          `json:"digest,omitempty"`
	Audience   string          `json:"audience,omitempty"`
	Owner      string          `json:"owner,omitempty"`
	Created    time.Time       `json:"created"`
	Expires    time.Time       `json:"expires,omitzero"`
	State      string          `json:"state"` // open, answered, expired, withdrawn
	Answer     json.RawMessage `json:"answer,omitempty"`
	By         string          `json:"by,omitempty"`
	Note       string          `json:"note,omitempty"`
	Answered   time.Time       `json:"answered,omitzero"`
}

// QuestionFilter selects questions. The zero value selects all open ones.
type QuestionFilter struct {
	WorkflowID string `json:"workflow_id,omitempty"`
	RunID      string `json:"run_id,omitempty"`
	Name       string `json:"name,omitempty"`
	All        bool   `json:"all,omitempty"` // closed ones too; needs a WorkflowID
}

// Callback is a durable promise that anybody who has its token can keep: a
// webhook, a remote task. Runs in the workflow.
type Callback[T any] struct {
	f     *future
	token string
}

// NewCallback makes a callback. Its token completes it through
// [Engine.Complete] or [Engine.Fail], from any process, once.
func NewCallback[T any](ctx context.Context) (*Callback[T], error) {
	r, err := inRun(ctx, "NewCallback")
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f := r.issue(ctx, callSpec{kind: kindCallback})
	owner, _ := r.cfg.lifeAt(r.turns, r.row)
	return &Callback[T]{f: f, token: owner + "/" + f.id + "/" + callbackSecret(r.cfg.Secret, f.id)}, nil
}

// callbackSecret keeps tokens from being guessed from run and call ids.
func callbackSecret(secret, call string) string { return effectKey(secret, "callback/"+call) }

// splitToken takes a token apart.
func splitToken(token string) (runID, call, secret string, ok bool) {
	runID, rest, ok1 := strings.Cut(token, "/")
	i := strings.LastIndexByte(rest, '/')
	if !ok1 || i < 0 {
		return "", "", "", false
	}
	return runID, rest[:i], rest[i+1:], true
}

// Token is what whoever completes the callback must present.
func (c *Callback[T]) Token() string { return c.token }

// Wait waits until the callback is completed. Runs in the workflow.
func (c *Callback[T]) Wait(ctx context.Context) (T, error) {
	var zero T
	r, err := inRun(ctx, "Callback.Wait")
	if err != nil {
		return zero, err
	}
	if r != c.f.run {
		return zero, fmt.Errorf("durable.Callback.Wait: %w", ErrWrongRun)
	}
	r.park(func() bool { return c.f.done || ctx.Err() != nil })
	if !c.f.done {
		return zero, ctx.Err()
	}
	if c.f.fail != nil {
		return zero, fromFailure(c.f.fail)
	}
	return decode[T](c.f.value)
}
