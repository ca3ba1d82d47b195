package durable

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
)

// GroupOptions says how a group works. The zero value is fine.
type GroupOptions struct {
	// CancelOnError cancels the other members when one returns an error. By
	// default they go on.
	CancelOnError bool
	// Limit is how many members are under way at once; Go blocks beyond it.
	// 0: 1,000.
	Limit int
}

// Group runs functions side by side: coroutines of the run, which take turns
// and never run in parallel. Without an engine they are goroutines that take
// turns in the same way. Runs in the workflow.
type Group struct {
	ctx    context.Context
	cancel context.CancelFunc
	opts   GroupOptions

	// In a run.
	r      *run
	path   string
	spawns int
	active int
	errs   []error

	// Without an engine.
	env env
	wg  sync.WaitGroup
	sem chan struct{}
	mu  sync.Mutex // guards errs and panics
	pan any

	counted bool // among the groups of the baton's maker; its own
}

// NewGroup makes a group and the context for its members. Members may as well
// use an outer context of the run.
func NewGroup(ctx context.Context, o *GroupOptions) (*Group, context.Context) {
	e := mustEnter(ctx, "NewGroup")
	g := &Group{ctx: ctx, env: e}
	if o != nil {
		g.opts = *o
	}
	if g.opts.Limit <= 0 {
		g.opts.Limit = 1000
	}
	switch {
	case e.attempt != nil:
		panic(&Misuse{Call: "NewGroup", Err: ErrInStep})
	case e.run != nil:
		g.r, g.path = e.run, e.run.cur.nextID()
		if g.opts.CancelOnError {
			var s *scope
			g.ctx, s = newScope(ctx, e.run, microTime(0))
			g.cancel = func() { e.run.cancelScope(s, context.Canceled) }
		}
	default:
		if e.baton == nil {
			g.env.baton = newBaton()
			g.ctx = context.WithValue(ctx, envKey{}, g.env.baton)
		}
		g.begin()
		g.sem = make(chan struct{}, g.opts.Limit)
		if g.opts.CancelOnError {
			g.ctx, g.cancel = context.WithCancel(g.ctx)
		}
	}
	return g, g.ctx
}

// Go adds a member.
func (g *Group) Go(fn func(ctx context.Context) error) {
	i := g.spawns
	g.spawns++
	g.errs = append(g.errs, nil)
	if g.r == nil {
		g.goPlain(i, fn)
		return
	}
	r := g.r
	if err := r.enter(context.WithoutCancel(g.ctx), nil); err != nil {
		panic(&Misuse{Call: "Group.Go", Err: err})
	}
	r.park(func() bool { return g.active < g.opts.Limit })
	g.active++
	r.spawn(g.path+"."+strconv.Itoa(i+1), func() {
		g.done(i, fn(g.ctx))
		g.active--
	})
}

func (g *Group) done(i int, err error) {
	g.errs[i] = err
	if err != nil && g.cancel != nil {
		g.cancel()
	}
}

func (g *Group) goPlain(i int, fn func(ctx context.Context) error) {
	g.begin()
	select {
	case g.sem <- struct{}{}:
	default:
		g.env.idle(func() { g.sem <- struct{}{} })
	}
	turn := g.env.baton.ask() // members start in the order of Go
	g.wg.Go(func() {
		defer func() { <-g.sem }()
		<-turn
		defer g.env.baton.put()
		me := getg()
		batons.Store(me, g.env.baton)
		defer batons.Delete(me)
		defer func() {
			if p := recover(); p != nil {
				g.mu.Lock()
				g.pan = p
				g.mu.Unlock()
			}
		}()
		err := fn(g.ctx)
		g.mu.Lock()
		defer g.mu.Unlock()
		g.done(i, err)
	})
}

// Wait waits for all members and joins their errors in the order of Go.
func (g *Group) Wait() error {
	if g.r == nil {
		g.env.idle(g.wg.Wait)
		g.waited()
		if g.pan != nil {
			panic(g.pan)
		}
	} else {
		if err := g.r.enter(context.WithoutCancel(g.ctx), nil); err != nil {
			panic(&Misuse{Call: "Group.Wait", Err: err})
		}
		g.r.park(func() bool { return g.active == 0 })
	}
	if g.cancel != nil {
		g.cancel()
	}
	return errors.Join(g.errs...)
}

// Map calls fn for each item side by side and gives the results in the order
// of the items. It waits for all and joins the errors, each with its index;
// the results of those that succeeded are there.
func Map[T, R any](ctx context.Context, items []T, fn func(context.Context, T) (R, error), o *GroupOptions) ([]R, error) {
	if e, err := enter(ctx, "Map"); err != nil {
		return nil, err
	} else if e.attempt != nil {
		return nil, fmt.Errorf("durable.Map: %w", ErrInStep)
	}
	out := make([]R, len(items))
	g, _ := NewGroup(ctx, o)
	for i, item := range items {
		g.Go(func(ctx context.Context) error {
			r, err := fn(ctx, item)
			if err != nil {
				return fmt.Errorf("item %d: %w", i, err)
			}
			out[i] = r
			return nil
		})
	}
	return out, g.Wait()
}
