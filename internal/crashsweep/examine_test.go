package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/localengine"
)

// Each thing that may be wrong with a book is counted as what it is.
func TestTheBookTells(t *testing.T) {
	t.Parallel()
	start := func(what, key string, life int) record {
		return record{Kind: "start", What: what, Key: key, Life: life}
	}
	end := func(what, key string) record { return record{Kind: "end", What: what, Key: key, Life: 1} }
	for name, c := range map[string]struct {
		records []record
		once    map[string]string // outcomes of at-most-once calls
		want    outcome
	}{
		"as it should be": {[]record{start("a", "k", 1), end("a", "k"), start("b", "l", 1), start("b", "l", 2), {Kind: "log", What: "x"}},
			map[string]string{"a": "ok"}, outcome{}},
		"another key":       {[]record{start("a", "k", 1), start("a", "l", 2)}, nil, outcome{doubled: 1}},
		"twice in a life":   {[]record{start("a", "k", 1), start("a", "k", 1)}, nil, outcome{doubled: 1}},
		"after its outcome": {[]record{start("generation 1", "k", 1), start("generation 2", "l", 1), start("generation 1", "k", 2)}, nil, outcome{doubled: 1}},
		"a second attempt":  {[]record{start("a", "k", 1), start("a", "k", 2)}, map[string]string{"a": "unknown"}, outcome{doubled: 1}},
		"a line twice":      {[]record{{Kind: "log", What: "x"}, {Kind: "log", What: "x"}}, nil, outcome{doubled: 1}},
		"it went back":      {[]record{{Kind: "seen", Key: "n", What: "2"}, {Kind: "seen", Key: "n", What: "1", Life: 1}}, nil, outcome{lost: 1}},
		"unknown":           {[]record{start("a", "k", 1)}, map[string]string{"a": "unknown"}, outcome{unknown: 1}},
		"unknown, intended": {nil, map[string]string{"meant": "unknown"}, outcome{falseUnknown: 1}},
		"unknown, made up":  {nil, map[string]string{"a": "unknown"}, outcome{unfounded: 1}},
		"ok, and never ran": {nil, map[string]string{"a": "ok"}, outcome{wrong: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			x := &examination{loads: []*workload{{}}, records: c.records, lives: true}
			got := outcome{effects: map[string]bool{}, intents: map[string]bool{"meant": true}}
			x.effects(&got)
			for what, s := range c.once {
				got.once(x, what, s)
			}
			if got.lost != c.want.lost || got.doubled != c.want.doubled || got.unknown != c.want.unknown ||
				got.falseUnknown != c.want.falseUnknown || got.unfounded != c.want.unfounded || got.wrong != c.want.wrong {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// What was acknowledged and is not in the file is lost.
func TestTheFileTells(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sweep.db")
	w := &world{book: &book{}, quick: true}
	o := &localengine.Options{Engine: durable.Options{Logger: slog.New(slog.DiscardHandler)}}
	e, err := localengine.Open(t.Context(), path, o, storm.defs(w), streams.defs(w))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []*workload{storm, streams} {
		if err := l.drive(t.Context(), w, e); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	x := &examination{path: path, loads: []*workload{storm, streams}, lives: true, records: append(w.book.recs,
		record{Kind: "ack", Key: "start nobody", What: "id"},
		record{Kind: "ack", Key: "signal storm-1", What: "z99"},
		record{Kind: "ack", Key: "update storm-1 u0-00", What: "another"},
		record{Kind: "ack", Key: "item stream-1 99", What: "more"},
		record{Kind: "ack", Key: "result stream-1", What: "another"})}
	got, err := x.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The update and the result contradict what was said before, too.
	if got.lost != 7 || got.doubled+got.wrong+got.unfounded != 0 {
		t.Errorf("%d lost:\n%s", got.lost, strings.Join(got.problems, "\n"))
	}
	x.records, x.want = w.book.recs, got
	if got, err = x.run(t.Context()); err != nil || len(got.problems) > 0 {
		t.Errorf("without these: %v, %v", got.problems, err)
	}
}
