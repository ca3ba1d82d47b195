package durable

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"
)

// What a context carries: exactly one of
//
//	*scope    code of a run, on a coroutine
//	*attempt  a step at work
//	*baton    a group member outside any engine
//
// or nothing: plain Go. The innermost wins.
type envKey struct{}

// scope is a cancel scope of a run. Its context is an ordinary cancel context,
// so that children made by user code are cancelled with it at once.
type scope struct {
	run    *run
	done   <-chan struct{}
	cancel context.CancelCauseFunc
	due    time.Time // of WithTimeout
}

// scopeCtx gives a scope that ran out of time the error that people expect.
type scopeCtx struct {
	context.Context
	s *scope
}

func (c scopeCtx) Err() error {
	err := c.Context.Err()
	if err != nil && context.Cause(c.Context) == context.DeadlineExceeded {
		return context.DeadlineExceeded
	}
	return err
}

func (c scopeCtx) Deadline() (time.Time, bool) {
	if !c.s.due.IsZero() {
		return c.s.due, true
	}
	return c.Context.Deadline()
}

func (c scopeCtx) Value(key any) any {
	if key == (envKey{}) {
		return c.s
	}
	return c.Context.Value(key)
}

// newScope opens a cancel scope under ctx.
func newScope(ctx context.Context, r *run, due time.Time) (context.Context, *scope) {
	inner, cancel := context.WithCancelCause(ctx)
	s := &scope{run: r, done: inner.Done(), cancel: cancel, due: due}
	return scopeCtx{inner, s}, s
}

// coroutines finds the coroutine that a goroutine is, for the rails that need
// to know: a lost context, another run's context.
var coroutines sync.Map // uintptr → *coroutine; read only where misuse is being told apart

// batons finds the baton of a group member outside any engine that uses an
// outer context.
var batons sync.Map // uintptr → *baton

// env says where a durable call stands. At most one of its fields is set;
// none means plain Go.
type env struct {
	run     *run
	attempt *attempt
	baton   *baton
}

// enter is how every durable call that can fail begins: it finds the engine in
// the context and holds the caller to the rules of the package comment. While
// a panic unwinds a coroutine nothing may be recorded: the fixed code, which
// does not panic, would not fit the history.
func enter(ctx context.Context, call string) (env, error) {
	e, err := find(ctx, call)
	if err == nil && e.run != nil && panicking() {
		return env{}, fmt.Errorf("durable.%s: %w", call, ErrUnwinding)
	}
	return e, err
}

func find(ctx context.Context, call string) (env, error) {
	switch x := ctx.Value(envKey{}).(type) {
	case *scope:
		if err := x.run.enter(ctx, x); err != nil {
			return env{}, fmt.Errorf("durable.%s: %w", call, err)
		}
		return env{run: x.run}, nil
	case *attempt:
		return env{attempt: x}, nil
	case *baton:
		return env{baton: x}, nil
	}
	if c, ok := coroutines.Load(getg()); ok {
		if c.(*coroutine).run.unwinding.Load() {
			runtime.Goexit()
		}
		return env{}, fmt.Errorf("durable.%s: %w", call, ErrLostContext)
	}
	if b, ok := batons.Load(getg()); ok {
		return env{baton: b.(*baton)}, nil
	}
	return env{}, nil
}

// mustEnter is for calls that can't return an error.
func mustEnter(ctx context.Context, call string) env {
	e, err := find(ctx, call)
	if err != nil {
		panic(&Misuse{Call: call, Err: err})
	}
	return e
}

// enter checks that the caller holds the run's baton and that its context is
// the run's own.
func (r *run) enter(ctx context.Context, s *scope) error {
	if g := getg(); r.holder.Load() != g {
		if c, ok := coroutines.Load(g); ok {
			if c.(*coroutine).run != r {
				return ErrWrongRun
			}
		}
		if r.gone.Load() {
			return fmt.Errorf("%w (the run was put away)", ErrForeignGoroutine)
		}
		return ErrForeignGoroutine
	}
	if r.unwinding.Load() {
		// A call in a defer while the run is put away ends the goroutine
		// again: no panic, no block.
		runtime.Goexit()
	}
	if r.reading {
		return ErrReadOnly
	}
	if d := ctx.Done(); d != nil && d != s.done {
		return ErrForeignContext
	}
	return nil
}

// WithCancel is context.WithCancel for workflows. Outside a run it is
// context.WithCancel itself. Runs in the workflow.
func WithCancel(ctx context.Context) (context.Context, context.CancelFunc) {
	e := mustEnter(ctx, "WithCancel")
	if e.run == nil {
		return context.WithCancel(ctx)
	}
	child, s := newScope(ctx, e.run, time.Time{})
	return child, func() { e.run.cancelScope(s, context.Canceled) }
}

// WithTimeout is context.WithTimeout for workflows: the time is the run's, and
// goes on while nobody executes it. Outside a run it is context.WithTimeout
// itself. Runs in the workflow.
func WithTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	e := mustEnter(ctx, "WithTimeout")
	if e.run == nil {
		return context.WithTimeout(ctx, d)
	}
	r := e.run
	child, s := newScope(ctx, r, microTime(r.now).Add(d))
	if d <= 0 || ctx.Err() != nil {
		s.cancel(context.DeadlineExceeded)
		r.scopesChanged = true
		return child, func() {}
	}
	// The timer stands outside the scope that it ends.
	f := r.issue(context.WithoutCancel(ctx), callSpec{kind: kindTimer, name: "timeout", due: r.now + d.Microseconds()})
	f.then = func() { s.cancel(context.DeadlineExceeded); r.scopesChanged = true }
	return child, func() {
		if r.holder.Load() == getg() && !r.unwinding.Load() {
			r.giveUp(f)
		}
		r.cancelScope(s, context.Canceled)
	}
}

// WithoutCancel is context.WithoutCancel, for cleaning up after a cancel. It
// exists so that the three stand together.
func WithoutCancel(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }

func (r *run) cancelScope(s *scope, cause error) {
	s.cancel(cause)
	if r.holder.Load() == getg() {
		r.scopesChanged = true
	}
}

func microTime(t int64) time.Time {
	if t == 0 {
		return time.Time{}
	}
	return time.UnixMicro(t).UTC()
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}
