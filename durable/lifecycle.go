package durable

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

const (
	// seenKept is how many ids of signals and answers of updates are carried
	// over continue-as-new; answers only as far as they have repliesKept bytes
	// in all.
	seenKept    = 1000
	repliesKept = 256 << 10
)

// mayContinue reports why the run can't be continued with an input, nil if it
// can.
func (r *run) mayContinue(in json.RawMessage) error {
	if err := r.def.check(in); err != nil {
		return fmt.Errorf("continue as new: %w", err)
	}
	unread, size := 0, 0
	for _, m := range r.mail {
		unread += len(m.letters)
		for _, l := range m.letters {
			size += len(l.payload)
		}
	}
	if r.ex.host != nil {
		size += size/3 + 256*unread // they travel as text
	}
	switch limit := r.ex.maxPayload(); {
	case len(in) > limit:
		return fmt.Errorf("continue as new: %w", r.ex.checkSize(len(in), "the input of workflow", r.def.name))
	case len(in)+size > limit:
		return fmt.Errorf("continue as new: the input of workflow %q has %d bytes and its %d unread signals %d, the limit for both is %d: %w: receive the signals first",
			r.def.name, len(in), unread, size, limit, ErrTooLarge)
	}
	return nil
}

// carryOn prepares the run that continues this one. An error fails the run;
// it comes only where ContinueAsNew was not called in the workflow, which
// would have told.
func (r *run) carryOn(c *continueError) error {
	in := c.in
	if r.replaying {
		return nil
	}
	if err := r.def.check(in); err != nil {
		return fmt.Errorf("continue as new: %w", err)
	}
	if err := r.ex.checkSize(len(in), "the input of workflow", r.def.name); err != nil {
		return fmt.Errorf("continue as new: %w", err)
	}
	cfg := r.cfg
	cfg.Counter++
	cfg.StartAt, cfg.Carried = 0, nil
	cfg.Seen = r.seenOrder
	if n := len(cfg.Seen); n > seenKept {
		cfg.Seen = cfg.Seen[n-seenKept:]
	}
	cfg.Replies = nil
	for i, size := len(r.replyOrder)-1, 0; i >= 0 && len(cfg.Replies) < seenKept; i-- {
		rep := r.replyOrder[i]
		if size += len(rep.Payload) + len(rep.ID); size > repliesKept {
			break
		}
		cfg.Replies = append(cfg.Replies, carriedReply{ID: rep.ID, Payload: rep.Payload, Failure: rep.Failure})
	}
	slices.Reverse(cfg.Replies)
	for _, name := range sortedKeys(r.mail) {
		for _, l := range r.mail[name].letters {
			cfg.Carried = append(cfg.Carried, carriedSignal{Name: name, ID: l.id, By: l.by, Payload: l.payload})
		}
	}
	r.nextInput = in
	next := *r.row
	next.RID, next.RunID = 0, newUUID()
	next.Key = ""
	next.State, next.Problem, next.Paused = string(Running), nil, nil
	next.Scope = effectKey(r.row.Scope, fmt.Sprintf("continued/%d", cfg.Counter))
	next.Digest = startDigest(r.def.name, in)
	next.Next, next.Turns, next.Deaths, next.Last, next.From, next.Closed = "", 0, 0, 0, 0, 0
	next.Result, next.Failure = nil, nil
	r.next = &next
	r.nextConfig = cfg
	return nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// addNext adds the run that continues r to the transaction that ends r, with
// the stored events that r did not get to.
func (e *entry) addNext(tx *journal.Tx, r *run, pend []pending, now int64) error {
	next := r.next
	cfg := r.nextConfig
	cfg.Offsets = maps.Clone(r.ends)
	next.Config = jsonOf(cfg)
	next.Created, next.Changed = now, now
	next.Status = tx.Writes[0].Run.Status
	e.ex.mu.Lock()
	next.RID = e.ex.nextRID
	e.ex.nextRID++
	e.ex.mu.Unlock()
	p, err := e.ex.seal(r.nextInput)
	if err != nil {
		return fmt.Errorf("encode the input: %w", err)
	}
	first := &journal.Entry{At: now, Events: []*journal.Event{{Kind: journal.Started, At: now, Name: next.Name, Payload: p}}}
	for _, left := range pend {
		if left.ev.Kind == journal.Signaled || left.ev.Kind == journal.Canceled {
			first.Events = append(first.Events, left.ev)
		}
	}
	jr, err := journal.Encode(next.RID, journal.KindEvent, first)
	if err != nil {
		return err
	}
	next.From = -1
	tx.Writes = append(tx.Writes, journal.Write{New: true, Run: next, Row: jr})
	r.nextEvents = first.Events
	r.nextRow = jr
	if h := e.ex.host; h != nil {
		h.next = &rewind{next: next, write: tx.Writes[len(tx.Writes)-1]}
		return nil
	}
	r.follow = e.ex.reserve(next.RID)
	return nil
}

// over does what follows the end of a run: its row is committed.
func (e *entry) over(r *run, rest []*incoming) {
	ex := e.ex
	row := e.row
	ex.drop(e)
	at := microTime(row.Closed)
	for id, c := range e.open {
		if c.call.Kind == kindChild && ex.host == nil {
			ex.orphan(row, c)
		}
		e.forget(id)
		e.waited(row, c, id, Observation{At: at, Dropped: true})
	}
	for id, ins := range e.asking {
		for _, in := range ins {
			in.answer(nil, finishedError(row))
		}
		delete(e.asking, id)
	}
	e.deadline.stop()
	e.starting.stop()
	e.putAway()
	e.observeEnd(row)
	if h := ex.host; h != nil {
		h.keep(rest)
		ackAll(rest, finishedError(row))
		return
	}
	if r != nil && r.next != nil {
		ex.deliver(r.follow, rest...)
		ex.admit(r.follow, r.next, pendOf(r.nextRow, r.nextEvents))
		return
	}
	ackAll(rest, finishedError(row))
	ex.plannedEnded(e.cfg)
	if row.Parent != 0 {
		ex.tellParent(row)
	}
}

func pendOf(jr *journal.Row, evs []*journal.Event) []pending {
	out := make([]pending, len(evs))
	for i, ev := range evs {
		out[i] = pending{row: jr.ID, idx: i, ev: ev}
	}
	return out
}

// configOf reads what a run was started with.
func configOf(row *journal.Run) *runConfig {
	cfg := &runConfig{}
	if len(row.Config) > 0 {
		_ = json.Unmarshal(row.Config, cfg)
	}
	return cfg
}

// timeOut ends a run whose time is up.
func (e *entry) timeOut() {
	_ = e.finishNow(TimedOut, &journal.Failure{Type: "timeout", Kind: "timeout", Message: "the run's timeout ran out"}, "", "")
}

// finishNow ends a run without its code: terminated, timed out.
func (e *entry) finishNow(state State, f *journal.Failure, by, reason string) error {
	if State(e.row.State).Done() {
		return finishedError(e.row)
	}
	row, tx, err := e.ex.ending(e.row, state, f, by, reason)
	if err == nil {
		err = e.write(tx)
	}
	if err != nil {
		return fmt.Errorf("end run %v: %w", refOf(e.row), err)
	}
	e.setRow(row)
	e.over(nil, nil)
	e.ex.changed(row.RID)
	return nil
}

// ending makes the transaction that ends a run from outside of its code, with
// the row that it leaves. Its open questions are withdrawn.
func (ex *executor) ending(was *journal.Run, state State, f *journal.Failure, by, reason string) (*journal.Run, *journal.Tx, error) {
	now := max(ex.now(), was.Changed)
	row := *was
	row.State, row.Closed, row.Changed, row.Failure, row.From = string(state), now, now, f, -1
	row.Paused, row.Problem = nil, nil
	jr, err := journal.Encode(row.RID, journal.KindNote, &journal.Entry{At: now,
		Notes: []*journal.Note{{Kind: string(state), By: by, Text: reason}},
		End:   &journal.End{State: string(state), Failure: f}})
	if err != nil {
		return nil, nil, err
	}
	asks, err := ex.st.Asks(row.RID, true)
	if err != nil {
		return nil, nil, err
	}
	tx := &journal.Tx{Writes: []journal.Write{{Run: &row, Row: jr}}}
	for _, a := range asks {
		c := *a
		c.State, c.Answered = "withdrawn", now
		tx.Asks = append(tx.Asks, &c)
	}
	return &row, tx, nil
}

// orphan applies a child's parent close policy.
func (ex *executor) orphan(parent *journal.Run, c *openCall) {
	var spec childSpec
	_ = json.Unmarshal(c.call.Options, &spec)
	if child := ex.childOf(parent, c.call.ID); child != nil {
		ex.closeChild(child, spec.ParentClose)
	}
}

// childOf is the unfinished run that a child call stands for: the newest of
// its chain.
func (ex *executor) childOf(parent *journal.Run, call string) *entry {
	row, err := ex.childRow(parent, call)
	if err != nil {
		return nil
	}
	if State(row.State).Done() {
		return nil
	}
	return ex.entry(row.RID)
}

func (ex *executor) closeChild(child *entry, policy ParentClose) {
	const why = "its parent has ended"
	switch policy {
	case ParentCloseCancel:
		ex.cancelChild(child, why)
	case ParentCloseTerminate:
		ex.onward(child, func(e *entry) { _ = e.finishNow(Terminated, nil, "", why) })
	}
}

// tellParent gives the outcome of a child to its parent.
func (ex *executor) tellParent(row *journal.Run) {
	ex.deliver(ex.entry(ex.parentOf(row)), ex.childOutcome(row)...)
}

// childStarted tells a parent its child's address.
func (ex *executor) childStarted(row *journal.Run) (*incoming, error) {
	addr, err := ex.seal(jsonOf(refOf(row)))
	if err != nil {
		return nil, fmt.Errorf("the codec cannot encode an address: %w", err)
	}
	return &incoming{ev: &journal.Event{Kind: journal.Running, Call: row.ParentCall, Payload: addr}}, nil
}

// childOutcome tells a parent how its child ended, and before that, if it was
// not told yet, that it had started.
func (ex *executor) childOutcome(row *journal.Run) []*incoming {
	out := []*incoming{{ev: childDone(row)}}
	if started, err := ex.childStarted(row); err == nil {
		out = append([]*incoming{started}, out...)
	}
	return out
}

func childDone(row *journal.Run) *journal.Event {
	ev := &journal.Event{Kind: journal.Done, Call: row.ParentCall, Payload: row.Result}
	if State(row.State) != Completed {
		ev.Payload, ev.Failure = nil, runFailure(row)
	}
	return ev
}

// startChild starts the run of a child call, or finds it.
func (ex *executor) startChild(e *entry, oc *openCall) {
	parent := e.rowNow()
	in, err := ex.unseal(oc.call.Payload)
	if err != nil {
		ex.unreadable(e, oc, err)
		return
	}
	row, err := ex.childRow(parent, oc.call.ID)
	if err != nil {
		row, err = ex.newChild(e, parent, oc, in)
	}
	if err != nil {
		ex.deliver(e, &incoming{ev: &journal.Event{Kind: journal.Done, Call: oc.call.ID, Failure: toFailure(toError(err))}})
		return
	}
	if State(row.State).Done() {
		ex.deliver(e, ex.childOutcome(row)...)
		return
	}
	started, err := ex.childStarted(row)
	if err != nil {
		ex.unreadable(e, oc, err)
		return
	}
	ex.deliver(e, &incoming{ctl: func(e *entry) {
		c := e.open[oc.call.ID]
		if c == nil {
			return
		}
		if c.stop {
			ex.cancelChild(ex.entry(row.RID), "its caller was cancelled")
		}
	}}, started)
}

// unreadable blocks a run one of whose calls can't be sent because its stored
// input can't be read: it waits for the right codec.
func (ex *executor) unreadable(e *entry, oc *openCall, err error) {
	ex.deliver(e, &incoming{ctl: func(e *entry) {
		if e.open[oc.call.ID] != oc {
			return
		}
		oc.active = nil
		e.block(&Problem{Kind: "payload", Call: oc.call.ID,
			Text: fmt.Sprintf("the codec cannot decode the input of %s %q: %v; open the file with the key it was written with", oc.call.Kind, oc.call.Name, err)}, nil)
	}})
}

func (ex *executor) newChild(e *entry, parent *journal.Run, oc *openCall, in json.RawMessage) (*journal.Run, error) {
	var spec childSpec
	_ = json.Unmarshal(oc.call.Options, &spec)
	pcfg := configOf(parent)
	id := spec.ID
	if id == "" {
		id = parent.WorkflowID + "/" + parent.RunID[:8] + "/" + oc.call.ID
	}
	ref := refOf(parent)
	headers := headersOf(oc.call, pcfg)
	start := newRunSpec{
		name: oc.call.Name, id: id, input: in, tags: spec.Tags, timeout: spec.Timeout, owner: parent.Owner,
		parent: parent, call: oc.call.ID, scope: oc.call.Key, reuse: ReuseAllow,
		cfg: runConfig{ParentClose: spec.ParentClose, Trace: e.trace(parent, oc.call.ID), Headers: headers, Parent: &ref},
	}
	row, existing, err := ex.create(start)
	if err == nil && existing && !State(row.State).Done() && slices.Contains(pcfg.Before, row.Parent) {
		// A call that a reset took back has started it.
		if _, terr := ex.Do(ex.life, &Request{Op: opTerminate, Ref: refOf(row), Reason: "its parent was reset"}); terr == nil {
			row, existing, err = ex.create(start)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("start child workflow %q: %w", oc.call.Name, err)
	}
	if existing {
		return nil, fmt.Errorf("start child workflow %q: %w", oc.call.Name, &TakenError{WorkflowID: row.WorkflowID, RunID: row.RunID,
			Text: fmt.Sprintf("workflow id %q is taken by another run (%s)", row.WorkflowID, row.RunID)})
	}
	return row, nil
}

// message sends a signal from a workflow.
func (r *run) message(ctx context.Context, to Ref, name string, payload json.RawMessage, o *SendOptions) error {
	spec := tellSpec{To: to}
	if o != nil {
		spec.ID = o.ID
	}
	return r.tell(ctx, callSpec{kind: kindMessage, name: name, input: payload, opts: spec})
}

// stopOther asks another run to cancel, from a workflow.
func (r *run) stopOther(ctx context.Context, to Ref, reason string) error {
	return r.tell(ctx, callSpec{kind: kindStop, name: to.WorkflowID, opts: tellSpec{To: to, Reason: reason}})
}

// tellSpec is the recorded form of a message's address.
type tellSpec struct {
	To     Ref    `json:"to"`
	ID     string `json:"id,omitempty"`
	Reason string `json:"reason,omitempty"`
}

func (r *run) tell(ctx context.Context, spec callSpec) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var no error
	if !r.recorded(spec.kind, spec.name) {
		if no = r.ex.checkSize(len(spec.input), "the payload of signal", spec.name); no == nil {
			no = r.room()
		}
	}
	f, err := r.offer(ctx, spec, no)
	if err != nil {
		return err
	}
	// It is quick, and once issued it will be carried out: wait for the truth.
	r.park(func() bool { return f.done })
	if f.fail != nil {
		return fromFailure(f.fail)
	}
	return nil
}

// sendOut carries out a message or stop call. It may run twice: the id makes
// the second one a success.
func (ex *executor) sendOut(e *entry, oc *openCall) {
	var spec tellSpec
	_ = json.Unmarshal(oc.call.Options, &spec)
	row := e.rowNow()
	in, err := ex.unseal(oc.call.Payload)
	if err != nil {
		ex.unreadable(e, oc, err)
		return
	}
	req := &Request{Op: opSignal, ID: cmp.Or(spec.ID, effectKey(row.Scope, oc.call.ID)), Ref: spec.To, Name: oc.call.Name, Payload: in,
		Actor: Actor{Name: "workflow " + row.WorkflowID, Owner: row.Owner}, Trace: e.trace(row, oc.call.ID)}
	if oc.call.Kind == kindStop {
		req.Op, req.Name, req.Reason = opCancel, "", spec.Reason
	}
	rep, err := ex.Do(ex.life, req)
	if err == nil {
		err = rep.err()
	}
	if ex.life.Err() != nil && err != nil {
		return // goes out again at the next start
	}
	var stuck *BlockedError
	if errors.As(err, &stuck) {
		ex.timers.add(time.Now().Add(time.Second).UnixMicro(), func() { ex.work(func() { ex.sendOut(e, oc) }) })
		return
	}
	ex.deliver(e, &incoming{ev: &journal.Event{Kind: journal.Done, Call: oc.call.ID, Failure: toFailure(toError(err))}})
}
