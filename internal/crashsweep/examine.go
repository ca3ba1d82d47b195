package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/durabletest"
	"github.com/mcpagent/mcpagent/durable/localengine"
)

// outcome is what a history has come to.
type outcome struct {
	acks         int
	lost         int // acknowledged, and not there
	doubled      int // effects that happened more often than they may
	unknown      int // at-most-once calls that were reported as unknown, and had started
	falseUnknown int // that had not, though the intent to start them was on disk
	unfounded    int // for which there was not even that
	wrong        int // anything else
	problems     []string

	results map[string]string   // of each run by workflow id, without what may differ
	states  map[string][]string // of all runs by workflow id
	effects map[string]bool     // by what they are
	logs    map[string][]string // canonical, of all runs by workflow id
	intents map[string]bool     // at-most-once calls whose intent is on disk, by what they are
}

func (o *outcome) bad(n *int, format string, args ...any) {
	*n++
	o.problems = append(o.problems, fmt.Sprintf(format, args...))
}

// examination looks at a file after the last life, and at the book.
type examination struct {
	path    string                // of the file
	memory  *durabletest.Survivor // instead of a file
	loads   []*workload
	records []record
	want    *outcome // of an undisturbed life; nil: this is it
	lives   bool     // one process lived after the other
}

// engine opens the file for those who look. It executes nothing new: all runs
// have ended.
func (x *examination) engine(ctx context.Context) (*durable.Engine, error) {
	w := &world{book: &book{}}
	var set durable.Set
	for _, l := range x.loads {
		set = append(set, l.defs(w))
	}
	o := &localengine.Options{Engine: durable.Options{Logger: slog.New(slog.DiscardHandler)}}
	if x.memory != nil {
		return x.memory.Open(ctx, &o.Engine, nil, set)
	}
	return localengine.Open(ctx, x.path, o, set)
}

func (x *examination) run(ctx context.Context) (o *outcome, err error) {
	e, err := x.engine(ctx)
	if err != nil {
		return nil, fmt.Errorf("open the file after the last life: %w", err)
	}
	o, err = x.look(ctx, e)
	if cerr := e.Close(ctx); err == nil {
		err = cerr
	}
	if err == nil && x.memory == nil {
		err = x.inside(o)
	}
	return o, err
}

// look compares what the engine shows with the book.
func (x *examination) look(ctx context.Context, e *durable.Engine) (*outcome, error) {
	o := &outcome{results: map[string]string{}, states: map[string][]string{}, effects: map[string]bool{},
		logs: map[string][]string{}, intents: map[string]bool{}}
	tallies := map[string]*tally{}
	raws := map[string]string{}
	f := &durable.Filter{Limit: 1000}
	for {
		page, err := e.List(ctx, f)
		if err != nil {
			return nil, err
		}
		for _, d := range page.Runs {
			id := same(d.WorkflowID)
			o.states[id] = append(o.states[id], string(d.State))
			run := e.Run(d.WorkflowID, d.RunID)
			history, err := run.History(ctx)
			if err != nil {
				return nil, err
			}
			o.logs[id] = append(o.logs[id], canonical(d, history))
			o.read(history)
			if !d.State.Done() || d.Problem != nil {
				o.bad(&o.wrong, "run %s is %s (%v), though all work was done", d.WorkflowID, d.State, d.Problem)
			}
			// The history replays from its beginning.
			if s, err := probe.Ask(ctx, run, "x"); d.Turns > 0 && d.State != durable.Terminated && (err != nil || s != "x") {
				o.bad(&o.wrong, "the history of %s does not replay: %v", d.WorkflowID, err)
			}
			if d.State != durable.Completed {
				continue
			}
			raws[d.WorkflowID] = string(d.Result)
			t := &tally{}
			if json.Unmarshal(d.Result, t) == nil {
				tallies[d.WorkflowID] = t
				same := *t
				same.Once, same.Replies = nil, nil
				out, err := json.Marshal(same)
				if err != nil {
					return nil, err
				}
				o.results[id] = fmt.Sprint(string(out), " ", slices.Sorted(maps.Keys(t.Once)), " ", slices.Sorted(maps.Keys(t.Replies)))
			} else {
				s := string(d.Result)
				if s == `"ok"` || s == `"unknown"` {
					s = "at most once"
				}
				o.results[id] = s
			}
		}
		if page.Next == "" {
			break
		}
		f.Cursor = page.Next
	}
	for _, t := range tallies {
		for what, s := range t.Once {
			o.once(x, what, s)
		}
	}
	qs, err := e.Questions(ctx, nil)
	if err != nil {
		return nil, err
	}
	for _, q := range qs {
		o.bad(&o.wrong, "question %s of %s is still open", q.Name, q.WorkflowID)
	}
	x.effects(o)
	if forgets := x.loads[0].forgets; forgets {
		return o, nil
	}
	if err := x.acks(ctx, e, o, tallies, raws); err != nil {
		return nil, err
	}
	if x.want != nil {
		o.compare(x.want)
	}
	return o, nil
}

// ofRun is the part of a child's workflow id that is made of its parent's run.
var ofRun = regexp.MustCompile(`/[0-9a-f]{8}/`)

func same(id string) string { return ofRun.ReplaceAllString(id, "/*/") }

// canonical is the log of a run without what differs between histories: the
// signals that reached it, rather than the next of its chain, whether an
// at-most-once call is known, and whether a child that nobody waits for ended
// before its parent.
func canonical(d *durable.Description, history []*durable.Record) string {
	lines := strings.Split(strings.TrimSpace(durabletest.Canonical(d, history)), "\n")
	out := lines[:0]
	for i, l := range lines {
		l = ofRun.ReplaceAllString(l, "/*/")
		switch {
		case strings.HasPrefix(l, "  signal "):
			continue
		case i == len(lines)-1:
			l = string(d.State) // the result is compared elsewhere
		case maySayOther.MatchString(l):
			l, _, _ = strings.Cut(l, " = ")
		}
		out = append(out, l)
	}
	return strings.Join(out, "\n")
}

var maySayOther = regexp.MustCompile(` (step (invoice\.pay|fan\.once|once\.)|child (pay_line_item|child))`)

// read collects the intents of a history.
func (o *outcome) read(history []*durable.Record) {
	what := map[string]string{}
	for _, r := range history {
		for _, c := range r.Calls {
			var s string
			if c.Kind == "step" && json.Unmarshal(c.Input, &s) == nil {
				what[c.ID] = s
			}
		}
		for _, n := range r.Notes {
			if n.Kind == "sent" {
				o.intents[what[n.Call]] = true
			}
		}
	}
}

// once holds the outcome of an at-most-once call against the book.
func (o *outcome) once(x *examination, what, outcome string) {
	starts, ends := 0, 0
	for _, r := range x.records {
		if r.What == what {
			switch r.Kind {
			case "start":
				starts++
			case "end":
				ends++
			}
		}
	}
	always := strings.HasSuffix(what, "/unsure")
	switch {
	case starts > 1:
		o.bad(&o.doubled, "%s, at most once, started %d times", what, starts)
	case outcome == "unknown" && starts == 0 && !o.intents[what]:
		o.bad(&o.unfounded, "%s is unknown, never started, and was not going to", what)
	case outcome == "unknown" && starts == 0:
		o.falseUnknown++ // it died in between, which it can't know
	case outcome == "unknown" && always:
	case outcome == "unknown":
		o.unknown++
	case always || starts != 1 || ends != 1:
		o.bad(&o.wrong, "%s is %q with %d starts and %d ends", what, outcome, starts, ends)
	}
}

// inOrder are effects of which each follows the one before it.
var inOrder = regexp.MustCompile(`^(generation |stream-1/|fat-1/|once-1/first )(\d+)$`)

// effects looks at what steps did.
func (x *examination) effects(o *outcome) {
	keys := map[string]string{} // by what
	lives := map[string]int{}   // by key: the last life that started it
	furthest := map[string]int{}
	lines := map[string]int{}
	seen := map[string]string{}
	for _, r := range x.records {
		switch r.Kind {
		case "start":
			o.effects[r.What] = true
			if k, ok := keys[r.What]; ok && k != r.Key && !x.loads[0].forgets {
				o.bad(&o.doubled, "%s happened under two keys", r.What)
			}
			keys[r.What] = r.Key
			if n, ok := lives[r.Key]; ok && n == r.Life && !strings.HasPrefix(r.What, "again ") {
				o.bad(&o.doubled, "%s started twice in life %d", r.What, r.Life)
			}
			lives[r.Key] = r.Life
			if m := inOrder.FindStringSubmatch(r.What); m != nil {
				n, err := strconv.Atoi(m[2])
				if err == nil && n < furthest[m[1]] {
					o.bad(&o.doubled, "%s started again after its outcome was recorded", r.What)
				}
				furthest[m[1]] = max(furthest[m[1]], n)
			}
		case "log":
			if lines[r.What]++; lines[r.What] == 2 {
				o.bad(&o.doubled, "the line %q was logged twice", r.What)
			}
		case "seen":
			key := r.Key
			if !x.lives {
				key += fmt.Sprint(" in ", r.Life)
			}
			if r.What < seen[key] {
				o.bad(&o.lost, "%s was %s and then %s", r.Key, seen[key], r.What)
			}
			seen[key] = r.What
		}
	}
}

// acks looks for everything that was acknowledged.
func (x *examination) acks(ctx context.Context, e *durable.Engine, o *outcome, tallies map[string]*tally, raws map[string]string) error {
	said := map[string]string{}
	streams := map[string][]string{}
	for _, r := range x.records {
		if r.Kind != "ack" {
			continue
		}
		o.acks++
		what, rest, _ := strings.Cut(r.Key, " ")
		id, more, _ := strings.Cut(rest, " ")
		t := tallies[id]
		if o.states[id] == nil {
			o.bad(&o.lost, "%s was acknowledged, and the run is not there", r.Key)
			continue
		}
		if was, ok := said[r.Key]; ok && was != r.What && what != "signal" && r.Key != "start doc-1" { // a reset takes its place
			o.bad(&o.lost, "%s was answered with %.80q and with %.80q", r.Key, was, r.What)
		}
		said[r.Key] = r.What
		switch what {
		case "result":
			if raws[id] != r.What {
				o.bad(&o.lost, "the result of %s was %.80q and is %.80q", id, r.What, raws[id])
			}
		case "signal":
			if t == nil || !slices.Contains(t.Out, r.What) {
				o.bad(&o.lost, "signal %s to %s is lost", r.What, id)
			}
		case "update":
			if t == nil || t.Replies[more] != r.What {
				o.bad(&o.lost, "update %s of %s is lost, or has another answer than %q", more, id, r.What)
			}
		case "item":
			if streams[id] == nil {
				for item, err := range streamItems.Read(ctx, e.Run(id, ""), 0) {
					if err != nil {
						return err
					}
					streams[id] = append(streams[id], item.Value)
				}
			}
			n, err := strconv.Atoi(more)
			if err != nil || n >= len(streams[id]) || streams[id][n] != r.What {
				o.bad(&o.lost, "item %s of the stream of %s is lost", more, id)
			}
		}
	}
	return nil
}

// compare holds a disturbed history against the undisturbed one.
func (o *outcome) compare(want *outcome) {
	for id, s := range want.results {
		if o.results[id] != s {
			o.bad(&o.wrong, "the result of %s is %.300s, undisturbed it was %.300s", id, o.results[id], s)
		}
	}
	for id, s := range want.states {
		if fmt.Sprint(o.states[id]) != fmt.Sprint(s) {
			o.bad(&o.wrong, "the runs of %s are %v, undisturbed they were %v", id, o.states[id], s)
		}
	}
	for id, logs := range want.logs {
		slices.Sort(logs)
		slices.Sort(o.logs[id])
		if got := o.logs[id]; !slices.Equal(got, logs) {
			o.bad(&o.wrong, "the canonical log of %s is\n%s\nundisturbed it was\n%s", id, strings.Join(got, "\n"), strings.Join(logs, "\n"))
		}
	}
	for id := range o.states {
		if want.states[id] == nil {
			o.bad(&o.doubled, "run %s was not there in the undisturbed life", id)
		}
	}
	for what := range o.effects {
		if !want.effects[what] {
			o.bad(&o.wrong, "effect %q did not happen in the undisturbed life", what)
		}
	}
}

// inside looks into the file itself.
func (x *examination) inside(o *outcome) error {
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(x.path))
	if err != nil {
		return err
	}
	defer db.Close()
	var sound string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&sound); err != nil {
		return err
	}
	if sound != "ok" {
		o.bad(&o.wrong, "the file is damaged: %s", sound)
	}
	for _, c := range []struct{ what, query string }{
		{"runs without a head, or heads without a run", "SELECT count(*) FROM runs FULL JOIN heads USING (rid) WHERE run_id IS NULL OR last IS NULL"},
		{"journal rows without a run", "SELECT count(*) FROM journal WHERE run NOT IN (SELECT rid FROM runs)"},
		{"journal rows that no run reaches", `SELECT (SELECT count(*) FROM journal) - (WITH RECURSIVE r(id) AS (
			SELECT last FROM heads UNION ALL SELECT prev FROM journal JOIN r USING (id) WHERE prev > 0) SELECT count(*) FROM r)`},
		{"questions without a run", "SELECT count(*) FROM asks WHERE rid NOT IN (SELECT rid FROM runs)"},
		{"stream items without a run", "SELECT count(*) FROM items WHERE rid NOT IN (SELECT rid FROM runs)"},
		{"blobs that nobody refers to", "SELECT count(*) FROM blobs WHERE digest NOT IN (SELECT digest FROM blob_refs)"},
		{"references to blobs that are not there", "SELECT count(*) FROM blob_refs WHERE digest NOT IN (SELECT digest FROM blobs)"},
		{"references to blobs by chains that are not there", "SELECT count(*) FROM blob_refs WHERE chain NOT IN (SELECT chain FROM runs)"},
		{"children of an ended parent that still run", `SELECT count(*) FROM runs c JOIN runs p ON c.parent = p.rid WHERE c.closed = 0 AND p.closed > 0`},
	} {
		var n int
		if err := db.QueryRow(c.query).Scan(&n); err != nil {
			return fmt.Errorf("%s: %w", c.what, err)
		}
		if n != 0 {
			o.bad(&o.wrong, "%d %s", n, c.what)
		}
	}
	return nil
}
