package durable

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Case is one thing that [Select] waits for.
type Case struct {
	ready func(r *run) (order int64, ok bool)
	start func(r *run, ctx context.Context) error
	drop  func(r *run)
	err   error
}

// Select waits for the first of several things and returns its index: the
// first in the order of history, then in the order of the cases. A future
// that is ready stays ready; a signal is left in its mailbox, to be taken
// with TryReceive. Timers of cases that lost are cancelled. Runs in the
// workflow.
func Select(ctx context.Context, cases ...Case) (int, error) {
	r, err := inRun(ctx, "Select")
	if err != nil {
		return -1, err
	}
	if len(cases) == 0 {
		return -1, fmt.Errorf("durable.Select: no cases: %w", ErrBadInput)
	}
	for i, c := range cases {
		if c.err != nil {
			return i, c.err
		}
	}
	if err := ctx.Err(); err != nil {
		return -1, err
	}
	for i, c := range cases {
		if c.start == nil {
			continue
		}
		if err := c.start(r, ctx); err != nil {
			return i, fmt.Errorf("durable.Select, case %d: %w", i, err)
		}
	}
	best := -1
	pick := func() bool {
		var first int64
		for i, c := range cases {
			if order, ok := c.ready(r); ok && (best < 0 || order < first) {
				best, first = i, order
			}
		}
		return best >= 0
	}
	r.parkFor("select", "", func() bool { return pick() || ctx.Err() != nil })
	for i, c := range cases {
		if i != best && c.drop != nil {
			c.drop(r)
		}
	}
	if best < 0 {
		return -1, ctx.Err()
	}
	return best, nil
}

// Of makes a case of a future: a step, a child.
func Of[T any](f *Future[T]) Case {
	fut, _, err := f.waits()
	if err != nil {
		// It failed before it was made; that is an outcome too.
		return Case{ready: func(*run) (int64, bool) { return 0, true }}
	}
	if fut == nil {
		return Case{err: fmt.Errorf("durable.Select: %w", ErrNoEngine)}
	}
	return Case{
		start: func(r *run, _ context.Context) error {
			if fut.run != r {
				return ErrWrongRun
			}
			return nil
		},
		ready: func(*run) (int64, bool) { return fut.order, fut.done },
	}
}

// Arrival makes a case of the next signal of a name.
func Arrival[T any](s *Signal[T]) Case {
	return Case{
		start: func(r *run, ctx context.Context) error {
			_, _, err := s.box(ctx, "Arrival")
			return err
		},
		ready: func(r *run) (int64, bool) {
			box := r.mail[s.name]
			if box == nil || len(box.letters) == 0 {
				return 0, false
			}
			return box.letters[0].order, true
		},
	}
}

// Elapsed makes a case of a time span, which begins with the Select.
func Elapsed(d time.Duration) Case {
	var f *future
	passed := false
	return Case{
		start: func(r *run, ctx context.Context) error {
			f, passed = nil, d <= 0
			if !passed {
				f = r.issue(ctx, callSpec{kind: kindTimer, name: "select", due: r.now + d.Microseconds()})
			}
			return nil
		},
		ready: func(r *run) (int64, bool) {
			if f == nil {
				return r.outcomes + 1, passed // after all that is there
			}
			return f.order, f.done
		},
		drop: func(r *run) {
			if f != nil {
				r.giveUp(f)
			}
		},
	}
}

// Mutex keeps coroutines of a run out of a section that blocks in durable
// calls. (A sync.Mutex held over such a call would stop the whole run.) The
// zero value is unlocked.
type Mutex struct{ s Semaphore }

// Lock waits for the mutex, or until ctx ends. It works in a run, and among
// the members of a group without an engine.
func (m *Mutex) Lock(ctx context.Context) error { return m.s.acquire(ctx, 1, 1, "Mutex.Lock") }

// Unlock gives the mutex back.
func (m *Mutex) Unlock() { m.s.release(1, "Mutex") }

// Semaphore bounds how many coroutines of a run are in a section.
type Semaphore struct {
	size, used int
	queue      []chan struct{} // who waits, in order; sent to when it should look again
}

// NewSemaphore makes a semaphore of a size.
func NewSemaphore(size int) *Semaphore { return &Semaphore{size: size} }

// Acquire waits for a place, first come first served, or until ctx ends.
func (s *Semaphore) Acquire(ctx context.Context) error {
	return s.acquire(ctx, 1, s.size, "Semaphore.Acquire")
}

// Release gives a place back.
func (s *Semaphore) Release() { s.release(1, "Semaphore") }

func (s *Semaphore) acquire(ctx context.Context, n, size int, call string) error {
	e, err := enter(ctx, call)
	if err != nil {
		return err
	}
	if e.attempt != nil {
		return fmt.Errorf("durable.%s: %w", call, ErrInStep)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	me := make(chan struct{}, 1)
	s.queue = append(s.queue, me)
	mine := func() bool { return s.queue[0] == me && s.used+n <= size }
	if e.run != nil {
		e.run.parkFor("lock", "", func() bool { return mine() || ctx.Err() != nil })
	} else if e.baton != nil {
		for !mine() && ctx.Err() == nil {
			e.idle(func() {
				select {
				case <-me:
				case <-ctx.Done():
				}
			})
		}
	} else if !mine() {
		s.leave(me)
		return fmt.Errorf("durable.%s: nobody else can release it: %w", call, ErrNoEngine)
	}
	ok := mine()
	s.leave(me)
	if !ok {
		return ctx.Err()
	}
	s.used += n
	return nil
}

func (s *Semaphore) leave(me chan struct{}) {
	if i := slices.Index(s.queue, me); i >= 0 {
		s.queue = slices.Delete(s.queue, i, i+1)
	}
	s.wakeFirst()
}

// wakeFirst tells the first in the queue to look again; only those who wait
// without an engine need it.
func (s *Semaphore) wakeFirst() {
	if len(s.queue) > 0 {
		select {
		case s.queue[0] <- struct{}{}:
		default:
		}
	}
}

func (s *Semaphore) release(n int, what string) {
	if s.used < n {
		panic(&Misuse{Call: what, Err: fmt.Errorf("released more often than acquired")})
	}
	s.used -= n
	s.wakeFirst()
}
