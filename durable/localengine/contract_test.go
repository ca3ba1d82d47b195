package localengine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
	"github.com/mcpagent/mcpagent/durable/localengine"
)

func TestStore(t *testing.T) {
	t.Parallel()
	testStore(t, func(t *testing.T) journal.Store { return newStore(t, nil) })
}

func TestMemoryStore(t *testing.T) {
	t.Parallel()
	testStore(t, func(t *testing.T) journal.Store { return journal.NewMemory() })
}

func newStore(t testing.TB, commit func(int) error) journal.Store {
	t.Helper()
	return storeAt(t, filepath.Join(t.TempDir(), "a ?#%.db"), commit)
}

func storeAt(t testing.TB, path string, commit func(int) error) journal.Store {
	t.Helper()
	st, err := localengine.NewStore(path, commit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return st
}

func newRun(rid int64, id string) *journal.Run {
	return &journal.Run{
		RID: rid, WorkflowID: id, RunID: fmt.Sprintf("run-%d", rid), Chain: fmt.Sprintf("run-%d", rid), Name: "order", Owner: "",
		State: "running", Config: []byte(`{"timeout":1}`), Scope: "scope", Digest: "digest", Created: 1000 + rid, Changed: 1000 + rid, From: -1,
	}
}

// start commits a new run with its first row and returns its row.
func start(t testing.TB, st journal.Store, r *journal.Run) *journal.Row {
	t.Helper()
	row := newRow(t, r.RID, journal.KindEvent, "start of "+r.WorkflowID)
	commit(t, st, &journal.Tx{Writes: []journal.Write{{New: true, Run: r, Row: row}}})
	return row
}

func newRow(t testing.TB, rid int64, kind, payload string) *journal.Row {
	t.Helper()
	row, err := journal.Encode(rid, kind, &journal.Entry{At: 7, Events: []*journal.Event{{Kind: journal.Started, Payload: journal.Payload(payload)}}})
	if err != nil {
		t.Fatal(err)
	}
	return row
}

func commit(t testing.TB, st journal.Store, tx *journal.Tx) {
	t.Helper()
	if err := st.Commit(context.Background(), tx); err != nil {
		t.Fatalf("Commit: %v", err)
	}
}

// next is the run after one more turn, as the executor makes it.
func next(r *journal.Run) *journal.Run {
	c := *r
	c.Turns++
	c.Changed++
	return &c
}

func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// testStore is the contract of [journal.Store].
func testStore(t *testing.T, open func(t *testing.T) journal.Store) {
	ctx := context.Background()

	t.Run("rows", func(t *testing.T) {
		st := open(t)
		r := newRun(1, "a")
		first := start(t, st, r)
		if first.ID == 0 || first.Prev != 0 || r.Last != first.ID || r.From != first.ID {
			t.Fatalf("after the start: row %d, prev %d, last %d, from %d", first.ID, first.Prev, r.Last, r.From)
		}
		other := newRun(2, "b")
		start(t, st, other)
		rows := []*journal.Row{first}
		for i := range 5 {
			r = next(r)
			row := newRow(t, 1, journal.KindTurn, fmt.Sprint("turn ", i))
			commit(t, st, &journal.Tx{Writes: []journal.Write{{Run: r, Row: row}}})
			if row.Prev != rows[len(rows)-1].ID || r.Last != row.ID {
				t.Fatalf("turn %d: prev %d, last %d", i, row.Prev, r.Last)
			}
			rows = append(rows, row)
		}
		got, err := st.Rows(r.Last, 0)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "all rows", got, rows)
		if e, err := journal.Decode(got[5]); err != nil || string(e.Events[0].Payload) != "turn 4" {
			t.Errorf("decode: %v, %v", e, err)
		}
		got, err = st.Rows(r.Last, rows[3].ID)
		same(t, "rows from the third", got, rows[3:])
		if err != nil {
			t.Error(err)
		}
		if got, err := st.Rows(0, 0); len(got) != 0 || err != nil {
			t.Errorf("no rows: %v, %v", got, err)
		}
		if _, err := st.Rows(1<<40, 0); !errors.Is(err, journal.ErrNotFound) {
			t.Errorf("a row that is not there: %v", err)
		}
		// A write without a row leaves the journal alone.
		r = next(r)
		r.Status = []byte(`{"a":1}`)
		commit(t, st, &journal.Tx{Writes: []journal.Write{{Run: r}}})
		back, err := st.Run(1)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "run", back, r)
	})

	t.Run("run", func(t *testing.T) {
		st := open(t)
		r := &journal.Run{
			RID: 7, WorkflowID: "wörk\x00flow", RunID: "r7", Chain: "r1", Key: "key", Name: "n", Owner: "o", State: "running",
			Problem: []byte(`{"kind":"panic"}`), Paused: []byte(`{"by":"me"}`), Status: []byte(`{"s":"eA=="}`), Tags: []byte(`{"t":"v"}`), Memo: []byte(`[1]`),
			Config: []byte(`{}`), Scope: "s", Digest: "d", Parent: 3, ParentCall: "0/1", Next: "", Created: 1, Changed: 2, Deadline: 4, Turns: 5, Deaths: 6,
			From: -1,
		}
		commit(t, st, &journal.Tx{Writes: []journal.Write{{New: true, Run: r, Row: newRow(t, 7, journal.KindEvent, "x")}}})
		got, err := st.Run(7)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "new", got, r)
		c := *r
		c.State, c.Closed, c.Next, c.Result, c.Problem, c.Paused = "failed", 9, "r8", journal.Payload("{}"), nil, nil
		c.Failure = &journal.Failure{Type: "T", Message: "m", Details: []byte(`{"a":1}`), Cause: &journal.Failure{Type: "C"}}
		commit(t, st, &journal.Tx{Writes: []journal.Write{{Run: &c}}})
		for name, find := range map[string]func() (*journal.Run, error){
			"Run": func() (*journal.Run, error) { return st.Run(7) },
			"Find": func() (*journal.Run, error) {
				return st.Find("wörk\x00flow", "r7")
			},
			"Find newest": func() (*journal.Run, error) { return st.Find("wörk\x00flow", "") },
			"Find run id": func() (*journal.Run, error) { return st.Find("", "r7") },
			"FindKey":     func() (*journal.Run, error) { return st.FindKey("key") },
			"ChildOf":     func() (*journal.Run, error) { return st.ChildOf(3, "0/1") },
		} {
			got, err := find()
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			same(t, name, got, &c)
		}
		for name, find := range map[string]func() (*journal.Run, error){
			"Run":         func() (*journal.Run, error) { return st.Run(8) },
			"Find":        func() (*journal.Run, error) { return st.Find("other", "r7") },
			"Find newest": func() (*journal.Run, error) { return st.Find("other", "") },
			"FindKey":     func() (*journal.Run, error) { return st.FindKey("other") },
			"ChildOf":     func() (*journal.Run, error) { return st.ChildOf(3, "0/2") },
		} {
			if _, err := find(); !errors.Is(err, journal.ErrNotFound) {
				t.Errorf("%s of what is not there: %v", name, err)
			}
		}
	})

	t.Run("duplicate", func(t *testing.T) {
		st := open(t)
		r := newRun(1, "a")
		r.Key = "k"
		start(t, st, r)
		refused := func(what string, r *journal.Run, more ...journal.Write) {
			t.Helper()
			tx := &journal.Tx{Writes: append(more, journal.Write{New: true, Run: r, Row: newRow(t, r.RID, journal.KindEvent, "x")})}
			if err := st.Commit(ctx, tx); !errors.Is(err, journal.ErrDuplicate) {
				t.Errorf("%s: %v, want ErrDuplicate", what, err)
			}
			if _, err := st.Run(r.RID); !errors.Is(err, journal.ErrNotFound) {
				t.Errorf("%s: the refused run is there", what)
			}
		}
		refused("workflow id", newRun(2, "a"))
		k := newRun(2, "b")
		k.Key = "k"
		refused("key", k)
		id := newRun(2, "b")
		id.RunID = "run-1"
		refused("run id", id)
		changed := next(r)
		refused("with another write", newRun(2, "a"), journal.Write{Run: changed, Row: newRow(t, 1, journal.KindTurn, "y")})
		got, err := st.Run(1)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "the other write was not made", got, r)
		// After the end the id is free again, in the same commit too.
		ended := next(r)
		ended.State, ended.Closed, ended.Next = "continued", 5, "run-2"
		cont := newRun(2, "a")
		cont.Chain = r.Chain
		commit(t, st, &journal.Tx{Writes: []journal.Write{
			{New: true, Run: cont, Row: newRow(t, 2, journal.KindEvent, "x")},
			{Run: ended, Row: newRow(t, 1, journal.KindTurn, "end")},
		}})
		newest, err := st.Find("a", "")
		if err != nil {
			t.Fatal(err)
		}
		same(t, "newest", newest, cont)
		refused("key of an ended run", &journal.Run{RID: 3, WorkflowID: "c", RunID: "c", Key: "k", State: "running"})
	})

	t.Run("lists", func(t *testing.T) {
		st := open(t)
		parent := newRun(1, "parent")
		start(t, st, parent)
		for i := int64(2); i <= 5; i++ {
			r := newRun(i, fmt.Sprint("child ", i))
			r.Parent, r.ParentCall, r.Name = 1, "0/1", "child"
			r.Tags = []byte(fmt.Sprintf(`{"n":"%d","a.b\"c":"x"}`, i))
			if i%2 == 0 {
				r.Owner = "ann"
			}
			start(t, st, r)
			if i == 3 {
				c := *r
				c.State, c.Closed = "completed", 50
				commit(t, st, &journal.Tx{Writes: []journal.Write{{Run: &c}}})
			}
		}
		rids := func(all []*journal.Run, err error) string {
			t.Helper()
			if err != nil {
				t.Error(err)
			}
			var s []string
			for _, r := range all {
				s = append(s, fmt.Sprint(r.RID))
			}
			return strings.Join(s, " ")
		}
		ann := "ann"
		for _, c := range []struct {
			f    journal.Filter
			want string
		}{
			{journal.Filter{}, "5 4 3 2 1"},
			{journal.Filter{Limit: 2}, "5 4"},
			{journal.Filter{Limit: 2, Before: 4}, "3 2"},
			{journal.Filter{Workflow: "order"}, "1"},
			{journal.Filter{WorkflowID: "child 3"}, "3"},
			{journal.Filter{Owner: &ann}, "4 2"},
			{journal.Filter{Owner: new(string)}, "5 3 1"},
			{journal.Filter{States: []string{"completed", "failed"}}, "3"},
			{journal.Filter{States: []string{"running"}, Workflow: "child"}, "5 4 2"},
			{journal.Filter{CreatedAfter: 1002, CreatedBefore: 1005}, "4 3"},
			{journal.Filter{Tags: map[string]string{"n": "4"}}, "4"},
			{journal.Filter{Tags: map[string]string{"n": "4", `a.b"c`: "x"}}, "4"},
			{journal.Filter{Tags: map[string]string{"n": "4", `a.b"c`: "y"}}, ""},
		} {
			if got := rids(st.List(&c.f)); got != c.want {
				t.Errorf("List(%+v) = %q, want %q", c.f, got, c.want)
			}
		}
		if got := rids(st.Children(1)); got != "2 4 5" {
			t.Errorf("Children = %q", got)
		}
		if r, err := st.ChildOf(1, "0/1"); err != nil || r.RID != 5 {
			t.Errorf("ChildOf = %v, %v", r, err)
		}
		var got []string
		err := st.Unfinished(func(r *journal.Run) error {
			_, err := st.Run(r.RID) // the store can be used meanwhile
			got = append(got, fmt.Sprint(r.RID))
			return err
		})
		if s := strings.Join(got, " "); err != nil || s != "1 2 4 5" {
			t.Errorf("Unfinished = %q, %v", s, err)
		}
		stop := errors.New("stop")
		if err := st.Unfinished(func(*journal.Run) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("Unfinished with an error: %v", err)
		}
		if n, err := st.MaxRID(); n != 5 || err != nil {
			t.Errorf("MaxRID = %d, %v", n, err)
		}
	})

	t.Run("questions", func(t *testing.T) {
		st := open(t)
		r := newRun(1, "a")
		a := &journal.Ask{ID: "run-1/0/1", RID: 1, Call: "0/1", Name: "approve", Kind: "approval", Text: "Pay?", Schema: []byte(`{"type":"object"}`),
			Context: []byte(`{"x":1}`), Digest: "d", Audience: "ops", Owner: "ann", Created: 10, Expires: 20, State: "open"}
		b := &journal.Ask{ID: "run-1/0/2", RID: 1, Call: "0/2", Created: 11, State: "open"}
		c := &journal.Ask{ID: "run-2/0/2", RID: 2, Call: "0/2", Created: 12, State: "open"}
		commit(t, st, &journal.Tx{Writes: []journal.Write{{New: true, Run: r, Row: newRow(t, 1, journal.KindTurn, "")}}, Asks: []*journal.Ask{a, b, c}})
		got, err := st.Ask(a.ID)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "question", got, a)
		done := *a
		done.State, done.Answer, done.By, done.Note, done.Answered, done.RequestID = "answered", journal.Payload(`{"ok":true}`), "bob", "fine", 15, "q1"
		commit(t, st, &journal.Tx{Asks: []*journal.Ask{&done}})
		got, _ = st.Ask(a.ID)
		same(t, "answered", got, &done)
		all, err := st.Asks(1, false)
		same(t, "of the run", all, []*journal.Ask{&done, b})
		if err != nil {
			t.Error(err)
		}
		all, err = st.Asks(0, true)
		same(t, "open", all, []*journal.Ask{b, c})
		if err != nil {
			t.Error(err)
		}
		all, _ = st.Asks(1, true)
		same(t, "open of the run", all, []*journal.Ask{b})
		if _, err := st.Ask("x"); !errors.Is(err, journal.ErrNotFound) {
			t.Errorf("a question that is not there: %v", err)
		}
	})

	t.Run("streams and blobs", func(t *testing.T) {
		st := open(t)
		r := newRun(1, "a")
		var items []*journal.Item
		for i := range int64(5) {
			items = append(items, &journal.Item{RID: 1, Name: "log", Offset: i, At: 100 + i, Data: journal.Payload(fmt.Sprint("item ", i))})
		}
		big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		blobs := []*journal.Blob{{Digest: "d1", Chain: r.Chain, Data: big}, {Digest: "d2", Chain: r.Chain, Data: []byte{}}}
		commit(t, st, &journal.Tx{
			Writes: []journal.Write{{New: true, Run: r, Row: newRow(t, 1, journal.KindTurn, "")}},
			Items:  append([]*journal.Item{{RID: 1, Name: "other", Offset: 3, Data: journal.Payload("x")}}, items...), Blobs: blobs,
		})
		commit(t, st, &journal.Tx{Blobs: blobs}) // again is fine
		got, err := st.Items(1, "log", 2, 2)
		same(t, "items", got, items[2:4])
		if err != nil {
			t.Error(err)
		}
		if got, err := st.Items(1, "log", 5, 10); len(got) != 0 || err != nil {
			t.Errorf("items at the end: %v, %v", got, err)
		}
		ends, err := st.StreamEnds(1)
		same(t, "ends", ends, map[string]int64{"log": 5, "other": 4})
		if err != nil {
			t.Error(err)
		}
		for _, want := range blobs {
			if b, err := st.Blob(want.Digest); err != nil || !bytes.Equal(b.Data, want.Data) {
				t.Errorf("blob %s: %v", want.Digest, err)
			}
		}
		if _, err := st.Blob("d3"); !errors.Is(err, journal.ErrNotFound) {
			t.Errorf("a blob that is not there: %v", err)
		}
	})

	t.Run("schedules", func(t *testing.T) {
		st := open(t)
		a := &journal.Schedule{ID: "a", Owner: "ann", Spec: []byte(`{"id":"a"}`), Next: 10, Key: "k", Created: 1, Changed: 2}
		b := &journal.Schedule{ID: "b", Spec: []byte(`{}`), Paused: []byte(`{"by":"bob"}`), Last: 5, LastRun: "b-5", Buffered: 7, Created: 3, Changed: 3}
		commit(t, st, &journal.Tx{Schedules: []*journal.Schedule{b, a}})
		got, err := st.Schedules()
		same(t, "schedules", got, []*journal.Schedule{a, b})
		if err != nil {
			t.Error(err)
		}
		// With the run that it starts, or not at all.
		r := newRun(1, "a-10")
		moved := *a
		moved.Next, moved.Last, moved.LastRun = 20, 10, "a-10"
		commit(t, st, &journal.Tx{Writes: []journal.Write{{New: true, Run: r, Row: newRow(t, 1, journal.KindEvent, "")}}, Schedules: []*journal.Schedule{&moved}})
		again := moved
		again.Next = 30
		dup := newRun(2, "a-10")
		if err := st.Commit(ctx, &journal.Tx{Writes: []journal.Write{{New: true, Run: dup, Row: newRow(t, 2, journal.KindEvent, "")}}, Schedules: []*journal.Schedule{&again}}); !errors.Is(err, journal.ErrDuplicate) {
			t.Errorf("a run that is there: %v", err)
		}
		gone := *b
		gone.Deleted = true
		commit(t, st, &journal.Tx{Schedules: []*journal.Schedule{&gone}})
		got, err = st.Schedules()
		same(t, "schedules", got, []*journal.Schedule{&moved})
		if err != nil {
			t.Error(err)
		}
	})

	t.Run("a history taken over", func(t *testing.T) {
		st := open(t)
		old := newRun(1, "a")
		first := start(t, st, old)
		end := *next(old)
		end.State, end.Closed, end.Next = "terminated", 9, "run-2"
		heir := newRun(2, "a")
		heir.From = 0
		before := []*journal.Row{newRow(t, 2, journal.KindTurn, "one"), newRow(t, 2, journal.KindTurn, "two")}
		last := newRow(t, 2, journal.KindEvent, "three")
		refused := newRun(3, "other")
		refused.RunID = "run-1"
		rows := []*journal.Row{newRow(t, 3, journal.KindTurn, "no")}
		if err := st.Commit(ctx, &journal.Tx{Writes: []journal.Write{{New: true, Run: refused, Before: rows, Row: newRow(t, 3, journal.KindEvent, "no")}}}); !errors.Is(err, journal.ErrDuplicate) {
			t.Errorf("a run that is there: %v", err)
		}
		if rows[0].ID != 0 || refused.Last != 0 {
			t.Errorf("the refused run was changed: row %d, last %d", rows[0].ID, refused.Last)
		}
		commit(t, st, &journal.Tx{Writes: []journal.Write{
			{Run: &end, Row: newRow(t, 1, journal.KindNote, "end")},
			{New: true, Run: heir, Before: before, Row: last},
		}})
		got, err := st.Rows(heir.Last, 0)
		same(t, "rows", got, append(before, last))
		if err != nil {
			t.Error(err)
		}
		if got[0].Prev != 0 || got[1].Prev != got[0].ID || heir.Last != last.ID || heir.From != 0 {
			t.Errorf("rows %d←%d, run %+v", got[1].Prev, got[0].ID, heir)
		}
		if back, err := st.Run(2); err != nil || back.Last != last.ID {
			t.Errorf("the run: %+v, %v", back, err)
		}
		if got, err := st.Rows(end.Last, 0); err != nil || len(got) != 2 || got[0].ID != first.ID {
			t.Errorf("the old run has %d rows, %v", len(got), err)
		}
	})

	t.Run("prune", func(t *testing.T) {
		st := open(t)
		end := func(r *journal.Run, at int64) {
			c := *next(r)
			c.State, c.Closed = "completed", at
			commit(t, st, &journal.Tx{Writes: []journal.Write{{Run: &c, Row: newRow(t, r.RID, journal.KindTurn, "end")}},
				Items: []*journal.Item{{RID: r.RID, Name: "s", Data: journal.Payload("1")}},
				Asks:  []*journal.Ask{{ID: fmt.Sprint("q", r.RID), RID: r.RID, State: "expired"}},
				Blobs: []*journal.Blob{{Digest: r.Chain, Chain: r.Chain, Data: []byte("own")}, {Digest: "shared", Chain: r.Chain, Data: []byte("all")}},
			})
			*r = c
		}
		var runs []*journal.Run
		for i := int64(1); i <= 6; i++ {
			r := newRun(i, fmt.Sprint("w", i))
			if i == 4 {
				r.WorkflowID, r.Chain = "w3", "run-3" // continues 3
			}
			start(t, st, r)
			runs = append(runs, r)
			if i != 5 {
				end(r, i*10)
			}
		}
		if n, err := st.Prune(ctx, 31, 0); n != 3 || err != nil {
			t.Fatalf("Prune = %d, %v; want 3", n, err)
		}
		for i, r := range runs {
			_, err := st.Run(r.RID)
			if gone := errors.Is(err, journal.ErrNotFound); gone != (i < 3) {
				t.Errorf("run %d: %v", r.RID, err)
			}
			_, err = st.Rows(r.Last, 0)
			if gone := errors.Is(err, journal.ErrNotFound); gone != (i < 3) {
				t.Errorf("rows of run %d: %v", r.RID, err)
			}
			items, _ := st.Items(r.RID, "s", 0, 10)
			asks, _ := st.Asks(r.RID, false)
			if want := btoi(i >= 3 && i != 4); len(items) != want || len(asks) != want {
				t.Errorf("run %d has %d items and %d questions", r.RID, len(items), len(asks))
			}
		}
		kept := map[string]bool{"run-1": false, "run-2": false, "run-3": true, "shared": true}
		if _, ok := st.(*journal.Memory); ok {
			delete(kept, "shared") // it knows one chain of a blob only
		}
		for digest, want := range kept {
			if _, err := st.Blob(digest); (err == nil) != want {
				t.Errorf("blob %s: %v", digest, err)
			}
		}
		if n, err := st.Prune(ctx, 0, 1); n != 1 || err != nil { // 4; 5 runs, 6 is the newest
			t.Errorf("Prune to one = %d, %v", n, err)
		}
		if _, err := st.Blob("run-3"); !errors.Is(err, journal.ErrNotFound) {
			t.Errorf("the blob of a chain that is gone: %v", err)
		}
		if n, err := st.Prune(ctx, 1000, 0); n != 1 || err != nil {
			t.Errorf("Prune all = %d, %v", n, err)
		}
		if n, err := st.MaxRID(); n != 6 || err != nil {
			t.Errorf("MaxRID after the newest was deleted = %d, %v", n, err)
		}
		if err := st.Health(); err != nil {
			t.Error(err)
		}
	})
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
