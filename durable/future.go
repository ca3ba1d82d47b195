package durable

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// Future is the outcome of a call that may still be under way.
type Future[T any] struct {
	f     *future
	plain *plainCall
	err   error // the call was not made
}

// Get waits for the outcome. A step or child whose own scope was cancelled is
// waited for until it has really ended; the end of another ctx ends only this
// wait. It may be called many times.
func (f *Future[T]) Get(ctx context.Context) (T, error) {
	var zero T
	if f.err != nil {
		return zero, f.err
	}
	if f.plain != nil {
		return result[T](f.plain.get(ctx))
	}
	e, err := enter(ctx, "Future.Get")
	if err != nil {
		return zero, err
	}
	if e.run != f.f.run {
		return zero, fmt.Errorf("durable.Future.Get: %w", ErrWrongRun)
	}
	if err := e.run.await(ctx, f.f); err != nil {
		return zero, err
	}
	return f.outcome()
}

// Ready reports whether Get would return without waiting.
func (f *Future[T]) Ready() bool {
	switch {
	case f.err != nil:
		return true
	case f.plain != nil:
		return f.plain.over()
	}
	return f.f.done
}

func (f *Future[T]) outcome() (T, error) {
	var zero T
	if f.f.fail != nil {
		return zero, f.f.failure()
	}
	v, err := decode[T](f.f.value)
	if err != nil {
		return zero, fmt.Errorf("outcome of %s %q: %w", f.f.spec.kind, f.f.spec.name, err)
	}
	return v, nil
}

func (f *Future[T]) waits() (*future, *plainCall, error) { return f.f, f.plain, f.err }

// failure is the error that a failed call gives to the code.
func (f *future) failure() error {
	switch f.spec.kind {
	case kindStep:
		e := &StepError{Step: f.spec.name, Call: f.id, Attempts: f.fail.Attempts, Err: fromFailure(f.fail)}
		return e
	case kindChild:
		return childError(f)
	}
	return fromFailure(f.fail)
}

// SideEffect runs fn once and records its value: a random seed, a reading of
// the environment. fn must be instant, do no I/O, and makes no durable calls.
// Inside a step and without an engine it just runs. Runs in the workflow.
func SideEffect[T any](ctx context.Context, fn func() T) (T, error) {
	var zero T
	e, err := enter(ctx, "SideEffect")
	if err != nil {
		return zero, err
	}
	if e.run == nil {
		raw, err := encode(fn())
		return result[T](raw, err)
	}
	r := e.run
	var raw json.RawMessage
	var no error
	if r.recorded(kindSideEffect, "") {
	} else if s, err := r.ent.seeded(r.cur.path+"/"+strconv.Itoa(r.cur.ordinal+1), kindSideEffect, ""); err != nil {
		r.stop("payload", err.Error())
	} else if s != nil {
		raw = r.open1(s.value)
	} else {
		raw, no = r.sideEffect(func() (json.RawMessage, error) { return encode(fn()) })
	}
	f, err := r.offer(ctx, callSpec{kind: kindSideEffect, input: raw}, no)
	if err != nil {
		return zero, err
	}
	return decode[T](f.value)
}

// sideEffect gives the value of a side effect that is not in the journal.
func (r *run) sideEffect(fn func() (json.RawMessage, error)) (json.RawMessage, error) {
	run := func() (json.RawMessage, error) {
		r.reading = true
		defer func() { r.reading = false }()
		raw, err := fn()
		if err != nil {
			return nil, fmt.Errorf("durable.SideEffect: %w", err)
		}
		return raw, r.ex.checkSize(len(raw), "the value of a SideEffect in workflow", r.def.name)
	}
	c := r.cluster()
	if c == nil {
		return run()
	}
	type recorded struct {
		Value   []byte           `json:"value,omitempty"` // as stored
		Refused *journal.Failure `json:"refused,omitempty"`
		Panic   *string          `json:"panic,omitempty"`
	}
	var died any
	b := c.Record(func() (out []byte) {
		// A panic is the code's own, which may recover it. That it came is
		// recorded, so that it comes again in a replay.
		defer func() {
			if died = recover(); died != nil {
				text := fmt.Sprint(died)
				out = jsonOf(recorded{Panic: &text})
			}
		}()
		raw, err := run()
		if err != nil {
			return jsonOf(recorded{Refused: toFailure(toError(err))})
		}
		p, err := r.ex.seal(raw)
		if err != nil {
			return jsonOf(recorded{Refused: toFailure(toError(fmt.Errorf("durable.SideEffect: encode: %w", err)))})
		}
		return jsonOf(recorded{Value: p})
	})
	var rec recorded
	switch err := json.Unmarshal(b, &rec); {
	case err != nil:
		return nil, fmt.Errorf("durable.SideEffect: what was recorded is damaged: %s", glance(b))
	case died != nil:
		panic(died)
	case rec.Panic != nil:
		panic(*rec.Panic)
	case rec.Refused != nil:
		return nil, fromFailure(rec.Refused)
	}
	return r.open1(rec.Value), nil
}
