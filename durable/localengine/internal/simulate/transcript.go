package main

import (
	"fmt"
	"slices"
	"strings"
)

// transcript is what can be seen of a program's course, in neutral words.
type transcript struct {
	actions []string // what clients got
	effects []string // of steps, with their time
	runs    []view
	bad     []string // what must never be
}

// view is a run as clients see it at the end.
type view struct {
	id        string
	n         int // of the runs with that id
	state     string
	end       string
	status    string
	questions int
	dump      string   // variables and log, by a query; of the newest run
	stream    []string // the log as it was published, over the chain
}

func (t *transcript) String() string {
	var b strings.Builder
	for i, a := range t.actions {
		fmt.Fprintf(&b, "action %d: %s\n", i, a)
	}
	slices.Sort(t.effects)
	for _, e := range t.effects {
		fmt.Fprintf(&b, "effect %s\n", e)
	}
	slices.SortFunc(t.runs, func(x, y view) int {
		if c := strings.Compare(x.id, y.id); c != 0 {
			return c
		}
		return x.n - y.n
	})
	for _, r := range t.runs {
		name := fmt.Sprintf("%s(%d)", r.id, r.n)
		fmt.Fprintf(&b, "run %s: %s %s, status %q, %d questions\n", name, r.state, r.end, r.status, r.questions)
		if r.dump == "" {
			continue
		}
		vars, log, _ := strings.Cut(r.dump, "\n")
		fmt.Fprintf(&b, "%s vars: %s\n", name, vars)
		for l := range strings.Lines(log) {
			fmt.Fprintf(&b, "%s log: %s\n", name, strings.TrimSpace(l))
		}
		if s := strings.Join(r.stream, "\n"); s != strings.TrimSpace(log) {
			fmt.Fprintf(&b, "%s: published another log: %q\n", name, r.stream)
		}
	}
	for _, l := range t.bad {
		fmt.Fprintf(&b, "NEVER: %s\n", l)
	}
	return b.String()
}

// difference shows where two transcripts part.
func difference(want, got string) string {
	if want == got {
		return ""
	}
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	has := func(list []string) map[string]int {
		m := map[string]int{}
		for _, l := range list {
			m[l]++
		}
		return m
	}
	inW, inG := has(w), has(g)
	var b strings.Builder
	n := 0
	for _, l := range w {
		if inG[l]--; inG[l] < 0 && n < 12 {
			fmt.Fprintf(&b, "  model:  %s\n", l)
			n++
		}
	}
	for _, l := range g {
		if inW[l]--; inW[l] < 0 && n < 24 {
			fmt.Fprintf(&b, "  engine: %s\n", l)
			n++
		}
	}
	if n == 0 {
		b.WriteString("  the same lines in another order\n")
		for i := range min(len(w), len(g)) {
			if w[i] != g[i] {
				fmt.Fprintf(&b, "  model:  %s\n  engine: %s\n", w[i], g[i])
				break
			}
		}
	}
	return b.String()
}
