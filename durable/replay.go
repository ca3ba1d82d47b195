package durable

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// Replayed is what [Replay] found out about a history that fits the code.
type Replayed struct {
	WorkflowID, RunID, Workflow string
	State                       State // as recorded; Running if the run was unfinished
	Turns                       int
	// Drift lists what the code does with other values than it did: inputs of
	// calls, the result. The recorded outcomes hold, so the run would go on;
	// but somebody should know.
	Drift []string
}

// Replay holds today's code against a history that [Run.Export] gave: it runs
// the workflow with the recorded outcomes, without an engine and without any
// effect. It fails with a [*BlockedError] exactly where a run with that
// history would be blocked by a deploy of this code, and the error says which
// recorded event met which call. A history that can't be read is
// [ErrHistory].
//
// It is for checks before a deploy, over the histories of production; tests
// use durabletest.Replay. Code that does not come back from outside of durable
// is given up when ctx ends, at the latest after ten seconds.
func Replay(ctx context.Context, history []byte, defs ...Definer) (*Replayed, error) {
	d, err := NewDefinitions(defs...)
	if err != nil {
		return nil, err
	}
	row, rows, blobs, err := readExport(history)
	if err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	st := &pastStore{rows: rows, blobs: blobs}
	ex := &executor{st: st, defs: d, log: slog.New(slog.DiscardHandler)}
	ex.reader = &reader{st: st, defs: d}
	ex.past = st
	e := &entry{ex: ex, row: row, cfg: configOf(row), open: map[string]*openCall{}}
	out := &Replayed{WorkflowID: row.WorkflowID, RunID: row.RunID, Workflow: row.Name, State: State(row.State)}
	type result struct {
		turns   int
		drift   []string
		problem *Problem
	}
	done := make(chan result, 1)
	go func() {
		r, p := ex.rebuild(e, row)
		if p != nil {
			done <- result{problem: p}
			return
		}
		done <- result{turns: r.turns, drift: r.drift}
		ex.discard(r)
	}()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var res result
	select {
	case res = <-done:
	case <-ctx.Done():
		res.problem = &Problem{Kind: "deadlock", Text: fmt.Sprintf(
			"the workflow's code does not come back: it waits outside of durable, or computes\n%s", stuckStacks())}
	}
	if res.problem != nil {
		return nil, &BlockedError{WorkflowID: row.WorkflowID, RunID: row.RunID, Problem: *res.problem}
	}
	out.Turns, out.Drift = res.turns, res.drift
	return out, nil
}

// pastStore is the store of a history that is only replayed.
type pastStore struct {
	journal.Store // nil: nothing else is asked of it
	rows          []*journal.Row
	blobs         map[string][]byte
}

func (s *pastStore) Rows(int64, int64) ([]*journal.Row, error) { return s.rows, nil }

func (s *pastStore) Blob(digest string) (*journal.Blob, error) {
	b, ok := s.blobs[digest]
	if !ok {
		return nil, journal.ErrNotFound
	}
	return &journal.Blob{Digest: digest, Data: b}, nil
}

// put keeps what the replayed code puts, since the history does not have it.
func (s *pastStore) put(digest string, data []byte) {
	if s.blobs == nil {
		s.blobs = map[string][]byte{}
	}
	s.blobs[digest] = bytes.Clone(data)
}

// drifts notes that the code does something with another value than the
// history has.
func (r *run) drifts(format string, args ...any) {
	if len(r.drift) < 20 {
		r.drift = append(r.drift, fmt.Sprintf(format, args...))
	}
}

// place says where in the history a replay is.
func (r *run) place() string {
	s := fmt.Sprintf("turn %d", r.turns+1)
	if r.turn == nil || len(r.turn.entry.Events) == 0 {
		return s
	}
	switch ev := r.turn.entry.Events[len(r.turn.entry.Events)-1]; ev.Kind {
	case journal.Started:
		return s + ", at the start"
	case journal.Signaled:
		return fmt.Sprintf("%s, at the signal %q", s, ev.Name)
	case journal.Asked:
		return fmt.Sprintf("%s, at the update %q", s, ev.Name)
	case journal.Canceled:
		return s + ", at the request to cancel"
	case journal.Fired:
		return fmt.Sprintf("%s, when the timer %s had fired", s, ev.Call)
	case journal.Running:
		return fmt.Sprintf("%s, when the child %s had started", s, ev.Call)
	default:
		return fmt.Sprintf("%s, at the outcome of the call %s", s, ev.Call)
	}
}

// compareEnd notes where the code ends otherwise than it did.
func (r *run) compareEnd(was *journal.End) {
	switch now := r.end; {
	case now.State != was.State:
		r.drifts("the run ended as %s; the code now ends it as %s", was.State, now.State)
	case r.ex.opts.Codec == nil && !bytes.Equal(now.Payload, was.Payload) && !bytes.Equal(escaped(now.Payload), was.Payload):
		r.drifts("the result was %s; the code now gives %s", glance(was.Payload), glance(now.Payload))
	}
}

// escaped is a value as histories of old have it: with escapes for HTML.
func escaped(p []byte) []byte {
	var b bytes.Buffer
	json.HTMLEscape(&b, p)
	return b.Bytes()
}

func glance(p []byte) string {
	if len(p) > 200 {
		return fmt.Sprintf("%s… (%d bytes)", p[:200], len(p))
	}
	return string(p)
}
