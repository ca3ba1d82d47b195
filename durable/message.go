package durable

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"time"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// message is what the definitions of messages have in common.
type message struct {
	kind  Kind
	name  string
	about describe
}

func (m *message) info() Info {
	return Info{Kind: m.kind, Name: m.name, Title: m.about.title, Description: m.about.description}
}

// Signal is a message to a run, for machines: buffered until it is consumed,
// in order, exactly once. People are asked by a [Question].
type Signal[T any] struct{ message }

// NewSignal defines a signal.
func NewSignal[T any](name string) *Signal[T] {
	return &Signal[T]{message{kind: KindSignal, name: name}}
}

// Describe adds a title and a description, for people and tools.
func (s *Signal[T]) Describe(title, description string) *Signal[T] {
	s.about = describe{title, description}
	return s
}

func (s *Signal[T]) accepted() {}

// Info implements [Definition].
func (s *Signal[T]) Info() Info { i := s.info(); i.In = typeOf[T](); return i }

// Define implements [Definer].
func (s *Signal[T]) Define(d *Definitions) { d.claim(s, s.Info()) }

// letter is a signal in a run's mailbox.
type letter struct {
	id, by  string
	order   int64 // place among the outcomes of the run
	payload journal.Payload
}

// mailbox holds the unread signals of one name.
type mailbox struct{ letters []letter }

func (m *mailbox) put(l letter) { m.letters = append(m.letters, l) }
func (m *mailbox) take() letter {
	l := m.letters[0]
	m.letters = m.letters[1:]
	return l
}

func (r *run) mailbox(name string) *mailbox {
	m := r.mail[name]
	if m == nil {
		m = &mailbox{}
		r.mail[name] = m
	}
	return m
}

// inRun is for calls that exist only in a run.
func inRun(ctx context.Context, call string) (*run, error) {
	e, err := enter(ctx, call)
	switch {
	case err != nil:
		return nil, err
	case e.attempt != nil:
		return nil, fmt.Errorf("durable.%s: %w", call, ErrInStep)
	case e.run == nil:
		return nil, fmt.Errorf("durable.%s: %w", call, ErrNoEngine)
	}
	return e.run, nil
}

func (s *Signal[T]) box(ctx context.Context, call string) (*run, *mailbox, error) {
	r, err := inRun(ctx, call)
	if err != nil {
		return nil, nil, err
	}
	if _, ok := r.def.accepts[defKey{KindSignal, s.name}]; !ok {
		return nil, nil, fmt.Errorf("workflow %q waits for signal %q: %w", r.def.name, s.name, ErrNotAccepted)
	}
	return r, r.mailbox(s.name), nil
}

func (s *Signal[T]) open(r *run, l letter) (T, error) {
	v, err := decode[T](r.open1(l.payload))
	if err != nil {
		return v, &DecodeError{Name: s.name, ID: l.id, Err: err}
	}
	return v, nil
}

// Receive waits for the next signal. One whose payload does not fit T is
// consumed and reported as a [*DecodeError]. Runs in the workflow.
func (s *Signal[T]) Receive(ctx context.Context) (T, error) {
	var zero T
	r, box, err := s.box(ctx, "Signal.Receive")
	if err != nil {
		return zero, err
	}
	r.parkFor("signal", s.name, func() bool { return len(box.letters) > 0 || ctx.Err() != nil })
	if err := ctx.Err(); err != nil && len(box.letters) == 0 {
		return zero, err
	}
	return s.open(r, box.take())
}

// ReceiveTimeout is Receive for at most d; then the error is [ErrTimeout]. A
// signal that is there wins over the time. Runs in the workflow.
func (s *Signal[T]) ReceiveTimeout(ctx context.Context, d time.Duration) (T, error) {
	var zero T
	r, box, err := s.box(ctx, "Signal.ReceiveTimeout")
	if err != nil {
		return zero, err
	}
	if len(box.letters) > 0 {
		return s.open(r, box.take())
	}
	if err := ctx.Err(); err != nil {
		return zero, err
	}
	if d <= 0 {
		return zero, fmt.Errorf("signal %q: %w", s.name, ErrTimeout)
	}
	f := r.issue(ctx, callSpec{kind: kindTimer, name: "receive " + s.name, due: r.now + d.Microseconds()})
	r.parkFor("signal", s.name, func() bool { return len(box.letters) > 0 || f.done || ctx.Err() != nil })
	r.giveUp(f)
	switch {
	case len(box.letters) > 0:
		return s.open(r, box.take())
	case ctx.Err() != nil:
		return zero, ctx.Err()
	}
	return zero, fmt.Errorf("signal %q: nothing within %v: %w", s.name, d, ErrTimeout)
}

// TryReceive takes a signal if there is one. Runs in the workflow.
func (s *Signal[T]) TryReceive(ctx context.Context) (T, bool, error) {
	var zero T
	r, box, err := s.box(ctx, "Signal.TryReceive")
	if err != nil || len(box.letters) == 0 {
		return zero, false, err
	}
	v, err := s.open(r, box.take())
	return v, true, err
}

// Send sends the signal and returns when it is on disk. In a workflow it is a
// durable call; the run may then be an [Address]. May be called again with
// the same [SendOptions.ID].
func (s *Signal[T]) Send(ctx context.Context, to *Run, v T, o *SendOptions) error {
	raw, err := encode(v)
	if err != nil {
		return fmt.Errorf("signal %q: %w", s.name, err)
	}
	return to.Signal(ctx, s.name, raw, o)
}

// Status is a value that a run publishes: lists, queries and tools show it,
// and reading it needs no replay.
type Status[T any] struct{ message }

// NewStatus defines a status.
func NewStatus[T any](name string) *Status[T] {
	return &Status[T]{message{kind: KindStatus, name: name}}
}

// Describe adds a title and a description, for people and tools.
func (s *Status[T]) Describe(title, description string) *Status[T] {
	s.about = describe{title, description}
	return s
}

func (s *Status[T]) accepted() {}

// Info implements [Definition].
func (s *Status[T]) Info() Info { i := s.info(); i.Out = typeOf[T](); return i }

// Define implements [Definer].
func (s *Status[T]) Define(d *Definitions) { d.claim(s, s.Info()) }

// Set publishes v. It becomes visible with the turn that it belongs to, and
// may be added to the code of a running workflow. Without an engine it does
// nothing. A value that can't be encoded is a [*Misuse] panic. Runs in the
// workflow.
func (s *Status[T]) Set(ctx context.Context, v T) {
	e := mustEnter(ctx, "Status.Set")
	if e.attempt != nil {
		panic(&Misuse{Call: "Status.Set", Err: ErrInStep})
	}
	raw, err := encode(v)
	if err != nil {
		panic(&Misuse{Call: "Status.Set", Err: fmt.Errorf("status %q: %w", s.name, err)})
	}
	r := e.run
	if r == nil {
		return
	}
	if t := r.publishing(); t != nil {
		if err := r.ex.checkSize(len(raw), "the value of status", s.name); err != nil && !r.replaying {
			panic(&Misuse{Call: "Status.Set", Err: err})
		}
		if t.status == nil {
			t.status = map[string]json.RawMessage{}
		}
		t.status[s.name] = raw
	}
}

// Of reads the newest published value of a run; false if there is none yet.
func (s *Status[T]) Of(ctx context.Context, r *Run) (T, bool, error) {
	var zero T
	d, err := r.Describe(ctx)
	if err != nil {
		return zero, false, err
	}
	raw, ok := d.Status[s.name]
	if !ok {
		return zero, false, nil
	}
	v, err := decode[T](raw)
	return v, err == nil, err
}

// Query reads from a run: its handler computes an answer from the variables
// of the workflow and never changes anything.
type Query[In, Out any] struct{ message }

// NewQuery defines a query.
func NewQuery[In, Out any](name string) *Query[In, Out] {
	return &Query[In, Out]{message{kind: KindQuery, name: name}}
}

// Describe adds a title and a description, for people and tools.
func (q *Query[In, Out]) Describe(title, description string) *Query[In, Out] {
	q.about = describe{title, description}
	return q
}

func (q *Query[In, Out]) accepted() {}

// Info implements [Definition].
func (q *Query[In, Out]) Info() Info {
	i := q.info()
	i.In, i.Out = typeOf[In](), typeOf[Out]()
	return i
}

// Define implements [Definer].
func (q *Query[In, Out]) Define(d *Definitions) { d.claim(q, q.Info()) }

// Handle sets the function that answers. It runs between turns, also on runs
// that are paused, blocked or finished; durable calls in it are
// [ErrReadOnly]. Runs in the workflow.
func (q *Query[In, Out]) Handle(ctx context.Context, fn func(In) (Out, error)) error {
	r, err := inRun(ctx, "Query.Handle")
	if err != nil {
		return err
	}
	if _, ok := r.def.accepts[defKey{KindQuery, q.name}]; !ok {
		return fmt.Errorf("workflow %q handles query %q: %w", r.def.name, q.name, ErrNotAccepted)
	}
	r.queries[q.name] = func(raw json.RawMessage) (json.RawMessage, error) {
		in, err := decode[In](raw)
		if err != nil {
			return nil, err
		}
		out, err := fn(in)
		if err != nil {
			return nil, err
		}
		return encode(out)
	}
	return nil
}

// Ask asks a run.
func (q *Query[In, Out]) Ask(ctx context.Context, r *Run, in In) (Out, error) {
	raw, err := encode(in)
	if err != nil {
		var zero Out
		return zero, fmt.Errorf("query %q: %w", q.name, err)
	}
	return result[Out](r.Query(ctx, q.name, raw))
}

// Update is a message to a run with an answer.
type Update[In, Out any] struct{ message }

// NewUpdate defines an update.
func NewUpdate[In, Out any](name string) *Update[In, Out] {
	return &Update[In, Out]{message{kind: KindUpdate, name: name}}
}

// Describe adds a title and a description, for people and tools.
func (u *Update[In, Out]) Describe(title, description string) *Update[In, Out] {
	u.about = describe{title, description}
	return u
}

func (u *Update[In, Out]) accepted() {}

// Info implements [Definition].
func (u *Update[In, Out]) Info() Info {
	i := u.info()
	i.In, i.Out = typeOf[In](), typeOf[Out]()
	return i
}

// Define implements [Definer].
func (u *Update[In, Out]) Define(d *Definitions) { d.claim(u, u.Info()) }

type updateHandler struct {
	run      func(ctx context.Context, in json.RawMessage) (json.RawMessage, error)
	validate func(in json.RawMessage) error
}

// Handle sets the function that carries the update out, on a coroutine of its
// own: it may make durable calls. Updates that come before Handle was called
// are refused with [ErrNoHandler], so call it before the workflow first
// blocks. validate, which may be nil, may refuse an update; it is read-only,
// does not run in a replay, and what it refuses leaves no trace. Runs in the
// workflow.
func (u *Update[In, Out]) Handle(ctx context.Context, fn func(context.Context, In) (Out, error), validate func(In) error) error {
	r, err := inRun(ctx, "Update.Handle")
	if err != nil {
		return err
	}
	if _, ok := r.def.accepts[defKey{KindUpdate, u.name}]; !ok {
		return fmt.Errorf("workflow %q handles update %q: %w", r.def.name, u.name, ErrNotAccepted)
	}
	if c := r.cluster(); c != nil {
		c.Handles(u.name)
	}
	r.updates[u.name] = updateHandler{
		run: func(ctx context.Context, raw json.RawMessage) (json.RawMessage, error) {
			in, err := decode[In](raw)
			if err != nil {
				return nil, err
			}
			out, err := fn(ctx, in)
			if err != nil {
				return nil, err
			}
			return encode(out)
		},
		validate: func(raw json.RawMessage) error {
			in, err := decode[In](raw)
			if err != nil {
				return err
			}
			if validate == nil {
				return nil
			}
			return validate(in)
		},
	}
	return nil
}

// Send sends the update and waits for its answer. The same [SendOptions.ID]
// again gives the same answer.
func (u *Update[In, Out]) Send(ctx context.Context, r *Run, in In, o *SendOptions) (Out, error) {
	raw, err := encode(in)
	if err != nil {
		var zero Out
		return zero, fmt.Errorf("update %q: %w", u.name, err)
	}
	return result[Out](r.Update(ctx, u.name, raw, o))
}

// handle starts the handler of an accepted update.
func (r *run) handle(ev *journal.Event) {
	h, ok := r.updates[ev.Name]
	if !ok {
		r.broke("mismatch", fmt.Sprintf("the history has the update %q, which the code does not handle any more: deploy code that does", ev.Name))
		return
	}
	in := r.open1(ev.Payload)
	r.handling[ev.ID] = true
	r.asks++
	r.spawn("u/"+ev.ID, func() {
		out, err := h.run(r.ctx, in)
		if err == nil {
			err = r.ex.checkSize(len(out), "the answer of update", ev.Name)
		}
		rep := &journal.Reply{ID: ev.ID}
		if err != nil {
			rep.Failure = toFailure(toError(err))
		} else if rep.Payload, err = r.ex.seal(out); err != nil {
			r.stop("payload", fmt.Sprintf("the codec cannot encode the answer of update %q: %v", ev.Name, err))
		}
		delete(r.handling, ev.ID)
		r.answered(rep)
		r.turn.entry.Replies = append(r.turn.entry.Replies, rep)
		r.turn.answers = append(r.turn.answers, answer{ev.ID, rep})
	})
}

// Stream is an append-only list of values that a run publishes. It can be
// read from any offset while the run works and after it, without a replay.
type Stream[T any] struct{ message }

// NewStream defines a stream.
func NewStream[T any](name string) *Stream[T] {
	return &Stream[T]{message{kind: KindStream, name: name}}
}

// Describe adds a title and a description, for people and tools.
func (s *Stream[T]) Describe(title, description string) *Stream[T] {
	s.about = describe{title, description}
	return s
}

func (s *Stream[T]) accepted() {}

// Info implements [Definition].
func (s *Stream[T]) Info() Info { i := s.info(); i.Out = typeOf[T](); return i }

// Define implements [Definer].
func (s *Stream[T]) Define(d *Definitions) { d.claim(s, s.Info()) }

// Entry is one element of a stream.
type Entry[T any] struct {
	Offset int64     `json:"offset"`
	At     time.Time `json:"at"`
	Value  T         `json:"value"`
}

// Append publishes v, exactly once, with the turn that it belongs to. Without
// an engine it does nothing. Runs in the workflow.
func (s *Stream[T]) Append(ctx context.Context, v T) error {
	e, err := enter(ctx, "Stream.Append")
	if err != nil {
		return err
	}
	if e.attempt != nil {
		return fmt.Errorf("durable.Stream.Append: %w", ErrInStep)
	}
	raw, err := encode(v)
	if err != nil {
		return fmt.Errorf("stream %q: %w", s.name, err)
	}
	r := e.run
	if r == nil {
		return nil
	}
	if err := r.allow(ctx, journal.Append, s.name, func() error { return r.ex.checkSize(len(raw), "an element of stream", s.name) }); err != nil {
		return err
	}
	t := r.publishing()
	if t == nil {
		return nil
	}
	p, err := r.ex.seal(raw)
	if err != nil {
		return fmt.Errorf("stream %q: %w", s.name, err)
	}
	t.items = append(t.items, &journal.Item{RID: r.row.RID, Name: s.name, At: r.now, Data: p})
	return nil
}

// Read reads a run's stream from an offset, and goes on until the run has
// ended or ctx has.
func (s *Stream[T]) Read(ctx context.Context, r *Run, from int64) iter.Seq2[Entry[T], error] {
	return func(yield func(Entry[T], error) bool) {
		for e, err := range r.Stream(ctx, s.name, from) {
			if err != nil {
				yield(Entry[T]{}, err)
				return
			}
			v, err := decode[T](e.Value)
			if !yield(Entry[T]{Offset: e.Offset, At: e.At, Value: v}, err) || err != nil {
				return
			}
		}
	}
}
