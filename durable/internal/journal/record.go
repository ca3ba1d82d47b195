// Package journal holds what the executor of package durable and the stores
// under it share: the records of a run, their stored form, and the [Store]
// interface. Nothing here is a promise to users.
package journal

import (
	"encoding/json"
	"fmt"
	"iter"

	"github.com/mcpagent/mcpagent/internal/plainjson"
)

// Format is the version that every stored entry carries.
const Format = 1

// Times are microseconds since the Unix epoch, UTC; zero is "none".

// Call kinds.
const (
	Step       = "step"
	Timer      = "timer"
	Child      = "child"
	Message    = "message" // a signal to another run
	Stop       = "stop"    // a cancel request to another run
	Question   = "question"
	Callback   = "callback"
	SideEffect = "side_effect"

	// Recorded only where they were refused.
	Continue = "continue" // as new
	Append   = "append"   // to a stream
	PutBlob  = "put_blob"
)

// Event kinds.
const (
	Started  = "started"  // the run's first event: name and input
	Signaled = "signaled" // Name, ID, Payload
	Done     = "done"     // outcome of Call: Payload or Failure
	Running  = "running"  // a child was started: Payload is its address
	Fired    = "fired"    // a timer's time has come
	Asked    = "asked"    // an update was accepted: Name, ID, Payload
	Canceled = "canceled" // somebody asked the run to cancel
	Reset    = "reset"    // the run takes over from another one: By, and Name is the reason
)

// Entry kinds.
const (
	KindTurn  = "turn"  // events applied to the code, and what the code did
	KindEvent = "event" // events received but not applied yet
	KindNote  = "note"  // facts that the code never sees: attempts, pauses, problems
	KindSeed  = "seed"  // of a fork: calls that are answered from the record, with their outcomes
)

// Payload is a value in its stored form: JSON, or what the codec made of it.
type Payload []byte

// span is where a payload lies in the data of its row.
type span [2]int

// Event is something that reached a run.
type Event struct {
	Kind    string   `json:"k"`
	Ref     int64    `json:"ref,omitempty"`   // in a turn: the row that holds the whole event
	Index   int      `json:"idx,omitempty"`   // its place in that row
	At      int64    `json:"at,omitempty"`    // when it was received
	Call    string   `json:"call,omitempty"`  // the call it belongs to
	ID      string   `json:"id,omitempty"`    // caller-given id of a signal or update
	Name    string   `json:"name,omitempty"`  // workflow, signal or update name
	By      string   `json:"by,omitempty"`    // actor
	Trace   string   `json:"trace,omitempty"` // traceparent of the sender
	Attempt int      `json:"n,omitempty"`     // attempts that a step took
	Failure *Failure `json:"fail,omitempty"`
	Span    *span    `json:"p,omitempty"`
	Payload Payload  `json:"-"`
}

// Call is something a run asked its engine to do.
type Call struct {
	ID      string          `json:"id"`
	Kind    string          `json:"k"`
	Name    string          `json:"name,omitempty"`
	Digest  string          `json:"d,omitempty"`   // of the plain input
	Due     int64           `json:"due,omitempty"` // timer, expiry of a question
	Key     string          `json:"key,omitempty"` // effect key
	Options json.RawMessage `json:"o,omitempty"`   // resolved when issued
	Headers json.RawMessage `json:"h,omitempty"`   // of propagators, where they are not the run's own
	Refused *Failure        `json:"no,omitempty"`  // the call was refused at once: nothing was sent
	Span    *span           `json:"p,omitempty"`
	Payload Payload         `json:"-"`
}

// Settled reports whether the call had its outcome as soon as it was made.
func (c *Call) Settled() bool { return c.Kind == SideEffect || c.Refused != nil }

// Mark is the recorded answer to a change id (package durable, Version).
type Mark struct {
	ID      string `json:"id"`
	Version int    `json:"v"`
}

// Reply is the outcome of an accepted update.
type Reply struct {
	ID      string   `json:"id"`
	Failure *Failure `json:"fail,omitempty"`
	Span    *span    `json:"p,omitempty"`
	Payload Payload  `json:"-"`
}

// End is how a run ended.
type End struct {
	State   string   `json:"state"`
	Failure *Failure `json:"fail,omitempty"`
	Span    *span    `json:"p,omitempty"`
	Payload Payload  `json:"-"`
}

// Note is a fact beside the code: an attempt, a pause, a dropped result.
type Note struct {
	Kind    string          `json:"k"` // sent, attempt, lost, beat, paused, resumed, problem, dropped, terminated, timed_out
	Call    string          `json:"call,omitempty"`
	Attempt int             `json:"n,omitempty"`
	Due     int64           `json:"due,omitempty"` // next attempt
	By      string          `json:"by,omitempty"`
	Text    string          `json:"text,omitempty"`
	Failure *Failure        `json:"fail,omitempty"`
	Details json.RawMessage `json:"details,omitempty"`
}

// Failure is an error in its stored form.
type Failure struct {
	Type      string          `json:"type"`
	Message   string          `json:"message,omitempty"`
	Kind      string          `json:"kind,omitempty"` // "", unknown, timeout, heartbeat, panic, canceled, shutdown, not_defined, bad_input, too_large, child
	Permanent bool            `json:"permanent,omitempty"`
	Details   json.RawMessage `json:"details,omitempty"`
	Call      string          `json:"call,omitempty"`
	Attempts  int             `json:"attempts,omitempty"`
	Cause     *Failure        `json:"cause,omitempty"`
}

// Entry is one record of a run: what one row of the journal holds.
type Entry struct {
	V       int      `json:"v"`
	At      int64    `json:"at"`
	Events  []*Event `json:"ev,omitempty"`
	Calls   []*Call  `json:"calls,omitempty"`
	Closed  []string `json:"closed,omitempty"` // calls given up: no outcome is wanted
	Stops   []string `json:"stops,omitempty"`  // calls asked to cancel: the outcome is awaited
	Marks   []*Mark  `json:"marks,omitempty"`
	Replies []*Reply `json:"replies,omitempty"`
	Notes   []*Note  `json:"notes,omitempty"`
	Waits   []Wait   `json:"waits,omitempty"` // what the code waits for beside its calls
	End     *End     `json:"end,omitempty"`
}

// Wait is something other than a call that the code waits for.
type Wait struct {
	Kind string `json:"k"` // signal, condition, lock
	Name string `json:"name,omitempty"`
}

// Row is one row of the journal.
type Row struct {
	ID   int64 // set by the store when it is committed
	Run  int64
	Prev int64 // the run's row before this one, 0 for the first; set by the store
	Kind string
	Head []byte // JSON of the entry without payloads
	Data []byte // the payloads, end to end
}

// Encode makes a row of an entry.
func Encode(run int64, kind string, e *Entry) (*Row, error) {
	e.V = Format
	size, n := 0, 0
	for p := range e.payloads() {
		size += len(*p)
		n++
	}
	spans, at := make([]span, 0, n), 0
	for p, s := range e.payloads() {
		spans = append(spans, span{at, len(*p)})
		*s = &spans[len(spans)-1]
		at += len(*p)
	}
	row := &Row{Run: run, Kind: kind}
	var buf []byte
	if err := plainjson.Use(e, func(head []byte) {
		buf = append(make([]byte, 0, len(head)+size), head...)
		row.Head = buf[:len(head):len(head)]
	}); err != nil {
		return nil, fmt.Errorf("encode journal entry: %w", err)
	}
	for p := range e.payloads() {
		buf = append(buf, *p...)
	}
	if n > 0 {
		row.Data = buf[len(row.Head):]
	}
	return row, nil
}

// payloads goes through the payloads that the entry's row holds.
func (e *Entry) payloads() iter.Seq2[*Payload, **span] {
	return func(yield func(*Payload, **span) bool) {
		for _, ev := range e.Events {
			if ev.Ref == 0 && ev.Payload != nil && !yield(&ev.Payload, &ev.Span) {
				return
			}
		}
		for _, c := range e.Calls {
			if c.Payload != nil && !yield(&c.Payload, &c.Span) {
				return
			}
		}
		for _, r := range e.Replies {
			if r.Payload != nil && !yield(&r.Payload, &r.Span) {
				return
			}
		}
		if e.End != nil && e.End.Payload != nil {
			yield(&e.End.Payload, &e.End.Span)
		}
	}
}

// Decode reads a row back. Payloads share memory with row.Data, options with
// row.Head.
func Decode(row *Row) (*Entry, error) {
	var e Entry
	if err := plainjson.Unmarshal(row.Head, &e); err != nil {
		return nil, fmt.Errorf("journal row %d is damaged: %w", row.ID, err)
	}
	if e.V > Format {
		return nil, fmt.Errorf("journal row %d has format %d; this program reads up to %d: use a newer one", row.ID, e.V, Format)
	}
	var bad error
	get := func(s *span) Payload {
		if s == nil {
			return nil
		}
		from, n := s[0], s[1]
		if from < 0 || n < 0 || from > len(row.Data)-n {
			bad = fmt.Errorf("journal row %d is damaged: a payload lies outside its data", row.ID)
			return nil
		}
		return Payload(row.Data[from : from+n : from+n])
	}
	for i, ev := range e.Events {
		if ev == nil {
			return nil, fmt.Errorf("journal row %d is damaged: event %d is null", row.ID, i)
		}
		if ev.Index < 0 {
			return nil, fmt.Errorf("journal row %d is damaged: event %d refers to event %d of another row", row.ID, i, ev.Index)
		}
		ev.Payload = get(ev.Span)
	}
	for i, c := range e.Calls {
		if c == nil {
			return nil, fmt.Errorf("journal row %d is damaged: call %d is null", row.ID, i)
		}
		c.Payload = get(c.Span)
	}
	for i, r := range e.Replies {
		if r == nil {
			return nil, fmt.Errorf("journal row %d is damaged: reply %d is null", row.ID, i)
		}
		r.Payload = get(r.Span)
	}
	for i, m := range e.Marks {
		if m == nil {
			return nil, fmt.Errorf("journal row %d is damaged: mark %d is null", row.ID, i)
		}
	}
	for i, n := range e.Notes {
		if n == nil {
			return nil, fmt.Errorf("journal row %d is damaged: note %d is null", row.ID, i)
		}
	}
	if e.End != nil {
		e.End.Payload = get(e.End.Span)
	}
	return &e, bad
}
