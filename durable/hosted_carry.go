package durable

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// carryForm is what continue-as-new carries over beside the input, and what
// a fork is made from.
type carryForm struct {
	Config runConfig       `json:"config"`
	Scope  string          `json:"scope,omitempty"`
	Owner  string          `json:"owner,omitempty"`
	Status json.RawMessage `json:"status,omitempty"`
	Paused json.RawMessage `json:"paused,omitempty"`
	Tags   json.RawMessage `json:"tags,omitempty"`
	Memo   json.RawMessage `json:"memo,omitempty"`
	Ends   int64           `json:"ends,omitempty"` // the deadline of the chain
	More   *storedRow      `json:"more,omitempty"` // events after the start
	Seed   *storedRow      `json:"seed,omitempty"`
}

// storedRow is a journal row on its way.
type storedRow struct {
	Head json.RawMessage `json:"head"`
	Data []byte          `json:"data,omitempty"`
}

func carried(kind string, e *journal.Entry) (*storedRow, error) {
	jr, err := journal.Encode(1, kind, e)
	if err != nil {
		return nil, err
	}
	return &storedRow{jr.Head, jr.Data}, nil
}

// Carry is what a run that was continued hands over, with the input of the
// next one.
func (h *Hosted) Carry() (input journal.Payload, carry []byte, err error) {
	next := h.next
	if next == nil {
		return nil, nil, fmt.Errorf("run %v was not continued", refOf(h.at().row))
	}
	row := next.next
	e, err := journal.Decode(next.write.Row)
	if err != nil {
		return nil, nil, err
	}
	f := carryForm{Config: *configOf(row), Scope: row.Scope, Owner: row.Owner, Status: row.Status, Tags: row.Tags, Memo: row.Memo, Ends: row.Deadline, Paused: row.Paused}
	more := &journal.Entry{At: e.At, Events: append(e.Events[1:], h.left...)}
	if len(more.Events) > 0 {
		if f.More, err = carried(journal.KindEvent, more); err != nil {
			return nil, nil, err
		}
	}
	carry, err = json.Marshal(f)
	return e.Events[0].Payload, carry, err
}

// keep keeps what came too late for a run that is continued: it is the next
// one's.
func (h *Hosted) keep(ins []*incoming) {
	if h.next == nil {
		return
	}
	for _, in := range ins {
		if in.ev != nil && (in.ev.Kind == journal.Signaled || in.ev.Kind == journal.Canceled) {
			h.left = append(h.left, in.ev)
		}
	}
}

// hold pauses and resumes the run that continues this one, before it begins.
func (h *Hosted) hold(req *Request) *Reply {
	row := h.next.next
	if row.Paused = nil; req.Op == opPause {
		row.Paused = pauseOf(req, h.c.Now())
	}
	return &Reply{Ref: req.Ref}
}

// Forked is a fork of a run that a cluster is to start.
type Forked struct {
	WorkflowID string          `json:"workflow_id"`
	Workflow   string          `json:"workflow"`
	Input      journal.Payload `json:"input"`
	Meta       StartMeta       `json:"meta"`
	Carry      json.RawMessage `json:"carry"`
}

// forked is the answer of a run on a cluster to who wants to fork it.
func forked(next *journal.Run, cfg runConfig, seed, first *journal.Entry) (*Reply, error) {
	f := &Forked{WorkflowID: next.WorkflowID, Workflow: next.Name, Input: first.Events[0].Payload}
	f.Meta = StartMeta{Owner: next.Owner, Digest: next.Digest, Key: next.Key, Memo: next.Memo, Timeout: time.Duration(cfg.Timeout) * time.Microsecond}
	if len(next.Tags) > 0 {
		_ = json.Unmarshal(next.Tags, &f.Meta.Tags)
	}
	c := carryForm{Config: cfg, Scope: next.Scope, Owner: next.Owner, Tags: next.Tags, Memo: next.Memo, Ends: next.Deadline}
	var err error
	if c.Seed, err = carried(journal.KindSeed, seed); err != nil {
		return nil, err
	}
	if more := (&journal.Entry{At: first.At, Events: first.Events[1:]}); len(more.Events) > 0 {
		if c.More, err = carried(journal.KindEvent, more); err != nil {
			return nil, err
		}
	}
	f.Carry = jsonOf(c)
	return &Reply{Data: jsonOf(f)}, nil
}

// open applies what was carried over to the beginning of a run.
func (f *carryForm) open(row *journal.Run, cfg *runConfig, first *journal.Entry, w *journal.Write) error {
	*cfg = f.Config
	row.Scope, row.Owner, row.Status, row.Tags, row.Memo, row.Deadline, row.Paused = f.Scope, f.Owner, f.Status, f.Tags, f.Memo, f.Ends, f.Paused
	if f.More != nil {
		e, err := journal.Decode(&journal.Row{ID: 1, Run: row.RID, Kind: journal.KindEvent, Head: f.More.Head, Data: f.More.Data})
		if err != nil {
			return err
		}
		first.Events = append(first.Events, e.Events...)
	}
	if f.Seed != nil {
		w.Before = []*journal.Row{{Run: row.RID, Kind: journal.KindSeed, Head: f.Seed.Head, Data: f.Seed.Data}}
	}
	return nil
}
