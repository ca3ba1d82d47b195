package durabletest

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/mcpagent/mcpagent/durable"
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
	// Options are those of the engine; nil is fine. The sweep sets MaxAwake
	// and MaxDeaths.
	Options *durable.Options

	mu   sync.Mutex // guards fate
	fate *fate
}

// Point names a moment of a step at which the process may die: between the
// transfer and the note of it, say. Sweep lets it die there, each time that a
// life comes by; then Point does not return. Outside of a sweep it does
// nothing. It is for steps, which run on a worker.
func (w *World) Point(name string) {
	w.mu.Lock()
	f := w.fate
	w.mu.Unlock()
	if f != nil && f.at(name) {
		runtime.Goexit() // a dead process does nothing more
	}
}

// Report is what a sweep did.
type Report struct {
	Points  int // at which an undisturbed life can die, awake and paranoid
	Commits int // of an undisturbed life
	Lives   int // processes
	Deaths  int
}

// Sweep runs a workload once undisturbed, and then again for each point of
// that life with the process dying there: before and after each commit, while
// a run is woken, while ended runs are deleted, and at the points that steps
// name with [World.Point]; awake and paranoid, and with a second death early
// in the next life, in its recovery. make is called for each of these worlds.
// Each must come to an end, and Check decides whether it is the right one.
func Sweep(t *testing.T, make func() *World) Report {
	t.Helper()
	var rep Report
	for _, paranoid := range []bool{false, true} {
		var points []string
		synctest.Test(t, func(t *testing.T) {
			w, f := make(), newFate("")
			out, err := life(t, w, NewSurvivor(), f, paranoid)
			if err != nil {
				t.Fatalf("undisturbed (paranoid %v): %v", paranoid, err)
			}
			if w.Check != nil {
				w.Check(t, out, false)
			}
			points = f.order
			rep.Lives++
			if !paranoid {
				rep.Commits = f.commits
			}
		})
		rep.Points += len(points)
		for _, p := range points {
			if t.Failed() {
				return rep
			}
			for again := range 4 {
				synctest.Test(t, func(t *testing.T) { rep.history(t, make(), p, again, paranoid) })
			}
		}
	}
	return rep
}

// history is a world whose process dies at a point, and, if again is not 0, at
// one of the first points of its next life.
func (rep *Report) history(t *testing.T, w *World, point string, again int, paranoid bool) {
	st, died := NewSurvivor(), false
	defer func() {
		if t.Failed() {
			t.Logf("death %q (paranoid %v, again at %d)", point, paranoid, again)
		}
	}()
	var out string
	for f := newFate(point); ; f = newFate("") {
		if died && again > 0 {
			f.countdown, again = again, 0
		}
		var err error
		out, err = life(t, w, st, f, paranoid)
		rep.Lives++
		if err == nil {
			break
		}
		if !f.dead {
			t.Fatalf("after a death at %q: %v", point, err)
		}
		rep.Deaths++
		died = true
	}
	if w.Check != nil {
		w.Check(t, out, died)
	}
}

// life is one process: it opens the store, lets the clients play, and closes.
func life(t *testing.T, w *World, st *Survivor, f *fate, paranoid bool) (string, error) {
	o := durable.Options{Logger: slog.New(slog.DiscardHandler)}
	if w.Options != nil {
		o = *w.Options
	}
	o.MaxDeaths, o.MaxAwake = -1, 0
	if paranoid {
		o.MaxAwake = -1
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	f.died = func() { cancel(ErrDied) }
	w.mu.Lock()
	w.fate = f
	w.mu.Unlock()
	e, err := st.Open(ctx, &o, f.at, w.Defs)
	if err != nil {
		return "", err
	}
	out, err := w.Drive(ctx, e)
	if cerr := e.Close(context.Background()); cerr != nil {
		t.Errorf("close the engine: %v", cerr)
	}
	if err == nil && ctx.Err() != nil {
		err = ErrDied
	}
	return out, err
}

// fate decides at which point a process dies.
type fate struct {
	died func()

	mu        sync.Mutex // guards what follows
	target    string     // a point with its number; empty: none
	countdown int        // commits to live, if not 0
	dead      bool
	count     map[string]int
	order     []string
	commits   int
}

func newFate(target string) *fate { return &fate{target: target, count: map[string]int{}} }

// at reports whether the process is dead by now.
func (f *fate) at(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return true
	}
	f.count[name]++
	full := fmt.Sprintf("%s #%d", name, f.count[name])
	f.order = append(f.order, full)
	if len(name) > 13 && name[:13] == "before commit" {
		f.commits++
		f.countdown--
		f.dead = f.countdown == 0
	}
	if f.dead = f.dead || full == f.target; f.dead {
		f.died()
	}
	return f.dead
}
