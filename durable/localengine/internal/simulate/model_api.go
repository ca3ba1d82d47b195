package main

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"
)

// mco is a coroutine of the model.
type mco struct {
	ready         func() bool
	next          func() (struct{}, bool)
	stop          func()
	yield         func(struct{}) bool
	started, over bool
}

type killed struct{}

func (r *mrun) spawn(fn func()) {
	c := &mco{}
	c.next, c.stop = iter.Pull(func(yield func(struct{}) bool) {
		c.yield = yield
		defer func() {
			if p := recover(); p != nil {
				if _, ok := p.(killed); !ok {
					panic(p)
				}
			}
		}()
		fn()
	})
	r.cos = append(r.cos, c)
}

func (r *mrun) resume(c *mco) {
	was := r.cur
	r.cur, c.started = c, true
	if _, more := c.next(); !more {
		c.over = true
	}
	r.cur = was
}

// park blocks the coroutine until ready.
func (r *mrun) park(ready func() bool) {
	if ready() {
		return
	}
	c := r.cur
	c.ready = ready
	if !c.yield(struct{}{}) {
		panic(killed{})
	}
}

// mctx is the context of a scope.
type mctx struct {
	context.Context
	s *mscope
}

func (s *mscope) ctx() context.Context { return mctx{context.Background(), s} }

func (c mctx) Err() error {
	switch c.s.err {
	case "canceled":
		return context.Canceled
	case "deadline":
		return context.DeadlineExceeded
	}
	return nil
}

func scopeOf(ctx context.Context) *mscope { return ctx.(mctx).s }

func ended(s *mscope) *Fault {
	if s.err == "" {
		return nil
	}
	return &Fault{Kind: s.err}
}

// mapi is the api in the model.
type mapi struct{ r *mrun }

func (a *mapi) Now(context.Context) int64 { return a.r.now }

func (a *mapi) timer(s *mscope, d time.Duration) *mcall {
	c := a.r.issue(s, "timer")
	c.due = a.r.now + micro(d)
	return c
}

func (a *mapi) await(ctx context.Context, c *mcall) *Fault {
	s := scopeOf(ctx)
	a.r.park(func() bool { return c.done || s.err != "" && !(c.asks && c.scope.err != "") })
	if c.done {
		return nil
	}
	if !c.asks && c.scope.err != "" {
		c.giveUp()
	}
	return ended(s)
}

func (a *mapi) Sleep(ctx context.Context, d time.Duration) *Fault {
	s := scopeOf(ctx)
	if s.err != "" || d <= 0 {
		return ended(s)
	}
	return a.await(ctx, a.timer(s, d))
}

// mfuture is a call, or why it was not made.
type mfuture struct {
	a   *mapi
	c   *mcall
	err *Fault
}

func (f mfuture) Get(ctx context.Context) (int, *Fault) {
	if f.err != nil {
		return 0, f.err
	}
	if err := f.a.await(ctx, f.c); err != nil {
		return 0, err
	}
	return f.c.val, f.c.fault
}

func (a *mapi) Do(ctx context.Context, s *Stmt) (int, *Fault) { return a.Start(ctx, s).Get(ctx) }

func (a *mapi) Start(ctx context.Context, s *Stmt) future {
	sc := scopeOf(ctx)
	if sc.err != "" {
		return mfuture{err: ended(sc)}
	}
	c := a.r.issue(sc, "step")
	c.stmt, c.asks = s, !s.Step.Abandon
	return mfuture{a: a, c: c}
}

func (a *mapi) call(ctx context.Context, s *Stmt, id string) (*mcall, *Fault) {
	sc := scopeOf(ctx)
	if sc.err != "" {
		return nil, ended(sc)
	}
	r, m := a.r, a.r.m
	c := r.issue(sc, "child")
	c.stmt, c.asks = s, true
	c.start = func() {
		if had := m.newest[id]; had != nil && !had.done() {
			c.outcome(0, &Fault{Kind: "id_taken"})
			return
		}
		n := m.begin(s.Flow, id, &Input{Val: s.Val, Wind: s.D.Microseconds()})
		n.parent, c.child = c, n
		if t := m.p.Flows[s.Flow].Timeout; t > 0 {
			n.deadline = m.now + micro(t)
			n.watchDeadline()
		}
		m.soon = append(m.soon, func() { n.turn(n.startEvent()) })
		m.soon = append(m.soon, func() {
			if !c.given && !c.done && !r.done() {
				r.give(func() { c.began = true })
			}
		})
		if c.stop {
			m.soon = append(m.soon, func() { n.told(r); n.cancel() })
		}
	}
	// It returns when the child has started, whatever becomes of ctx.
	r.park(func() bool { return c.began || c.done })
	if c.done && !c.began && c.fault != nil {
		return nil, c.fault
	}
	return c, nil
}

func (a *mapi) Child(ctx context.Context, s *Stmt, id string) (future, *Fault) {
	c, err := a.call(ctx, s, id)
	return mfuture{a: a, c: c}, err
}

func (a *mapi) Run(ctx context.Context, s *Stmt, id string) (int, *Fault) {
	c, err := a.call(ctx, s, id)
	if err != nil {
		return 0, err
	}
	return mfuture{a: a, c: c}.Get(ctx)
}

func (a *mapi) Group(ctx context.Context, limit int, cancelOnError bool, members []func(context.Context) *Fault) []*Fault {
	r, s := a.r, scopeOf(ctx)
	if cancelOnError {
		s = s.child()
	}
	if limit <= 0 {
		limit = 1000
	}
	out := make([]*Fault, len(members))
	active := 0
	for i, m := range members {
		r.park(func() bool { return active < limit })
		active++
		r.spawn(func() {
			out[i] = m(s.ctx())
			if out[i] != nil && cancelOnError {
				s.cancel("canceled")
				r.changed = true
			}
			active--
		})
	}
	r.park(func() bool { return active == 0 })
	if cancelOnError {
		s.cancel("canceled")
		r.changed = true
	}
	return out
}

func (a *mapi) Select(ctx context.Context, cases []pick) (int, *Fault) {
	r, s := a.r, scopeOf(ctx)
	if s.err != "" {
		return -1, ended(s)
	}
	timers := make([]*mcall, len(cases))
	for i, c := range cases {
		if c.kind == "timer" {
			timers[i] = a.timer(s, c.d)
		}
	}
	best := -1
	look := func() bool {
		var first int64
		see := func(i int, order int64) {
			if best < 0 || order < first {
				best, first = i, order
			}
		}
		for i, c := range cases {
			switch c.kind {
			case "future":
				if f := c.fut.(mfuture); f.err != nil {
					see(i, 0)
				} else if f.c.done {
					see(i, f.c.order)
				}
			case "signal":
				if box := r.mail[c.name]; len(box) > 0 {
					see(i, box[0].order)
				}
			default:
				if timers[i].done {
					see(i, timers[i].order)
				}
			}
		}
		return best >= 0
	}
	r.park(func() bool { return look() || s.err != "" })
	for i, t := range timers {
		if t != nil && i != best {
			t.giveUp()
		}
	}
	if best < 0 {
		return -1, ended(s)
	}
	return best, nil
}

func (a *mapi) Await(ctx context.Context, d time.Duration, cond func() bool) *Fault {
	r, s := a.r, scopeOf(ctx)
	if d <= 0 {
		r.park(func() bool { return s.err != "" || cond() })
		if cond() {
			return nil
		}
		return ended(s)
	}
	if cond() || s.err != "" {
		if cond() {
			return nil
		}
		return ended(s)
	}
	t := a.timer(s, d)
	r.park(func() bool { return t.done || s.err != "" || cond() })
	t.giveUp()
	switch {
	case cond():
		return nil
	case s.err != "":
		return ended(s)
	}
	return &Fault{Kind: "timeout"}
}

func (a *mapi) take(name string) int {
	l := a.r.mail[name][0]
	a.r.mail[name] = a.r.mail[name][1:]
	return l.val
}

func (a *mapi) Receive(ctx context.Context, name string, d time.Duration) (int, *Fault) {
	r, s := a.r, scopeOf(ctx)
	there := func() bool { return len(r.mail[name]) > 0 }
	var t *mcall
	if d > 0 && !there() {
		if s.err != "" {
			return 0, ended(s)
		}
		t = a.timer(s, d)
	}
	r.park(func() bool { return there() || s.err != "" || t != nil && t.done })
	if t != nil {
		t.giveUp()
	}
	switch {
	case there():
		return a.take(name), nil
	case s.err != "":
		return 0, ended(s)
	}
	return 0, &Fault{Kind: "timeout"}
}

func (a *mapi) Try(_ context.Context, name string) (int, bool) {
	if len(a.r.mail[name]) == 0 {
		return 0, false
	}
	return a.take(name), true
}

func (a *mapi) Ask(ctx context.Context, d time.Duration) (int, *Fault) {
	s := scopeOf(ctx)
	if s.err != "" {
		return 0, ended(s)
	}
	c := a.r.issue(s, "ask")
	if d > 0 {
		c.due = a.r.now + d.Microseconds()
	}
	if err := a.await(ctx, c); err != nil {
		return 0, err
	}
	return c.val, c.fault
}

func (a *mapi) Callback(ctx context.Context, publish func(string)) (int, *Fault) {
	s := scopeOf(ctx)
	if s.err != "" {
		return 0, ended(s)
	}
	c := a.r.issue(s, "callback")
	a.r.token = c
	publish("")
	a.r.park(func() bool { return c.done || s.err != "" })
	if !c.done {
		return 0, ended(s)
	}
	return c.val, c.fault
}

func (a *mapi) Cancelable(ctx context.Context) (context.Context, func()) {
	s := scopeOf(ctx).child()
	return s.ctx(), func() { s.cancel("canceled"); a.r.changed = true }
}

func (a *mapi) Within(ctx context.Context, d time.Duration) (context.Context, func()) {
	s := scopeOf(ctx).child()
	if s.err != "" {
		return s.ctx(), func() {}
	}
	t := a.timer(&mscope{r: a.r}, d)
	t.then = func() { s.cancel("deadline"); a.r.changed = true }
	return s.ctx(), func() { t.giveUp(); s.cancel("canceled"); a.r.changed = true }
}

func (a *mapi) Shield(ctx context.Context) context.Context {
	return (&mscope{r: a.r}).ctx()
}

func (a *mapi) Version(context.Context, string) int { return 3 }

func (a *mapi) UUID(context.Context, string) string {
	a.r.m.seq++
	return fmt.Sprint(a.r.m.seq)
}

func (a *mapi) Side(_ context.Context, v int) int { return v }

func (a *mapi) Publish(_ context.Context, name, v string) { a.r.status[name] = v }

func (a *mapi) Append(_ context.Context, line string) { *a.r.stream = append(*a.r.stream, line) }

// tell is a call that is carried out at once, and not called off.
func (a *mapi) tell(ctx context.Context, do func() string) *Fault {
	s := scopeOf(ctx)
	if s.err != "" {
		return ended(s)
	}
	c := a.r.issue(s, "tell")
	c.start = func() {
		out := do()
		var f *Fault
		if out != "ok" {
			f = &Fault{Kind: out}
		}
		a.r.m.soon = append(a.r.m.soon, func() { c.outcome(0, f) })
	}
	a.r.park(func() bool { return c.done })
	return c.fault
}

func (a *mapi) Tell(ctx context.Context, to, name string, v int) *Fault {
	return a.tell(ctx, func() string {
		if t := a.r.m.newest[to]; t != nil {
			t.told(a.r)
		}
		return a.r.m.signal(to, name, v, "")
	})
}

func (a *mapi) Stop(ctx context.Context, to string) *Fault {
	return a.tell(ctx, func() string {
		t := a.r.m.newest[to]
		if t == nil {
			return "not_found"
		}
		t.told(a.r)
		return t.cancel()
	})
}

// msem is a semaphore.
type msem struct {
	used  int
	queue []*int
}

func (a *mapi) Lock(ctx context.Context, places int, body func() *Fault) *Fault {
	r, s := a.r, scopeOf(ctx)
	sem := r.locks[places]
	if sem == nil {
		sem = &msem{}
		r.locks[places] = sem
	}
	if s.err != "" {
		return ended(s)
	}
	me := new(int)
	sem.queue = append(sem.queue, me)
	mine := func() bool { return sem.queue[0] == me && sem.used < places }
	r.park(func() bool { return mine() || s.err != "" })
	ok := mine()
	sem.queue = slices.DeleteFunc(sem.queue, func(x *int) bool { return x == me })
	if !ok {
		return ended(s)
	}
	sem.used++
	err := body()
	sem.used--
	return err
}

func (a *mapi) HandleUpdate(_ context.Context, name string, fn func(context.Context, int) (int, *Fault), validate func(int) bool) {
	a.r.updates[name] = mhandler{fn, validate}
}

func (a *mapi) HandleQuery(_ context.Context, fn func() string) { a.r.query = fn }

func (a *mapi) Again(in *Input) *Fault {
	a.r.again = in
	return &Fault{Kind: "continue"}
}

func (a *mapi) Fail() *Fault { return &Fault{Kind: "BOOM"} }
