package durabletest

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// World is one history of a workload, from its start through all deaths.
type World struct {
	// Defs are what each life of the process opens its engine with. Their
	// steps record the effects that Check looks at.
	Defs durable.Set
	// Drive plays the clients: it starts what is to be started, answers, and
	// waits for the end. It is called in each life and must be able to be
	// called again: with ids for starts, signals and answers. Its error means
	// that the process died, or is a failure if it did not.
	Drive func(ctx context.Context, e *durable.Engine) (string, error)
	// Check is called at the end with what Drive returned, and reports what
	// is wrong. died tells whether the process did. It may be nil.
	Check func(t *testing.T, result string, died bool)
}

// Report is what a sweep did.
type Report struct {
	Commits int // of an undisturbed life
	Lives   int // processes
	Deaths  int
}

// ErrDied is what clients see of an engine whose process has died.
var ErrDied = errors.New("the process died")

// Sweep runs a workload once undisturbed, and then again for each commit of
// that life with the process dying there: with the commit lost and kept, awake
// and paranoid, and with a second death early in the next life. make is called
// for each of these worlds. Each must come to an end, and Check decides
// whether it is the right one.
func Sweep(t *testing.T, make func() *World) Report {
	t.Helper()
	var rep Report
	synctest.Test(t, func(t *testing.T) {
		st := &mortal{Store: journal.NewMemory(), left: -1}
		w := make()
		out, err := life(t, w, st, false)
		if err != nil {
			t.Fatalf("undisturbed: %v", err)
		}
		if w.Check != nil {
			w.Check(t, out, false)
		}
		rep.Commits, rep.Lives = st.commits, 1
	})
	if t.Failed() {
		return rep
	}
	for n := 1; n <= rep.Commits; n++ {
		for mode := range 16 {
			kept, paranoid, again := mode&1 != 0, mode&2 != 0, mode/4
			synctest.Test(t, func(t *testing.T) {
				st := journal.NewMemory()
				w := make()
				out, err := life(t, w, &mortal{Store: st, left: n, kept: kept}, paranoid)
				rep.Lives++
				died := err != nil
				if died && again > 0 {
					rep.Deaths++
					rep.Lives++
					out, err = life(t, w, &mortal{Store: st, left: again, kept: !kept}, paranoid)
				}
				if err != nil {
					rep.Deaths++
					rep.Lives++
					out, err = life(t, w, st, paranoid)
				}
				if err != nil {
					t.Fatalf("death at commit %d (kept %v, paranoid %v, again at %d): the next life fails: %v", n, kept, paranoid, again, err)
				}
				if w.Check != nil {
					w.Check(t, out, died)
				}
				if t.Failed() {
					t.Logf("death at commit %d (kept %v, paranoid %v, again at %d)", n, kept, paranoid, again)
				}
			})
			if t.Failed() {
				return rep
			}
		}
	}
	return rep
}

// life is one process: it opens the store, lets the clients play, and closes.
func life(t *testing.T, w *World, st journal.Store, paranoid bool) (string, error) {
	o := &durable.Options{MaxDeaths: -1, Logger: slog.New(slog.DiscardHandler)}
	if paranoid {
		o.MaxAwake = -1
	}
	defs, err := durable.NewDefinitions(w.Defs)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	if m, ok := st.(*mortal); ok {
		m.died = func() { cancel(ErrDied) }
	}
	b, err := durable.NewExecutor(ctx, st, defs, o)
	if err != nil {
		return "", err
	}
	e := durable.NewEngine(b, defs, o)
	out, err := w.Drive(ctx, e)
	if cerr := e.Close(context.Background()); cerr != nil {
		t.Errorf("close the engine: %v", cerr)
	}
	if err == nil && ctx.Err() != nil {
		err = ErrDied
	}
	return out, err
}

// mortal is a store whose process dies at a commit: before it is kept, or just
// after. What was committed before is there for the next life.
type mortal struct {
	journal.Store
	died func()

	mu      sync.Mutex // guards what follows
	left    int        // commits to live; negative: it does not die
	kept    bool
	dead    bool
	commits int
}

// Commit implements [journal.Store].
func (m *mortal) Commit(ctx context.Context, tx *journal.Tx) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return ErrDied
	}
	m.commits++
	if m.left--; m.left != 0 {
		return m.Store.Commit(ctx, tx)
	}
	m.dead = true
	if m.kept {
		_ = m.Store.Commit(ctx, tx)
	}
	m.died()
	return ErrDied
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
