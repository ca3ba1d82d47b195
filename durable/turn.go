package durable

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// done tells whoever waits for an incoming what became of it.
func (in *incoming) done(err error) {
	if in.answer != nil && err != nil {
		in.answer(nil, err)
	}
	if in.ack != nil {
		in.ack(err)
	}
	if err == nil && in.after != nil {
		in.after()
	}
}

func ackAll(ins []*incoming, err error) {
	for _, in := range ins {
		in.done(err)
	}
}

func finishedError(row *journal.Run) error {
	return refuse(ErrFinished, refOf(row), "run %v has ended (%s); start a new one", refOf(row), row.State).err()
}

// turn gives a batch of events to the run's code and commits what comes of it.
// Where the code may not move (paused, blocked), the events are stored.
func (e *entry) turn(ins []*incoming) {
	switch {
	case State(e.row.State).Done():
		if h := e.ex.host; h != nil {
			h.keep(ins)
		}
		ackAll(e.bequeath(ins), finishedError(e.row))
		return
	case len(e.row.Paused) > 0, len(e.row.Problem) > 0 && !e.retry, e.startA > e.ex.now():
		e.store(ins)
		return
	}
	code := len(e.pend) > 0 || e.retry
	for _, in := range ins {
		code = code || in.ev != nil
	}
	if !code {
		e.store(ins) // notes only: the run need not be awake
		return
	}
	r, p := e.wake()
	switch {
	case p != nil && p.Kind == kindUnread:
		e.putOff(ins, p)
		return
	case p != nil:
		e.block(p, ins)
		return
	}
	e.retry = false
	t := r.nextTurn()
	r.turn, r.replaying = t, false
	if r.again != nil {
		t.status, t.items = maps.Clone(r.again.status), slices.Clone(r.again.items)
	}
	now := max(e.ex.now(), r.now)
	e.turning.Store(now)
	pend, rest := e.pend, ins
	var taken []*incoming
	for _, p := range pend {
		if r.problem != nil || r.ended() {
			break
		}
		ev := *p.ev
		ev.At = now
		t.entry.Events = append(t.entry.Events, &journal.Event{Kind: ev.Kind, Ref: p.row, Index: p.idx, At: now, Call: ev.Call, ID: ev.ID})
		r.apply(&ev)
		pend = pend[1:]
	}
	for len(rest) > 0 && r.problem == nil && !r.ended() {
		in := rest[0]
		rest = rest[1:]
		taken = append(taken, in)
		if in.ev == nil {
			if in.note != nil {
				t.entry.Notes = append(t.entry.Notes, in.note)
			}
			continue
		}
		if !e.admit(r, in) {
			taken = taken[:len(taken)-1]
			continue
		}
		in.ev.At = now
		t.entry.Events = append(t.entry.Events, in.ev)
		if in.ask != nil {
			t.asks = append(t.asks, in.ask)
		}
		r.apply(in.ev)
	}
	e.turning.Store(0)
	if e.ousted(ins) {
		return
	}
	if r.problem != nil {
		p := r.problem
		e.putAway()
		e.block(p, ins)
		return
	}
	if err := r.readEnds(t); err != nil {
		e.putAway()
		e.putOff(append(e.takeBack(taken), rest...), unread("the streams", err))
		return
	}
	if len(t.entry.Events) == 0 && len(t.entry.Notes) == 0 && len(e.row.Problem) == 0 {
		r.turn = nil // all was refused or known before: it leaves no trace
		ackAll(taken, nil)
		return
	}
	e.commit(r, t, now, taken, pend, rest)
}

// admit decides about an event that reaches the code for the first time.
// Where it is refused or has been seen before, it leaves no trace.
func (e *entry) admit(r *run, in *incoming) bool {
	ev := in.ev
	switch ev.Kind {
	case journal.Signaled:
		if ev.ID != "" && r.seen[ev.ID] {
			in.done(nil)
			return false
		}
		if err := e.full(ev); err != nil {
			in.done(err)
			return false
		}
	case journal.Done, journal.Fired, journal.Running:
		if f := r.open[ev.Call]; f == nil || f.began && ev.Kind == journal.Running {
			in.done(nil) // given up meanwhile, or told before
			return false
		}
	case journal.Asked:
		if rep := r.replies[ev.ID]; rep != nil {
			in.answer(rep, nil)
			return false
		}
		if r.handling[ev.ID] {
			e.awaitReply(ev.ID, in)
			return false
		}
		if !in.accepted {
			if err := e.mayUpdate(r, ev); err != nil {
				in.done(err)
				return false
			}
		}
		e.awaitReply(ev.ID, in)
	}
	return true
}

// mayUpdate reports why the run refuses an update, nil if it takes it.
func (e *entry) mayUpdate(r *run, ev *journal.Event) error {
	ref := refOf(e.row)
	h, ok := r.updates[ev.Name]
	if !ok {
		return refuse(ErrNoHandler, ref, "run %v has no handler for the update %q: its workflow sets one with Update.Handle before it first blocks", ref, ev.Name).err()
	}
	raw, err := e.ex.unseal(ev.Payload)
	if err == nil {
		err = r.readOnly(func() error { return h.validate(raw) })
	}
	if err != nil {
		sentinel := ErrRejected
		if errors.Is(err, ErrBadInput) {
			sentinel = ErrBadInput
		}
		return refuse(sentinel, ref, "update %q of run %v was rejected: %v", ev.Name, ref, err).err()
	}
	if e.ex.opts.Portable && r.asks >= PortableUpdates {
		return refuse(ErrLimit, ref, "run %v has had %d updates, which is the portable limit: its workflow should continue as new before", ref, r.asks).err()
	}
	return nil
}

// awaitReply notes who waits for the answer of an update.
func (e *entry) awaitReply(id string, in *incoming) {
	if e.asking == nil {
		e.asking = map[string][]*incoming{}
	}
	e.asking[id] = append(e.asking[id], in)
}

// readOnly runs a query handler or a validator on the loop.
func (r *run) readOnly(fn func() error) (err error) {
	r.holder.Store(getg())
	r.reading = true
	defer func() {
		r.reading = false
		r.holder.Store(0)
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
			if m, ok := p.(*Misuse); ok {
				err = m
			}
		}
	}()
	return fn()
}

// commit makes a turn durable and then lets its effects out.
func (e *entry) commit(r *run, t *turn, now int64, taken []*incoming, pend []pending, rest []*incoming) {
	ex := e.ex
	t.entry.At = now
	row := *e.row
	row.Changed, row.Deaths, row.Problem = now, 0, nil
	row.Turns++
	if t.status != nil {
		all := map[string]json.RawMessage{}
		if len(row.Status) > 0 {
			_ = json.Unmarshal(row.Status, &all)
		}
		for k, v := range t.status {
			all[k] = ex.sealJSON(v)
		}
		row.Status = jsonOf(all)
	}
	asks := e.mergeAsks(t.asks, now)
	for _, it := range t.items {
		it.Offset = r.offset(it.Name)
	}
	closed := e.closing(t, true)
	tx := &t.tx
	tx.Items, tx.Blobs = t.items, t.blobs
	ended := r.end != nil
	if ended {
		t.entry.End = r.end
		row.State, row.Closed = r.end.State, now
		row.Result, row.Failure = r.end.Payload, r.end.Failure
		if r.next != nil {
			row.Next = r.next.RunID
		}
		for id, c := range e.open {
			if c.call.Kind == kindQuestion && !c.closing {
				asks = append(asks, e.withdrawn(id, now)...)
			}
		}
	}
	if !ended {
		t.entry.Waits = r.waits()
	}
	row.From = e.oldest(pend)
	jr, err := journal.Encode(row.RID, journal.KindTurn, &t.entry)
	if err == nil {
		tx.Asks = asks
		t.writes[0] = journal.Write{Run: &row, Row: jr}
		tx.Writes = t.writes[:]
		if r.next != nil {
			err = e.addNext(tx, r, pend, now)
		}
	}
	if err == nil {
		err = e.write(tx)
	}
	if err != nil {
		// The run in memory is ahead of the disk: throw it away.
		e.closing(t, false)
		if r.follow != nil {
			ex.abandon(r.follow, err)
		}
		if e.ousted(append(taken, rest...)) {
			return
		}
		ex.log.Error("a turn could not be committed", "run_id", row.RunID, "error", err)
		e.putAway()
		err = fmt.Errorf("run %v: %w", refOf(e.row), err)
		e.asking, e.signals = nil, -1
		ackAll(taken, err)
		ackAll(rest, err)
		return
	}
	e.setRow(&row)
	// The parent close policies of the children that are left are applied
	// with the end.
	left := func(id string) bool {
		c := e.open[id]
		return ended && c != nil && c.call.Kind == kindChild && !c.over && !slices.ContainsFunc(t.entry.Events, func(ev *journal.Event) bool {
			return ev.Kind == journal.Done && ev.Call == id
		})
	}
	if ex.opts.Observer != nil {
		e.report(r, t, left)
	}
	e.pend = nil
	r.row = &row
	r.turns++
	r.again = nil
	r.turn = nil
	for _, id := range closed {
		if !left(id) {
			e.forget(id)
		}
	}
	for _, ev := range t.entry.Events {
		if c := e.open[ev.Call]; c != nil && ev.Kind == journal.Running {
			c.began = true
		}
	}
	for _, fn := range t.after {
		if ex.host == nil {
			fn()
		} else if !ex.host.c.Replaying() {
			ex.host.c.Tell(fn)
		}
	}
	for _, in := range taken {
		if in.ev != nil && in.ev.Kind == journal.Asked {
			continue // its answer comes from the handler
		}
		in.done(nil)
	}
	for _, a := range t.answers {
		for _, in := range e.asking[a.id] {
			in.answer(a.reply, nil)
		}
		delete(e.asking, a.id)
	}
	if ended {
		e.over(r, rest)
		ex.changed(row.RID)
		return
	}
	var timers []*openCall
	for _, c := range t.entry.Calls {
		if f := r.open[c.ID]; f != nil { // not closed in the same turn
			oc := &openCall{call: c, row: jr.ID, at: now, due: c.Due}
			if f.spec.step != nil {
				oc.spec = f.spec.step.spec
			}
			e.open[c.ID] = oc
			if c.Kind == kindTimer {
				timers = append(timers, oc)
				continue
			}
			e.launch(oc)
		}
	}
	for _, oc := range inDueOrder(timers) {
		e.launch(oc)
	}
	for _, id := range t.entry.Stops {
		e.stopCall(id)
	}
	ex.progressed(row.RID)
}

// closing lists the calls that a turn closes, and marks them: the turn is
// about to be committed, or could not be.
func (e *entry) closing(t *turn, on bool) []string {
	out := append(t.closed[:0], t.entry.Closed...)
	for _, ev := range t.entry.Events {
		if ev.Kind == journal.Done || ev.Kind == journal.Fired {
			out = append(out, ev.Call)
		}
	}
	for _, id := range out {
		if c := e.open[id]; c != nil {
			c.closing = on
		}
	}
	t.closed = out
	return out
}

func (e *entry) setRow(row *journal.Run) {
	e.mu.Lock()
	was := cmp.Or(e.row, row)
	e.row = row
	e.mu.Unlock()
	switch before, now := len(was.Paused) > 0, len(row.Paused) > 0; {
	case now && !before:
		e.ex.paused.Add(1)
	case before && !now:
		e.ex.paused.Add(-1)
	}
}

// oldest is the journal row from which recovery has to read: the oldest with
// something open, -1 for the one that is being written. Only a turn moves it
// on: the last one says what the code waits for.
func (e *entry) oldest(pend []pending) int64 {
	var from int64
	for _, c := range e.open {
		if !c.closing && (from == 0 || c.row < from) {
			from = c.row
		}
	}
	for _, p := range pend {
		if from == 0 || p.row < from {
			from = p.row
		}
	}
	if from == 0 {
		return -1
	}
	return from
}

// mergeAsks completes the changes of questions: those made and closed in the
// turn are whole, those made earlier need their row.
func (e *entry) mergeAsks(asks []*journal.Ask, now int64) []*journal.Ask {
	var out []*journal.Ask
	made := map[string]*journal.Ask{}
	for _, a := range asks {
		switch {
		case a.RID != 0:
			if had := made[a.ID]; had != nil {
				*had = *a
				continue
			}
			made[a.ID] = a
			out = append(out, a)
		case made[a.ID] != nil:
			made[a.ID].State, made[a.ID].Answered = a.State, now
		default:
			if full, err := e.ex.st.Ask(a.ID); err == nil && full.State == "open" {
				c := *full
				c.State, c.Answered = a.State, now
				made[c.ID] = &c
				out = append(out, &c)
			}
		}
	}
	return out
}

// withdrawn closes a question whose run does not wait any more.
func (e *entry) withdrawn(call string, now int64) []*journal.Ask {
	full, err := e.askOf(call)
	if err != nil || full.State != "open" {
		return nil
	}
	c := *full
	c.State, c.Answered = "withdrawn", now
	return []*journal.Ask{&c}
}

// store keeps events for later, and notes.
func (e *entry) store(ins []*incoming) {
	ex := e.ex
	ent := &journal.Entry{At: max(ex.now(), e.row.Changed)}
	kind := journal.KindNote
	var taken []*incoming
	var asks []*journal.Ask
	for _, in := range ins {
		switch {
		case in.note != nil:
			ent.Notes = append(ent.Notes, in.note)
		case in.ev == nil:
		case in.ev.Kind == journal.Asked:
			in.done(e.standstill())
			continue
		case in.ev.Call != "" && in.ev.Kind != journal.Running && (e.open[in.ev.Call] == nil || e.open[in.ev.Call].over):
			in.done(nil)
			continue
		default:
			if err := e.full(in.ev); err != nil {
				in.done(err)
				continue
			}
			in.ev.At = ent.At
			kind = journal.KindEvent
			ent.Events = append(ent.Events, in.ev)
			if c := e.open[in.ev.Call]; c != nil {
				c.began = c.began || in.ev.Kind == journal.Running
				c.over = c.over || in.ev.Kind != journal.Running
			}
			if in.ask != nil {
				asks = append(asks, in.ask)
			}
		}
		taken = append(taken, in)
	}
	if len(ent.Events) == 0 && len(ent.Notes) == 0 {
		ackAll(taken, nil)
		return
	}
	row := *e.row
	row.Changed = ent.At
	jr, err := journal.Encode(row.RID, kind, ent)
	if err == nil {
		err = e.write(&journal.Tx{Writes: []journal.Write{{Run: &row, Row: jr}}, Asks: asks})
	}
	if err != nil {
		ex.log.Error("an event could not be stored", "run_id", row.RunID, "error", err)
		e.signals = -1
		for _, in := range taken {
			if in.ev != nil {
				if c := e.open[in.ev.Call]; c != nil {
					c.over = false
				}
			}
		}
		ackAll(taken, fmt.Errorf("run %v: %w", refOf(e.row), err))
		return
	}
	e.setRow(&row)
	for i, ev := range ent.Events {
		e.pend = append(e.pend, pending{row: jr.ID, idx: i, ev: ev})
	}
	ackAll(taken, nil)
	ex.progressed(row.RID) // Result tells nothing new
}

// standstill is why an update can't be taken now.
func (e *entry) standstill() error {
	ref := refOf(e.row)
	if len(e.row.Paused) > 0 {
		return refuse(ErrPaused, ref, "run %v is paused: resume it first", ref).err()
	}
	if len(e.row.Problem) > 0 {
		return blockedError(e.row)
	}
	return refuse(ErrNoHandler, ref, "run %v has not started yet", ref).err()
}

// block records a problem. The run's events are kept; the code tries again
// after a while, on Resume, and when the engine is opened anew.
func (e *entry) block(p *Problem, ins []*incoming) {
	ex := e.ex
	e.retry = false
	if ex.host != nil && (p.Kind != "panic" || !e.failOnProblem()) {
		ex.host.problem = p // the cluster tries again what it gave
		return
	}
	had := problemOf(e.row)
	p.Since, p.Tries = time.Now().UTC(), 1
	if had.Kind == p.Kind && had.Call == p.Call {
		p.Since, p.Tries = had.Since, had.Tries+1
	}
	if p.Kind == "panic" && e.failOnProblem() {
		e.finishNow(Failed, &journal.Failure{Type: "panic", Message: p.Text}, "", "")
		ackAll(ins, finishedError(e.row))
		return
	}
	row := *e.row
	row.Problem = jsonOf(p)
	if err := e.write(&journal.Tx{Writes: []journal.Write{{Run: &row}}}); err != nil {
		if e.ousted(ins) {
			return
		}
		ex.log.Error("a problem could not be recorded", "run_id", row.RunID, "error", err)
		ackAll(ins, err)
		return
	}
	e.setRow(&row)
	if had.Text != p.Text {
		ex.log.Error("run is blocked", "run_id", row.RunID, "workflow", row.Name, "kind", p.Kind, "problem", p.Text)
	}
	e.observe(&row, Observation{Kind: "problem", Call: p.Call, Attempt: p.Tries, Err: &Error{Type: p.Kind, Message: p.Text}})
	if p.Kind == "panic" {
		// What made the code panic may pass.
		wait := time.Second << min(p.Tries-1, 8)
		ex.timers.add(time.Now().Add(wait).UnixMicro(), func() { ex.nudge(e) })
	}
	e.store(ins)
	ex.changed(row.RID)
}

func (e *entry) failOnProblem() bool {
	def := e.ex.defs.wfs[e.row.Name]
	return def != nil && def.opts.FailOnProblem
}

// nudge lets a run's code go on, or try again.
func (ex *executor) nudge(e *entry) {
	ex.deliver(e, &incoming{ctl: (*entry).tryAgain})
}

// tryAgain lets the run take what is stored for it.
func (e *entry) tryAgain() {
	if len(e.row.Problem) > 0 {
		e.retry = true
	}
	if e.retry || len(e.pend) > 0 {
		e.turn(nil)
	}
}

// readEnds reads where the streams of the run end, once a turn needs to know.
func (r *run) readEnds(t *turn) error {
	if r.ends != nil || len(t.items) == 0 && r.next == nil {
		return nil
	}
	ends, err := r.ex.st.StreamEnds(r.row.RID)
	if err != nil {
		return err
	}
	r.ends = map[string]int64{}
	maps.Copy(r.ends, r.cfg.Offsets)
	for k, v := range ends {
		r.ends[k] = max(v, r.ends[k])
	}
	return nil
}

// offset gives the next offset of a stream of the run.
func (r *run) offset(name string) int64 {
	n := r.ends[name]
	r.ends[name] = n + 1
	return n
}
