package durable

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// A run on a cluster is executed by the same code as anywhere else: an
// executor of its own, over a journal of its own in memory. What the cluster
// keeps is what reached the run; the journal is made again from that whenever
// the run is taken up. So every rule of this package holds there by
// construction, and what is left for the engine of the cluster is to carry
// calls out and to bring their outcomes.

// Cluster is what a [Hosted] run asks of the cluster that it is on. All of it
// is called on the goroutine that drives the run, or on one that this one
// waits for. For the engines of this module.
type Cluster interface {
	// Now is the time of what is being applied, in microseconds.
	Now() int64
	// Replaying reports whether the cluster has seen all this before.
	Replaying() bool
	// Tell calls fn, which tells others what happened, once what happened is on
	// record with the cluster; never, if that comes to nothing.
	Tell(fn func())
	// Launch carries a call out. Its outcome comes by [Hosted.Outcome].
	Launch(c *HostedCall)
	// Drop is for a call that has its outcome, or that nobody waits for.
	Drop(id string)
	// Stop hands a cancel on to a step or a child. Its outcome still comes.
	Stop(id string)
	// Record gives what fn gave when this was called for the first time.
	Record(fn func() []byte) []byte
	// Version is the recorded answer to a change id: -1 where the run passed
	// by without one.
	Version(change string, max int) int
	// Seed fills b with random bits, which are the same whenever the run is
	// taken up again, and others for each name.
	Seed(name string, b []byte)
	// Handles is told of each update that the run takes from now on.
	Handles(update string)
	// Tree hands a pause or a resume on to the children.
	Tree(req *Request)
	HostedBlobs
}

// HostedBlobs keep content beyond a run; they may fail with [ErrUnsupported].
type HostedBlobs interface {
	PutBlob(digest string, stored []byte) error
	GetBlob(digest string) ([]byte, error)
}

// HostedCall is a call that a cluster carries out.
type HostedCall struct {
	*journal.Call
	At      int64 // when it was made
	Headers map[string]string
	Step    StepTerms // of a step
	Child   ChildTerms
	To      Ref    // of a message or a stop
	ID      string // of the message
	Reason  string // of the stop
	Trace   string // traceparent that a child or a message is sent with
}

// StepTerms are the resolved terms of a step's call.
type StepTerms struct {
	Timeout, TotalTimeout, QueueTimeout, Heartbeat, Initial, Max time.Duration
	Backoff                                                      float64
	MaxAttempts                                                  int
	NonRetryable                                                 []string
	AtMostOnce                                                   bool
	Queue                                                        string
}

// ChildTerms are the terms of a child's start.
type ChildTerms struct {
	ID          string
	ParentClose ParentClose
	Timeout     time.Duration
	Tags        map[string]string
	Queue       string
}

// HostedStart is what a run on a cluster begins with.
type HostedStart struct {
	WorkflowID, RunID, Chain, Workflow string
	Created                            int64
	Input                              journal.Payload
	Scope                              string // of effect keys; empty: of a root
	Meta                               StartMeta
	Carry                              []byte // of the run that it continues, or a fork
}

// StartMeta is what is said with a start beside the input. It travels with
// it, as JSON.
type StartMeta struct {
	Owner   string            `json:"owner,omitempty"`
	By      string            `json:"by,omitempty"`
	Trace   string            `json:"trace,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
	Tags    map[string]string `json:"tags,omitempty"`
	Memo    json.RawMessage   `json:"memo,omitempty"` // in its stored form
	Digest  string            `json:"digest,omitempty"`
	Key     string            `json:"key,omitempty"`
	Secret  string            `json:"secret,omitempty"`
	Scope   string            `json:"scope,omitempty"`  // of a child
	Parent  *Ref              `json:"parent,omitempty"` // of a child
	Timeout time.Duration     `json:"timeout,omitempty"`
}

// Host is what the runs on a cluster have in common in one process. For the
// engines of this module.
type Host struct {
	proto executor
	usual *resolved
}

// NewHost checks the options and resolves the policies, as opening any engine
// does.
func NewHost(defs *Definitions, o *Options) (*Host, error) {
	h := &Host{}
	ex := &h.proto
	ex.defs, ex.log = defs, slog.Default()
	if o != nil {
		ex.opts = *o
	}
	ex.meet()
	if err := ex.opts.check(); err != nil {
		return nil, err
	}
	if ex.opts.Logger != nil {
		ex.log = ex.opts.Logger
	}
	ex.queues = true
	if err := ex.resolveAll(); err != nil {
		return nil, err
	}
	spec, err := (&Options{}).resolveStep("", &StepOptions{})
	if err != nil {
		return nil, err
	}
	h.usual = &resolved{spec, jsonOf(spec)}
	return h, nil
}

// Limit is the size that the cluster takes of one value. It is told before
// anything runs; remedy is added to what an error advises.
func (h *Host) Limit(bytes int, remedy string) { h.proto.limit, h.proto.remedy = bytes, remedy }

// CheckSize refuses a value that is larger than anybody takes.
func (h *Host) CheckSize(n int, what, name string) error { return h.proto.checkSize(n, what, name) }

// Hosted is one run of a cluster. It belongs to the goroutine that drives it.
type Hosted struct {
	c       Cluster
	host    *Host
	st      journal.One
	rid     int64
	e       *entry                 // nil: it is put away, see at
	lender  atomic.Pointer[entry]  // e, for other goroutines
	asking  map[string][]*incoming // of e, while there is none
	inbox   []*incoming
	working bool
	problem *Problem
	left    []*journal.Event // what came too late for a run that is continued
	next    *rewind
	seeds   map[string][32]byte // of random streams
}

// Begin makes a run. The code does not run before [Hosted.Start].
func (h *Host) Begin(c Cluster, s *HostedStart) (*Hosted, error) {
	hd := &Hosted{c: c, host: h, rid: 1}
	row := &journal.Run{
		WorkflowID: s.WorkflowID, RunID: s.RunID, Chain: s.Chain, Name: s.Workflow, Owner: s.Meta.Owner, State: string(Running),
		Memo: s.Meta.Memo, Scope: s.Scope, Digest: s.Meta.Digest, Created: s.Created, Changed: s.Created, From: -1, RID: hd.rid,
	}
	if row.Scope == "" {
		row.Scope = effectKey(row.WorkflowID, row.RunID)
	}
	if len(s.Meta.Tags) > 0 {
		row.Tags = jsonOf(s.Meta.Tags)
	}
	if s.Meta.Timeout > 0 {
		row.Deadline = s.Created + s.Meta.Timeout.Microseconds()
	}
	cfg := runConfig{Trace: s.Meta.Trace, Headers: s.Meta.Headers, Secret: s.Meta.Secret, Parent: s.Meta.Parent, Timeout: s.Meta.Timeout.Microseconds()}
	first := &journal.Entry{At: s.Created, Events: []*journal.Event{{Kind: journal.Started, At: s.Created, Name: s.Workflow, By: s.Meta.By, Trace: cfg.Trace, Payload: s.Input}}}
	w := journal.Write{New: true, Run: row}
	if len(s.Carry) > 0 {
		var carry carryForm
		if err := json.Unmarshal(s.Carry, &carry); err != nil {
			return nil, fmt.Errorf("what run %v carries over is damaged: %w", Ref{s.WorkflowID, s.RunID}, err)
		}
		if err := carry.open(row, &cfg, first, &w); err != nil {
			return nil, err
		}
	}
	row.Config = jsonOf(cfg)
	jr, err := journal.Encode(row.RID, journal.KindEvent, first)
	if err != nil {
		return nil, err
	}
	w.Row = jr
	if err := hd.st.Commit(context.Background(), &journal.Tx{Writes: []journal.Write{w}}); err != nil {
		return nil, err
	}
	hd.enter(row, nil, pendOf(jr, first.Events))
	return hd, nil
}

// errStands ends a wait for a change: a run on a cluster changes only while it
// is driven.
var errStands = errors.New("nothing more for now")

// Start gives the code its first turn.
func (h *Hosted) Start() { h.take(&incoming{ctl: func(e *entry) { e.turn(nil) }}) }

// take puts something into the inbox and works it off, unless that is going
// on.
func (h *Hosted) take(in ...*incoming) {
	h.inbox = append(h.inbox, in...)
	if h.working {
		return
	}
	h.working = true
	defer func() { h.working = false }()
	e := h.at()
	for len(h.inbox) > 0 && h.problem == nil {
		batch := h.inbox
		h.inbox = nil
		for from := 0; from < len(batch) && h.problem == nil; {
			to := from
			for to < len(batch) && batch[to].ctl == nil {
				to++
			}
			if to > from {
				e.turn(batch[from:to])
			}
			if from = to; from < len(batch) && h.problem == nil {
				batch[from].ctl(e)
				from++
			}
		}
	}
}

// Deliver gives events to the run, in their order, as one turn.
func (h *Hosted) Deliver(evs []*journal.Event) {
	ins := make([]*incoming, len(evs))
	for i, ev := range evs {
		ins[i] = &incoming{ev: ev}
	}
	h.take(ins...)
}

// Expire ends a question whose time has come.
func (h *Hosted) Expire(call string) {
	h.take(&incoming{ctl: func(e *entry) { e.expire(call) }})
}

// Note keeps a fact beside the code.
func (h *Hosted) Note(n *journal.Note) { h.take(&incoming{note: n}) }

// Do carries out an operation on the run that does not wait.
func (h *Hosted) Do(req *Request) *Reply {
	e := h.at()
	if req.Ref.RunID == "" || req.Ref.WorkflowID == e.row.WorkflowID {
		req.Ref = refOf(e.row)
	}
	// A run with a problem is looked at as it was before: the cluster tries
	// again what led to it.
	p := h.problem
	h.problem = nil
	defer func() { h.problem = cmp.Or(p, h.problem) }()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if h.next != nil && (req.Op == opPause || req.Op == opResume) {
		return h.hold(req)
	}
	if req.Op == opGetBlob {
		if !State(e.row.State).Done() {
			_, _ = e.wake() // what it lends is lent again
		}
		if b := e.lent.Load().by(e.run).get(req.Name); b != nil {
			return &Reply{Name: req.Name, Data: b}
		}
	}
	rep, err := e.ex.Do(ctx, req)
	if errors.Is(err, errStands) {
		return &Reply{Ref: req.Ref}
	}
	if err != nil {
		return ErrorReply(req.Ref, err)
	}
	return rep
}

// MayUpdate reports why an update can't be taken; nil: it may.
func (h *Hosted) MayUpdate(id, name string, payload journal.Payload) *Reply {
	e := h.at()
	if State(e.row.State).Done() {
		if e.ex.pastReply(e.row, id) != nil {
			return nil
		}
		return settled(refOf(e.row), finishedError(e.row))
	}
	if len(e.row.Paused) > 0 {
		return settled(refOf(e.row), e.standstill())
	}
	r, p := e.wake()
	if p != nil {
		return settled(refOf(e.row), &BlockedError{WorkflowID: e.row.WorkflowID, RunID: e.row.RunID, Problem: *p})
	}
	if r.replies[id] != nil || r.handling[id] {
		return nil
	}
	if err := e.mayUpdate(r, &journal.Event{Kind: journal.Asked, ID: id, Name: name, Payload: payload}); err != nil {
		return settled(refOf(e.row), err)
	}
	return nil
}

// settled is settle for those who have no other way to be told.
func settled(ref Ref, err error) *Reply {
	rep, err := settle(ref, err)
	if err != nil {
		return ErrorReply(ref, err)
	}
	return rep
}

// Update gives the run an update that may be taken. done is called with the
// answer.
func (h *Hosted) Update(ev *journal.Event, done func(*Reply)) {
	e := h.at()
	ex, ref := e.ex, refOf(e.row)
	if State(e.row.State).Done() {
		if rep := ex.pastReply(e.row, ev.ID); rep != nil {
			done(ex.replied(ref, rep))
			return
		}
	}
	h.take(&incoming{ev: ev, accepted: true, answer: func(rep *journal.Reply, err error) {
		if err != nil {
			done(ErrorReply(ref, err))
			return
		}
		done(ex.replied(ref, rep))
	}})
}

// Row is how the run stands. It is not to be changed.
func (h *Hosted) Row() *journal.Run { return h.at().row }

// Asks are the run's open questions, and Problem what keeps its code from
// going on.
func (h *Hosted) Asks() []*QuestionInfo {
	e := h.at()
	asks, err := h.st.Asks(h.rid, true)
	if err != nil {
		return nil
	}
	out := make([]*QuestionInfo, len(asks))
	for i, a := range asks {
		out[i] = e.ex.reader.question(a, e.row)
	}
	return out
}

// Waits are what the run's code waits for beside its calls.
func (h *Hosted) Waits() []Wait {
	if h.e == nil || h.e.run == nil {
		return nil
	}
	var out []Wait
	for _, w := range h.e.run.waits() {
		out = append(out, Wait{Kind: w.Kind, Name: w.Name, Text: waitText(w)})
	}
	return out
}

// Woken tells the observer that the run was taken up by a replay, which took
// so long.
func (h *Hosted) Woken(took time.Duration) {
	e := h.at()
	e.tell(e.row, Observation{Kind: "woken", Took: took, Turns: int(e.row.Turns)})
}

// Blocked tells the observer of the problem that the run has, for the nth time
// in a row.
func (h *Hosted) Blocked(n int) {
	e, p := h.at(), h.problem
	e.tell(e.row, Observation{Kind: "problem", Call: p.Call, Attempt: n, Err: &Error{Type: p.Kind, Message: p.Text}})
}

// Problem is what keeps the run's code from going on, nil if nothing does. The
// run is of no use then.
func (h *Hosted) Problem() *Problem { return h.problem }

// Lent is content that the run's code has lent; nil if it has not, or if the
// run is put away: then [Hosted.Do] has it. It may be called on any goroutine.
func (h *Hosted) Lent(digest string) []byte {
	if e := h.lender.Load(); e != nil {
		if l := e.lent.Load(); l != nil {
			return l.get(digest)
		}
	}
	return nil
}

// Close ends the coroutines of the run.
func (h *Hosted) Close() {
	if h.e != nil {
		h.e.putAway()
	}
}

// StoredRun is a run as the journal has it; StoredEvent something that reaches
// it; StoredNote a fact beside its code.
type (
	StoredRun     = journal.Run
	StoredEvent   = journal.Event
	StoredNote    = journal.Note
	StoredFailure = journal.Failure
)

// Cancel asks the run's code to stop, and lifts a pause.
func (h *Hosted) Cancel(by, reason string) {
	if h.next != nil {
		h.next.next.Paused = nil
		h.Deliver([]*journal.Event{{Kind: journal.Canceled, By: by, Name: reason}})
		return
	}
	h.take(&incoming{ctl: func(e *entry) { _ = e.cancel(&Request{Actor: Actor{Name: by}, Reason: reason}, "") }})
}

// Trace is the traceparent that the run was started with.
func (h *Hosted) Trace() string { return h.at().cfg.Trace }

// ChildMeta is what is said with the start of a child.
func (h *Hosted) ChildMeta(c *HostedCall, parent Ref) StartMeta {
	e := h.at()
	in, _ := h.host.Unseal(c.Payload)
	return StartMeta{Owner: e.row.Owner, Trace: c.Trace, Headers: c.Headers, Tags: c.Child.Tags, Digest: startDigest(c.Name, in),
		Secret: callbackSecret(e.cfg.Secret, "child/"+c.Call.ID), Scope: c.Key, Parent: &parent, Timeout: c.Child.Timeout}
}

// --- what the executor asks of its host

// now is the time in microseconds: of the wall, or of the cluster.
func (ex *executor) now() int64 {
	if ex.host != nil {
		return ex.host.c.Now()
	}
	return time.Now().UnixMicro()
}

// cluster is what the run asks of the cluster that it is on: nil where it is on
// none, and in a replay from its journal, which is for a query.
func (r *run) cluster() Cluster {
	if r.ex.host == nil || r.replaying {
		return nil
	}
	return r.ex.host.c
}

// seed is what a random stream is made from.
func (h *Hosted) seed(name string) [32]byte {
	s, ok := h.seeds[name]
	if !ok {
		h.c.Seed(name, s[:])
		if h.seeds == nil {
			h.seeds = map[string][32]byte{}
		}
		h.seeds[name] = s
	}
	return s
}

// launch hands a call to the cluster.
func (h *Hosted) launch(e *entry, oc *openCall) {
	c := &HostedCall{Call: oc.call, At: oc.at}
	if oc.call.Kind == kindChild || oc.call.Kind == kindMessage {
		c.Trace = e.trace(e.row, oc.call.ID)
	}
	switch oc.call.Kind {
	case kindStep:
		if oc.spec == nil {
			oc.spec = &stepSpec{}
			_ = json.Unmarshal(oc.call.Options, oc.spec)
		}
		s := oc.spec
		d := func(us int64) time.Duration { return time.Duration(us) * time.Microsecond }
		c.Step = StepTerms{Timeout: d(s.Timeout), TotalTimeout: d(s.TotalTimeout), QueueTimeout: d(s.QueueTimeout), Heartbeat: d(s.Heartbeat), Initial: d(s.Initial), Max: d(s.Max),
			Backoff: s.Backoff, MaxAttempts: s.MaxAttempts, NonRetryable: s.NonRetryable, AtMostOnce: s.AtMostOnce, Queue: s.Queue}
		c.Headers = headersOf(oc.call, e.cfg)
	case kindChild:
		var s childSpec
		_ = json.Unmarshal(oc.call.Options, &s)
		c.Child = ChildTerms{ID: s.ID, ParentClose: s.ParentClose, Timeout: time.Duration(s.Timeout) * time.Microsecond, Tags: s.Tags, Queue: s.Queue}
		if c.Child.ID == "" {
			c.Child.ID = e.row.WorkflowID + "/" + e.row.RunID[:8] + "/" + oc.call.ID
		}
		c.Headers = headersOf(oc.call, e.cfg)
	case kindMessage, kindStop:
		var s tellSpec
		_ = json.Unmarshal(oc.call.Options, &s)
		c.To, c.ID, c.Reason = s.To, s.ID, s.Reason
		if c.ID == "" {
			c.ID = effectKey(e.row.Scope, oc.call.ID)
		}
	}
	h.c.Launch(c)
}

// refusal makes the refusal of a call, which depends on what is defined and
// allowed when it is made, something that the cluster has on record.
func (r *run) refusal(kind string, check func() error) error {
	c := r.ex.host.c
	id := "__refused/" + kind + "/" + r.cur.peekID()
	var no error
	if !c.Replaying() {
		if no = check(); no == nil {
			return nil
		}
	}
	if c.Version(id, 1) != 1 {
		return nil
	}
	var f journal.Failure
	_ = json.Unmarshal(c.Record(func() []byte { return jsonOf(toFailure(toError(no))) }), &f)
	return fromFailure(&f)
}
