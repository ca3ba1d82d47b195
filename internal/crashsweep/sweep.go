package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// kinds are all of them, in the order of the table.
var kinds = []string{memoryDeath, closing, processDeath, powerCut, diskFull, failedSync, killed}

// sweep lives histories, one after the other, and counts.
type sweep struct {
	seed      uint64
	kinds     []string
	workloads []*workload
	point     string // of every history; empty: chosen by the seed
	lie       bool   // fsync does nothing: the sweep must find out
	dir       string // for its files
	progress  io.Writer

	rows []*row
	base map[string]*history // undisturbed lives
	done int                 // histories
}

// row is a line of the table.
type row struct {
	kind, workload string
	points         int // that an undisturbed life comes by
	visited        map[string]bool
	histories      int
	kills          int
	sum            outcome
}

// failure is a history that did not go as it must.
type failure struct {
	kind, workload, point string
	seed                  uint64
	log                   []string
	dir                   string
	problems              []string
}

func (f *failure) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s, seed %d", f.kind, f.workload, f.seed)
	if f.point != "" {
		fmt.Fprintf(&b, ", point %q", f.point)
	}
	for _, l := range f.log {
		fmt.Fprintf(&b, "\n  %s", l)
	}
	for _, p := range f.problems {
		fmt.Fprintf(&b, "\n  WRONG: %s", strings.ReplaceAll(p, "\n", "\n    "))
	}
	fmt.Fprintf(&b, "\n  its files are in %s", f.dir)
	if f.kind != killed {
		fmt.Fprintf(&b, "\n  again: go run ./internal/crashsweep -kind %q -workload %q -seed %d -point %q", f.kind, f.workload, f.seed, f.point)
	} else {
		fmt.Fprintf(&b, "\n  again, though not exactly: go run ./internal/crashsweep -kind %q -seed %d", f.kind, f.seed)
	}
	return b.String()
}

// run goes around all kinds and workloads until the time is up, at least once.
func (s *sweep) run(ctx context.Context, duration time.Duration) error {
	s.base = map[string]*history{}
	for end, round := time.Now().Add(duration), uint64(0); ; round++ {
		for _, kind := range s.kinds {
			loads := s.workloads
			if kind == killed {
				loads = []*workload{{name: "all at once"}} // that one file can hold
			}
			for _, l := range loads {
				if err := s.one(ctx, kind, l, s.seed+round); err != nil {
					return err
				}
				if round > 0 && time.Now().After(end) {
					return nil
				}
			}
		}
		if s.point != "" || !time.Now().Before(end) {
			return nil
		}
	}
}

func (s *sweep) row(kind, load string) *row {
	for _, r := range s.rows {
		if r.kind == kind && r.workload == load {
			return r
		}
	}
	r := &row{kind: kind, workload: load, visited: map[string]bool{}}
	s.rows = append(s.rows, r)
	return r
}

// one lives one history.
func (s *sweep) one(ctx context.Context, kind string, l *workload, seed uint64) error {
	base, err := s.undisturbed(ctx, kind, l, seed)
	if err != nil {
		return err
	}
	h := &history{kind: kind, load: l, loads: base.loads, seed: seed, point: s.point, lie: s.lie, want: base.want, points: faultPoints(kind, base.visited)}
	o, err := s.live(ctx, h)
	if err != nil {
		return err
	}
	r := s.row(kind, l.name)
	r.points = max(r.points, len(h.points))
	if h.reached {
		r.visited[h.point] = true
	}
	r.histories++
	r.kills += h.kills
	r.sum.add(o)
	s.done++
	if s.progress != nil {
		fmt.Fprintf(s.progress, "\r%d histories ", s.done)
	}
	return nil
}

// undisturbed is the life that a history is compared with: over the same
// engine, and as paranoid at its beginning.
func (s *sweep) undisturbed(ctx context.Context, kind string, l *workload, seed uint64) (*history, error) {
	switch kind {
	case closing, powerCut, diskFull, failedSync:
		kind = processDeath
	}
	key := fmt.Sprint(kind, l.name, seed%2)
	if h := s.base[key]; h != nil {
		return h, nil
	}
	h := &history{kind: kind, load: l, seed: seed % 2, whole: true}
	for _, l := range s.workloads {
		if !l.forgets {
			h.loads = append(h.loads, l)
		}
	}
	o, err := s.live(ctx, h)
	if err != nil {
		return nil, err
	}
	h.want = o
	s.base[key] = h
	return h, nil
}

// live lives a history in a directory of its own, which it keeps if something
// was wrong.
func (s *sweep) live(ctx context.Context, h *history) (*outcome, error) {
	var err error
	if h.root, err = os.MkdirTemp(s.dir, "history-"); err != nil {
		return nil, err
	}
	before := runtime.NumGoroutine()
	var o *outcome
	switch {
	case h.kind == killed && h.whole:
		o, err = h.killing(ctx, 0)
	case h.kind == killed:
		o, err = h.killing(ctx, 3+int(h.seed%6))
	default:
		o, err = h.run(ctx)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	f := &failure{kind: h.kind, workload: h.load.name, point: h.point, seed: h.seed, log: h.log, dir: h.root}
	if err != nil {
		f.problems = append(f.problems, err.Error())
	}
	if o != nil {
		f.problems = append(f.problems, o.problems...)
	}
	if left := leftOver(ctx, before); left != "" {
		f.problems = append(f.problems, "goroutines are left:\n"+left)
	}
	if len(f.problems) > 0 {
		return o, f
	}
	return o, os.RemoveAll(h.root)
}

// leftOver waits for the goroutines of a history to end, and shows those that
// do not.
func leftOver(ctx context.Context, before int) string {
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			return string(buf[:runtime.Stack(buf, true)])
		}
		if pause(ctx, time.Millisecond) != nil {
			return ""
		}
	}
	return ""
}

func (o *outcome) add(p *outcome) {
	o.acks += p.acks
	o.lost += p.lost
	o.doubled += p.doubled
	o.unknown += p.unknown
	o.falseUnknown += p.falseUnknown
	o.unfounded += p.unfounded
	o.wrong += p.wrong
}

// table prints what was swept, as Markdown.
func (s *sweep) table(w io.Writer) {
	fmt.Fprintln(w, "| kind | workload | histories | points | visited | kills | acks | lost | doubled | unknown, true | false |")
	fmt.Fprintln(w, "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
	all := row{kind: "all", visited: map[string]bool{}}
	line := func(r *row) {
		points, visited := fmt.Sprint(r.points), fmt.Sprint(len(r.visited))
		if r.kind == killed {
			points, visited = "–", "–" // any moment
		}
		fmt.Fprintf(w, "| %s | %s | %d | %s | %s | %d | %d | %d | %d | %d | %d |\n", r.kind, r.workload, r.histories, points, visited, r.kills,
			r.sum.acks, r.sum.lost, r.sum.doubled, r.sum.unknown, r.sum.falseUnknown)
	}
	slices.SortStableFunc(s.rows, func(a, b *row) int { return slices.Index(kinds, a.kind) - slices.Index(kinds, b.kind) })
	for _, r := range s.rows {
		line(r)
		all.histories += r.histories
		all.points += r.points
		all.kills += r.kills
		all.sum.add(&r.sum)
		for p := range r.visited {
			all.visited[r.kind+r.workload+p] = true
		}
	}
	line(&all)
}
