package durable

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// coroutine is one thread of a run's code. The coroutines of a run never run
// in parallel: one of them, or the run's loop, holds the baton.
type coroutine struct {
	run     *run
	path    string // of its call ids
	ordinal int    // of the last call
	fn      func()
	ready   func() bool // parked: may it go on; nil before its first turn
	wake    chan struct{}
	started bool
	over    bool
	parked  bool
	why     journal.Wait // parked: what for, if not for a call
	gptr    uintptr      // its goroutine, set when it parks
}

// nextID gives the id of the coroutine's next call.
func (c *coroutine) nextID() string {
	c.ordinal++
	var buf [64]byte
	b := append(append(buf[:0], c.path...), '/')
	return string(strconv.AppendInt(b, int64(c.ordinal), 10))
}

// spawn adds a coroutine. It runs when the others have blocked or ended, in
// the order of spawning.
func (r *run) spawn(path string, fn func()) *coroutine {
	c := &coroutine{run: r, path: path, fn: fn, wake: make(chan struct{}, 1)}
	r.cos = append(r.cos, c)
	return c
}

// main is the coroutine's goroutine.
func (c *coroutine) main() {
	r, g := c.run, getg()
	coroutines.Store(g, c)
	r.holder.Store(g)
	returned := false
	defer func() {
		// However the code ends (return, panic, Goexit by t.FailNow or by
		// being put away), the baton goes back.
		if p := recover(); p != nil {
			if !r.unwinding.Load() {
				r.broke("panic", fmt.Sprintf("the workflow's code panicked: %v; the run goes on after a fixed version is deployed\n%s", p, debug.Stack()))
			}
		} else if !returned && !r.unwinding.Load() {
			r.broke("panic", "the workflow's code ended its goroutine (runtime.Goexit, or FailNow of a test)")
		}
		coroutines.Delete(g)
		c.over = true
		r.baton <- struct{}{}
	}()
	c.fn()
	returned = true
}

// resume gives the baton to c and waits until it comes back.
func (r *run) resume(c *coroutine) {
	r.cur = c
	c.parked = false
	if !c.started {
		c.started = true
		go c.main()
	} else {
		r.holder.Store(c.gptr)
		c.wake <- struct{}{}
	}
	<-r.baton
	r.holder.Store(0)
	r.cur = nil
}

// park blocks the current coroutine until ready reports true.
func (r *run) park(ready func() bool) {
	if ready() {
		return
	}
	c := r.cur
	c.ready, c.gptr, c.parked = ready, getg(), true
	r.baton <- struct{}{}
	<-c.wake
	c.ready = nil
	if r.unwinding.Load() {
		runtime.Goexit()
	}
}

// parkFor is park for something other than a call, which is on record then.
func (r *run) parkFor(kind, name string, ready func() bool) {
	c := r.cur
	c.why = journal.Wait{Kind: kind, Name: name}
	r.park(ready)
	c.why = journal.Wait{}
}

// waits lists what the coroutines wait for beside their calls.
func (r *run) waits() (out []journal.Wait) {
	for _, c := range r.cos {
		if c.parked && c.why.Kind != "" && !slices.Contains(out, c.why) {
			out = append(out, c.why)
		}
	}
	return out
}

// schedule lets coroutines run until all of them are blocked.
func (r *run) schedule() {
	for again := true; again && r.problem == nil; {
		again = false
		if r.scopesChanged {
			r.propagate()
		}
		for i := 0; i < len(r.cos) && r.problem == nil; i++ {
			c := r.cos[i]
			if c.over || c.started && !(c.parked && c.ready()) {
				continue
			}
			r.resume(c)
			again = true
			if r.ended() {
				return
			}
		}
		live := r.cos[:0]
		for _, c := range r.cos {
			if !c.over {
				live = append(live, c)
			}
		}
		clear(r.cos[len(live):])
		r.cos = live
	}
}

// unwind ends all coroutines: their deferred calls run, one coroutine at a
// time, the youngest first. It reports how many did not end within the time
// that stuck gives.
func (r *run) unwind(stuck <-chan struct{}) (left int) {
	r.unwinding.Store(true)
	for i := len(r.cos) - 1; i >= 0; i-- {
		c := r.cos[i]
		if c.over || !c.started {
			continue
		}
		r.cur = c
		r.holder.Store(c.gptr)
		c.wake <- struct{}{}
		select {
		case <-r.baton:
		case <-stuck:
			left++
			return left + i
		}
	}
	r.holder.Store(0)
	r.cur, r.cos = nil, nil
	r.gone.Store(true)
	r.rootCancel()
	return left
}

// rootCancel releases what hangs on the run's context.
func (r *run) rootCancel() {
	if r.root != nil {
		r.root.cancel(context.Canceled)
	}
}
