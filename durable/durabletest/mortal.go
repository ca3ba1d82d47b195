package durabletest

import (
	"context"
	"errors"
	"sync"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// ErrDied is what clients see of an engine whose process has died.
var ErrDied = errors.New("the process died")

// Survivor keeps what engines commit, as a file does, through the deaths of
// their processes. [Sweep] is made of it; use it for crash tests of another
// shape.
type Survivor struct{ st *journal.Memory }

// NewSurvivor makes an empty one.
func NewSurvivor() *Survivor { return &Survivor{journal.NewMemory()} }

// Open opens an engine, as a process that starts. Close the one before it
// first.
//
// at is asked at each point where the process touches its store, and ends the
// process there by returning true: nothing that it does later is kept. It may
// be nil. It is called by several goroutines, and must not wait for the
// engine. The points are
//
//	before commit turn, …     the commit is lost
//	after commit turn, …      it is kept, but nobody hears of it
//	recover                   while unfinished runs are read
//	wake                      while the history of a run is read
//	before prune, after prune
//
// What a commit holds is part of its name: start (of a run, also of a child),
// turn, sent (the intent to make an attempt), event (for a run that can't take
// it now), note, continue (as new), end.
func (m *Survivor) Open(ctx context.Context, o *durable.Options, at func(point string) bool, defs ...durable.Definer) (*durable.Engine, error) {
	d, err := durable.NewDefinitions(defs...)
	if err != nil {
		return nil, err
	}
	b, err := durable.NewExecutor(ctx, &mortal{Memory: m.st, at: at}, d, o)
	if err != nil {
		return nil, err
	}
	return durable.NewEngine(b, d, o), nil
}

// mortal is the store of one process.
type mortal struct {
	*journal.Memory
	at func(string) bool

	mu   sync.Mutex // held in a commit: one comes after the other
	dead bool
}

// point reports whether the process is dead by now.
func (m *mortal) point(name string) bool {
	if !m.dead && m.at != nil && m.at(name) {
		m.dead = true
	}
	return m.dead
}

// visit is a point outside of a commit.
func (m *mortal) visit(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.point(name) {
		return ErrDied
	}
	return nil
}

// Commit implements [journal.Store].
func (m *mortal) Commit(ctx context.Context, tx *journal.Tx) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	what := whatIs(tx)
	if m.point("before commit " + what) {
		return ErrDied
	}
	if err := m.Memory.Commit(ctx, tx); err != nil {
		return err
	}
	if m.point("after commit " + what) {
		return ErrDied
	}
	return nil
}

// Unfinished implements [journal.Store].
func (m *mortal) Unfinished(f func(*journal.Run) error) error {
	if err := m.visit("recover"); err != nil {
		return err
	}
	return m.Memory.Unfinished(f)
}

// Rows implements [journal.Store].
func (m *mortal) Rows(last, from int64) ([]*journal.Row, error) {
	if from == 0 {
		if err := m.visit("wake"); err != nil {
			return nil, err
		}
	}
	return m.Memory.Rows(last, from)
}

// Prune implements [journal.Store].
func (m *mortal) Prune(ctx context.Context, t int64, keep int) (int, error) {
	if err := m.visit("before prune"); err != nil {
		return 0, err
	}
	n, err := m.Memory.Prune(ctx, t, keep)
	if err == nil {
		err = m.visit("after prune")
	}
	return n, err
}

// Health implements [journal.Store].
func (m *mortal) Health() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return ErrDied
	}
	return nil
}

// whatIs names what a commit does.
func whatIs(tx *journal.Tx) string {
	ends, starts, what := false, false, "run"
	for _, w := range tx.Writes {
		starts = starts || w.New
		ends = ends || w.Run.Closed > 0
		if w.Row == nil {
			continue
		}
		what = w.Row.Kind
		if e, err := journal.Decode(w.Row); err == nil && what == journal.KindNote && len(e.Notes) > 0 && e.Notes[0].Kind == "sent" {
			what = "sent"
		}
	}
	switch {
	case starts && ends:
		return "continue"
	case starts:
		return "start"
	case ends:
		return "end"
	}
	return what
}
