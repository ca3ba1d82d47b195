package durable

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// launch lets the effect of a committed call out. It belongs to the loop of
// the entry, as do forget and stopCall.
func (e *entry) launch(oc *openCall) {
	ex, id := e.ex, oc.call.ID
	if oc.over || e.answerFromSeed(oc) {
		return
	}
	if ex.host != nil {
		ex.host.launch(e, oc)
		return
	}
	switch oc.call.Kind {
	case kindTimer:
		if oc.timer == nil {
			oc.timer = ex.timers.add(oc.due, func() {
				ex.deliver(e, &incoming{ev: &journal.Event{Kind: journal.Fired, Call: id}})
			})
		}
	case kindQuestion:
		if oc.due > 0 && oc.timer == nil {
			oc.timer = ex.timers.add(oc.due, func() {
				ex.deliver(e, &incoming{ctl: func(e *entry) { e.expire(id) }})
			})
		}
	case kindStep:
		if oc.spec == nil {
			oc.spec = &stepSpec{}
			_ = json.Unmarshal(oc.call.Options, oc.spec)
		}
		e.dispatch(oc)
	case kindChild:
		ex.work(func() { ex.startChild(e, oc) })
	case kindMessage, kindStop:
		ex.work(func() { ex.sendOut(e, oc) })
	}
}

// inDueOrder sorts calls that are about to be launched: of the timers that are
// overdue, each fires as soon as it is there.
func inDueOrder(ocs []*openCall) []*openCall {
	due := func(oc *openCall) int64 {
		if oc.call.Kind == kindTimer || oc.call.Kind == kindQuestion {
			return oc.due
		}
		return 0
	}
	slices.SortStableFunc(ocs, func(a, b *openCall) int { return cmp.Compare(due(a), due(b)) })
	return ocs
}

// forget drops an open call: it has its outcome, or nobody wants it.
func (e *entry) forget(id string) {
	oc := e.open[id]
	if oc == nil {
		return
	}
	delete(e.open, id)
	if h := e.ex.host; h != nil && oc.call.Kind != kindChild {
		h.c.Drop(id)
	}
	oc.timer.stop()
	if oc.active != nil {
		oc.active.end(context.Canceled)
	}
}

// stopCall hands a cancel on to a step or a child.
func (e *entry) stopCall(id string) {
	oc := e.open[id]
	if oc == nil {
		return
	}
	oc.stop = true
	switch {
	case e.ex.host != nil:
		e.ex.host.c.Stop(id)
	case oc.call.Kind == kindChild:
		e.ex.cancelChild(e.ex.childOf(e.row, id), "its caller was cancelled")
	case oc.call.Kind != kindStep:
	case oc.active != nil:
		oc.active.end(context.Canceled)
	default:
		e.notSent(oc)
	}
}

// notSent ends a step that was cancelled while no attempt was at work: no
// further one will be sent.
func (e *entry) notSent(oc *openCall) {
	oc.timer.stop()
	f := oc.failure
	if f == nil {
		f = failed(context.Canceled, "cancelled before it started")
	}
	f.Attempts = oc.attempt
	e.ex.deliver(e, &incoming{ev: &journal.Event{Kind: journal.Done, Call: oc.call.ID, Attempt: oc.attempt, Failure: f}})
}

// expire ends a question that nobody answered in time.
func (e *entry) expire(id string) {
	oc := e.open[id]
	if oc == nil || oc.over {
		return
	}
	in := &incoming{ev: &journal.Event{Kind: journal.Done, Call: id, Failure: failed(ErrExpired, "nobody answered in time")}}
	if full, err := e.askOf(id); err == nil && full.State == "open" {
		c := *full
		c.State, c.Answered = "expired", e.ex.now()
		in.ask = &c
	}
	e.turn([]*incoming{in})
}

// dispatch sends a step's next attempt: now, or when its time has come.
func (e *entry) dispatch(oc *openCall) {
	ex, id := e.ex, oc.call.ID
	if ex.life.Err() != nil {
		return // at the next start
	}
	if oc.stop {
		e.notSent(oc)
		return
	}
	def := ex.defs.steps[oc.call.Name]
	if def == nil || def.fn == nil {
		ex.log.Warn("a step waits: this program does not define it", "step", oc.call.Name, "run_id", e.row.RunID)
		if !oc.held {
			oc.held = true
			e.store([]*incoming{{note: &journal.Note{Kind: "not_defined", Call: id, Attempt: oc.attempt}}})
		}
		return
	}
	if oc.due > time.Now().UnixMicro() {
		oc.timer = ex.timers.add(oc.due, func() {
			ex.deliver(e, &incoming{ctl: func(e *entry) {
				if c := e.open[id]; c == oc && !c.over {
					e.dispatch(c)
				}
			}})
		})
		return
	}
	// The history says of it that it waits, if only for the next process.
	mark := oc.held || oc.due != 0
	oc.due = 0
	oc.attempt++
	oc.held = false
	a := &attempt{ent: e, oc: oc, mark: mark, last: oc.beat, info: StepInfo{
		Step: oc.call.Name, Call: id, Key: oc.call.Key, Attempt: oc.attempt,
		WorkflowID: e.row.WorkflowID, RunID: e.row.RunID, Workflow: e.row.Name, Owner: e.row.Owner,
	}}
	oc.active = a
	ex.mu.Lock()
	if ex.stopping {
		ex.mu.Unlock()
		oc.active = nil
		return
	}
	ex.steps.Add(1)
	ex.mu.Unlock()
	e.launched = append(e.launched, func() task { return ex.attempt(e, oc, def.fn, a) })
}

// attempt makes one attempt of a step and reports its outcome.
func (ex *executor) attempt(e *entry, oc *openCall, fn stepFn, a *attempt) task {
	in, ok := ex.ready(e, oc, a)
	if !ok {
		ex.steps.Done()
		return nil
	}
	id, spec := oc.call.ID, oc.spec
	ex.atWork.Add(1)
	ex.working.Store(a, oc.call.Name)
	a.info.Started, a.info.Trace = time.Now(), e.cfg.Trace
	row := e.rowNow()
	e.observe(row, Observation{Kind: "step.started", At: a.info.Started, Name: oc.call.Name, Call: id, Attempt: a.info.Attempt, Took: a.queued})
	return a.run(a.place(ex.propagate(ex.life, e.cfg, headersOf(oc.call, e.cfg))), fn, in, spec.within(time.UnixMicro(oc.at), a.info.Started), func(out json.RawMessage, err error) task {
		defer ex.steps.Done()
		ex.atWork.Add(-1)
		ex.working.Delete(a)
		<-ex.slots
		if err == nil {
			if err = ex.checkSize(len(out), "the result of step", oc.call.Name); err != nil {
				err = unencodable{err}
			}
		}
		if ex.opts.Observer != nil {
			o := Observation{Kind: "step.ended", Name: oc.call.Name, Call: id, Attempt: a.info.Attempt, Since: a.info.Started, Took: time.Since(a.info.Started)}
			if err != nil {
				o.Err = toError(err)
			}
			e.observe(row, o)
		}
		if err == nil || ex.life.Err() == nil {
			return ex.outcome(e, oc, a, out, err)
		}
		// The engine stops: the attempt is lost, not failed, and does not
		// count. Of an at-most-once step the intent stands: unknown.
		if !spec.AtMostOnce {
			ex.deliver(e, &incoming{note: &journal.Note{Kind: "lost", Call: id, Attempt: a.info.Attempt - 1, Due: time.Now().UnixMicro(),
				Failure: &journal.Failure{Type: "shutdown", Kind: "shutdown", Message: "the engine was closed while the step was at work"}}})
		}
		return nil
	})
}

// ready waits for a place, reads the input, and for an at-most-once step puts
// the intent on disk; false if the attempt is not to be made.
func (ex *executor) ready(e *entry, oc *openCall, a *attempt) (json.RawMessage, bool) {
	id, spec := oc.call.ID, oc.spec
	if err := ex.place(oc, a); err != nil {
		if ex.life.Err() == nil {
			if loop := ex.outcome(e, oc, a, nil, err); loop != nil {
				ex.spawn(loop)
			}
		} else if !spec.AtMostOnce {
			ex.deliver(e, &incoming{note: &journal.Note{Kind: "lost", Call: id, Attempt: a.info.Attempt - 1, Due: time.Now().UnixMicro()}})
		}
		return nil, false
	}
	in, err := ex.unseal(oc.call.Payload)
	if err != nil {
		<-ex.slots
		ex.unreadable(e, oc, err)
		return nil, false
	}
	if spec.AtMostOnce || a.mark {
		// The intent is on disk before the effect can be; of a later attempt
		// too, so that a death while it is at work is known.
		// Nobody else is at work on the run, as a rule: then it is done here.
		sent := make(chan error, 1)
		if loop := ex.hand(e, &incoming{note: &journal.Note{Kind: "sent", Call: id, Attempt: a.info.Attempt}, ack: func(err error) { sent <- err }}); loop != nil {
			if next := loop(); next != nil {
				ex.spawn(next)
			}
		}
		if <-sent != nil {
			<-ex.slots
			return nil, false // it ended meanwhile, or nothing can be written any more
		}
	}
	return in, true
}

// place waits for a place among the steps at work.
func (ex *executor) place(oc *openCall, a *attempt) error {
	select {
	case ex.slots <- struct{}{}:
		return nil
	default:
	}
	ex.queued.Add(1)
	defer func(since time.Time) {
		ex.queued.Add(-1)
		a.queued = time.Since(since)
	}(time.Now())
	var late <-chan time.Time
	if q := time.Duration(oc.spec.QueueTimeout) * time.Microsecond; q > 0 && oc.attempt == 1 {
		t := time.NewTimer(time.Until(time.UnixMicro(oc.at).Add(q)))
		defer t.Stop()
		late = t.C
	}
	select {
	case ex.slots <- struct{}{}:
		return nil
	case <-a.asked():
		return Permanent(fmt.Errorf("cancelled before it started: %w", context.Canceled))
	case <-late:
		return Permanent(&Error{Type: "not_started", Code: "not_started", Message: "no place to run within QueueTimeout"})
	case <-ex.life.Done():
		return ErrShutdown
	}
}

// outcome reports what an attempt came to: the result, or a failure that is
// retried or final. The caller goes on with what it returns.
func (ex *executor) outcome(e *entry, oc *openCall, a *attempt, out json.RawMessage, err error) task {
	id, n := oc.call.ID, a.info.Attempt
	ev := &journal.Event{Kind: journal.Done, Call: id, Attempt: n}
	if err == nil {
		p, serr := ex.seal(out)
		if serr == nil {
			ev.Payload = p
			return ex.hand(e, &incoming{ev: ev})
		}
		err = unencodable{fmt.Errorf("the codec cannot encode the result: %w", serr)}
	}
	began := time.UnixMicro(oc.at)
	return ex.hand(e, &incoming{ctl: func(e *entry) {
		oc.active = nil
		if e.open[id] != oc {
			return
		}
		v := oc.spec.judge(err, n, began, time.Now(), oc.stop)
		v.failure.Attempts = n
		if !v.retry {
			ev.Failure = v.failure
			e.turn([]*incoming{{ev: ev}})
			return
		}
		e.again(oc, v.failure, time.Now().Add(v.delay).UnixMicro(), "attempt")
	}})
}

// again records a failed attempt and sets the time of the next one.
func (e *entry) again(oc *openCall, f *journal.Failure, due int64, kind string) {
	oc.failure, oc.due = f, due
	n := &journal.Note{Kind: kind, Call: oc.call.ID, Attempt: oc.attempt, Due: due, Failure: f, Details: e.ex.sealJSON(oc.beat)}
	e.store([]*incoming{{note: n}})
	e.dispatch(oc)
}

// beat keeps the details of a heartbeat for the next attempt, and with save
// for the next process.
func (e *entry) beat(oc *openCall, raw json.RawMessage, save bool) {
	e.ex.deliver(e, &incoming{ctl: func(e *entry) {
		if e.open[oc.call.ID] != oc {
			return
		}
		oc.beat = raw
		if save {
			e.store([]*incoming{{note: &journal.Note{Kind: "beat", Call: oc.call.ID, Attempt: oc.attempt, Details: e.ex.sealJSON(raw)}}})
		}
	}})
}

func (e *entry) rowNow() *journal.Run {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.row
}

// openCalls reads from a store what a run waits for: calls, events that were
// stored for it but not applied, and what its code waits for beside calls.
func openCalls(st journal.Store, row *journal.Run) ([]*openCall, []pending, []journal.Wait, error) {
	var waits []journal.Wait
	rows, err := st.Rows(row.Last, row.From)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("read the history of run %v: %w", refOf(row), err)
	}
	var calls []*openCall
	byID := map[string]*openCall{}
	var pend []pending
	end := func(id string) {
		if byID[id] != nil {
			byID[id].over = true
			delete(byID, id)
		}
	}
	for _, jr := range rows {
		ent, err := journal.Decode(jr)
		if err != nil {
			return nil, nil, nil, err
		}
		switch jr.Kind {
		case journal.KindTurn:
			waits = ent.Waits
		case journal.KindSeed:
			continue
		}
		for i, ev := range ent.Events {
			switch {
			case jr.Kind == journal.KindEvent:
				pend = append(pend, pending{row: jr.ID, idx: i, ev: ev})
			case ev.Ref != 0:
				for k, p := range pend {
					if p.row == ev.Ref && p.idx == ev.Index {
						pend = append(pend[:k], pend[k+1:]...)
						break
					}
				}
				fallthrough
			default:
				if ev.Kind == journal.Done || ev.Kind == journal.Fired {
					end(ev.Call)
				}
			}
			if c := byID[ev.Call]; c != nil && ev.Kind == journal.Running {
				c.began = true
			}
		}
		for _, c := range ent.Calls {
			if c.Settled() {
				continue
			}
			oc := &openCall{call: c, row: jr.ID, at: ent.At, due: c.Due}
			byID[c.ID] = oc
			calls = append(calls, oc)
		}
		for _, id := range ent.Closed {
			end(id)
		}
		for _, id := range ent.Stops {
			if c := byID[id]; c != nil {
				c.stop = true
			}
		}
		for _, n := range ent.Notes {
			c := byID[n.Call]
			if c == nil {
				continue
			}
			switch n.Kind {
			case "sent":
				c.sent, c.held, c.due = true, false, 0
			case "attempt", "lost":
				c.attempt, c.due, c.failure = n.Attempt, n.Due, n.Failure
			case "not_defined":
				c.held = true
			}
			if n.Details != nil {
				c.beat = n.Details
			}
		}
	}
	open := calls[:0]
	for _, c := range calls {
		if !c.over {
			open = append(open, c)
		}
	}
	// An outcome that is stored but not applied: the call is not sent again.
	for _, p := range pend {
		if c := byID[p.ev.Call]; c != nil && p.ev.Kind != journal.Running {
			c.over = true
		}
	}
	return open, pend, waits, nil
}

// recover puts all unfinished runs into the index and lets what they wait for
// go on.
func (ex *executor) recover(ctx context.Context) error {
	var all []*entry
	var opens [][]*openCall
	var rows []*journal.Run
	if err := ex.st.Unfinished(func(row *journal.Run) error {
		rows = append(rows, row)
		return ctx.Err()
	}); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	unfinished := map[int64]bool{}
	for _, row := range rows {
		open, pend, _, err := openCalls(ex.st, row)
		if err != nil {
			return fmt.Errorf("recover: %w", err)
		}
		e := ex.present(row.RID)
		e.fill(row, open, pend)
		all, opens = append(all, e), append(opens, open)
		unfinished[row.RID] = true
		if len(row.Paused) > 0 {
			ex.paused.Add(1)
		}
	}
	ex.unfinished = len(all)
	if err := ex.countDeaths(all, opens); err != nil {
		return err
	}
	now := time.Now().UnixMicro()
	// Timers of all runs fire in due order, so they are there before the first
	// of them can fire.
	for i, e := range all {
		for _, oc := range inDueOrder(opens[i]) {
			if (oc.call.Kind == kindTimer || oc.call.Kind == kindQuestion) && !e.poisoned() {
				e.launch(oc)
			}
		}
	}
	for i, e := range all {
		row := rows[i] // not e.row: the loops of others may reach it already
		open, orphan := opens[i], row.Parent != 0 && !unfinished[row.Parent] && !unfinished[ex.parentOf(row)]
		ex.deliver(e, &incoming{ctl: func(e *entry) {
			if e.row.Deadline > 0 && e.row.Deadline <= now {
				e.timeOut() // before it does anything
				return
			}
			if orphan {
				ex.closeChild(e, e.cfg.ParentClose)
			}
			if e.poisoned() {
				return
			}
			e.tryAgain()
			for _, oc := range open {
				// The run may have been taken up, and put away, before: then its
				// calls were launched, but for children that had begun, whose
				// outcome may have been on its way when the process ended.
				now := e.open[oc.call.ID]
				if now == oc || now != nil && now.call.Kind == kindChild {
					e.relaunch(now)
				}
			}
		}})
	}
	return nil
}

// inFlight reports whether a step was at work when the process ended.
func (oc *openCall) inFlight() bool {
	return oc.call.Kind == kindStep && !oc.over && oc.due == 0 && !oc.held
}

// countDeaths notes which runs were at work when the process ended. One at
// which that happens again and again is kept from killing the next process.
func (ex *executor) countDeaths(es []*entry, opens [][]*openCall) error {
	now := time.Now().UnixMicro()
	tx := &journal.Tx{}
	flush := func() error {
		if len(tx.Writes) == 0 {
			return nil
		}
		err := ex.commit(ex.commits, tx)
		tx = &journal.Tx{}
		return err
	}
	for i, e := range es {
		if e.problemKind() == "payload" {
			continue // nothing of it could be sent
		}
		ent := &journal.Entry{At: max(now, e.row.Changed)}
		for _, oc := range opens[i] {
			if !oc.inFlight() {
				continue
			}
			oc.spec = &stepSpec{}
			_ = json.Unmarshal(oc.call.Options, oc.spec)
			if oc.spec.AtMostOnce {
				continue // relaunch tells unknown from never sent
			}
			oc.attempt++
			oc.failure = &journal.Failure{Type: "lost", Message: "the process ended while the step was at work", Attempts: oc.attempt}
			oc.due = now + oc.spec.delay(oc.attempt).Microseconds()
			ent.Notes = append(ent.Notes, &journal.Note{Kind: "lost", Call: oc.call.ID, Attempt: oc.attempt, Due: oc.due, Failure: oc.failure})
		}
		if len(ent.Notes) == 0 {
			continue
		}
		row := *e.row
		row.Deaths++
		if row.Deaths >= ex.opts.maxDeaths() && len(row.Problem) == 0 {
			row.Problem = jsonOf(&Problem{Kind: "poison", Call: ent.Notes[0].Call, Since: microTime(now), Tries: row.Deaths,
				Text: fmt.Sprintf("the process died %d times in a row while this run's step was at work, which may be the cause; look at the step, then resume the run", row.Deaths)})
		}
		jr, err := journal.Encode(row.RID, journal.KindNote, ent)
		if err != nil {
			return err
		}
		tx.Writes = append(tx.Writes, journal.Write{Run: &row, Row: jr})
		e.setRow(&row)
		if len(tx.Writes) >= 500 {
			if err := flush(); err != nil {
				return fmt.Errorf("recover: %w", err)
			}
		}
	}
	if err := flush(); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	return nil
}

func (e *entry) poisoned() bool { return e.problemKind() == "poison" }

func (e *entry) problemKind() string { return problemOf(e.row).Kind }

// relaunch is launch after the process was started anew.
func (e *entry) relaunch(oc *openCall) {
	if oc.call.Kind != kindStep || oc.over {
		e.launch(oc)
		return
	}
	if e.answerFromSeed(oc) {
		return
	}
	if oc.spec == nil {
		oc.spec = &stepSpec{}
		_ = json.Unmarshal(oc.call.Options, oc.spec)
	}
	fail := func(f *journal.Failure) {
		f.Attempts = oc.attempt
		e.turn([]*incoming{{ev: &journal.Event{Kind: journal.Done, Call: oc.call.ID, Attempt: oc.attempt, Failure: f}}})
	}
	switch {
	case oc.sent && oc.spec.AtMostOnce:
		oc.attempt = 1
		fail(&journal.Failure{Type: "unknown", Kind: "unknown", Permanent: true,
			Message: fmt.Sprintf("%v (the process ended while the step was at work)", ErrOutcomeUnknown)})
	case oc.spec.MaxAttempts > 0 && oc.attempt >= oc.spec.MaxAttempts && oc.failure != nil && oc.failure.Type == "lost":
		fail(oc.failure)
	default:
		total := oc.spec.TotalTimeout
		if total > 0 && max(oc.due, time.Now().UnixMicro()) >= oc.at+total && oc.attempt > 0 {
			fail(&journal.Failure{Type: "timeout", Kind: "timeout", Message: "the total timeout ran out", Cause: oc.failure})
			return
		}
		e.dispatch(oc)
	}
}
