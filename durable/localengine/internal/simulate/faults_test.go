package main

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// tamper is a store that does not keep what it is given, or does not give what
// it keeps.
type tamper struct {
	journal.Store
	commit func(*journal.Tx)                   // nil: as it is
	write  func(kind string, e *journal.Entry) // of each row that is committed
	read   func(kind string, e *journal.Entry) // of each row that is read
	all    bool                                // reads from the first row
	run    func(*journal.Run)                  // of each run that a process finds at its start
}

func redo(row *journal.Row, f func(string, *journal.Entry)) *journal.Row {
	e, err := journal.Decode(row)
	if err != nil {
		panic(err)
	}
	f(row.Kind, e)
	n, err := journal.Encode(row.Run, row.Kind, e)
	if err != nil {
		panic(err)
	}
	n.ID, n.Prev = row.ID, row.Prev
	return n
}

// Commit implements [journal.Store].
func (s *tamper) Commit(ctx context.Context, tx *journal.Tx) error {
	if s.commit != nil {
		s.commit(tx)
	}
	if s.write != nil {
		for _, w := range tx.Writes {
			if w.Row != nil {
				*w.Row = *redo(w.Row, s.write)
			}
		}
	}
	return s.Store.Commit(ctx, tx)
}

// Rows implements [journal.Store].
func (s *tamper) Rows(last, from int64) ([]*journal.Row, error) {
	if s.all {
		from = 0
	}
	rows, err := s.Store.Rows(last, from)
	if s.read == nil || err != nil {
		return rows, err
	}
	out := make([]*journal.Row, len(rows))
	for i, r := range rows {
		out[i] = redo(r, s.read)
	}
	return out, nil
}

// Unfinished implements [journal.Store].
func (s *tamper) Unfinished(f func(*journal.Run) error) error {
	return s.Store.Unfinished(func(r *journal.Run) error {
		if s.run != nil {
			c := *r
			s.run(&c)
			r = &c
		}
		return f(r)
	})
}

// meddler is a backend that does not do what it is asked.
type meddler struct {
	durable.Backend
	do func(ctx context.Context, b durable.Backend, req *durable.Request) (*durable.Reply, error)
}

// Do implements [durable.Backend].
func (m meddler) Do(ctx context.Context, req *durable.Request) (*durable.Reply, error) {
	return m.do(ctx, m.Backend, req)
}

// planted are engines that break the contract, one way each.
func planted() map[string]faults {
	store := func(t tamper) faults {
		return faults{store: func(st journal.Store) journal.Store { c := t; c.Store = st; return &c }}
	}
	writes := func(f func(kind string, e *journal.Entry)) faults { return store(tamper{write: f}) }
	reads := func(f func(kind string, e *journal.Entry)) faults { return store(tamper{read: f}) }
	found := func(f func(*journal.Run)) faults { return store(tamper{run: f}) }
	noNotes := func(kind string) faults {
		return writes(func(_ string, e *journal.Entry) {
			e.Notes = slices.DeleteFunc(e.Notes, func(n *journal.Note) bool { return n.Kind == kind })
		})
	}
	backend := func(do func(context.Context, durable.Backend, *durable.Request) (*durable.Reply, error)) faults {
		return faults{backend: func(b durable.Backend) durable.Backend { return meddler{b, do} }}
	}
	nothing := func(op durable.Op) faults {
		return backend(func(ctx context.Context, b durable.Backend, req *durable.Request) (*durable.Reply, error) {
			if req.Op == op {
				return &durable.Reply{Ref: req.Ref}, nil
			}
			return b.Do(ctx, req)
		})
	}
	return map[string]faults{
		"loses every third signal": func() faults {
			var n atomic.Int32
			return backend(func(ctx context.Context, b durable.Backend, req *durable.Request) (*durable.Reply, error) {
				if req.Op == "signal" && n.Add(1)%3 == 0 {
					return &durable.Reply{Ref: req.Ref}, nil
				}
				return b.Do(ctx, req)
			})
		}(),
		"takes a signal twice": backend(func(ctx context.Context, b durable.Backend, req *durable.Request) (*durable.Reply, error) {
			if req.Op == "signal" {
				again := *req
				again.ID += "again"
				if rep, err := b.Do(ctx, &again); err != nil || rep.Err != nil {
					return rep, err
				}
			}
			return b.Do(ctx, req)
		}),
		"takes no cancel":    nothing("cancel"),
		"does not terminate": nothing("terminate"),
		"does not pause":     nothing("pause"),
		"tells who pauses only, and answers updates": backend(func(ctx context.Context, b durable.Backend, req *durable.Request) (*durable.Reply, error) {
			if req.Op == "update" {
				resume := &durable.Request{Op: "resume", ID: req.ID, Ref: req.Ref}
				if _, err := b.Do(ctx, resume); err != nil {
					return nil, err
				}
			}
			return b.Do(ctx, req)
		}),
		"confirms an answer and drops it": nothing("answer"),
		"starts a second run of an id": backend(func(ctx context.Context, b durable.Backend, req *durable.Request) (*durable.Reply, error) {
			if req.Op == "start" {
				c, o := *req, *req.Start
				o.Reuse = durable.ReuseAllow
				c.Start = &o
				req = &c
			}
			return b.Do(ctx, req)
		}),
		"forgets the delay of a start": backend(func(ctx context.Context, b durable.Backend, req *durable.Request) (*durable.Reply, error) {
			if req.Op == "start" {
				c, o := *req, *req.Start
				o.Delay = 0
				c.Start = &o
				req = &c
			}
			return b.Do(ctx, req)
		}),
		"forgets timers over a restart": reads(func(_ string, e *journal.Entry) {
			for _, c := range e.Calls {
				if c.Kind == journal.Timer {
					c.Due += time.Hour.Microseconds()
				}
			}
		}),
		"fires timers early after a restart": reads(func(_ string, e *journal.Entry) {
			for _, c := range e.Calls {
				if c.Kind == journal.Timer {
					c.Due -= time.Hour.Microseconds()
				}
			}
		}),
		"sends an at-most-once step again":   noNotes("sent"),
		"counts attempts anew after a death": noNotes("attempt"),
		"takes what was lost for at work":    noNotes("lost"),
		"forgets cancels of steps":           reads(func(_ string, e *journal.Entry) { e.Stops = nil }),
		"forgets what was given up":          store(tamper{all: true, read: func(_ string, e *journal.Entry) { e.Closed = nil }}),
		"replays in another order": reads(func(kind string, e *journal.Entry) {
			if kind == journal.KindTurn {
				slices.Reverse(e.Events)
			}
		}),
		"loses signals to paused runs": reads(func(kind string, e *journal.Entry) {
			if kind == journal.KindEvent {
				for _, ev := range e.Events {
					if ev.Kind == journal.Signaled {
						ev.ID = "lost"
					}
				}
			}
		}),
		"forgets a pause over a restart":   found(func(r *journal.Run) { r.Paused = nil }),
		"forgets deadlines over a restart": found(func(r *journal.Run) { r.Deadline = 0 }),
		"loses the parent over a restart":  found(func(r *journal.Run) { r.Parent = 0 }),
		"loses the status": store(tamper{commit: func(tx *journal.Tx) {
			for _, w := range tx.Writes {
				w.Run.Status = nil
			}
		}}),
		"publishes twice": store(tamper{commit: func(tx *journal.Tx) {
			for _, it := range slices.Clone(tx.Items) {
				if strings.Contains(string(it.Data), "sleep") {
					c := *it
					c.Offset++
					tx.Items = append(tx.Items, &c)
				}
			}
		}}),
		"leaves questions open": store(tamper{commit: func(tx *journal.Tx) {
			tx.Asks = slices.DeleteFunc(tx.Asks, func(a *journal.Ask) bool { return a.State != "open" })
		}}),
		"carries no signals over": store(tamper{commit: func(tx *journal.Tx) {
			for _, w := range tx.Writes {
				w.Run.Config = []byte(strings.ReplaceAll(string(w.Run.Config), `"carried"`, `"dropped"`))
			}
		}}),
		"answers an update anew after continuing": store(tamper{commit: func(tx *journal.Tx) {
			for _, w := range tx.Writes {
				w.Run.Config = []byte(strings.ReplaceAll(string(w.Run.Config), `"replies"`, `"dropped"`))
			}
		}}),
	}
}

// near is where the search for faults that few programs show begins, so that
// it takes no longer than that for others.
var near = map[string]uint64{
	"forgets what was given up": 600, "forgets cancels of steps": 1200, "answers an update anew after continuing": 950,
	"forgets a pause over a restart": 280, "tells who pauses only, and answers updates": 240, "loses the parent over a restart": 180,
}

// whole are those whose programs are made as small as they go.
var whole = []string{"loses every third signal", "takes a signal twice", "sends an at-most-once step again", "forgets timers over a restart", "does not pause"}

// The simulation can fail: it finds each of these engines, and shows it by a
// small program.
func TestPlantedFaultsAreFound(t *testing.T) {
	t.Parallel()
	const most = 3000
	for name, f := range planted() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &campaign{programs: most, first: near[name], seed: 1, engines: []string{"memory"}, workers: 1, faults: f, tries: 20}
			if slices.Contains(whole, name) {
				c.tries = 400
			}
			r := c.run(t)
			if r.small == nil {
				t.Fatalf("not found in %d programs", r.programs)
			}
			n := strings.Count(r.small.String(), "\n")
			if c.tries > 100 && n > 20 {
				t.Errorf("the program has still %d lines:\n%s", n, r.small)
			}
			t.Logf("found by program %d, shrunk to %d lines", r.number, n)
		})
	}
}
