package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/durabletest"
	"github.com/mcpagent/mcpagent/durable/localengine"
	"github.com/mcpagent/mcpagent/internal/powercut"
)

// fate counts the points that a process comes by, and knows at which one it
// is to end.
type fate struct {
	mu     sync.Mutex
	target string // name of a point with its number; empty: it does not end
	count  map[string]int
	order  []string
	hit    bool
}

func newFate(target string) *fate { return &fate{target: target, count: map[string]int{}} }

// visit reports whether this is the point.
func (f *fate) visit(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count[name]++
	full := fmt.Sprintf("%s#%d", name, f.count[name])
	f.order = append(f.order, full)
	if f.hit || full != f.target {
		return false
	}
	f.hit = true
	return true
}

func (f *fate) points() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.order[:len(f.order):len(f.order)]
}

func (f *fate) reached() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hit
}

// history is one run of a workload through all its deaths.
type history struct {
	kind    string
	load    *workload
	loads   []*workload // of processes, all at once
	seed    uint64
	point   string // where the first life ends; empty: chosen from points
	points  []string
	want    *outcome // of the undisturbed life; nil: this is it
	lie     bool     // fsync does nothing
	root    string   // directory of its files
	rnd     *rand.Rand
	log     []string // what happened, for the report of a failure
	kills   int
	reached bool     // the first life came by its point
	visited []string // by the first life
	whole   bool     // it is not disturbed
	client  bool     // the clients work through a second engine
}

// Kinds of death, and of what is worse.
const (
	memoryDeath  = "memory"    // in this process, over the engine in memory
	closing      = "close"     // nobody dies: the engine is closed, and opened again
	processDeath = "process"   // in this process, with a real file: all that was written is there
	powerCut     = "power"     // the same, but what was not synced is torn
	diskFull     = "disk full" // for a while; nobody dies
	failedSync   = "fsync"     // one fails; the process starts again, or the machine does
	killed       = "kill -9"   // processes on one file, killed and stopped from outside
)

// lifeTime is how long a life may take that is not disturbed.
const lifeTime = 30 * time.Second

func (h *history) logf(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf(format, args...))
}

// run lives the history through and checks it. The error is of the sweep
// itself, or of a life that did not come to its end.
func (h *history) run(ctx context.Context) (*outcome, error) {
	// Not the same for all: they would all die twice, or none.
	name := fnv.New64()
	fmt.Fprint(name, h.kind, h.load.name)
	h.rnd = rand.New(rand.NewPCG(h.seed, name.Sum64()))
	if h.point == "" && len(h.points) > 0 {
		h.point = choose(h.rnd, h.points)
	}
	h.client = (h.kind == processDeath || h.kind == powerCut) && !h.lie && h.rnd.IntN(4) == 0
	l := &life{h: h, n: 1, book: &book{}, fate: newFate(h.point)}
	if err := l.place(nil); err != nil {
		return nil, err
	}
	for {
		err := l.live(ctx)
		if l.n == 1 {
			h.visited, h.reached = l.fate.points(), l.fate.reached()
		}
		switch {
		case l.trouble != nil:
			return nil, fmt.Errorf("life %d: %w", l.n, l.trouble)
		case l.done:
			h.logf("life %d: to the end", l.n)
			return h.end(ctx, l)
		case !l.fate.reached():
			return nil, fmt.Errorf("life %d: %w", l.n, err)
		case l.n > 20:
			return nil, errors.New("no life comes to its end")
		}
		h.kills++
		h.logf("life %d: ended at %q", l.n, l.fate.target)
		// A later life dies at one of its first points, now and then: inside
		// recovery, and twice.
		target, seen := "", faultPoints(h.kind, l.fate.points())
		if n := min(len(seen), 60); n > 0 && l.n < 4 && h.rnd.IntN(2) == 0 {
			target = choose(h.rnd, seen[:n])
		}
		next := &life{h: h, n: l.n + 1, book: l.book.next(), fate: newFate(target)}
		if err := next.place(l); err != nil {
			return nil, err
		}
		l = next
	}
}

// choose picks a point: first what is done, then when. So the thousands of
// writes do not keep the rare ones from their turn.
func choose(rnd *rand.Rand, points []string) string {
	var what []string
	when := map[string][]string{}
	for _, p := range points {
		w, _, _ := strings.Cut(p, "#")
		if first, _, _ := strings.Cut(w, " "); first != "before" && first != "after" {
			w = first // dispatch, effect, return, put away
		}
		if when[w] == nil {
			what = append(what, w)
		}
		when[w] = append(when[w], p)
	}
	slices.Sort(what) // a seed chooses the same, whatever came first
	of := when[what[rnd.IntN(len(what))]]
	slices.Sort(of)
	return of[rnd.IntN(len(of))]
}

// place finds what a life begins with: what the one before it has left.
func (l *life) place(was *life) (err error) {
	if l.h.kind == memoryDeath {
		if l.memory = durabletest.NewSurvivor(); was != nil {
			l.memory = was.memory
		}
		return nil
	}
	dir := filepath.Join(l.h.root, fmt.Sprintf("life%d", l.n))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	l.path = filepath.Join(dir, "sweep.db")
	if was == nil {
		l.disk, err = powercut.Watch(dir)
	} else {
		l.disk, err = l.h.again(was.disk, dir)
	}
	if l.h.lie && err == nil {
		l.disk.Lie()
	}
	return err
}

// errClosing is why the clients of a life end whose engine is closed.
var errClosing = errors.New("the engine is closed")

// again makes the disk that the next life finds in dir.
func (h *history) again(was *powercut.Disk, dir string) (*powercut.Disk, error) {
	defer was.Close()
	keep := powercut.All()
	switch h.kind {
	case failedSync:
		if h.rnd.IntN(2) == 0 {
			h.logf("the same machine goes on")
			return was.Restart(dir)
		}
		keep = powercut.Torn(h.rnd)
	case powerCut:
		if keep = powercut.Torn(h.rnd); h.rnd.IntN(4) == 0 {
			keep = powercut.None()
		}
	}
	if err := was.Image(dir, keep); err != nil {
		return nil, err
	}
	return powercut.Watch(dir)
}

// end checks what the last life has left.
func (h *history) end(ctx context.Context, l *life) (*outcome, error) {
	x := &examination{memory: l.memory, path: l.path, loads: []*workload{h.load}, records: l.book.recs, want: h.want, lives: true}
	switch {
	case l.memory != nil:
	case l.last != "":
		x.path = filepath.Join(l.last, "sweep.db")
	case l.disk.Off(): // it died while it was closed
		next := &life{h: h, n: l.n + 1, fate: newFate("")}
		if err := next.place(l); err != nil {
			return nil, err
		}
		next.disk.Close()
		x.path = next.path
	}
	if l.disk != nil {
		l.disk.Close()
	}
	return x.run(ctx)
}

// life is one process, in this one.
type life struct {
	h       *history
	n       int
	memory  *durabletest.Survivor // in memory, or
	disk    *powercut.Disk        // on this disk, at
	path    string
	book    *book
	fate    *fate
	stop    context.CancelCauseFunc
	fault   fault
	done    bool   // the clients came to their end
	trouble error  // the sweep found something wrong while it lived
	last    string // directory with what a power cut at the end left
}

// options are those of the engine in this life.
func (h *history) options(w *world, life int) *localengine.Options {
	o := &localengine.Options{Engine: durable.Options{Logger: w.logger(), MaxDeaths: -1}}
	if (h.seed+uint64(life))%2 == 0 {
		o.Engine.MaxAwake = -1 // paranoid
	}
	if h.load.options != nil {
		h.load.options(&o.Engine)
	}
	return o
}

// live opens the file, lets the clients play, and closes it. Its error means
// nothing if the process died.
func (l *life) live(ctx context.Context) (err error) {
	h := l.h
	ctx, cancel := context.WithTimeout(ctx, lifeTime)
	defer cancel()
	ctx, l.stop = context.WithCancelCause(ctx)
	defer l.fault.wg.Wait()
	defer l.stop(nil)
	w := &world{life: l.n, book: l.book, at: l.at, quick: h.kind != closing}
	if l.disk != nil {
		l.disk.Hook(l.op)
		defer l.disk.Hook(nil)
	}
	open := func() (*durable.Engine, error) {
		if l.memory != nil {
			return l.memory.Open(ctx, &h.options(w, l.n).Engine, l.commit, h.load.defs(w))
		}
		return localengine.Open(ctx, l.path, h.options(w, l.n), h.load.defs(w))
	}
	e, err := open()
	if err != nil && h.kind == diskFull {
		e, err = open() // there is room again
	}
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	engines := []*durable.Engine{e}
	defer func() {
		for _, e := range engines {
			l.close(ctx, e)
		}
	}()
	front := e
	if h.client {
		if front, err = open(); err != nil {
			return fmt.Errorf("open a client: %w", err)
		}
		engines = []*durable.Engine{front, e}
	}
	l.fault.watch(ctx, l, e)
	err = h.load.drive(ctx, w, front)
	l.fault.end()
	if err != nil || l.dead() || context.Cause(ctx) == errClosing {
		return err
	}
	l.done = true
	if h.kind == powerCut || h.kind == failedSync {
		// The end is a power cut too: all that was acknowledged is there.
		l.last = filepath.Join(h.root, fmt.Sprintf("cut%d", l.n))
		if err := os.Mkdir(l.last, 0o700); err != nil {
			return err
		}
		return l.disk.Image(l.last, powercut.None())
	}
	return nil
}

func (l *life) close(ctx context.Context, e *durable.Engine) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := e.Close(ctx)
	if err != nil && (ctx.Err() != nil || l.h.kind == closing || !l.dead() && !l.fate.reached()) {
		l.trouble = errors.Join(l.trouble, fmt.Errorf("close: %w", err))
	}
}

// dead reports whether nothing of what happens now is kept any more.
func (l *life) dead() bool { return l.book.dead.Load() || l.disk != nil && l.disk.Off() }

// at is a point of the code.
func (l *life) at(point string) {
	if l.dead() || !l.fate.visit(point) {
		return
	}
	if l.h.kind == closing {
		l.stop(errClosing)
		return
	}
	if l.disk != nil {
		l.disk.Cut()
	}
	l.die()
}

// commit is a point of the store in memory.
func (l *life) commit(point string) bool {
	if l.dead() {
		return true
	}
	if l.fate.visit(point) {
		l.die()
		return true
	}
	return false
}

// op is a point of the file.
func (l *life) op(op powercut.Op) powercut.Verdict {
	name := op.File + "." + op.Kind
	before := l.fate.visit("before " + name)
	switch {
	case l.h.kind == closing:
		if before {
			l.stop(errClosing)
		}
	case l.h.kind == diskFull || l.h.kind == failedSync:
		return l.fault.op(before, op)
	case before:
		l.die()
		return powercut.CutHere
	case l.fate.visit("after " + name):
		l.die()
		return powercut.CutThen
	}
	return powercut.Go
}

// die ends the process as far as the world can see. The disk is off, or goes
// off with the operation under way.
func (l *life) die() {
	l.book.die()
	l.stop(errDead)
}
