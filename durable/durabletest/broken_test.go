package durabletest

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// The kit can fail: each of these engines breaks one rule, and the scenario of
// that rule rejects it. Those that break what no wrapper reaches are in
// broken_source_test.go.
var brokenEngines = []struct {
	breaks   string
	scenario string
	mode     string
	store    func(journal.Store) journal.Store
	// storeOnce makes the store of all lives of one world.
	storeOnce func() func(journal.Store) journal.Store
	backend   func(durable.Backend) durable.Backend
}{
	{breaks: "loses a signal that nobody waits for yet", scenario: "signals/kept-until-received", backend: calls(func(ctx context.Context, b durable.Backend, req *durable.Request) (*durable.Reply, error) {
		if req.Op == "signal" {
			d, err := b.Do(ctx, &durable.Request{Op: "describe", Ref: req.Ref})
			if err == nil && d.Run != nil && !slices.ContainsFunc(d.Run.Waiting, func(w durable.Wait) bool { return w.Kind == "signal" }) {
				return &durable.Reply{Ref: req.Ref}, nil
			}
		}
		return b.Do(ctx, req)
	})},
	{breaks: "broadcasts a signal to all who wait", scenario: "signals/one-receiver", backend: calls(func(ctx context.Context, b durable.Backend, req *durable.Request) (*durable.Reply, error) {
		rep, err := b.Do(ctx, req)
		if req.Op == "signal" && err == nil {
			again := *req
			again.ID += "/again"
			return b.Do(ctx, &again)
		}
		return rep, err
	})},
	{breaks: "reorders signals", scenario: "signals/in-order", backend: reorder},
	{breaks: "does not know a signal's id again", scenario: "signals/same-id-once", backend: calls(func(ctx context.Context, b durable.Backend, req *durable.Request) (*durable.Reply, error) {
		if req.Op == "signal" {
			r := *req
			r.ID = ""
			req = &r
		}
		return b.Do(ctx, req)
	})},
	{breaks: "acknowledges a signal before the flush", scenario: "signals/acknowledged-survives", storeOnce: ackEarly},
	{breaks: "acknowledges a start before the flush", scenario: "start/acknowledged-survives", storeOnce: ackEarly},
	{breaks: "acknowledges an answer before the flush", scenario: "questions/answer-survives", storeOnce: ackEarly},
	{breaks: "forgets timers when it reads a run again", scenario: "time/days", mode: "paranoid", store: rereads(func(e *journal.Entry) {
		e.Calls = slices.DeleteFunc(e.Calls, func(c *journal.Call) bool { return c.Kind == journal.Timer })
	})},
	{breaks: "re-sends an at-most-once step", scenario: "at-most-once/process-gone", store: commits(func(tx *journal.Tx) bool {
		return !slices.ContainsFunc(tx.Writes, func(w journal.Write) bool { return w.Row != nil && strings.Contains(string(w.Row.Head), `"k":"sent"`) })
	})},
	{breaks: "sends an at-most-once step before its intent is on disk", scenario: "at-most-once/process-gone", storeOnce: ackEarly},
	{breaks: "reports unknown as failed", scenario: "at-most-once/process-gone", store: entries(func(e *journal.Entry) {
		for _, ev := range e.Events {
			if ev.Failure != nil && ev.Failure.Kind == "unknown" {
				ev.Failure.Kind, ev.Failure.Type = "", "error"
			}
		}
	}), mode: "paranoid"},
	{breaks: "ends a cancelled run as failed", scenario: "end/canceled-after-cancel-is-cancelled", store: commits(func(tx *journal.Tx) bool {
		for _, w := range tx.Writes {
			if w.Run.State == string(durable.Cancelled) {
				w.Run.State = string(durable.Failed)
			}
		}
		return true
	})},
	{breaks: "terminates instead of cancelling", scenario: "cancel/waits-end-and-cleanup-works", backend: renames("cancel", "terminate")},
	{breaks: "drops the answer of a question", scenario: "questions/answered-after-days", backend: acks("answer")},
	{breaks: "answers for another run", scenario: "queries/see-what-is-committed", backend: another("query")},
	{breaks: "gives a signal to another run of the chain's end", scenario: "signals/to-an-exact-run", backend: calls(func(ctx context.Context, b durable.Backend, req *durable.Request) (*durable.Reply, error) {
		if req.Op == "signal" {
			r := *req
			r.Ref.RunID = ""
			req = &r
		}
		return b.Do(ctx, req)
	})},
	{breaks: "does not stop the code of a paused run", scenario: "pause/the-code-does-not-move", backend: acks("pause")},
	{breaks: "does not resume", scenario: "pause/the-code-does-not-move", backend: acks("resume")},
	{breaks: "carries no unread signals over continue-as-new", scenario: "continue/carries-signals-in-order", store: configs("carried")},
	{breaks: "carries no ids of signals over continue-as-new", scenario: "continue/carries-ids-of-signals", store: configs("seen")},
	{breaks: "carries no answers of updates over continue-as-new", scenario: "continue/carries-answers-of-updates", store: configs("replies")},
	{breaks: "starts a run for each start of the same id", scenario: "start/same-id-is-the-same-run", backend: calls(func(ctx context.Context, b durable.Backend, req *durable.Request) (*durable.Reply, error) {
		if req.Op == "start" && req.Start != nil {
			r, o := *req, *req.Start
			o.Reuse = durable.ReuseAllow
			r.Start = &o
			req = &r
		}
		return b.Do(ctx, req)
	})},
	{breaks: "accepts an update twice", scenario: "updates/same-id-same-answer", backend: calls(func(ctx context.Context, b durable.Backend, req *durable.Request) (*durable.Reply, error) {
		if req.Op == "update" {
			r := *req
			r.ID += time.Now().String()
			req = &r
		}
		return b.Do(ctx, req)
	})},
	{breaks: "replays with another interleaving", scenario: "turns/replay-repeats-the-interleaving", mode: "paranoid-batched", store: rereads(func(e *journal.Entry) { slices.Reverse(e.Events) })},
	{breaks: "replays with another clock", scenario: "ids/version", mode: "paranoid", store: rereads(func(e *journal.Entry) { e.Marks = nil })},
	{breaks: "commits effects twice after a death: loses outcomes that it had acknowledged", scenario: "steps/once-recorded", mode: "paranoid", store: rereads(func(e *journal.Entry) {
		e.Events = slices.DeleteFunc(e.Events, func(ev *journal.Event) bool { return ev.Kind == journal.Done })
	})},
	{breaks: "swaps the outcomes of two steps", scenario: "turns/replay-repeats-the-interleaving", mode: "paranoid-batched", store: rereads(func(e *journal.Entry) {
		if len(e.Events) > 1 && e.Events[0].Kind == journal.Done && e.Events[1].Kind == journal.Done {
			e.Events[0].Payload, e.Events[1].Payload = e.Events[1].Payload, e.Events[0].Payload
		}
	})},
	{breaks: "keeps no status", scenario: "published/status", store: commits(func(tx *journal.Tx) bool {
		for _, w := range tx.Writes {
			w.Run.Status = nil
		}
		return true
	})},
	{breaks: "counts a stream from the start after each turn", scenario: "published/stream", store: commits(func(tx *journal.Tx) bool {
		for _, it := range tx.Items {
			it.Offset = 0
		}
		return true
	})},
	{breaks: "shows all runs to every owner", scenario: "list/owners-are-kept-apart", backend: calls(func(ctx context.Context, b durable.Backend, req *durable.Request) (*durable.Reply, error) {
		r := *req
		r.Actor.Owner = ""
		return b.Do(ctx, &r)
	})},
}

// TestBrokenEnginesAreRejected: a kit that accepts one of them does not test
// its rule.
func TestBrokenEnginesAreRejected(t *testing.T) {
	t.Parallel()
	scenarios := map[string]Scenario{}
	for _, s := range Scenarios() {
		scenarios[s.Name] = s
	}
	modes := map[string]Mode{}
	for _, m := range ContractModes() {
		modes[m.Name] = m
	}
	for _, broken := range brokenEngines {
		t.Run(strings.ReplaceAll(broken.breaks, " ", "-"), func(t *testing.T) {
			t.Parallel()
			s, ok := scenarios[broken.scenario]
			if !ok {
				t.Fatalf("there is no scenario %q", broken.scenario)
			}
			m := modes[cmp.Or(broken.mode, "awake")]
			if out := Check(t, Memory(), m, s); len(out.Failures) > 0 {
				t.Fatalf("%s fails on an engine that is whole: %s", s.Name, out.Failures[0])
			}
			store := broken.store
			if broken.storeOnce != nil {
				store = broken.storeOnce()
			}
			out := Check(t, wrapped(store, broken.backend), m, s)
			if len(out.Failures) == 0 && out.Log == canonicalLogs(t)[s.Name] {
				t.Errorf("%s accepts an engine that %s", s.Name, broken.breaks)
			}
		})
	}
}

// wrapped is the engine in memory over a wrapped store, or behind a wrapped
// backend.
func wrapped(store func(journal.Store) journal.Store, backend func(durable.Backend) durable.Backend) Engine {
	e := Memory()
	e.Name, e.patience = "broken", 10*24
	var mu sync.Mutex
	wires := map[string]*wire{}
	e.Open = func(ctx context.Context, place string, o *durable.Options, defs ...durable.Definer) (*durable.Engine, error) {
		d, err := durable.NewDefinitions(defs...)
		if err != nil {
			return nil, err
		}
		mu.Lock()
		w := &wire{Store: journal.NewMemory()}
		if was := wires[place]; was != nil {
			w.Store = was.Store
		}
		wires[place] = w
		mu.Unlock()
		var st journal.Store = w
		if store != nil {
			st = store(st)
		}
		b, err := durable.NewExecutor(ctx, st, d, o)
		if err != nil {
			return nil, err
		}
		if backend != nil {
			b = backend(b)
		}
		return durable.NewEngine(b, d, o), nil
	}
	e.Kill = func(place string) {
		mu.Lock()
		defer mu.Unlock()
		wires[place].cut.Store(true)
	}
	return e
}

// brokenBackend is a backend whose operations go through do.
type brokenBackend struct {
	durable.Backend
	do func(ctx context.Context, b durable.Backend, req *durable.Request) (*durable.Reply, error)
}

func (b brokenBackend) Do(ctx context.Context, req *durable.Request) (*durable.Reply, error) {
	return b.do(ctx, b.Backend, req)
}

func calls(do func(ctx context.Context, b durable.Backend, req *durable.Request) (*durable.Reply, error)) func(durable.Backend) durable.Backend {
	return func(b durable.Backend) durable.Backend { return brokenBackend{b, do} }
}

// acks acknowledges an operation and does nothing.
func acks(op durable.Op) func(durable.Backend) durable.Backend {
	return calls(func(ctx context.Context, b durable.Backend, req *durable.Request) (*durable.Reply, error) {
		if req.Op == op {
			return &durable.Reply{Ref: req.Ref}, nil
		}
		return b.Do(ctx, req)
	})
}

// renames carries out one operation as another.
func renames(from, to durable.Op) func(durable.Backend) durable.Backend {
	return calls(func(ctx context.Context, b durable.Backend, req *durable.Request) (*durable.Reply, error) {
		if req.Op == from {
			r := *req
			r.Op = to
			req = &r
		}
		return b.Do(ctx, req)
	})
}

// another sends an operation to the run that was started last.
func another(op durable.Op) func(durable.Backend) durable.Backend {
	return func(b durable.Backend) durable.Backend {
		var mu sync.Mutex
		var last durable.Ref
		return brokenBackend{b, func(ctx context.Context, b durable.Backend, req *durable.Request) (*durable.Reply, error) {
			mu.Lock()
			ref := last
			mu.Unlock()
			if req.Op == op {
				r := *req
				r.Ref = ref
				return b.Do(ctx, &r)
			}
			rep, err := b.Do(ctx, req)
			if req.Op == "start" && err == nil && rep.Err == nil {
				mu.Lock()
				last = rep.Ref
				mu.Unlock()
			}
			return rep, err
		}}
	}
}

// reorder holds each second signal back until the next one has gone by.
func reorder(b durable.Backend) durable.Backend {
	var mu sync.Mutex
	var held []*durable.Request
	return brokenBackend{b, func(ctx context.Context, b durable.Backend, req *durable.Request) (*durable.Reply, error) {
		if req.Op != "signal" {
			return b.Do(ctx, req)
		}
		mu.Lock()
		defer mu.Unlock()
		if len(held) == 0 {
			held = append(held, req)
			return &durable.Reply{Ref: req.Ref}, nil
		}
		rep, err := b.Do(ctx, req)
		for _, h := range held {
			if _, err := b.Do(ctx, h); err != nil {
				return nil, err
			}
		}
		held = nil
		return rep, err
	}}
}

// brokenStore is a store whose commits and rows go through functions.
type brokenStore struct {
	journal.Store
	commit func(tx *journal.Tx) bool // false: acknowledged, and not kept
	rows   func(e *journal.Entry)
}

func (s brokenStore) Commit(ctx context.Context, tx *journal.Tx) error {
	if s.commit != nil && !s.commit(tx) {
		return nil
	}
	return s.Store.Commit(ctx, tx)
}

func (s brokenStore) Rows(last, from int64) ([]*journal.Row, error) {
	all, err := s.Store.Rows(last, from)
	if err != nil || s.rows == nil {
		return all, err
	}
	out := make([]*journal.Row, len(all))
	for i, r := range all {
		if out[i], err = rewrite(r, s.rows); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// rewrite changes what a row says.
func rewrite(r *journal.Row, change func(e *journal.Entry)) (*journal.Row, error) {
	e, err := journal.Decode(r)
	if err != nil {
		return nil, err
	}
	change(e)
	n, err := journal.Encode(r.Run, r.Kind, e)
	if err != nil {
		return nil, err
	}
	n.ID, n.Prev = r.ID, r.Prev
	return n, nil
}

func commits(fn func(tx *journal.Tx) bool) func(journal.Store) journal.Store {
	return func(st journal.Store) journal.Store { return brokenStore{Store: st, commit: fn} }
}

func rereads(fn func(e *journal.Entry)) func(journal.Store) journal.Store {
	return func(st journal.Store) journal.Store { return brokenStore{Store: st, rows: fn} }
}

// entries changes what is written.
func entries(fn func(e *journal.Entry)) func(journal.Store) journal.Store {
	return commits(func(tx *journal.Tx) bool {
		for i, w := range tx.Writes {
			if w.Row == nil {
				continue
			}
			if r, err := rewrite(w.Row, fn); err == nil {
				tx.Writes[i].Row = r
			}
		}
		return true
	})
}

// configs drops a field of what a continued run is given.
func configs(field string) func(journal.Store) journal.Store {
	return commits(func(tx *journal.Tx) bool {
		for _, w := range tx.Writes {
			if !w.New {
				continue
			}
			var all map[string]json.RawMessage
			if json.Unmarshal(w.Run.Config, &all) == nil {
				delete(all, field)
				w.Run.Config, _ = json.Marshal(all)
			}
		}
		return true
	})
}

// early acknowledges what it has only in memory; a commit reaches the disk an
// hour later, or when the process ends as it should.
type early struct {
	*journal.Memory
	w    *wire
	disk *disk
}

// disk is what outlives a process: transactions, and those not flushed yet.
type disk struct {
	mu              sync.Mutex
	flushed, cached []*journal.Tx
	last            time.Time
}

func (s early) Commit(ctx context.Context, tx *journal.Tx) error {
	if s.w.cut.Load() {
		return errCut
	}
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if time.Since(s.disk.last) >= time.Hour {
		s.disk.flush()
	}
	s.disk.last = time.Now()
	s.disk.cached = append(s.disk.cached, copyOf(tx))
	return s.Memory.Commit(ctx, tx)
}

func (d *disk) flush() {
	d.flushed = append(d.flushed, d.cached...)
	d.cached = nil
}

// ackEarly makes early stores over the wires of one place.
func ackEarly() func(journal.Store) journal.Store {
	d := &disk{}
	var was *wire
	return func(st journal.Store) journal.Store {
		w := st.(*wire)
		if was != nil && was.cut.Load() {
			d.cached = nil
		}
		d.flush()
		was = w
		m := journal.NewMemory()
		for _, tx := range d.flushed {
			if err := m.Commit(context.Background(), copyOf(tx)); err != nil {
				panic(err)
			}
		}
		return early{m, w, d}
	}
}

// copyOf is a transaction that a store may fill in.
func copyOf(tx *journal.Tx) *journal.Tx {
	c := *tx
	c.Writes = slices.Clone(tx.Writes)
	for i, w := range c.Writes {
		run := *w.Run
		c.Writes[i].Run = &run
		if w.Row != nil {
			row := *w.Row
			c.Writes[i].Row = &row
		}
	}
	return &c
}
