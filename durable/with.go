package durable

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"sync"
)

// With gives plain Go what Open gives an engine: steps that are declared
// without a function find the one that is bound to them, [Provided] finds what
// definitions provide, and [LendBlob] has a place. Nothing is durable there:
// it is for unit tests and one-off calls. On the context of a run or step it
// changes nothing.
//
// Mistakes in the definitions are returned by the calls that meet them, as
// Open would return them.
func With(ctx context.Context, defs ...Definer) context.Context {
	d, err := NewDefinitions(defs...)
	return context.WithValue(ctx, worldKey{}, &world{defs: d, err: err})
}

type worldKey struct{}

// world is what [With] puts into a context.
type world struct {
	defs *Definitions
	err  error
	lent lent
}

// worldOf finds the world of plain Go; nil means none.
func worldOf(ctx context.Context) (*world, error) {
	w, _ := ctx.Value(worldKey{}).(*world)
	if w == nil {
		return nil, nil
	}
	return w, w.err
}

// Provide adds a value that code finds by its type with [Provided]: the table
// of a program's models, say. A type has one value; the same value may be
// added many times.
func (d *Definitions) Provide(value any) {
	t := reflect.TypeOf(value)
	if had, ok := d.values[t]; ok {
		if had != value {
			d.errs = append(d.errs, fmt.Errorf("%v: %w: two values provide it", t, ErrDefinedTwice))
		}
		return
	}
	if d.values == nil {
		d.values = map[reflect.Type]any{}
	}
	d.values[t] = value
}

// Fail notes a mistake that a [Definer] finds in itself. Open reports it.
func (d *Definitions) Fail(err error) { d.errs = append(d.errs, err) }

// Provided finds the value of a type that was given to Open, or to [With], by
// [Definitions.Provide]. It works in workflows and steps and records nothing:
// like code, such a value may be another one after a deploy, so what a workflow
// decides by it must fit its history.
func Provided[T any](ctx context.Context) (T, bool) {
	v, ok := definitionsOf(ctx).value(reflect.TypeFor[T]())
	t, is := v.(T)
	return t, ok && is
}

func (d *Definitions) value(t reflect.Type) (any, bool) {
	if d == nil {
		return nil, false
	}
	v, ok := d.values[t]
	return v, ok
}

// definitionsOf are those of the engine or world that a context is in.
func definitionsOf(ctx context.Context) *Definitions {
	switch x := ctx.Value(envKey{}).(type) {
	case *scope:
		return x.run.ex.defs
	case *attempt:
		if x.ent != nil {
			return x.ent.ex.defs
		}
	}
	if w, err := worldOf(ctx); w != nil && err == nil {
		return w.defs
	}
	return nil
}

// plainFunction is what the step does without an engine.
func (s *Step[In, Out]) plainFunction(ctx context.Context) (stepFn, error) {
	w, err := worldOf(ctx)
	if err != nil {
		return nil, err
	}
	if w != nil {
		if d := w.defs.steps[s.def.name]; d != nil && d.owner == s.def && d.fn != nil {
			return d.fn, nil
		}
	}
	if s.fn == nil {
		return nil, fmt.Errorf("%w: it is declared without a function; bind one and give it to With, or run on an engine", ErrNotDefined)
	}
	return stepFunc(s.def.name, s.fn), nil
}

// LendBlob keeps content for the steps of a run, which read it with [GetBlob],
// and gives its digest. It is [PutBlob] for what the run's code makes anew
// whenever it is replayed, such as a conversation put together from recorded
// results: nothing is written, so the content is not stored a second time. It
// can be read by steps of this run only, and as long as the run is not over.
// In a step it is PutBlob. Without an engine and without [With]: [ErrNoEngine].
func LendBlob(ctx context.Context, data []byte) (string, error) {
	e, err := enter(ctx, "LendBlob")
	if err != nil {
		return "", err
	}
	switch {
	case e.run != nil:
		if e.run.reading {
			return "", fmt.Errorf("durable.LendBlob: %w", ErrReadOnly)
		}
		if err := e.run.ex.checkBlob(len(data), "workflow", e.run.def.name); err != nil {
			return "", err
		}
		return e.run.lends().put(data), nil
	case e.attempt != nil && e.attempt.ent != nil:
		return PutBlob(ctx, data)
	}
	w, err := worldOf(ctx)
	if w == nil || err != nil {
		return "", fmt.Errorf("durable.LendBlob: %w", cmp.Or(err, ErrNoEngine))
	}
	return w.lent.put(data), nil
}

// lent is content by digest.
type lent struct {
	mu    sync.Mutex
	blobs map[string][]byte
}

func (l *lent) put(data []byte) string {
	sum := blobDigest(data)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.blobs == nil {
		l.blobs = map[string][]byte{}
	}
	l.blobs[sum] = data
	return sum
}

// get gives content; nil if it is not there. A nil lent has none.
func (l *lent) get(digest string) []byte {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.blobs[digest]
}

// lends is where the run lends, which its steps see.
func (r *run) lends() *lent {
	if l := r.ent.lent.Load(); l != nil && l.of == r {
		return &l.lent
	}
	l := &lentBy{of: r}
	r.ent.lent.Store(l)
	return &l.lent
}

// lentBy is what one awake run has lent.
type lentBy struct {
	of *run
	lent
}

// by is what a run has lent; nil if it has lent nothing.
func (l *lentBy) by(r *run) *lent {
	if l == nil || l.of != r {
		return nil
	}
	return &l.lent
}

// borrow reads what the run of a step has lent. The run is replayed for it, if
// it was put away meanwhile.
func (a *attempt) borrow(ctx context.Context, digest string) ([]byte, error) {
	e := a.ent
	if l := e.lent.Load(); l != nil {
		if b := l.get(digest); b != nil {
			return b, nil
		}
	}
	type outcome struct {
		data []byte
		err  error
	}
	ch := make(chan outcome, 1)
	e.ex.deliver(e, &incoming{ack: func(err error) { ch <- outcome{nil, err} }, ctl: func(e *entry) {
		if _, p := e.wake(); p != nil {
			ch <- outcome{nil, notAwake(e.row, p).err()}
			return
		}
		var data []byte
		if l := e.lent.Load(); l != nil {
			data = l.get(digest)
		}
		ch <- outcome{data, nil}
	}})
	select {
	case o := <-ch:
		return o.data, o.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-e.ex.life.Done():
		return nil, fmt.Errorf("durable.GetBlob: %w", ErrClosed)
	}
}
