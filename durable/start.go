package durable

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

func sortedStrings(s []string) []string {
	s = slices.Clone(s)
	slices.Sort(s)
	return s
}

// newRunSpec is what a new run is made from.
type newRunSpec struct {
	name, id, key string
	input         json.RawMessage
	tags          map[string]string
	memo          json.RawMessage
	owner         string
	timeout       int64 // microseconds
	delay         time.Duration
	parent        *journal.Run
	call          string
	scope         string // of effect keys; empty: a root's
	reuse         ReusePolicy
	cfg           runConfig
	schedule      *journal.Schedule // committed with the run
	signal        *SignalWithStart
	by            string
}

// checkStart looks whether a start can be carried out, and how.
func (ex *executor) checkStart(req *Request) (s newRunSpec, no *Reply) {
	o := req.Start
	if o == nil {
		o = &StartOptions{}
	}
	def := ex.defs.wfs[req.Name]
	if def == nil {
		var have []string
		for n := range ex.defs.wfs {
			have = append(have, n)
		}
		return s, refuse(ErrNotDefined, Ref{}, "workflow %q is not defined; this program has %s", req.Name, listOr(have))
	}
	switch o.Reuse {
	case ReuseReject, ReuseAllow, ReuseFailed:
	default:
		return s, refuse(ErrBadInput, Ref{}, "start workflow %q: reuse policy %q is not known", req.Name, o.Reuse)
	}
	if o.Timeout < 0 || o.Delay < 0 {
		return s, refuse(ErrBadInput, Ref{}, "start workflow %q: a duration is negative", req.Name)
	}
	in := req.Payload
	if len(in) == 0 {
		in = json.RawMessage("null")
	}
	if err := def.check(in); err != nil {
		return s, refuse(ErrBadInput, Ref{}, "start workflow %q: its input: %v", req.Name, err)
	}
	if len(o.Memo) > 0 && !json.Valid(o.Memo) {
		return s, refuse(ErrBadInput, Ref{}, "start workflow %q: the memo is not valid JSON", req.Name)
	}
	s = newRunSpec{
		name: req.Name, id: o.ID, key: o.Key, input: in, tags: o.Tags, memo: ex.sealJSON(o.Memo), owner: req.Actor.Owner,
		timeout: def.opts.Timeout.Microseconds(), delay: o.Delay, reuse: o.Reuse, signal: o.Signal, by: req.Actor.Name,
		cfg: runConfig{Trace: req.Trace, Headers: o.Headers},
	}
	if o.Timeout > 0 {
		s.timeout = o.Timeout.Microseconds()
	}
	if s.id == "" {
		if s.key == "" {
			s.key = "request/" + req.ID
		}
		s.id = req.Name + "-" + newUUID()
	}
	if s.key != "" && s.owner != "" {
		s.key = s.owner + "\x1f" + s.key // two owners may have the same key
	}
	if strings.ContainsFunc(s.id, unicode.IsControl) || !utf8.ValidString(s.id) {
		return s, refuse(ErrBadInput, Ref{}, "start workflow %q: the id %q has control characters, or is not UTF-8", req.Name, s.id)
	}
	if len(s.id) > 500 {
		return s, refuse(ErrBadInput, Ref{}, "start workflow %q: the id has %d characters, the limit is 500", req.Name, len(s.id))
	}
	if o.Signal != nil {
		row := &journal.Run{Name: req.Name}
		if no := ex.accepts(row, KindSignal, o.Signal.Name, Ref{WorkflowID: s.id}); no != nil {
			return s, no
		}
		if o.Signal.ID == "" {
			c := *o.Signal
			c.ID = req.ID + "/signal"
			s.signal = &c
		}
	}
	return s, nil
}

// start carries out a start.
func (ex *executor) start(ctx context.Context, req *Request) (*Reply, error) {
	s, no := ex.checkStart(req)
	if no != nil {
		return no, nil
	}
	row, existing, err := ex.create(s)
	var taken *TakenError
	if errors.As(err, &taken) {
		return &Reply{Err: &ReplyError{Code: "id_taken", Message: taken.Text, Ref: Ref{taken.WorkflowID, taken.RunID}}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("start workflow %q: %w", req.Name, err)
	}
	if existing && s.signal != nil && State(row.State).Done() && !ex.hasSignal(row, s.signal.ID) {
		return refuse(ErrFinished, refOf(row), "start workflow %q: run %v has ended (%s) and cannot take the signal %q any more", req.Name, refOf(row), row.State, s.signal.Name), nil
	}
	if existing && s.signal != nil && !State(row.State).Done() {
		if rep, err := ex.signal(ctx, &Request{Op: opSignal, ID: s.signal.ID, Ref: Ref{WorkflowID: row.WorkflowID}, Name: s.signal.Name, Payload: s.signal.Payload, Actor: req.Actor}); err != nil || rep.Err != nil {
			return rep, err
		}
	}
	return &Reply{Ref: refOf(row), Existing: existing}, nil
}

// startDigest identifies what a run was started with: the order of fields and
// white space do not matter.
func startDigest(name string, in json.RawMessage) string {
	d := json.NewDecoder(bytes.NewReader(in))
	d.UseNumber()
	var v any
	if d.Decode(&v) == nil {
		if b, err := json.Marshal(v); err == nil {
			in = b
		}
	}
	return digest(append([]byte(name+"\x00"), in...))
}

// hasSignal reports whether a signal of that id ever reached the run.
func (ex *executor) hasSignal(row *journal.Run, id string) bool {
	found := slices.Contains(configOf(row).Seen, id)
	ex.search(row, func(e *journal.Entry) bool {
		found = found || slices.ContainsFunc(e.Events, func(ev *journal.Event) bool { return ev.Kind == journal.Signaled && ev.ID == id })
		return found
	})
	return found
}

// pastReply is what an update of that id was answered, nil if it was not.
func (ex *executor) pastReply(row *journal.Run, id string) (rep *journal.Reply) {
	for _, c := range configOf(row).Replies {
		if c.ID == id {
			return &journal.Reply{ID: id, Payload: c.Payload, Failure: c.Failure}
		}
	}
	ex.search(row, func(e *journal.Entry) bool {
		if i := slices.IndexFunc(e.Replies, func(r *journal.Reply) bool { return r.ID == id }); i >= 0 {
			rep = e.Replies[i]
		}
		return rep != nil
	})
	return rep
}

// search goes through the entries of a run until found says so.
func (ex *executor) search(row *journal.Run, found func(*journal.Entry) bool) {
	rows, err := ex.st.Rows(row.Last, 0)
	if err != nil {
		return
	}
	for _, jr := range rows {
		if e, err := journal.Decode(jr); err != nil || found(e) {
			return
		}
	}
}

// create makes a run, or finds the one that is meant. Starts of one id come
// one at a time.
func (ex *executor) create(s newRunSpec) (*journal.Run, bool, error) {
	unlock := ex.lockID(s.id, s.key)
	defer unlock()
	sum := startDigest(s.name, s.input)
	same := func(row *journal.Run) (*journal.Run, bool, error) {
		if row.Digest == sum && row.Name == s.name && (s.owner == "" || row.Owner == s.owner) && s.parent == nil {
			return row, true, nil
		}
		if s.parent != nil {
			return row, true, nil
		}
		if s.owner != "" && row.Owner != s.owner {
			return nil, false, &TakenError{WorkflowID: s.id, Text: fmt.Sprintf("workflow id %q or its key is taken by a run of another owner: choose another one", s.id)}
		}
		remedy := "choose another id, or end that run"
		if State(row.State).Done() {
			remedy = "choose another id, or start with a reuse policy"
		}
		return nil, false, &TakenError{WorkflowID: row.WorkflowID, RunID: row.RunID,
			Text: fmt.Sprintf("workflow id %q is taken by run %s of workflow %q (%s), which was started with another workflow or input: %s", row.WorkflowID, row.RunID, row.Name, row.State, remedy)}
	}
	if s.key != "" {
		row, err := ex.st.FindKey(s.key)
		if err == nil {
			return same(heir(ex.st, row))
		}
		if !errors.Is(err, journal.ErrNotFound) {
			return nil, false, err
		}
	}
	switch row, err := ex.st.Find(s.id, ""); {
	case errors.Is(err, journal.ErrNotFound):
	case err != nil:
		return nil, false, err
	default:
		st := State(row.State)
		if !st.Done() || s.reuse == ReuseReject || s.reuse == ReuseFailed && st == Completed {
			// Over continue-as-new the input changes; the first run's counts.
			first := row
			if row.Chain != row.RunID {
				if f, err := ex.st.Find(row.WorkflowID, row.Chain); err == nil {
					first = f
				}
			}
			got, existing, err := same(first)
			if err != nil || got != first {
				return got, existing, err
			}
			return row, true, nil
		}
	}
	now := time.Now().UnixMicro()
	row := &journal.Run{
		WorkflowID: s.id, RunID: newUUID(), Key: s.key, Name: s.name, Owner: s.owner, State: string(Running),
		Memo: s.memo, Scope: s.scope, Digest: sum, ParentCall: s.call, Created: now, Changed: now, From: -1,
	}
	row.Chain = row.RunID
	if row.Scope == "" {
		row.Scope = effectKey(row.WorkflowID, row.RunID)
	}
	if s.parent != nil {
		row.Parent = s.parent.RID
	}
	if len(s.tags) > 0 {
		row.Tags = jsonOf(s.tags)
	}
	if s.timeout > 0 {
		row.Deadline = now + s.delay.Microseconds() + s.timeout
	}
	cfg := s.cfg
	cfg.Secret, cfg.Rand, cfg.Timeout = newUUID(), newUUID(), s.timeout
	if s.delay > 0 {
		cfg.StartAt = now + s.delay.Microseconds()
	}
	row.Config = jsonOf(cfg)
	p, err := ex.seal(s.input)
	if err != nil {
		return nil, false, fmt.Errorf("encode the input: %w", err)
	}
	first := &journal.Entry{At: now, Events: []*journal.Event{{Kind: journal.Started, At: now, Name: s.name, By: s.by, Trace: cfg.Trace, Payload: p}}}
	if s.signal != nil {
		sp, err := ex.seal(s.signal.Payload)
		if err != nil {
			return nil, false, fmt.Errorf("encode the signal: %w", err)
		}
		first.Events = append(first.Events, &journal.Event{Kind: journal.Signaled, At: now, Name: s.signal.Name, ID: s.signal.ID, By: s.by, Payload: sp})
	}
	ex.mu.Lock()
	row.RID = ex.nextRID
	ex.nextRID++
	ex.mu.Unlock()
	jr, err := journal.Encode(row.RID, journal.KindEvent, first)
	if err != nil {
		return nil, false, err
	}
	e := ex.reserve(row.RID)
	tx := &journal.Tx{Writes: []journal.Write{{New: true, Run: row, Row: jr}}}
	if s.schedule != nil {
		tx.Schedules = []*journal.Schedule{s.schedule}
	}
	if err := ex.commit(ex.commits, tx); err != nil {
		ex.abandon(e, err)
		return nil, false, err
	}
	ex.admit(e, row, pendOf(jr, first.Events))
	return row, false, nil
}

// lockID keeps two starts of one id or key apart.
func (ex *executor) lockID(id, key string) func() {
	names := []string{"i" + id}
	if key != "" {
		names = append(names, "k"+key)
	}
	ch := make(chan struct{})
	for {
		ex.mu.Lock()
		var wait chan struct{}
		for _, n := range names {
			if c := ex.starting[n]; c != nil {
				wait = c
			}
		}
		if wait == nil {
			for _, n := range names {
				ex.starting[n] = ch
			}
			ex.mu.Unlock()
			return func() {
				ex.mu.Lock()
				for _, n := range names {
					delete(ex.starting, n)
				}
				ex.mu.Unlock()
				close(ch)
			}
		}
		ex.mu.Unlock()
		<-wait
	}
}
