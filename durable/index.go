package durable

import (
	"errors"
	"fmt"
	"time"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// The index holds an entry for each run that something happens to: it is
// awake, a step of it is at work, an event is on its way to it. The entry of
// a run that only waits is taken out: a timer with its number is what is left
// of it in memory, or nothing. Whoever has something for it makes a new entry
// of the number, and the loop reads the rest from the store.
//
// A run has at most one entry that is not gone, so at most one loop; an entry
// that is gone hands on what it is given.

// entry gives the entry of a run, to deliver to: where it has none, one that
// is gone.
func (ex *executor) entry(rid int64) *entry {
	ex.mu.Lock()
	defer ex.mu.Unlock()
	if e := ex.entries[rid]; e != nil {
		return e
	}
	return &entry{ex: ex, rid: rid, gone: true}
}

// present gives the entry that stands for a run now. That the run has ended
// meanwhile is for the loop to find out.
func (ex *executor) present(rid int64) *entry {
	ex.mu.Lock()
	defer ex.mu.Unlock()
	if e := ex.entries[rid]; e != nil {
		return e
	}
	return ex.newEntry(rid)
}

// newEntry puts an empty entry into the index. The caller holds ex.mu.
func (ex *executor) newEntry(rid int64) *entry {
	e := &entry{ex: ex, rid: rid, signals: -1}
	e.work = e.loop
	ex.entries[rid] = e
	if t := ex.sleepers[rid]; t != nil {
		t.stop()
		delete(ex.sleepers, rid)
	}
	return e
}

// reserve makes the entry of a run that is about to be committed. What comes
// for it waits until the entry is admitted, or dropped if the commit fails.
func (ex *executor) reserve(rid int64) *entry {
	ex.mu.Lock()
	defer ex.mu.Unlock()
	e := ex.newEntry(rid)
	e.busy = true
	return e
}

// admit fills a reserved entry once its run is committed, and lets it begin.
func (ex *executor) admit(e *entry, row *journal.Run, pend []pending) {
	e.fill(row, nil, pend)
	e.mu.Lock()
	e.in = append([]*incoming{{ctl: func(e *entry) { e.turn(nil) }}}, e.in...)
	e.mu.Unlock()
	ex.mu.Lock()
	ex.unfinished++
	loop := ex.begin(e)
	ex.mu.Unlock()
	ex.spawn(loop)
}

// fill gives an entry its run.
func (e *entry) fill(row *journal.Run, open []*openCall, pend []pending) {
	ex := e.ex
	if problemOf(row).Kind == "deadlock" {
		c := *row // the code has come back, or this would not be read
		c.Problem = nil
		row, e.accused = &c, true
	}
	e.setRow(row)
	e.cfg, e.pend, e.open = configOf(row), pend, make(map[string]*openCall, len(open))
	for _, oc := range open {
		oc.beat, _ = openJSON(ex.opts.Codec, oc.beat) // of another codec: none
		e.open[oc.call.ID] = oc
	}
	if State(row.State).Done() {
		return
	}
	if row.Deadline > 0 {
		e.deadline = ex.timers.add(row.Deadline, func() {
			ex.deliver(e, &incoming{ctl: (*entry).timeOut})
		})
	}
	if e.startA = e.cfg.StartAt; e.startA > time.Now().UnixMicro() {
		e.starting = ex.timers.add(e.startA, func() { ex.nudge(e) })
	}
	ex.mu.Lock()
	ex.byRun[row.RunID] = e
	ex.byID[row.WorkflowID] = e
	ex.mu.Unlock()
}

// load reads the run of an entry that was made of its number only, and takes
// up what it waits for.
func (e *entry) load() error {
	ex := e.ex
	row, err := ex.st.Run(e.rid)
	if errors.Is(err, journal.ErrNotFound) {
		row, err = &journal.Run{RID: e.rid, State: string(Terminated)}, nil // it was pruned
	}
	if err != nil {
		return fmt.Errorf("read run %d: %w", e.rid, err)
	}
	if State(row.State).Done() {
		e.fill(row, nil, nil)
		return nil
	}
	open, pend, _, err := openCalls(ex.st, row)
	if err != nil {
		return err
	}
	e.fill(row, open, pend)
	for _, oc := range inDueOrder(open) {
		if e.open[oc.call.ID] == oc && (oc.call.Kind != kindChild || !oc.began) {
			e.relaunch(oc)
		}
	}
	if len(e.pend) > 0 {
		e.turn(nil) // a delayed start
	}
	return nil
}

// unloaded is what becomes of an inbox when its run can't be read: those who
// wait for an answer get the error, the rest is tried again.
func (e *entry) unloaded(batch []*incoming, err error) {
	e.ex.log.Error("a run cannot be read", "error", err)
	var again []*incoming
	for _, in := range batch {
		switch {
		case in.answer != nil:
			in.answer(nil, err)
		case in.ack != nil:
			in.ack(err)
		default:
			again = append(again, in)
		}
	}
	if len(again) > 0 {
		e.ex.timers.add(time.Now().Add(readAgain).UnixMicro(), func() { e.ex.deliver(e, again...) })
	}
}

// readAgain is how long a run that can't be read is left alone.
const readAgain = time.Second

// kindUnread is the kind of a problem that is not the run's but the store's,
// which could not be read. It is not recorded.
const kindUnread = "unread"

func unread(what string, err error) *Problem {
	return &Problem{Kind: kindUnread, Text: fmt.Sprintf("read %s: %v", what, err)}
}

// putOff keeps events for a run whose record can't be read now; the code gets
// them when it can. Updates are refused.
func (e *entry) putOff(ins []*incoming, p *Problem) {
	e.ex.log.Error("a run cannot be read", "run_id", e.row.RunID, "error", p.Text)
	keep := make([]*incoming, 0, len(ins))
	for _, in := range ins {
		if in.ev != nil && in.ev.Kind == journal.Asked {
			in.done(fmt.Errorf("update %q of run %v: %s; send it again with the same id", in.ev.Name, refOf(e.row), p.Text))
			continue
		}
		keep = append(keep, in)
	}
	e.store(keep)
	e.ex.timers.add(time.Now().Add(readAgain).UnixMicro(), func() { e.ex.nudge(e) })
}

// takeBack undoes that a turn took something which will not be committed, and
// gives it with all who wait for it.
func (e *entry) takeBack(taken []*incoming) (ins []*incoming) {
	for _, in := range taken {
		if in.ev == nil || in.ev.Kind != journal.Asked {
			ins = append(ins, in)
			continue
		}
		ins = append(ins, e.asking[in.ev.ID]...)
		delete(e.asking, in.ev.ID)
	}
	return ins
}

// fewPending is how many stored events are read again when something comes for
// a paused run; one with more keeps its entry.
const fewPending = 16

// dormant reports whether all that the run waits for is in the store or comes
// by itself, and gives the time at which something of it is due: 0 is never.
// It belongs to the loop.
func (e *entry) dormant() (due int64, ok bool) {
	now := time.Now().UnixMicro()
	if e.row == nil {
		return now + readAgain.Microseconds(), true // it may have timers
	}
	if State(e.row.State).Done() {
		return 0, true
	}
	delayed := e.startA > now
	if e.run != nil || e.retry || len(e.asking) > 0 || len(e.row.Problem) > 0 || len(e.launched) > 0 {
		return 0, false
	}
	if n := len(e.pend); n > fewPending || n > 0 && len(e.row.Paused) == 0 && !delayed {
		return 0, false
	}
	sooner := func(t int64) {
		if t > 0 && (due == 0 || t < due) {
			due = t
		}
	}
	sooner(e.row.Deadline)
	if delayed {
		sooner(e.startA)
	}
	for _, oc := range e.open {
		switch oc.call.Kind {
		case kindTimer, kindQuestion, kindCallback:
		case kindChild:
			if !oc.began && !oc.over {
				return 0, false // it is being started
			}
		case kindStep:
			if oc.active != nil || oc.stop || !oc.over && !oc.held && oc.timer == nil {
				return 0, false
			}
		default:
			if !oc.over {
				return 0, false // it is on its way
			}
		}
		if !oc.over {
			sooner(oc.due)
		}
	}
	return due, due == 0 || due > now // what is due is about to come
}

// retire takes an entry out of the index, unless something has come for it.
// Its loop ends with that.
func (ex *executor) retire(e *entry, due int64) bool {
	ex.mu.Lock()
	defer ex.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.in) > 0 {
		return false
	}
	e.busy, e.gone = false, true
	ex.busy.remove(e)
	ex.forget(e, e.row)
	e.deadline.stop()
	e.starting.stop()
	for _, oc := range e.open {
		oc.timer.stop()
	}
	if due > 0 {
		rid := e.rid
		ex.sleepers[rid] = ex.timers.add(due, func() {
			ex.deliver(ex.entry(rid), &incoming{ctl: func(*entry) {}})
		})
	}
	return true
}

// drop takes the entry of a run that has ended out of the index.
func (ex *executor) drop(e *entry) {
	row := e.rowNow()
	ex.mu.Lock()
	defer ex.mu.Unlock()
	if ex.entries[e.rid] == e {
		ex.unfinished--
	}
	ex.forget(e, row)
}

// abandon takes out a reserved entry whose run was not committed.
func (ex *executor) abandon(e *entry, err error) {
	ex.mu.Lock()
	ex.forget(e, nil)
	ex.mu.Unlock()
	e.mu.Lock()
	in := e.in
	e.in, e.busy, e.gone = nil, false, true
	e.mu.Unlock()
	ackAll(in, err)
}

func (ex *executor) forget(e *entry, row *journal.Run) {
	if ex.entries[e.rid] == e {
		delete(ex.entries, e.rid)
	}
	if row == nil {
		return
	}
	if ex.byRun[row.RunID] == e {
		delete(ex.byRun, row.RunID)
	}
	if ex.byID[row.WorkflowID] == e {
		delete(ex.byID, row.WorkflowID)
	}
}
