package durable

import (
	"context"
	"fmt"
	"iter"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// coroutine is one thread of a run's code. The coroutines of a run never run
// in parallel: one of them, or the run's loop, holds the baton.
//
// It is an iter.Pull: the runtime switches to it and back without waking a
// thread. Two things about that are to be kept in mind. A Goexit in a
// coroutine ends also the goroutine that has switched to it; so one that ends
// that way is ended by a goroutine made for it (see unwind). And a switch from
// or to a goroutine that is locked to a thread ends the process; so loops run
// on goroutines that are not (see pool.go), and code that locks itself is
// unlocked, which is a problem of its run.
type coroutine struct {
	run     *run
	path    string // of its call ids
	ordinal int    // of the last call
	fn      func()
	ready   func() bool             // parked: may it go on; nil before its first turn
	next    func() (struct{}, bool) // switches to it; nil until it has started
	yield   func(struct{}) bool     // switches back
	over    bool
	exiting bool // it is over by a Goexit that has not come to its end
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

// peekID is the id that the coroutine's next call will have.
func (c *coroutine) peekID() string { return c.path + "/" + strconv.Itoa(c.ordinal+1) }

// spawn adds a coroutine. It runs when the others have blocked or ended, in
// the order of spawning.
func (r *run) spawn(path string, fn func()) *coroutine {
	c := &coroutine{run: r, path: path, fn: fn}
	r.cos = append(r.cos, c)
	return c
}

// main is what the coroutine's goroutine does.
func (c *coroutine) main(yield func(struct{}) bool) {
	r, g := c.run, getg()
	c.yield = yield
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
			c.exiting = true
		}
		c.unlock()
		coroutines.Delete(g)
		c.over = true
		if c.exiting {
			c.yield(struct{}{}) // to the loop, which must not end with it
		}
	}()
	c.fn()
	returned = true
}

// unlock sees to it that the coroutine is not locked to a thread.
func (c *coroutine) unlock() {
	if !threadLocked() {
		return
	}
	UnlockThread()
	c.run.broke("panic", "the workflow's code called runtime.LockOSThread and did not undo it before it blocked or ended: do such work in a step")
}

// resume gives the baton to c and waits until it comes back.
func (r *run) resume(c *coroutine) {
	UnlockThread() // a handler, an observer or a codec may have locked it
	r.cur = c
	c.parked = false
	if c.next == nil {
		c.next, _ = iter.Pull(c.main)
	} else {
		r.holder.Store(c.gptr)
	}
	c.next()
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
	c.unlock()
	c.yield(struct{}{})
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
			if c.over || c.next != nil && !(c.parked && c.ready()) {
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
			if !c.over || c.exiting {
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
		if c.over && !c.exiting || c.next == nil {
			continue
		}
		r.cur = c
		r.holder.Store(c.gptr)
		done := make(chan struct{})
		go func() { // it ends with the coroutine, which calls Goexit
			defer close(done)
			defer func() {
				// A cluster that gave the run up for stuck does not wait for
				// its code, which may be between two calls just now: it is
				// left behind, and finds itself detached.
				if p := recover(); p != nil && p != "iter.Pull: next called again before yield" {
					panic(p)
				}
			}()
			c.next()
		}()
		select {
		case <-done:
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
