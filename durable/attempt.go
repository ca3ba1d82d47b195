package durable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

type stepFn = func(ctx context.Context, in json.RawMessage) (json.RawMessage, error)

// StepInfo is what a step may know about its call.
type StepInfo struct {
	Step, Call string
	// Key is the effect key: the same for every attempt, replay and reset of
	// this call, and for no other. Hand it to whoever takes effect, as an
	// idempotency key. Empty without an engine.
	Key                         string
	Attempt                     int
	WorkflowID, RunID, Workflow string
	Owner                       string
	Trace                       string // W3C traceparent of the run
	Started                     time.Time
}

// StepInfoOf tells a step about its call; false outside a step.
func StepInfoOf(ctx context.Context) (StepInfo, bool) {
	if a, ok := ctx.Value(envKey{}).(*attempt); ok {
		return a.info, true
	}
	return StepInfo{}, false
}

// attempt is one execution of a step's function, and the context that the
// function gets.
type attempt struct {
	context.Context
	ent  *entry // nil without an engine
	oc   *openCall
	info StepInfo
	over atomic.Bool           // its outcome stands
	mark bool                  // that it is sent is noted
	tell func(json.RawMessage) // on a cluster: passes the details of heartbeats on

	queued time.Duration // it waited for a place

	mu      sync.Mutex // guards what follows
	cancel  context.CancelCauseFunc
	stop    error           // why it should stop
	stopped chan struct{}   // closed when stop is set; nil until somebody waits for it
	last    json.RawMessage // details of the newest heartbeat, of this attempt or an earlier one
	saved   time.Time       // when details were last put on disk
	beat    *time.Timer     // fires when the demanded heartbeat fails to come
	beats   time.Duration
}

func (a *attempt) Value(key any) any {
	if key == (envKey{}) {
		return a
	}
	return a.Context.Value(key)
}

// end asks the attempt to stop.
func (a *attempt) end(cause error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stop == nil {
		a.stop = cause
		if a.stopped != nil {
			close(a.stopped)
		}
	}
	if a.cancel != nil {
		a.cancel(cause)
	}
}

// asked is closed when the attempt should stop.
func (a *attempt) asked() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopped == nil {
		a.stopped = make(chan struct{})
		if a.stop != nil {
			close(a.stopped)
		}
	}
	return a.stopped
}

// Heartbeat says that a step is alive, and how far it has come; details may be
// nil. The next attempt finds them by [LastHeartbeat]; they are kept best
// effort. It returns the error of ctx when the step should stop. Runs on a
// worker.
func Heartbeat(ctx context.Context, details any) error {
	a, ok := ctx.Value(envKey{}).(*attempt)
	if !ok {
		return fmt.Errorf("durable.Heartbeat: called outside a step")
	}
	var raw json.RawMessage
	if details != nil {
		var err error
		if raw, err = encode(details); err != nil {
			return fmt.Errorf("durable.Heartbeat: %w", err)
		}
		if a.ent != nil {
			if err := a.ent.ex.checkSize(len(raw), "the details of step", a.info.Step); err != nil {
				return fmt.Errorf("durable.Heartbeat: %w", err)
			}
		}
	}
	a.mu.Lock()
	if raw != nil {
		a.last = raw
	}
	if a.beat != nil {
		a.beat.Reset(a.beats)
	}
	save := raw != nil && time.Since(a.saved) >= saveBeats
	if save {
		a.saved = time.Now()
	}
	a.mu.Unlock()
	if a.tell != nil {
		a.tell(raw)
	} else if raw != nil && a.ent != nil {
		a.ent.beat(a.oc, raw, save)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// saveBeats is how often the details of heartbeats are put on disk.
const saveBeats = 5 * time.Second

// LastHeartbeat gives the newest details that an attempt of this call left.
func LastHeartbeat[T any](ctx context.Context) (T, bool) {
	var zero T
	a, ok := ctx.Value(envKey{}).(*attempt)
	if !ok {
		return zero, false
	}
	a.mu.Lock()
	raw := a.last
	a.mu.Unlock()
	if raw == nil {
		return zero, false
	}
	v, err := decode[T](raw)
	return v, err == nil
}

// run executes fn on the calling goroutine, under the timeouts of spec, and
// tells its outcome to settle, once; what that returns is what the goroutine
// does next. Where fn does not stop in time, settle is called without it, from
// another goroutine; its late result is dropped.
func (a *attempt) run(ctx context.Context, fn stepFn, in json.RawMessage, spec *stepSpec, settle func(json.RawMessage, error) task) (next task) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a.Context = ctx
	a.mu.Lock()
	a.cancel = cancel
	if a.stop != nil {
		cancel(a.stop) // asked to stop before it began
	}
	a.mu.Unlock()
	give := func(err error) {
		if a.over.CompareAndSwap(false, true) {
			cancel(err)
			if a.ent != nil {
				a.ent.ex.leftBehind(a)
			}
			if next := settle(nil, fmt.Errorf("%w: %w", err, errAttemptOver)); next != nil {
				a.ent.ex.spawn(next)
			}
		}
	}
	timeout := time.Duration(spec.Timeout) * time.Microsecond
	timer := time.AfterFunc(timeout, func() { give(attemptTimeout("the timeout", timeout)) })
	var beat *time.Timer
	if spec.Heartbeat > 0 {
		a.beats = time.Duration(spec.Heartbeat) * time.Microsecond
		beat = time.AfterFunc(a.beats, func() { give(attemptTimeout("the time for a heartbeat", a.beats)) })
		a.mu.Lock()
		a.beat = beat
		a.mu.Unlock()
	}
	var out json.RawMessage
	var err error
	returned, exits := false, false
	defer func() {
		if p := recover(); p != nil {
			err = &Error{Type: "panic", Message: fmt.Sprintf("%v\n%s", p, debug.Stack())}
		} else if !returned {
			exits = true
			err = &Error{Type: "panic", Message: "the step ended its goroutine (runtime.Goexit)"}
		}
		timer.Stop()
		if beat != nil {
			beat.Stop()
		}
		if !a.over.CompareAndSwap(false, true) {
			if a.ent != nil {
				a.ent.ex.cameBack(a, err)
			}
			return
		}
		if cause := context.Cause(ctx); cause != nil && err != nil && errors.Is(err, ctx.Err()) && !errors.Is(err, cause) {
			// The function passed on the context's error: say why it ended.
			err = fmt.Errorf("%w (%w)", cause, err)
		}
		if next = settle(out, err); exits && next != nil {
			a.ent.ex.spawn(next)
		}
	}()
	out, err = fn(a, in)
	returned = true
	return nil // what settle gives
}
