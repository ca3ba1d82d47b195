package durable

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// ForkOptions say how a run is forked. The zero value repeats all that is on
// record.
type ForkOptions struct {
	// WorkflowID is the fork's own; empty: the run's, "/fork-" and a UUID.
	WorkflowID string `json:"workflow_id,omitempty"`
	// Before is a call id: calls of the turn that made it and of later ones
	// are really made. Empty: those without a recorded outcome.
	Before string `json:"before,omitempty"`
	// Turn is the [Record.Seq] of the last turn whose calls are answered from
	// the record, instead of Before.
	Turn int64 `json:"turn,omitempty"`
	// Input is given to the workflow instead of the recorded one.
	Input json.RawMessage `json:"input,omitempty"`
	// Answers are outcomes by call id, instead of recorded ones.
	Answers map[string]ForkAnswer `json:"answers,omitempty"`
	Reason  string                `json:"reason,omitempty"`
	ID      string                `json:"id,omitempty"` // of the fork: the same one again is carried out once; empty: a new one
}

// ForkAnswer is the outcome of a call in a fork: a value, or an error.
type ForkAnswer struct {
	Value json.RawMessage `json:"value,omitempty"`
	Err   *Error          `json:"err,omitempty"`
}

// Fork experiments with a run: another run, with a workflow id, effect keys
// and random streams of its own, executes the workflow from the beginning.
// Calls whose outcome is on record, or among [ForkOptions.Answers], get it at
// once, by call id, kind and name, and take no effect; all others are really
// made. All signals of the run are given to the fork at its start, also those
// that came after the point of the fork. The run that is forked may have ended,
// and is not touched.
func (r *Run) Fork(ctx context.Context, o *ForkOptions) (*Run, error) {
	if o == nil {
		o = &ForkOptions{}
	}
	rep, err := r.e.do(ctx, &Request{Op: opFork, Ref: r.ref(), ID: o.ID, Reason: o.Reason, Fork: o})
	if err != nil {
		return nil, err
	}
	return &Run{WorkflowID: rep.Ref.WorkflowID, RunID: rep.Ref.RunID, Existing: rep.Existing, e: r.e}, nil
}

// seedCall is a call of a fork that is answered from the record.
type seedCall struct {
	kind, name string // empty: whatever it is
	value      journal.Payload
	started    *journal.Event // a child's address
	done       *journal.Event
}

func (ex *executor) fork(req *Request) (*Reply, error) {
	o := req.Fork
	if o == nil {
		o = &ForkOptions{}
	}
	was, no := findRun(ex.st, req.Ref, req.Actor)
	if no != nil {
		return no, nil
	}
	ref := refOf(was)
	for id, a := range o.Answers {
		if a.Err == nil && !json.Valid(a.Value) {
			return refuse(ErrBadInput, ref, "fork run %v: the answer for call %s is not valid JSON", ref, id), nil
		}
	}
	key := "fork/" + req.ID
	id := o.WorkflowID
	if id == "" {
		id = was.WorkflowID + "/fork-" + newUUID()
	}
	if ex.host == nil {
		unlock := ex.lockID(id, key)
		defer unlock()
		if had, err := ex.st.FindKey(key); err == nil {
			return &Reply{Ref: refOf(had), Existing: true}, nil
		}
	}
	rows, err := ex.st.Rows(was.Last, 0)
	if err != nil {
		return nil, fmt.Errorf("fork run %v: %w", ref, err)
	}
	entries := make([]*journal.Entry, len(rows))
	for i, jr := range rows {
		if entries[i], err = journal.Decode(jr); err != nil {
			return nil, fmt.Errorf("fork run %v: %w", ref, err)
		}
	}
	cut := len(rows)
	if o.Before != "" || o.Turn != 0 {
		if cut, no = cutAt(rows, entries, o.Before, o.Turn, ref); no != nil {
			return no, nil
		}
	}
	now := time.Now().UnixMicro()
	seed, first, err := ex.seedOf(rows, entries, cut, o, now)
	if err != nil {
		return nil, fmt.Errorf("fork run %v: %w", ref, err)
	}
	if first == nil || first.Events[0].Kind != journal.Started {
		return refuse(ErrBadInput, ref, "fork run %v: it has no beginning", ref), nil
	}
	input, err := ex.unseal(first.Events[0].Payload)
	if err != nil {
		return nil, fmt.Errorf("fork run %v: %w", ref, err)
	}
	if o.Input != nil {
		input = o.Input
		if def := ex.defs.wfs[was.Name]; def != nil {
			if err := def.check(input); err != nil {
				return refuse(ErrBadInput, ref, "fork run %v: its input: %v", ref, err), nil
			}
		}
		if first.Events[0].Payload, err = ex.seal(input); err != nil {
			return nil, fmt.Errorf("fork run %v: %w", ref, err)
		}
	}
	old := configOf(was)
	cfg := runConfig{
		Timeout: old.Timeout, Trace: req.Trace, Headers: old.Headers, Secret: newUUID(), Rand: newUUID(), Seeded: true,
		Counter: old.Counter, Seen: old.Seen, Carried: old.Carried, Replies: old.Replies,
	}
	next := &journal.Run{
		WorkflowID: id, RunID: newUUID(), Key: key, Name: was.Name, Owner: was.Owner, State: string(Running), Tags: was.Tags, Memo: was.Memo,
		Config: jsonOf(cfg), Digest: startDigest(was.Name, input), Created: now, Changed: now, From: -1,
	}
	next.Chain, next.Scope = next.RunID, effectKey(id, next.RunID)
	if cfg.Timeout > 0 {
		next.Deadline = now + cfg.Timeout
	}
	if ex.host != nil {
		return forked(next, cfg, seed, first)
	}
	ex.mu.Lock()
	next.RID = ex.nextRID
	ex.nextRID++
	ex.mu.Unlock()
	w := &rewind{next: next, write: journal.Write{New: true, Run: next}}
	jr, err := journal.Encode(next.RID, journal.KindSeed, seed)
	if err == nil {
		w.write.Before = []*journal.Row{jr}
		w.write.Row, err = journal.Encode(next.RID, journal.KindEvent, first)
	}
	if err != nil {
		return nil, fmt.Errorf("fork run %v: %w", ref, err)
	}
	return settle(refOf(next), ex.takeOver(w, &journal.Tx{Writes: []journal.Write{w.write}}, ex.commitNow))
}

// seedOf collects what is on record before a point: calls with their outcomes,
// and the events that the fork is given at its start.
func (ex *executor) seedOf(rows []*journal.Row, entries []*journal.Entry, cut int, o *ForkOptions, now int64) (seed, first *journal.Entry, err error) {
	seed = &journal.Entry{At: now}
	first = &journal.Entry{At: now}
	known := map[string]bool{}
	outcomes := map[string][]*journal.Event{}
	for i, e := range entries {
		if rows[i].Kind == journal.KindTurn && i < cut {
			for _, c := range e.Calls {
				known[c.ID] = true
				s := &journal.Call{ID: c.ID, Kind: c.Kind, Name: c.Name}
				if c.Kind == kindSideEffect {
					s.Payload = c.Payload
				}
				if _, ok := o.Answers[c.ID]; !ok && c.Refused == nil {
					seed.Calls = append(seed.Calls, s)
				}
			}
		}
		for _, ev := range e.Events {
			if ev.Ref != 0 || rows[i].Kind == journal.KindSeed {
				continue
			}
			c := *ev
			c.At = now
			switch ev.Kind {
			case journal.Started:
				if len(first.Events) == 0 {
					first.Events = append(first.Events, &c)
				}
			case journal.Signaled:
				if len(first.Events) > 0 {
					first.Events = append(first.Events, &c)
				}
			case journal.Done, journal.Fired, journal.Running:
				outcomes[ev.Call] = append(outcomes[ev.Call], &c)
			}
		}
	}
	for _, c := range seed.Calls {
		seed.Events = append(seed.Events, outcomes[c.ID]...)
	}
	for _, id := range sortedKeys(o.Answers) {
		a := o.Answers[id]
		c := &journal.Call{ID: id}
		ev := &journal.Event{Kind: journal.Done, Call: id, At: now, Failure: toFailure(a.Err)}
		if a.Err == nil {
			if ev.Payload, err = ex.seal(a.Value); err != nil {
				return nil, nil, err
			}
			c.Payload = ev.Payload // for a side effect
		}
		seed.Calls, seed.Events = append(seed.Calls, c), append(seed.Events, ev)
	}
	return seed, first, nil
}

// seeded finds the answer for a call of a fork; nil if there is none. A call
// that is made in another place of the code than it was is really made.
func (e *entry) seeded(id, kind, name string) (*seedCall, error) {
	if !e.cfg.Seeded {
		return nil, nil
	}
	if e.seed == nil {
		seed, err := e.ex.readSeed(e.row)
		if err != nil {
			return nil, fmt.Errorf("read what the fork is answered from: %w", err)
		}
		e.seed = seed
	}
	s := e.seed[id]
	if s == nil || s.kind != "" && (s.kind != kind || s.name != name) {
		return nil, nil
	}
	return s, nil
}

func (ex *executor) readSeed(row *journal.Run) (map[string]*seedCall, error) {
	seed := map[string]*seedCall{}
	rows, err := ex.st.Rows(row.Last, 0)
	if err != nil {
		return nil, err
	}
	for _, jr := range rows {
		if jr.Kind != journal.KindSeed {
			continue
		}
		e, err := journal.Decode(jr)
		if err != nil {
			return nil, err
		}
		for _, c := range e.Calls {
			seed[c.ID] = &seedCall{kind: c.Kind, name: c.Name, value: c.Payload}
		}
		for _, ev := range e.Events {
			s := seed[ev.Call]
			switch {
			case s == nil:
			case ev.Kind == journal.Running:
				s.started = ev
			default:
				s.done = ev
			}
		}
	}
	return seed, nil
}

// answerFromSeed gives a call of a fork its recorded outcome; false if it has
// none. Where the record can't be read the call waits: it must not take effect.
func (e *entry) answerFromSeed(oc *openCall) bool {
	s, err := e.seeded(oc.call.ID, oc.call.Kind, oc.call.Name)
	if err != nil {
		e.ex.log.Error("a call of a fork waits", "run_id", e.row.RunID, "call", oc.call.ID, "error", err)
		e.ex.timers.add(time.Now().Add(time.Second).UnixMicro(), func() {
			e.ex.deliver(e, &incoming{ctl: func(e *entry) {
				if e.open[oc.call.ID] == oc {
					e.relaunch(oc)
				}
			}})
		})
		return true
	}
	if s == nil || s.done == nil {
		return false
	}
	var out []*incoming
	if s.started != nil {
		ev := *s.started
		out = append(out, &incoming{ev: &ev})
	}
	ev := *s.done
	in := &incoming{ev: &ev}
	if oc.call.Kind == kindQuestion {
		if a, err := e.askOf(oc.call.ID); err == nil {
			c := *a
			c.State, c.Answer, c.By, c.Note, c.Answered = "answered", ev.Payload, ev.By, ev.Name, e.ex.now()
			if ev.Failure != nil {
				c.State, c.Answer = "expired", nil
			}
			in.ask = &c
		}
	}
	e.ex.deliver(e, append(out, in)...)
	return true
}
