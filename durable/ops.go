package durable

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// Do implements [Backend].
func (ex *executor) Do(ctx context.Context, req *Request) (*Reply, error) {
	if req.Reads() {
		return ex.reader.Do(ctx, req)
	}
	if req.Op == OpHealth {
		return ex.health(), nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ex.mu.Lock()
	if ex.stopping {
		ex.mu.Unlock()
		return nil, fmt.Errorf("%s: %w: open it again", req.Op, ErrClosed)
	}
	ex.loops.Add(1) // Close waits for operations under way
	ex.mu.Unlock()
	defer ex.loops.Done()
	if err := ex.checkRequest(req); err != nil {
		return refuse(ErrTooLarge, req.Ref, "%v", err), nil
	}
	switch req.Op {
	case opStart:
		return ex.start(ctx, req)
	case opSignal:
		return ex.signal(ctx, req)
	case opQuery:
		return ex.query(ctx, req)
	case opUpdate:
		return ex.update(ctx, req)
	case opAnswer:
		return ex.answer(ctx, req)
	case opComplete:
		return ex.complete(ctx, req)
	case opPutBlob:
		return ex.putBlob(ctx, req)
	case opCancel:
		return ex.control(ctx, req, func(e *entry) error { return e.cancel(req, "") })
	case opTerminate:
		if rep, err := ex.terminateStuck(req); rep != nil || err != nil {
			return rep, err
		}
		return ex.control(ctx, req, func(e *entry) error {
			return e.finishNow(Terminated, &journal.Failure{Type: "terminated", Message: req.Reason}, req.Actor.Name, req.Reason)
		})
	case opReset:
		return ex.reset(ctx, req)
	case opSchedule, opUnschedule, opTrigger, opHoldSchedule:
		return ex.schedule(req)
	case opFork:
		return ex.fork(req)
	case opPause, opResume:
		return ex.control(ctx, req, func(e *entry) error { return e.hold(req) })
	}
	return refuse(ErrUnsupported, req.Ref, "operation %q: not known", req.Op), nil
}

// checkRequest holds what an operation brings to the size limits.
func (ex *executor) checkRequest(req *Request) error {
	if req.Op == opPutBlob {
		return ex.checkBlob(len(req.Data), "run", req.Ref.WorkflowID)
	}
	n := len(req.Payload)
	if o := req.Fork; o != nil {
		for id, a := range o.Answers {
			if err := ex.checkSize(len(a.Value), "the outcome of call", id); err != nil {
				return err
			}
		}
	}
	if o := req.Start; o != nil {
		n += len(o.Memo)
		if o.Signal != nil {
			if err := ex.checkSize(len(o.Signal.Payload), "the payload of signal", o.Signal.Name); err != nil {
				return err
			}
		}
	}
	return ex.checkSize(n, "the payload of", string(req.Op)+" "+req.Name)
}

// target finds the unfinished run that a request is for, and how it stood: a
// run id follows the chain to its end.
func (ex *executor) target(req *Request) (*entry, *journal.Run, *Reply) {
	ref := req.Ref
	for range 1000 {
		ex.mu.Lock()
		e := ex.byRun[ref.RunID]
		if ref.RunID == "" {
			e = ex.byID[ref.WorkflowID]
		}
		ex.mu.Unlock()
		if e != nil {
			row := e.rowNow()
			if ref.WorkflowID != "" && row.WorkflowID != ref.WorkflowID || req.Actor.Owner != "" && row.Owner != req.Actor.Owner {
				return nil, nil, refuse(ErrNotFound, ref, "run %v: not found; list the runs to see which there are", ref)
			}
			if e.stuck() && req.Op != opTerminate {
				p := &Problem{Kind: "deadlock", Text: "its code does not come back from outside of durable, so it takes nothing; describe it to see where, terminate it, or wait"}
				b := &BlockedError{WorkflowID: row.WorkflowID, RunID: row.RunID, Problem: *p}
				return nil, nil, &Reply{Err: &ReplyError{Code: "blocked", Message: b.Error(), Ref: refOf(row), State: Running, Problem: p}}
			}
			return e, row, nil
		}
		row, no := findRun(ex.st, ref, req.Actor)
		if no != nil {
			return nil, nil, no
		}
		if !State(row.State).Done() {
			return ex.entry(row.RID), row, nil
		}
		if State(row.State) != Continued {
			no := refuse(ErrFinished, refOf(row), "run %v has ended (%s); start a new one", refOf(row), row.State)
			no.Err.State = State(row.State)
			return nil, nil, no
		}
		// Jump to the end of the chain, unless the id has another run now.
		ref = Ref{row.WorkflowID, row.Next}
		if newest, err := ex.st.Find(row.WorkflowID, ""); err == nil && newest.Chain == row.Chain {
			ref = refOf(newest)
		}
	}
	return nil, nil, refuse(ErrNotFound, ref, "run %v: its chain has no end", ref)
}

// ask delivers something to a run and waits for what becomes of it.
func (ex *executor) ask(ctx context.Context, e *entry, in *incoming) error {
	ch := make(chan error, 1)
	in.ack = func(err error) { tell(ch, err) }
	ex.deliver(e, in)
	return ex.waitErr(ctx, ch)
}

func (ex *executor) waitErr(ctx context.Context, ch <-chan error) error {
	select {
	case err := <-ch:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-ex.commits.Done():
		select {
		case err := <-ch:
			return err
		default:
			return ErrClosed
		}
	}
}

// tell gives an outcome to who waits for it. Only the first one counts.
func tell[T any](ch chan<- T, v T) {
	select {
	case ch <- v:
	default:
	}
}

// settle makes a reply of an error that is an operation's outcome, and leaves
// others (the caller's context, a dead store) as they are.
func settle(ref Ref, err error) (*Reply, error) {
	var op *opError
	var blocked *BlockedError
	switch {
	case err == nil:
		return &Reply{Ref: ref}, nil
	case errors.As(err, &op):
		return &Reply{Err: op.ReplyError}, nil
	case errors.As(err, &blocked):
		return &Reply{Err: &ReplyError{Code: "blocked", Message: blocked.Error(), Ref: ref, Problem: &blocked.Problem}}, nil
	}
	return nil, err
}

// control carries out a control operation on the run's loop.
func (ex *executor) control(ctx context.Context, req *Request, fn func(e *entry) error) (*Reply, error) {
	for {
		e, row, no := ex.target(req)
		if no != nil {
			return no, nil
		}
		ch := make(chan error, 1)
		ex.deliver(e, &incoming{ack: func(err error) { tell(ch, err) }, ctl: func(e *entry) {
			if State(e.row.State).Done() {
				tell(ch, finishedError(e.row))
				return
			}
			tell(ch, fn(e))
		}})
		err := ex.waitErr(ctx, ch)
		if errors.Is(err, ErrFinished) && ex.continued(row.RID, req.Ref) {
			continue // it moved on while the request was on its way
		}
		return settle(refOf(row), err)
	}
}

// onward does something to a run on its loop, or to the one that continues it
// meanwhile, or that it was reset to.
func (ex *executor) onward(e *entry, fn func(e *entry)) {
	ex.deliver(e, &incoming{ctl: func(e *entry) {
		if e.row.Next == "" {
			fn(e)
		} else if next, err := ex.st.Find(e.row.WorkflowID, e.row.Next); err == nil {
			ex.onward(ex.entry(next.RID), fn)
		}
	}})
}

// cancelChild cancels a run in the name of its parent. It may be done again
// after a restart; for the same reason it counts once.
func (ex *executor) cancelChild(e *entry, why string) {
	ex.onward(e, func(e *entry) {
		_ = e.cancel(&Request{Reason: why}, fmt.Sprintf("cancel/%d/%s/%s", e.row.Parent, e.row.ParentCall, why))
	})
}

// cancel asks the code to stop. It lifts a pause. One with an id counts once,
// over the chain; empty: always.
func (e *entry) cancel(req *Request, id string) error {
	if State(e.row.State).Done() {
		return finishedError(e.row)
	}
	if id != "" && e.had(id) {
		return nil
	}
	if len(e.row.Paused) > 0 {
		if err := e.hold(&Request{Op: opResume, Actor: req.Actor, Reason: "cancelled"}); err != nil {
			return err
		}
		if State(e.row.State).Done() {
			return nil
		}
	}
	var err error
	e.turn([]*incoming{{
		ev:  &journal.Event{Kind: journal.Canceled, ID: id, By: req.Actor.Name, Name: req.Reason, Trace: req.Trace},
		ack: func(x error) { err = x },
	}})
	return err
}

// had reports whether an event of that id has reached the run.
func (e *entry) had(id string) bool {
	for _, p := range e.pend {
		if p.ev.ID == id {
			return true
		}
	}
	r, _ := e.wake()
	return r != nil && r.seen[id]
}

// hold pauses or resumes the run.
func (e *entry) hold(req *Request) error {
	ex := e.ex
	pause := req.Op == opPause
	if req.Tree && ex.host != nil {
		ex.host.c.Tree(req)
	} else if req.Tree {
		for id, c := range e.open {
			if c.call.Kind != kindChild {
				continue
			}
			if child := ex.childOf(e.row, id); child != nil {
				r := *req
				ex.deliver(child, &incoming{ctl: func(c *entry) {
					if !State(c.row.State).Done() {
						_ = c.hold(&r)
					}
				}})
			}
		}
	}
	kind := "resumed"
	if pause {
		kind = "paused"
	}
	if pause == (len(e.row.Paused) > 0) {
		if !pause && len(e.row.Problem) > 0 {
			// Resume makes a blocked run try again.
			if err := e.clearProblem(req); err != nil {
				return err
			}
		}
		return nil
	}
	row := *e.row
	now := max(ex.now(), row.Changed)
	row.Changed, row.Paused = now, nil
	if pause {
		row.Paused = pauseOf(req, now)
	}
	jr, err := journal.Encode(row.RID, journal.KindNote, &journal.Entry{At: now, Notes: []*journal.Note{{Kind: kind, By: req.Actor.Name, Text: req.Reason}}})
	if err == nil {
		err = e.write(&journal.Tx{Writes: []journal.Write{{Run: &row, Row: jr}}})
	}
	if err != nil {
		return fmt.Errorf("%s run %v: %w", req.Op, refOf(e.row), err)
	}
	e.setRow(&row)
	ex.changed(row.RID)
	if !pause {
		if len(row.Problem) > 0 {
			return e.clearProblem(req)
		}
		if len(e.pend) > 0 {
			e.turn(nil)
		}
	}
	return nil
}

func pauseOf(req *Request, now int64) json.RawMessage {
	return jsonOf(&Pause{By: req.Actor.Name, Reason: req.Reason, Since: microTime(now), ID: req.ID})
}

// clearProblem lets a blocked run try again.
func (e *entry) clearProblem(*Request) error {
	if e.poisoned() {
		row := *e.row
		row.Problem, row.Deaths = nil, 0
		if err := e.write(&journal.Tx{Writes: []journal.Write{{Run: &row}}}); err != nil {
			return err
		}
		e.setRow(&row)
		for _, oc := range inDueOrder(slices.Collect(maps.Values(e.open))) {
			if oc.active == nil && oc.timer == nil {
				e.relaunch(oc)
			}
		}
		return nil
	}
	e.retry = true
	e.turn(nil)
	return nil
}

// signal puts a signal into the run's mailbox.
func (ex *executor) signal(ctx context.Context, req *Request) (*Reply, error) {
	for {
		e, row, no := ex.target(req)
		if no != nil {
			return ex.already(req, no), nil
		}
		ref := refOf(row)
		if no := ex.accepts(row, KindSignal, req.Name, ref); no != nil {
			return no, nil
		}
		p, err := ex.seal(req.Payload)
		if err != nil {
			return nil, fmt.Errorf("signal %q: encode: %w", req.Name, err)
		}
		ev := &journal.Event{Kind: journal.Signaled, ID: req.ID, Name: req.Name, By: req.Actor.Name, Trace: req.Trace, Payload: p}
		err = ex.ask(ctx, e, &incoming{ev: ev})
		if errors.Is(err, ErrFinished) && ex.continued(row.RID, req.Ref) {
			continue // it moved on while the signal was on its way
		}
		rep, err := settle(ref, err)
		return ex.already(req, rep), err
	}
}

// already looks whether a run that has ended had taken the message while it
// could: who asks again with the same id has the same answer.
func (ex *executor) already(req *Request, no *Reply) *Reply {
	if no == nil || no.Err == nil || no.Err.Code != codeOf(ErrFinished) {
		return no
	}
	row, err := ex.st.Find(no.Err.Ref.WorkflowID, no.Err.Ref.RunID)
	if err != nil {
		return no
	}
	switch req.Op {
	case opSignal:
		if ex.hasSignal(row, req.ID) {
			return &Reply{Ref: refOf(row)}
		}
	case opUpdate:
		if rep := ex.pastReply(row, req.ID); rep != nil {
			return ex.replied(refOf(row), rep)
		}
	}
	return no
}

// continued reports whether a run was continued as new, or reset while only
// its workflow id was addressed.
func (ex *executor) continued(rid int64, to Ref) bool {
	row, err := ex.st.Run(rid)
	return err == nil && (State(row.State) == Continued || row.Next != "" && to.RunID == "")
}

// accepts refuses messages that the run's workflow does not declare. A run
// whose code is missing takes them: it may be deployed again.
func (ex *executor) accepts(row *journal.Run, kind Kind, name string, ref Ref) *Reply {
	def := ex.defs.wfs[row.Name]
	if def == nil {
		return nil
	}
	if _, ok := def.accepts[defKey{kind, name}]; ok {
		return nil
	}
	var have []string
	for k := range def.accepts {
		if k.kind == kind {
			have = append(have, k.name)
		}
	}
	return refuse(ErrNotAccepted, ref, "workflow %q does not accept the %s %q (it accepts %s); declare it in WorkflowOptions.Accepts", row.Name, kind, name, listOr(have))
}

// update sends an update and waits for its answer.
func (ex *executor) update(ctx context.Context, req *Request) (*Reply, error) {
	for {
		e, row, no := ex.target(req)
		if no != nil {
			return ex.already(req, no), nil
		}
		ref := refOf(row)
		if no := ex.accepts(row, KindUpdate, req.Name, ref); no != nil {
			return no, nil
		}
		p, err := ex.seal(req.Payload)
		if err != nil {
			return nil, fmt.Errorf("update %q: encode: %w", req.Name, err)
		}
		type outcome struct {
			rep *journal.Reply
			err error
		}
		ch := make(chan outcome, 1)
		ex.deliver(e, &incoming{
			ev:     &journal.Event{Kind: journal.Asked, ID: req.ID, Name: req.Name, By: req.Actor.Name, Trace: req.Trace, Payload: p},
			answer: func(rep *journal.Reply, err error) { tell(ch, outcome{rep, err}) },
		})
		var o outcome
		select {
		case o = <-ch:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-ex.life.Done():
			return nil, fmt.Errorf("update %q: %w: if it was accepted it will be carried out; ask again with the same id", req.Name, ErrClosed)
		}
		if errors.Is(o.err, ErrFinished) && ex.continued(row.RID, req.Ref) {
			continue
		}
		if o.err != nil {
			rep, err := settle(ref, o.err)
			return ex.already(req, rep), err
		}
		return ex.replied(ref, o.rep), nil
	}
}

// replied is the reply to an update that was carried out.
func (ex *executor) replied(ref Ref, rep *journal.Reply) *Reply {
	if rep.Failure != nil {
		f := fromFailure(rep.Failure)
		return &Reply{Err: &ReplyError{Code: "failure", Message: f.Error(), Ref: ref, Failure: f}}
	}
	out, err := ex.unseal(rep.Payload)
	if err != nil {
		return storeFailed(ref, err)
	}
	return &Reply{Ref: ref, Payload: out}
}

// answer answers a question.
func (ex *executor) answer(ctx context.Context, req *Request) (*Reply, error) {
	ask, err := ex.st.Ask(req.Name)
	if errors.Is(err, journal.ErrNotFound) || err == nil && req.Actor.Owner != "" && ask.Owner != req.Actor.Owner {
		return refuse(ErrNotFound, Ref{}, "question %q: not found; list the open questions to see which there are", req.Name), nil
	}
	if err != nil {
		return storeFailed(Ref{}, err), nil
	}
	if ask.State != "open" {
		return closedQuestion(ask, req), nil
	}
	e := ex.entry(ask.RID)
	if def, ok := ex.defs.defs[defKey{KindQuestion, ask.Name}].(answerChecker); ok {
		if err := def.checkAnswer(req.Payload); err != nil {
			return refuse(ErrBadInput, Ref{}, "answer to question %q: %v", ask.Name, err), nil
		}
	}
	if ask.Digest != "" && req.Digest != ask.Digest {
		return refuse(ErrBadInput, Ref{}, "answer to question %q is for another subject: its digest is %q, the question's %q; look at the question again, and give its digest with the answer (AnswerOptions.Digest)", ask.Name, req.Digest, ask.Digest), nil
	}
	p, err := ex.seal(req.Payload)
	if err != nil {
		return nil, fmt.Errorf("answer %q: encode: %w", req.Name, err)
	}
	ch := make(chan error, 1)
	late := make(chan *Reply, 1)
	ex.deliver(e, &incoming{ack: func(err error) { tell(ch, err) }, ctl: func(e *entry) {
		now, err := ex.st.Ask(req.Name)
		if err != nil {
			tell(ch, err)
			return
		}
		oc := e.open[ask.Call]
		if oc == nil || oc.over || now.State != "open" {
			tell(late, closedQuestion(now, req))
			tell(ch, nil)
			return
		}
		c := *now
		c.State, c.Answer, c.By, c.Note, c.Answered, c.RequestID = "answered", p, req.Actor.Name, req.Reason, ex.now(), req.ID
		e.turn([]*incoming{{
			ev:  &journal.Event{Kind: journal.Done, Call: ask.Call, By: req.Actor.Name, Name: req.Reason, Payload: p, Trace: req.Trace},
			ask: &c, ack: func(err error) { tell(ch, err) },
		}})
	}})
	err = ex.waitErr(ctx, ch)
	select {
	case no := <-late:
		return no, nil
	default:
	}
	row, no := findRun(ex.st, Ref{RunID: ask.ID[:len(ask.ID)-len(ask.Call)-1]}, req.Actor)
	if no != nil {
		return no, nil
	}
	return settle(refOf(row), err)
}

// closedQuestion is the reply to an answer that comes too late.
func closedQuestion(ask *journal.Ask, req *Request) *Reply {
	switch ask.State {
	case "answered":
		if ask.RequestID == req.ID {
			return &Reply{}
		}
		by := ask.By
		if by == "" {
			by = "somebody"
		}
		return refuse(ErrAnswered, Ref{}, "question %q was answered by %s at %s", ask.Name, by, microTime(ask.Answered).Format(time.RFC3339))
	case "expired":
		return refuse(ErrExpired, Ref{}, "question %q expired at %s", ask.Name, microTime(ask.Answered).Format(time.RFC3339))
	}
	return refuse(ErrFinished, Ref{}, "question %q is no longer open: its run does not wait for it any more", ask.Name)
}

// complete keeps or breaks a callback's promise.
func (ex *executor) complete(ctx context.Context, req *Request) (*Reply, error) {
	runID, call, secret, ok := splitToken(req.Name)
	bad := refuse(ErrNotFound, Ref{}, "callback: the token is not known")
	if !ok {
		return bad, nil
	}
	row, err := ex.st.Find("", runID)
	switch {
	case errors.Is(err, journal.ErrNotFound), err == nil && !rightToken(row, call, secret):
		return bad, nil
	case err != nil:
		return storeFailed(Ref{}, err), nil
	}
	if row = heir(ex.st, row); State(row.State).Done() {
		return refuse(ErrFinished, refOf(row), "callback: run %v has ended (%s)", refOf(row), row.State), nil
	}
	p, err := ex.seal(req.Payload)
	if err != nil {
		return nil, err
	}
	ch := make(chan error, 1)
	ref := refOf(row)
	ex.deliver(ex.entry(row.RID), &incoming{ack: func(err error) { tell(ch, err) }, ctl: func(e *entry) {
		oc := e.open[call]
		if oc == nil || oc.over {
			ch <- refuse(ErrAnswered, ref, "callback: it was completed before, or its run does not wait for it any more").err()
			return
		}
		ev := &journal.Event{Kind: journal.Done, Call: call, By: req.Actor.Name, Payload: p}
		if req.Failure != nil {
			ev.Payload, ev.Failure = nil, toFailure(req.Failure)
		}
		e.turn([]*incoming{{ev: ev, ack: func(err error) { tell(ch, err) }}})
	}})
	return settle(ref, ex.waitErr(ctx, ch))
}

func rightToken(row *journal.Run, call, secret string) bool {
	cfg := configOf(row)
	return subtle.ConstantTimeCompare([]byte(secret), []byte(callbackSecret(cfg.Secret, call))) == 1
}

func (ex *executor) putBlob(ctx context.Context, req *Request) (*Reply, error) {
	row, no := findRun(ex.st, req.Ref, req.Actor)
	if no != nil {
		return no, nil
	}
	sum := blobDigest(req.Data)
	b, err := ex.blob(sum, row.Chain, req.Data)
	if err != nil {
		return nil, err
	}
	if err := ex.commit(ctx, &journal.Tx{Blobs: []*journal.Blob{b}}); err != nil {
		return nil, fmt.Errorf("put a blob: %w", err)
	}
	return &Reply{Ref: refOf(row), Name: sum}, nil
}

func (ex *executor) health() *Reply {
	h := &Health{OK: true, Role: "executor", Steps: int(ex.atWork.Load()), Queued: int(ex.queued.Load()), Paused: int(ex.paused.Load())}
	ex.mu.Lock()
	h.Running = ex.unfinished
	h.Awake = ex.awake.n + ex.busy.n
	if ex.stopping {
		h.OK, h.Text = false, "the engine is closed"
	}
	all := make([]*entry, 0, len(ex.entries))
	for _, e := range ex.entries {
		all = append(all, e)
	}
	ex.mu.Unlock()
	for _, e := range all {
		if row := e.rowNow(); row != nil && len(row.Problem) > 0 {
			h.Blocked++
		}
	}
	if err := ex.st.Health(); err != nil {
		h.OK, h.Text = false, err.Error()
	}
	return &Reply{Health: h}
}

func listOr(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	out := ""
	for i, n := range sortedStrings(names) {
		if i > 0 {
			out += ", "
		}
		out += fmt.Sprintf("%q", n)
	}
	return out
}
