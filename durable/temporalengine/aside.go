package temporalengine

import (
	"iter"
	"sync"

	"github.com/mcpagent/mcpagent/durable"
)

// asides are stacks that turns are done on. A few are kept for the next ones.
type asides struct {
	mu     sync.Mutex
	free   []*stack
	closed bool
}

// mostFree is how many stacks are kept.
const mostFree = 8

// stack is one of them: a goroutine that the runtime switches to and back,
// without waking a thread.
type stack struct {
	fn     func()
	next   func() (struct{}, bool)
	stop   func()
	ended  bool
	failed any // the panic that fn ended with; nil: by a Goexit, unless it has ended
}

// run runs fn on another stack, while the caller waits for it. Nothing that
// fn calls may let the SDK go on with others meanwhile. A panic is the
// caller's.
func (a *asides) run(fn func()) {
	durable.UnlockThread() // the runtime does not switch where one is locked
	s := a.take()
	s.fn = fn
	s.next()
	s.fn = nil
	switch {
	case s.ended:
		a.give(s)
	case s.failed != nil:
		failed := s.failed // once it is given, it is another one's
		a.give(s)
		panic(failed)
	default:
		go s.next() // the Goexit goes on, on the goroutine that is waiting for it
		panic(problem(&durable.Problem{Kind: "panic", Text: "a function that the run's code gave to durable ended its goroutine (runtime.Goexit, or FailNow of a test)"}))
	}
}

func (a *asides) take() *stack {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.free); n > 0 {
		s := a.free[n-1]
		a.free = a.free[:n-1]
		return s
	}
	s := &stack{}
	s.next, s.stop = iter.Pull(s.main)
	return s
}

func (a *asides) give(s *stack) {
	a.mu.Lock()
	if !a.closed && len(a.free) < mostFree {
		a.free = append(a.free, s)
		s = nil
	}
	a.mu.Unlock()
	if s != nil {
		s.stop()
	}
}

// close ends the stacks that are kept, and keeps no more.
func (a *asides) close() {
	a.mu.Lock()
	free := a.free
	a.free, a.closed = nil, true
	a.mu.Unlock()
	for _, s := range free {
		s.stop()
	}
}

func (s *stack) main(yield func(struct{}) bool) {
	for s.once(yield); yield(struct{}{}); s.once(yield) {
	}
}

func (s *stack) once(yield func(struct{}) bool) {
	s.ended, s.failed = false, nil
	defer func() {
		durable.UnlockThread()
		if s.ended {
			return
		}
		if s.failed = recover(); s.failed == nil {
			yield(struct{}{}) // the caller's goroutine must not end with it
		}
	}()
	s.fn()
	s.ended = true
}
