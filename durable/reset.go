package durable

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// ResetOptions say to what point a run is reset. The zero value is its
// beginning.
type ResetOptions struct {
	// Before is a call id: the turn that made the call, and all that followed,
	// are made anew.
	Before string `json:"before,omitempty"`
	// Turn is the [Record.Seq] of the last turn that is kept, instead of
	// Before.
	Turn int64 `json:"turn,omitempty"`
	// AllowRepeat permits that at-most-once steps which were sent after the
	// point are sent again, by the run or by its children. Without it such a
	// reset is refused with [ErrRepeat].
	AllowRepeat bool   `json:"allow_repeat,omitempty"`
	Reason      string `json:"reason,omitempty"`
	ID          string `json:"id,omitempty"` // of the reset: the same one again is carried out once; empty: a new one
}

// Reset repairs a run, which may have ended: another run of the same workflow
// id takes over its history up to a point and goes on from there with today's
// code. The old run is terminated, or stays as it ended; its
// [Description.Next] names the new one. All of that is one commit.
//
// What was called up to the point keeps its outcome, whenever that came, and
// its questions, callbacks and children go on; what was called after it is
// done again, with the same effect keys as before. Signals that came later
// are given to the new run in their order; updates and requests to cancel are
// not. A pause and a problem are cleared, the run's timeout starts again.
// Random streams give other values from the point on. Children started after
// it are terminated, unless their policy is [ParentCloseAbandon].
//
// Only the newest run of a workflow id can be reset.
func (r *Run) Reset(ctx context.Context, o *ResetOptions) (*Run, error) {
	if o == nil {
		o = &ResetOptions{}
	}
	rep, err := r.e.do(ctx, &Request{Op: opReset, Ref: r.ref(), ID: o.ID, Reason: o.Reason, Reset: o})
	if err != nil {
		return nil, err
	}
	return &Run{WorkflowID: rep.Ref.WorkflowID, RunID: rep.Ref.RunID, e: r.e}, nil
}

// life is a run whose first turns another one took over.
type life struct {
	RunID string `json:"run_id"`
	Rand  string `json:"rand"`
	Turns int    `json:"turns"` // those below this one, and not of an earlier life, were made by it
}

// lifeAt is the run that made a turn: its id and the seed of its random
// streams. They must be in a replay what they were.
func (c *runConfig) lifeAt(turn int, row *journal.Run) (runID, seed string) {
	for _, l := range c.Lives {
		if turn < l.Turns {
			return l.RunID, l.Rand
		}
	}
	return row.RunID, c.seed()
}

// lives are the ids of the runs that a run stands for, the newest first.
func (c *runConfig) lives(row *journal.Run) []string {
	out := []string{row.RunID}
	for _, l := range slices.Backward(c.Lives) {
		out = append(out, l.RunID)
	}
	return out
}

// askOf finds the question of a call, which an earlier life may have asked.
func (e *entry) askOf(call string) (*journal.Ask, error) {
	for _, id := range e.cfg.lives(e.row) {
		a, err := e.ex.st.Ask(id + "/" + call)
		if err == nil && a.RID == e.row.RID {
			return a, nil
		}
		if err != nil && !errors.Is(err, journal.ErrNotFound) {
			return nil, err
		}
	}
	return nil, journal.ErrNotFound
}

// heir is the run that stands for a run now that it was reset: itself, if it
// was not.
func heir(st journal.Store, row *journal.Run) *journal.Run {
	for row.Next != "" && State(row.State) != Continued {
		next, err := st.Find("", row.Next)
		if err != nil {
			break
		}
		row = next
	}
	return row
}

// childRow finds the run of a child call, which an earlier life may have
// started.
func (ex *executor) childRow(parent *journal.Run, call string) (*journal.Run, error) {
	row, err := ex.st.ChildOf(parent.RID, call)
	if errors.Is(err, journal.ErrNotFound) {
		if rid := configOf(parent).Adopted[call]; rid != 0 {
			return ex.st.ChildOf(rid, call)
		}
	}
	return row, err
}

// parentOf is the number of the run that a child's outcome is for.
func (ex *executor) parentOf(child *journal.Run) int64 {
	rid := child.Parent
	ex.mu.Lock()
	here := ex.entries[rid] != nil
	ex.mu.Unlock()
	for range 1000 {
		if here {
			break
		}
		row, err := ex.st.Run(rid)
		if err != nil || row.Next == "" || State(row.State) == Continued {
			break
		}
		next, err := ex.st.Find("", row.Next)
		if err != nil || configOf(next).Adopted[child.ParentCall] == 0 {
			break
		}
		rid = next.RID
	}
	return rid
}

// bequeath hands what children have to say on to the run that took them over
// in a reset, and returns the rest.
func (e *entry) bequeath(ins []*incoming) (rest []*incoming) {
	if e.row.Next == "" || State(e.row.State) == Continued {
		return ins
	}
	next, err := e.ex.st.Find("", e.row.Next)
	if err != nil {
		return ins
	}
	adopted := configOf(next).Adopted
	for _, in := range ins {
		if in.ev != nil && adopted[in.ev.Call] != 0 {
			e.ex.deliver(e.ex.entry(next.RID), in)
		} else {
			rest = append(rest, in)
		}
	}
	return rest
}

// rewind is a reset that is ready to be committed.
type rewind struct {
	next  *journal.Run
	write journal.Write
	asks  []*journal.Ask
	kept  map[string]*journal.Call // open at the point
}

// reset carries out a reset.
func (ex *executor) reset(ctx context.Context, req *Request) (*Reply, error) {
	o := req.Reset
	if o == nil {
		o = &ResetOptions{}
	}
	row, no := findRun(ex.st, req.Ref, req.Actor)
	if no != nil {
		return no, nil
	}
	key := "reset/" + req.ID
	unlock := ex.lockID(row.WorkflowID, key)
	defer unlock()
	if had, err := ex.st.FindKey(key); err == nil {
		return &Reply{Ref: refOf(had), Existing: true}, nil
	}
	newest, err := ex.st.Find(row.WorkflowID, "")
	if err != nil {
		return nil, err
	}
	if newest.RID != row.RID {
		return refuse(ErrFinished, refOf(row), "reset run %v: run %s came after it: reset that one", refOf(row), newest.RunID), nil
	}
	if State(row.State).Done() {
		w, no, err := ex.rewind(row, o, req, key)
		if no != nil || err != nil {
			return no, err
		}
		old := *row
		old.Next = w.next.RunID
		return settle(refOf(w.next), ex.takeOver(w, &journal.Tx{Writes: []journal.Write{{Run: &old}, w.write}, Asks: w.asks}, ex.commitNow))
	}
	e, _, no := ex.target(req)
	if no != nil {
		return no, nil
	}
	ch := make(chan error, 1)
	said := make(chan *Reply, 1) // who gave up waiting does not look at what the loop goes on with
	ex.deliver(e, &incoming{ack: func(err error) { tell(ch, err) }, ctl: func(e *entry) {
		if State(e.row.State).Done() {
			tell(ch, finishedError(e.row))
			return
		}
		w, rep, err := ex.rewind(e.row, o, req, key)
		if rep == nil && err == nil {
			rep = &Reply{Ref: refOf(w.next)}
			err = e.giveWay(w, req)
		}
		tell(said, rep)
		tell(ch, err)
	}})
	if err = ex.waitErr(ctx, ch); err == nil {
		return <-said, nil // it was told first
	}
	return settle(refOf(row), err)
}

func (ex *executor) commitNow(tx *journal.Tx) error { return ex.commit(ex.commits, tx) }

// takeOver commits a reset or a fork, and lets the new run begin.
func (ex *executor) takeOver(w *rewind, tx *journal.Tx, commit func(*journal.Tx) error) error {
	e := ex.reserve(w.next.RID)
	if err := commit(tx); err != nil {
		ex.abandon(e, err)
		if errors.Is(err, journal.ErrDuplicate) {
			return refuse(ErrIDTaken, refOf(w.next), "workflow id %q is taken by another run", w.next.WorkflowID).err()
		}
		return err
	}
	begin := func(e *entry) {
		// Its loop has read it. A child may have ended while nobody waited.
		for _, oc := range e.open {
			if oc.call.Kind == kindChild && oc.began {
				e.relaunch(oc)
			}
		}
	}
	if open, pend, _, err := openCalls(ex.st, w.next); err == nil {
		e.fill(w.next, open, pend)
		begin = func(e *entry) {
			e.turn(nil)
			for _, oc := range open {
				if e.open[oc.call.ID] == oc {
					e.relaunch(oc)
				}
			}
		}
	}
	e.mu.Lock()
	e.in = append([]*incoming{{ctl: begin}}, e.in...)
	e.mu.Unlock()
	ex.mu.Lock()
	ex.unfinished++
	loop := ex.begin(e)
	ex.mu.Unlock()
	ex.spawn(loop)
	return nil
}

// giveWay ends an unfinished run in favour of the one that it is reset to.
func (e *entry) giveWay(w *rewind, req *Request) error {
	ex := e.ex
	f := &journal.Failure{Type: "terminated", Message: fmt.Sprintf("it was reset; run %s goes on in its place", w.next.RunID)}
	row, tx, err := ex.ending(e.row, Terminated, f, req.Actor.Name, cmp.Or(req.Reason, "reset"))
	if err != nil {
		return err
	}
	row.Next = w.next.RunID
	moved := map[string]bool{}
	for _, a := range w.asks {
		moved[a.ID] = true
	}
	tx.Asks = append(slices.DeleteFunc(tx.Asks, func(a *journal.Ask) bool { return moved[a.ID] }), w.asks...)
	tx.Writes = append(tx.Writes, w.write)
	if err := ex.takeOver(w, tx, e.write); err != nil {
		return err
	}
	e.setRow(row)
	for id, c := range e.open {
		if c.call.Kind != kindChild || w.kept[id] != nil {
			continue
		}
		var spec childSpec
		_ = json.Unmarshal(c.call.Options, &spec)
		if child, err := ex.childRow(row, id); err == nil && !State(child.State).Done() && spec.ParentClose != ParentCloseAbandon {
			ex.closeChild(ex.entry(child.RID), ParentCloseTerminate)
		}
		e.forget(id)
	}
	for id, c := range e.open {
		if c.call.Kind == kindChild {
			delete(e.open, id) // the new run's now
		}
	}
	heirless := *row
	heirless.Parent = 0 // the parent goes on waiting
	e.setRow(&heirless)
	e.over(nil, nil)
	e.setRow(row)
	ex.changed(row.RID)
	return nil
}

// rewind makes the run that a run is reset to, with its history.
func (ex *executor) rewind(was *journal.Run, o *ResetOptions, req *Request, key string) (*rewind, *Reply, error) {
	ref := refOf(was)
	rows, err := ex.st.Rows(was.Last, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("reset run %v: %w", ref, err)
	}
	entries := make([]*journal.Entry, len(rows))
	for i, jr := range rows {
		if entries[i], err = journal.Decode(jr); err != nil {
			return nil, nil, fmt.Errorf("reset run %v: %w", ref, err)
		}
	}
	cut, no := cutAt(rows, entries, o.Before, o.Turn, ref)
	if no != nil {
		return nil, no, nil
	}
	now := max(time.Now().UnixMicro(), was.Changed)
	h := &past{open: map[string]*journal.Call{}, held: map[int64][]*journal.Event{}}
	for i, jr := range rows {
		if i < cut {
			h.keep(jr, entries[i])
		} else {
			h.drop(jr, entries[i])
		}
	}
	if !o.AllowRepeat {
		what, err := ex.repeats(was, h.dropped, entries)
		if err != nil {
			return nil, nil, err
		}
		if what != "" {
			return nil, refuse(ErrRepeat, ref, "reset run %v: the at-most-once %s was sent after the point and would be sent again: verify what it did, then allow it with AllowRepeat", ref, what), nil
		}
	}
	w := &rewind{kept: h.open}
	next := *was
	next.RunID, next.Key, next.State = newUUID(), key, string(Running)
	next.Problem, next.Paused, next.Status, next.Result, next.Failure = nil, nil, nil, nil, nil
	next.Next, next.Turns, next.Deaths, next.Last, next.From, next.Closed = "", int64(h.turns), 0, 0, 0, 0
	next.Changed = now
	cfg := configOf(was)
	var lives []life
	for _, l := range cfg.Lives {
		if len(lives) == 0 || lives[len(lives)-1].Turns < h.turns {
			l.Turns = min(l.Turns, h.turns)
			lives = append(lives, l)
		}
	}
	if len(lives) == 0 || lives[len(lives)-1].Turns < h.turns {
		lives = append(lives, life{RunID: was.RunID, Rand: cfg.seed(), Turns: h.turns})
	}
	cfg.Adopted = ex.adopt(was, h.open)
	cfg.Lives, cfg.Before, cfg.Kept, cfg.Rand = lives, append(cfg.Before, was.RID), h.turns, newUUID()
	if next.Deadline = 0; cfg.Timeout > 0 {
		next.Deadline = now + cfg.Timeout
	}
	next.Config = jsonOf(cfg)
	ex.mu.Lock()
	next.RID = ex.nextRID
	ex.nextRID++
	ex.mu.Unlock()
	w.next = &next
	w.write = journal.Write{New: true, Run: &next}
	for _, k := range h.rows {
		jr, err := journal.Encode(next.RID, k.kind, k.entry)
		if err != nil {
			return nil, nil, err
		}
		w.write.Before = append(w.write.Before, jr)
	}
	last := &journal.Entry{At: now, Notes: h.notes}
	last.Events = append(h.left(), &journal.Event{Kind: journal.Reset, At: now, By: req.Actor.Name, Name: o.Reason})
	if w.write.Row, err = journal.Encode(next.RID, journal.KindEvent, last); err != nil {
		return nil, nil, err
	}
	answered := map[string]bool{}
	for _, ev := range last.Events {
		answered[ev.Call] = true
	}
	for id, c := range h.open {
		if c.Kind != kindQuestion || answered[id] {
			continue
		}
		for _, run := range cfg.lives(was) {
			if a, err := ex.st.Ask(run + "/" + id); err == nil && a.RID == was.RID {
				c := *a
				c.RID, c.State, c.Answered = next.RID, "open", 0
				w.asks = append(w.asks, &c)
				break
			}
		}
	}
	return w, nil, nil
}

// adopt tells by which run the children of a reset run's open calls were
// started. Those that end with their parent, by the parent's close policy, are
// not among them: they are started anew.
func (ex *executor) adopt(was *journal.Run, open map[string]*journal.Call) map[string]int64 {
	var out map[string]int64
	for id, c := range open {
		if c.Kind != kindChild {
			continue
		}
		child, err := ex.childRow(was, id)
		if err != nil {
			continue
		}
		var spec childSpec
		_ = json.Unmarshal(c.Options, &spec)
		switch State(child.State) {
		case Running, Cancelled, Terminated:
			if was.Closed > 0 && spec.ParentClose != ParentCloseAbandon {
				continue
			}
		}
		if out == nil {
			out = map[string]int64{}
		}
		out[id] = child.Parent
	}
	return out
}

// cutAt finds the first row that is not kept.
func cutAt(rows []*journal.Row, entries []*journal.Entry, before string, turn int64, ref Ref) (int, *Reply) {
	switch {
	case before != "" && turn != 0:
		return 0, refuse(ErrBadInput, ref, "run %v: Before and Turn contradict each other", ref)
	case before != "":
		for i, jr := range rows {
			if jr.Kind == journal.KindTurn && slices.ContainsFunc(entries[i].Calls, func(c *journal.Call) bool { return c.ID == before }) {
				return i, nil
			}
		}
		return 0, refuse(ErrNotFound, ref, "run %v has made no call %q: its history tells which there are", ref, before)
	case turn != 0:
		for i, jr := range rows {
			if jr.ID != turn || jr.Kind != journal.KindTurn {
				continue
			}
			if entries[i].End != nil {
				return 0, refuse(ErrBadInput, ref, "run %v: it ended in turn %d, so nothing would follow: name an earlier one", ref, turn)
			}
			return i + 1, nil
		}
		return 0, refuse(ErrNotFound, ref, "run %v has no turn %d: its history tells which there are", ref, turn)
	}
	return 0, nil
}

// past takes a history apart at a point.
type past struct {
	rows    []keptRow
	turns   int
	open    map[string]*journal.Call // made before the point, without an outcome there
	dropped []*journal.Call          // made after it
	notes   []*journal.Note          // later ones, about open calls
	held    map[int64][]*journal.Event
	later   []laterEvent
}

type keptRow struct {
	kind  string
	entry *journal.Entry
}

// laterEvent is an event that no kept turn has applied, so far.
type laterEvent struct {
	ev    *journal.Event
	row   int64
	idx   int
	early bool // it was there at the point
}

func (h *past) keep(jr *journal.Row, e *journal.Entry) {
	switch jr.Kind {
	case journal.KindEvent:
		h.receive(jr, e, true)
	case journal.KindNote:
		h.rows = append(h.rows, keptRow{jr.Kind, &journal.Entry{At: e.At, Notes: e.Notes}})
	case journal.KindSeed:
		h.rows = append(h.rows, keptRow{jr.Kind, e})
	case journal.KindTurn:
		c := *e
		c.Events = make([]*journal.Event, len(e.Events))
		for i, ev := range e.Events {
			c.Events[i] = h.whole(ev)
			if ev.Kind == journal.Done || ev.Kind == journal.Fired {
				delete(h.open, ev.Call)
			}
		}
		for _, call := range e.Calls {
			if !call.Settled() {
				h.open[call.ID] = call
			}
		}
		for _, id := range e.Closed {
			delete(h.open, id)
		}
		h.rows = append(h.rows, keptRow{jr.Kind, &c})
		h.turns++
	}
}

// whole gives an event of a turn without the reference to another row.
func (h *past) whole(ev *journal.Event) *journal.Event {
	full := h.held[ev.Ref]
	if ev.Ref == 0 || ev.Index >= len(full) {
		return ev
	}
	h.later = slices.DeleteFunc(h.later, func(l laterEvent) bool { return l.row == ev.Ref && l.idx == ev.Index })
	c := *full[ev.Index]
	c.At = ev.At
	return &c
}

func (h *past) receive(jr *journal.Row, e *journal.Entry, early bool) {
	h.held[jr.ID] = e.Events
	for i, ev := range e.Events {
		h.later = append(h.later, laterEvent{ev, jr.ID, i, early})
	}
	h.note(e)
}

func (h *past) drop(jr *journal.Row, e *journal.Entry) {
	switch jr.Kind {
	case journal.KindEvent:
		h.receive(jr, e, false)
		return
	case journal.KindTurn:
		for _, ev := range e.Events {
			if ev.Ref == 0 {
				h.later = append(h.later, laterEvent{ev: ev})
			}
		}
		h.dropped = append(h.dropped, e.Calls...)
	}
	h.note(e)
}

// note keeps what is known about the attempts of open calls.
func (h *past) note(e *journal.Entry) {
	for _, n := range e.Notes {
		switch n.Kind {
		case "sent", "attempt", "lost", "beat":
			if h.open[n.Call] != nil {
				h.notes = append(h.notes, n)
			}
		}
	}
}

// left are the events that the new run is given.
func (h *past) left() (out []*journal.Event) {
	for _, l := range h.later {
		keep := false
		switch l.ev.Kind {
		case journal.Started, journal.Signaled:
			keep = true
		case journal.Done, journal.Fired, journal.Running:
			keep = h.open[l.ev.Call] != nil
		case journal.Canceled, journal.Reset:
			keep = l.early
		}
		if keep {
			ev := *l.ev
			ev.Ref, ev.Index = 0, 0
			out = append(out, &ev)
		}
	}
	return out
}

// repeats names an at-most-once step that is among dropped calls, or in the
// children that they started, and was sent.
func (ex *executor) repeats(row *journal.Run, dropped []*journal.Call, entries []*journal.Entry) (string, error) {
	sent := map[string]bool{}
	for _, e := range entries {
		for _, n := range e.Notes {
			sent[n.Call] = sent[n.Call] || n.Kind == "sent"
		}
		for _, ev := range e.Events {
			sent[ev.Call] = sent[ev.Call] || ev.Kind == journal.Done && ev.Attempt > 0
		}
	}
	for _, c := range dropped {
		switch c.Kind {
		case kindStep:
			var spec stepSpec
			_ = json.Unmarshal(c.Options, &spec)
			if spec.AtMostOnce && sent[c.ID] {
				return fmt.Sprintf("step %q (call %s)", c.Name, c.ID), nil
			}
		case kindChild:
			child, err := ex.childRow(row, c.ID)
			if errors.Is(err, journal.ErrNotFound) {
				continue
			}
			if err != nil {
				return "", err
			}
			// The whole chain of the child would be made anew.
			for first, err := ex.st.Find("", child.Chain); err == nil; first, err = ex.st.Find("", first.Next) {
				what, err := ex.repeatsAll(first)
				if what != "" || err != nil {
					return what, err
				}
				if first.Next == "" {
					break
				}
			}
		}
	}
	return "", nil
}

func (ex *executor) repeatsAll(row *journal.Run) (string, error) {
	rows, err := ex.st.Rows(row.Last, 0)
	if err != nil {
		return "", err
	}
	var entries []*journal.Entry
	var calls []*journal.Call
	for _, jr := range rows {
		e, err := journal.Decode(jr)
		if err != nil {
			return "", err
		}
		if jr.Kind != journal.KindSeed {
			entries, calls = append(entries, e), append(calls, e.Calls...)
		}
	}
	what, err := ex.repeats(row, calls, entries)
	if what != "" {
		what += fmt.Sprintf(" of the child %v", refOf(row))
	}
	return what, err
}

// publishing is the turn to which what the code publishes belongs. In a replay
// it is none, but for the turns that a reset took over: they are published
// again, with the first turn of the new run.
func (r *run) publishing() *turn {
	if r.replaying {
		return r.again
	}
	return r.turn
}
