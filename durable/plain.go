package durable

import (
	"context"
	"encoding/json"
	"sync"
	"time"
)

// Without an engine the same code is plain Go: steps run here and now with
// their retries, values make the same JSON round trip, and the members of a
// group take turns as the coroutines of a run do.

// baton is held by the one group member that runs; it is put down inside
// steps and waits. Who wants it gets it in the order of asking, so members
// start in the order of spawning.
type baton struct {
	maker  uintptr // the goroutine outside of any group that made it, and holds it at first
	groups int     // that the maker made and has not waited for; its own

	mu    sync.Mutex // guards what follows
	held  bool
	queue []chan struct{}
}

// newBaton makes a baton that the calling goroutine holds.
func newBaton() *baton {
	return &baton{maker: getg(), held: true}
}

// ask takes a place among those who wait for the baton; the channel is closed
// when it has come.
func (b *baton) ask() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := make(chan struct{})
	if !b.held {
		b.held = true
		close(c)
	} else {
		b.queue = append(b.queue, c)
	}
	return c
}

func (b *baton) take() { <-b.ask() }

func (b *baton) put() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held = len(b.queue) > 0; b.held {
		close(b.queue[0])
		b.queue = b.queue[1:]
	}
}

// begin counts a group. While its maker has not waited for it, the maker is a
// member too: it puts the baton down when it waits, whatever context it uses.
func (g *Group) begin() {
	if b := g.env.baton; !g.counted && b.maker == getg() {
		g.counted = true
		b.groups++
		batons.Store(b.maker, b)
	}
}

// waited is the end of begin.
func (g *Group) waited() {
	if b := g.env.baton; g.counted && b.maker == getg() {
		g.counted = false
		if b.groups--; b.groups == 0 {
			batons.Delete(b.maker)
		}
	}
}

// idle puts the baton down, if there is one, while fn runs.
func (e env) idle(fn func()) {
	if e.baton == nil {
		fn()
		return
	}
	e.baton.put()
	defer e.baton.take()
	fn()
}

// plainCall is a call under way without an engine.
type plainCall struct {
	done chan struct{}
	out  json.RawMessage
	err  error
}

// startPlain runs fn beside the caller. It ends when fn does.
func startPlain(fn func() (json.RawMessage, error)) *plainCall {
	c := &plainCall{done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.out, c.err = fn()
	}()
	return c
}

func finished(out json.RawMessage, err error) *plainCall {
	c := &plainCall{done: make(chan struct{}), out: out, err: err}
	close(c.done)
	return c
}

func (c *plainCall) over() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// get waits for the real outcome; the call ends soon after its own context.
func (c *plainCall) get(ctx context.Context) (json.RawMessage, error) {
	e := mustEnter(ctx, "Future.Get")
	if !c.over() {
		e.idle(func() { <-c.done })
	}
	return c.out, c.err
}

// runPlainStep makes the attempts of a step.
func runPlainStep(ctx context.Context, name string, fn stepFn, o StepOptions, in json.RawMessage) (json.RawMessage, error) {
	spec, err := new(Options).resolveStep(name, &o)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	for n := 1; ; n++ {
		a := &attempt{info: StepInfo{Step: name, Attempt: n, Started: time.Now()}}
		var out json.RawMessage
		done := make(chan error, 1)
		go a.run(ctx, fn, in, spec.within(began, time.Now()), func(b json.RawMessage, err error) task { out = b; done <- err; return nil })
		err := <-done
		if err == nil {
			return out, nil
		}
		v := spec.judge(err, n, began, time.Now(), ctx.Err() != nil)
		if !v.retry {
			v.failure.Attempts = n
			return nil, &StepError{Step: name, Attempts: n, Err: fromFailure(v.failure)}
		}
		t := time.NewTimer(v.delay)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, &StepError{Step: name, Attempts: n, Err: fromFailure(v.failure)}
		}
	}
}

// plainSleep waits as time.Sleep does, or until ctx ends.
func plainSleep(ctx context.Context, e env, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d <= 0 {
		return nil
	}
	var err error
	e.idle(func() {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			err = ctx.Err()
		}
	})
	return err
}
