package durable

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// Observer sees what happens, for telemetry, limits and budgets. Observe is
// called after the fact is on disk, once, and never in a replay; it must be
// quick and safe for concurrent use. What happens in the moment in which a
// process dies may go unseen.
type Observer interface {
	Observe(Observation)
}

// Observation is one thing that happened.
//
//	run.started    the first turn of a run is on disk
//	run.ended      State, Err; Since: its start was stored
//	turn           Turns so far
//	wait.started   a call of the run (a step, a timer, a child, …), or its code
//	               waits for something beside its calls (Call is empty)
//	wait.ended     Since: it started; Err, or Dropped
//	step.started   an attempt; Took: it waited for a place
//	step.ended     an attempt; Since: it started; Took, Err
//	message        Wait: signal, update or cancel; it has reached the code
//	problem        the run is blocked; Attempt: how often in a row
//	drift          a replay made a call with another input
//	woken          a replay: Turns, Took
//	flush          of an engine with a file, of no run: Count, Took
//
// A wait for a signal ends when one comes, also where the code waits for the
// next one in the same turn.
type Observation struct {
	Kind       string
	At         time.Time
	WorkflowID string
	RunID      string
	Chain      string // run id of the first run of the chain
	Workflow   string
	Owner      string
	Name       string // step, timer, child workflow, question; signal, update
	Call       string // message: its id
	Wait       string // wait.*: the kind of call, or of [Wait]
	Attempt    int    // step.*; problem; wait.ended of a step: attempts made
	State      State
	Err        *Error // step.ended, run.ended, wait.ended, problem
	Dropped    bool   // wait.ended: nobody wants the outcome any more
	Since      time.Time
	Took       time.Duration
	Turns      int
	Count      int             // flush: operations that share it
	Trace      string          // W3C traceparent that the run was started with
	Link       string          // message, wait.ended: traceparent of who sent or answered
	Input      json.RawMessage // run.started, wait.started, message; for a [ContentObserver]
	Output     json.RawMessage // run.ended, wait.ended; for a [ContentObserver]
	Replaying  bool            // always false on the engines of this module; true is possible only for woken
}

// Tracer is an [Observer] that knows where in a trace things belong. An engine
// asks it when a run, a message or a child is sent, and for each attempt. Both
// methods must give the same answer for the same argument in every process.
type Tracer interface {
	Observer
	// Caller gives the W3C traceparent of the span that a context is in; empty
	// if it is in none. It goes before the one that [WithTrace] gave.
	Caller(ctx context.Context) string
	// Place puts into ctx the span of a run; where o has a Call, of that call;
	// where it has an Attempt too, of that attempt, which began at Since. The
	// context of a step's function is made so, and that of log lines.
	Place(ctx context.Context, o Observation) context.Context
}

// ContentObserver is an [Observer] that wants to see inputs and results. They
// are plain there, whatever the codec.
type ContentObserver interface {
	Observer
	WantsContent() bool
}

// meet finds out what the observer can do besides.
func (ex *executor) meet() {
	ex.tracer, _ = ex.opts.Observer.(Tracer)
	if o, ok := ex.opts.Observer.(ContentObserver); ok {
		ex.content = o.WantsContent()
	}
}

// observe tells the observer something about a run; row is how it stands. On a
// cluster that comes once, with what the cluster accepts.
func (e *entry) observe(row *journal.Run, o Observation) {
	switch h := e.ex.host; {
	case e.ex.opts.Observer == nil:
	case h == nil:
		e.tell(row, o)
	case !h.c.Replaying():
		e.tellOnce(row, o)
	}
}

// tellOnce is observe on a cluster. It stands apart, for what it keeps of o
// would be allocated by everybody.
func (e *entry) tellOnce(row *journal.Run, o Observation) {
	c := e.ex.host.c
	o.At = cmp.Or(o.At, microTime(c.Now()))
	c.Tell(func() { e.tell(row, o) })
}

// tell is observe, at once.
func (e *entry) tell(row *journal.Run, o Observation) {
	seen := e.ex.opts.Observer
	if seen == nil {
		return
	}
	o.WorkflowID, o.RunID, o.Chain = row.WorkflowID, row.RunID, row.Chain
	o.Workflow, o.Owner, o.Trace = row.Name, row.Owner, e.cfg.Trace
	if o.At.IsZero() {
		o.At = microTime(e.ex.now())
	}
	seen.Observe(o)
}

// report tells the observer about a turn that is on disk. What it closes is
// still open here; left are the calls that are closed with the run.
func (e *entry) report(r *run, t *turn, left func(call string) bool) {
	row, at := e.row, microTime(t.entry.At)
	for _, ev := range t.entry.Events {
		ev = e.whole(ev)
		o := Observation{At: at, Link: ev.Trace}
		switch ev.Kind {
		case journal.Started:
			o.Kind, o.Link, o.Input = "run.started", "", e.content(ev.Payload)
		case journal.Reset:
			o.Kind = "run.started"
		case journal.Signaled:
			o.Kind, o.Wait, o.Name, o.Call, o.Input = "message", string(KindSignal), ev.Name, ev.ID, e.content(ev.Payload)
		case journal.Asked:
			o.Kind, o.Wait, o.Name, o.Call, o.Input = "message", string(KindUpdate), ev.Name, ev.ID, e.content(ev.Payload)
		case journal.Canceled:
			o.Kind, o.Wait, o.Call = "message", "cancel", ev.ID
		case journal.Done, journal.Fired:
			o.Attempt, o.Err, o.Output = ev.Attempt, fromFailure(ev.Failure), e.content(ev.Payload)
			e.waited(row, e.open[ev.Call], ev.Call, o)
			continue
		default:
			continue
		}
		e.observe(row, o)
	}
	for _, c := range t.entry.Calls {
		if !c.Settled() {
			e.observe(row, Observation{Kind: "wait.started", At: at, Call: c.ID, Wait: c.Kind, Name: c.Name, Input: e.content(c.Payload)})
		}
	}
	for _, id := range t.entry.Closed {
		if left(id) {
			continue
		}
		oc := e.open[id]
		if i := slices.IndexFunc(t.entry.Calls, func(c *journal.Call) bool { return c.ID == id }); oc == nil && i >= 0 {
			oc = &openCall{call: t.entry.Calls[i], at: t.entry.At}
		}
		e.waited(row, oc, id, Observation{At: at, Dropped: true})
	}
	r.standing = r.stands(&t.entry, t.entry.Events, e.whole, func(w standing, began bool) {
		o := Observation{Kind: "wait.ended", At: at, Wait: w.Kind, Name: w.Name, Since: microTime(w.since)}
		if began {
			o.Kind, o.Since = "wait.started", time.Time{}
		}
		e.observe(row, o)
	})
	e.observe(row, Observation{Kind: "turn", At: at, Turns: int(row.Turns)})
}

// waited tells the observer that a call is over.
func (e *entry) waited(row *journal.Run, oc *openCall, call string, o Observation) {
	o.Kind, o.Call = "wait.ended", call
	if oc != nil {
		o.Wait, o.Name, o.Since = oc.call.Kind, oc.call.Name, microTime(oc.at)
	}
	e.observe(row, o)
}

// whole gives an event of a turn with what it refers to.
func (e *entry) whole(ev *journal.Event) *journal.Event {
	if ev.Ref == 0 {
		return ev
	}
	for _, p := range e.pend {
		if p.row == ev.Ref && p.idx == ev.Index {
			return p.ev
		}
	}
	return ev
}

// content gives a stored value in its plain form to an observer that wants it.
func (e *entry) content(p journal.Payload) json.RawMessage {
	if !e.ex.content || p == nil {
		return nil
	}
	b, err := e.ex.unseal(p)
	if err != nil {
		return nil
	}
	return b
}

// standing is something beside its calls that a run's code waits for.
type standing struct {
	journal.Wait
	since int64
}

// stands gives what the code waits for after a turn, and tells what began and
// ended with it. A signal ends the wait for it even if the code waits again.
func (r *run) stands(ent *journal.Entry, events []*journal.Event, whole func(*journal.Event) *journal.Event, tell func(w standing, began bool)) []standing {
	var now []standing
	for _, w := range r.standing {
		came := w.Kind == string(KindSignal) && slices.ContainsFunc(events, func(ev *journal.Event) bool {
			return ev.Kind == journal.Signaled && whole(ev).Name == w.Name
		})
		if !came && slices.Contains(ent.Waits, w.Wait) {
			now = append(now, w)
		} else if tell != nil {
			tell(w, false)
		}
	}
	for _, w := range ent.Waits {
		if !slices.ContainsFunc(now, func(s standing) bool { return s.Wait == w }) {
			s := standing{w, ent.At}
			now = append(now, s)
			if tell != nil {
				tell(s, true)
			}
		}
	}
	return now
}

// trace gives the traceparent of what a call of the run sends: a child, a
// message.
func (e *entry) trace(row *journal.Run, call string) string {
	t := e.ex.tracer
	if t == nil {
		return e.cfg.Trace
	}
	return t.Caller(t.Place(context.Background(), Observation{RunID: row.RunID, Chain: row.Chain, Trace: e.cfg.Trace, Call: call}))
}

// place puts an attempt's span into the context of its function.
func (a *attempt) place(ctx context.Context) context.Context {
	t := a.ent.ex.tracer
	if t == nil {
		return ctx
	}
	ctx = t.Place(ctx, Observation{
		RunID: a.info.RunID, Chain: a.ent.rowNow().Chain, Trace: a.info.Trace,
		Call: a.info.Call, Attempt: a.info.Attempt, Since: a.info.Started,
	})
	if own := t.Caller(ctx); own != "" {
		ctx = WithTrace(ctx, own)
	}
	return ctx
}

// observeEnd tells the observer that a run has ended, once.
func (e *entry) observeEnd(row *journal.Run) {
	if e.ex.opts.Observer == nil || e.ended.Swap(true) {
		return
	}
	e.observe(row, Observation{
		Kind: "run.ended", At: microTime(row.Closed), Since: microTime(row.Created),
		State: State(row.State), Err: fromFailure(row.Failure), Output: e.content(row.Result),
	})
}

// logContext is what log lines of the run's code are handled under.
func (r *run) logContext() context.Context {
	ctx := context.Background()
	if t := r.ex.tracer; t != nil {
		ctx = t.Place(ctx, Observation{RunID: r.row.RunID, Chain: r.row.Chain, Trace: r.cfg.Trace})
	}
	return ctx
}
