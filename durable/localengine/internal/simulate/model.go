package main

import (
	"container/heap"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// model is the contract, as simple as it can be said: one thing after another
// in virtual time, nothing stored, nothing replayed. It was written from what
// the documents promise, not from the executor.
type model struct {
	p       *Program
	now     int64 // microseconds
	queue   events
	seq     int
	soon    []func() // what follows from a turn, at the same time
	runs    []*mrun
	newest  map[string]*mrun
	down    bool
	overdue []*event // came while the process was down
	effects []string
	log     []string // of what clients got
	unclear string   // why the contract leaves the outcome open
	last    int64    // time of the last event
}

// event is something that happens at a time.
type event struct {
	at, seq int64
	fn      func()
	off     bool
}

func (m *model) at(t int64, fn func()) *event {
	m.seq++
	e := &event{at: t, seq: int64(m.seq), fn: fn}
	heap.Push(&m.queue, e)
	return e
}

func (e *event) stop() {
	if e != nil {
		e.off = true
	}
}

func (m *model) ambiguous(format string, args ...any) {
	if m.unclear == "" {
		m.unclear = fmt.Sprintf(format, args...)
	}
}

// until lets time pass.
func (m *model) until(t int64) {
	for len(m.queue) > 0 && m.queue[0].at <= t {
		e := heap.Pop(&m.queue).(*event)
		if e.off {
			continue
		}
		if e.at == m.last {
			m.ambiguous("two things at %d", e.at)
		}
		m.last = e.at
		if m.down {
			m.overdue = append(m.overdue, e)
			continue
		}
		m.now = e.at
		e.fn()
		m.settle()
	}
	if t == m.last {
		m.ambiguous("an action and an event at %d", t)
	}
	m.now = t
}

// settle does what follows at the same time.
func (m *model) settle() {
	for len(m.soon) > 0 {
		fn := m.soon[0]
		m.soon = m.soon[1:]
		fn()
	}
}

// mrun is a run.
type mrun struct {
	m        *model
	flow     int
	id       string
	input    *Input
	first    *Input // of its chain
	state    string // running, or how it ended
	fault    *Fault
	value    int
	paused   bool
	started  bool
	startAt  int64
	deadline int64
	parent   *mcall
	pend     []func()
	hasPend  map[string]bool // signal ids among pend
	carry    []func(next *mrun)

	now        int64
	root       *mscope
	cos        []*mco
	cur        *mco
	calls      []*mcall // open
	made       []*mcall // in this turn
	stops      []*mcall
	changed    bool // scopes
	seen       map[string]bool
	mail       map[string][]letter
	outcomes   int64
	updates    map[string]mhandler
	query      func() string
	handling   map[string][]func(string)
	replies    map[string]string
	answers    []func()
	cancelled  bool
	status     map[string]string
	token      *mcall
	stream     *[]string
	again      *Input
	locks      map[int]*msem
	instantOps int
	toldAt     int64
	toldBy     *mrun
}

type letter struct {
	val   int
	order int64
	id    string
}

type mhandler struct {
	fn       func(ctx context.Context, in int) (int, *Fault)
	validate func(int) bool
}

// mcall is a call whose outcome comes later.
type mcall struct {
	r                        *mrun
	kind                     string
	scope                    *mscope
	asks                     bool // its real outcome is awaited
	done, given, asked, over bool
	began                    bool
	val                      int
	fault                    *Fault
	order                    int64
	then                     func()
	timer                    *event
	due                      int64

	// Of a step.
	stmt       *Stmt
	made       int64
	attempt    int
	failure    *Fault
	stop       bool
	active     bool
	sent, lost bool
	sentAt     int64
	ends       []*event // of the attempt at work
	start      func()   // of another kind: what goes out
	child      *mrun
}

// mscope is a cancel scope.
type mscope struct {
	r        *mrun
	err      string
	children []*mscope
}

func (s *mscope) cancel(err string) {
	if s.err != "" {
		return
	}
	s.err = err
	for _, c := range s.children {
		c.cancel(err)
	}
}

func (s *mscope) child() *mscope {
	c := &mscope{r: s.r, err: s.err}
	s.children = append(s.children, c)
	return c
}

// --- starting and ending

func newModel(p *Program) *model {
	return &model{p: p, newest: map[string]*mrun{}, last: -1}
}

// begin makes a run; its first turn is yet to come.
func (m *model) begin(flow int, id string, in *Input) *mrun {
	r := &mrun{
		m: m, flow: flow, id: id, input: in, first: in, state: "running", hasPend: map[string]bool{},
		seen: map[string]bool{}, mail: map[string][]letter{}, updates: map[string]mhandler{}, handling: map[string][]func(string){},
		replies: map[string]string{}, status: map[string]string{}, stream: new([]string), locks: map[int]*msem{}, toldAt: -1,
	}
	r.root = &mscope{r: r}
	m.runs = append(m.runs, r)
	m.newest[id] = r
	return r
}

func (r *mrun) startEvent() func() {
	return func() {
		r.started = true
		r.spawn(func() {
			v, err := runFlow(r.root.ctx(), &mapi{r}, r.m.p.Flows[r.flow], r.id, r.input)
			r.finish(v, err)
		})
	}
}

// finish is what the end of the code does.
func (r *mrun) finish(v int, err *Fault) {
	cancelled := err != nil && r.cancelled && (err.Kind == "canceled" || err.State == "cancelled")
	if !cancelled {
		r.park(func() bool { return len(r.handling) == 0 })
	}
	switch {
	case err != nil && err.Kind == "continue":
		r.state = "continued"
	case cancelled:
		r.state, r.fault = "cancelled", &Fault{Kind: err.across()}
	case err != nil:
		r.state, r.fault = "failed", &Fault{Kind: err.across()}
	default:
		r.state, r.value = "completed", v
	}
}

func (r *mrun) done() bool { return r.state != "running" }

// over is what follows the end of a run.
func (r *mrun) over() {
	m := r.m
	var children []*mcall
	for _, c := range r.calls {
		c.given = true
		c.timer.stop()
		if c.kind == "child" {
			children = append(children, c)
		}
		c.endAttempt()
	}
	r.calls = nil
	for _, waiting := range r.handling {
		for _, w := range waiting {
			w("finished")
		}
	}
	r.handling = map[string][]func(string){}
	for _, c := range r.cos {
		c.stop()
	}
	for _, c := range children {
		m.soon = append(m.soon, func() {
			if ch := c.child; ch != nil && !ch.done() {
				switch c.stmt.Policy {
				case "":
					ch.told(r)
					ch.cancel()
				case "terminate":
					ch.told(r)
					ch.end("terminated", &Fault{})
				}
			}
		})
	}
	if r.state == "continued" {
		n := m.begin(r.flow, r.id, r.again)
		n.first, n.deadline, n.parent, n.status, n.token, n.stream = r.first, r.deadline, r.parent, maps.Clone(r.status), r.token, r.stream
		if n.parent != nil {
			n.parent.child = n
		}
		n.seen, n.replies = r.seen, r.replies
		for name, ls := range r.mail {
			for _, l := range ls {
				n.mail[name] = append(n.mail[name], letter{val: l.val, id: l.id})
			}
		}
		first := []func(){n.startEvent()}
		for _, c := range r.carry {
			first = append(first, func() { c(n) })
		}
		n.watchDeadline()
		m.soon = append(m.soon, func() { n.turn(first...) })
		return
	}
	if p := r.parent; p != nil {
		m.soon = append(m.soon, func() {
			p.r.told(r)
			p.outcome(r.value, r.end1())
		})
	}
}

// end1 is how a parent sees the end of a run.
func (r *mrun) end1() *Fault {
	if r.state == "completed" {
		return nil
	}
	return &Fault{State: r.state, Kind: r.fault.Kind}
}

// end ends a run from outside of its code.
func (r *mrun) end(state string, f *Fault) {
	if r.done() {
		return
	}
	r.state, r.fault, r.paused, r.pend = state, f, false, nil
	r.over()
}

func (r *mrun) watchDeadline() {
	if r.deadline > 0 {
		r.m.at(r.deadline, func() { r.end("timed_out", &Fault{Kind: "timeout"}) })
	}
}

// told notes that another run did something to this one; two at a time come in
// any order.
func (r *mrun) told(by *mrun) {
	if r.toldAt == r.m.now && r.toldBy != by && r.toldBy != nil {
		r.m.ambiguous("two runs tell %s something at %d", r.id, r.m.now)
	}
	r.toldAt, r.toldBy = r.m.now, by
}

// --- events and turns

func (r *mrun) held() bool { return r.paused || r.startAt > r.m.now }

// give applies an event, or keeps it.
func (r *mrun) give(ev func()) {
	if r.held() {
		r.pend = append(r.pend, ev)
		return
	}
	r.turn(ev)
}

func (r *mrun) flush() {
	if r.done() || r.held() || len(r.pend) == 0 {
		return
	}
	p := r.pend
	r.pend = nil
	r.turn(p...)
}

// turn applies events one by one; then what they led to goes out.
func (r *mrun) turn(evs ...func()) {
	r.instantOps = 0
	for i, ev := range evs {
		r.now = r.m.now
		ev()
		r.schedule()
		if r.done() {
			if r.state != "continued" {
				break
			}
			r.leave(evs[i+1:])
			break
		}
	}
	for _, a := range r.answers {
		a()
	}
	r.answers = nil
	if r.done() {
		r.over()
		return
	}
	made, stops := r.made, r.stops
	r.made, r.stops = nil, nil
	for _, c := range made {
		if !c.given && !c.done {
			c.launch()
		}
	}
	for _, c := range stops {
		if !c.given && !c.done {
			c.stopNow()
		}
	}
}

// leave is for events that a run which continues as new did not get to. Only
// signals and cancels mean something to the next one.
func (r *mrun) leave(evs []func()) {
	if len(evs) > 0 {
		r.m.ambiguous("%s continues with %d events left", r.id, len(evs))
	}
}

func (r *mrun) schedule() {
	for again := true; again; {
		again = false
		if r.changed {
			r.propagate()
		}
		for i := 0; i < len(r.cos); i++ {
			c := r.cos[i]
			if c.over || c.started && !c.ready() {
				continue
			}
			r.resume(c)
			again = true
			if r.done() {
				return
			}
		}
		r.cos = slices.DeleteFunc(r.cos, func(c *mco) bool { return c.over })
	}
}

func (r *mrun) propagate() {
	r.changed = false
	for _, c := range r.calls {
		if c.asked || c.scope.err == "" {
			continue
		}
		c.asked = true
		if c.asks {
			r.stops = append(r.stops, c)
		}
	}
}

// --- calls

func (r *mrun) issue(s *mscope, kind string) *mcall {
	c := &mcall{r: r, kind: kind, scope: s, made: r.now}
	r.calls = append(r.calls, c)
	r.made = append(r.made, c)
	switch kind {
	case "child", "tell":
		// Such calls are carried out beside each other.
		if r.instantOps++; r.instantOps > 1 {
			r.m.ambiguous("%s does two things at once at %d", r.id, r.m.now)
		}
	}
	return c
}

func (c *mcall) drop() {
	c.r.calls = slices.DeleteFunc(c.r.calls, func(x *mcall) bool { return x == c })
}

// outcome gives a call its outcome.
func (c *mcall) outcome(v int, f *Fault) {
	c.timer.stop()
	if c.given || c.over || c.r.done() {
		return
	}
	c.over = true
	c.r.give(func() {
		if c.given {
			return
		}
		r := c.r
		r.outcomes++
		c.done, c.val, c.fault, c.order = true, v, f, r.outcomes
		c.drop()
		if c.then != nil {
			c.then()
		}
	})
}

func (c *mcall) giveUp() {
	if c.done || c.given {
		return
	}
	c.given = true
	c.drop()
	r := c.r
	// Its effects stop when the turn is over.
	r.answers = append(r.answers, func() { c.timer.stop(); c.endAttempt() })
}

// launch lets a call out.
func (c *mcall) launch() {
	m := c.r.m
	switch c.kind {
	case "timer":
		c.timer = m.at(c.due, func() { c.outcome(0, nil) })
	case "ask":
		if c.due > 0 {
			c.timer = m.at(c.due, func() { c.outcome(0, &Fault{Kind: "expired"}) })
		}
	case "step":
		c.dispatch()
	case "child", "tell":
		m.soon = append(m.soon, c.start)
	}
}

// stopNow hands a cancel on.
func (c *mcall) stopNow() {
	c.stop = true
	switch {
	case c.over:
	case c.kind == "child":
		if c.child != nil && !c.child.done() {
			ch := c.child
			c.r.m.soon = append(c.r.m.soon, func() { ch.told(c.r); ch.cancel() })
		}
	case c.kind != "step":
	case c.active:
		c.askToStop()
	default:
		c.notSent()
	}
}

func (c *mcall) notSent() {
	c.timer.stop()
	f := c.failure
	if f == nil {
		f = &Fault{Kind: "canceled"}
	}
	out := &Fault{Kind: f.Kind, Attempts: c.attempt}
	c.r.m.soon = append(c.r.m.soon, func() { c.outcome(0, out) })
}

// --- cancel

func (r *mrun) cancel() string {
	if r.done() {
		return "finished"
	}
	if r.paused {
		r.paused = false
		r.flush()
		if r.done() {
			return "ok"
		}
	}
	r.give(func() {
		if !r.cancelled {
			r.cancelled = true
			r.root.cancel("canceled")
			r.changed = true
		}
	})
	return "ok"
}

// --- time

func micro(d time.Duration) int64 { return int64((d + time.Microsecond - 1) / time.Microsecond) }

type events []*event

func (h events) Len() int { return len(h) }
func (h events) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].seq < h[j].seq
}
func (h events) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *events) Push(x any)   { *h = append(*h, x.(*event)) }
func (h *events) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}
