package localengine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/internal/journal"
	"github.com/mcpagent/mcpagent/durable/localengine"
)

func TestGroupCommit(t *testing.T) {
	t.Parallel()
	const runs, turns = 64, 30
	var flushes, ops atomic.Int64
	st := newStore(t, func(n int) error {
		flushes.Add(1)
		ops.Add(int64(n))
		return nil
	})
	var wg sync.WaitGroup
	for i := range int64(runs) {
		wg.Go(func() {
			r := newRun(i+1, fmt.Sprint("w", i))
			start(t, st, r)
			for range turns {
				r = next(r)
				commit(t, st, &journal.Tx{Writes: []journal.Write{{Run: r, Row: newRow(t, r.RID, journal.KindTurn, "x")}}})
			}
			rows, err := st.Rows(r.Last, 0)
			if err != nil || len(rows) != turns+1 {
				t.Errorf("run %d: %d rows, %v", r.RID, len(rows), err)
			}
			for _, row := range rows {
				if row.Run != r.RID {
					t.Errorf("run %d has a row of run %d", r.RID, row.Run)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d commits in %d flushes", ops.Load(), flushes.Load())
	if ops.Load() != runs*(turns+1) || flushes.Load() > ops.Load()/4 {
		t.Errorf("%d commits in %d flushes: they do not share", ops.Load(), flushes.Load())
	}
}

// A refused transaction does not disturb those that share its flush.
func TestDuplicateInBatch(t *testing.T) {
	t.Parallel()
	st := newStore(t, nil)
	r := newRun(1, "taken")
	start(t, st, r)
	var wg sync.WaitGroup
	var dup atomic.Int64
	for i := int64(2); i < 66; i++ {
		wg.Go(func() {
			n := newRun(i, fmt.Sprint("w", i))
			var more []journal.Write
			if i%4 == 0 {
				n.WorkflowID = "taken"
			}
			if i%8 == 0 { // not the first statement of its transaction
				o := newRun(i+1000, fmt.Sprint("o", i))
				more = append(more, journal.Write{New: true, Run: o, Row: newRow(t, o.RID, journal.KindEvent, "x")})
			}
			row := newRow(t, i, journal.KindEvent, "x")
			switch err := st.Commit(t.Context(), &journal.Tx{Writes: append(more, journal.Write{New: true, Run: n, Row: row})}); {
			case errors.Is(err, journal.ErrDuplicate):
				dup.Add(1)
				if row.ID != 0 || n.Last != 0 || n.From != -1 {
					t.Errorf("the refused run was changed: row %d, last %d, from %d", row.ID, n.Last, n.From)
				}
			case err != nil:
				t.Error(err)
			case i%4 == 0:
				t.Errorf("run %d was not refused", i)
			}
		})
	}
	wg.Wait()
	if dup.Load() != 16 {
		t.Errorf("%d refused, want 16", dup.Load())
	}
	all, err := st.List(&journal.Filter{Limit: 1000})
	if err != nil || len(all) != 1+48 {
		t.Errorf("%d runs, %v; want 49", len(all), err)
	}
}

// What a commit leaves out because it has not changed is there, whatever came
// before: a turn, a refusal, a withdrawn commit, another owner.
func TestOnlyWhatChangedIsWritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	st := storeAt(t, path, nil)
	r := newRun(1, "a")
	start(t, st, r)
	change := func(what string, do func(r *journal.Run)) {
		t.Helper()
		r = next(r)
		do(r)
		commit(t, st, &journal.Tx{Writes: []journal.Write{{Run: r, Row: newRow(t, 1, journal.KindTurn, what)}}})
		got, err := st.Run(1)
		if err != nil {
			t.Fatal(err)
		}
		same(t, what, got, r)
	}
	nothing := func(*journal.Run) {}
	change("a turn", nothing)
	change("a status", func(r *journal.Run) { r.Status = []byte(`{"a":"MQ=="}`) })
	change("a turn with a status", nothing)
	change("another status as long", func(r *journal.Run) { r.Status = []byte(`{"a":"Mg=="}`) })
	change("no status", func(r *journal.Run) { r.Status = nil })
	change("a problem", func(r *journal.Run) { r.Problem = []byte(`{"kind":"panic"}`) })
	change("a pause", func(r *journal.Run) { r.Paused, r.Problem = []byte(`{}`), nil })
	change("a deadline", func(r *journal.Run) { r.Deadline, r.Paused = 77, nil })
	change("deaths", func(r *journal.Run) { r.Deaths = 2 })

	// A refused transaction changes nothing, and nothing is taken for written.
	n := next(r)
	n.Status = []byte(`{"lost":""}`)
	missing := newRun(99, "missing")
	err := st.Commit(t.Context(), &journal.Tx{Writes: []journal.Write{{Run: n}, {Run: missing}}})
	if !errors.Is(err, journal.ErrNotFound) {
		t.Fatalf("a change of a run that is not there: %v", err)
	}
	change("the refused status again", func(r *journal.Run) { r.Status = n.Status })

	// Many others push it out of memory.
	var wg sync.WaitGroup
	for i := range int64(5000) {
		wg.Go(func() { start(t, st, newRun(1000+i, fmt.Sprint("w", i))) })
	}
	wg.Wait()
	change("a turn after many others", nothing)
	change("the end", func(r *journal.Run) { r.State, r.Closed, r.Result = "completed", 5, journal.Payload("1") })
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := storeAt(t, path, nil).Run(1); err != nil {
		t.Error(err)
	} else {
		same(t, "after opening again", got, r)
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	st := newStore(t, nil)
	r := newRun(1, "a")
	start(t, st, r)
	pages, err := localengine.Number(st, "PRAGMA page_count")
	if err != nil {
		t.Fatal(err)
	}
	if err := localengine.Exclusively(st, fmt.Sprintf("PRAGMA max_page_count = %d", pages)); err != nil {
		t.Fatal(err)
	}
	big := make([]byte, 1<<20)
	tx := func() *journal.Tx {
		r = next(r)
		row := newRow(t, 1, journal.KindTurn, "x")
		row.Data = append(row.Data, big...)
		return &journal.Tx{Writes: []journal.Write{{Run: r, Row: row}}}
	}
	// One caller is patient, the other one is not.
	before := *r
	impatient, cancel := context.WithCancel(t.Context())
	given := make(chan error)
	go func() { given <- st.Commit(impatient, tx()) }()
	waitFor(t, "Health to say that the disk is full", func() bool { return st.Health() != nil })
	if err := st.Health(); errors.Is(err, localengine.ErrDead) {
		t.Errorf("Health = %v: a full disk is not the end", err)
	}
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Errorf("the impatient one got %v", err)
	}
	got, err := st.Run(1)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "run after a withdrawn commit", got, &before)
	r = &before
	go func() { given <- st.Commit(t.Context(), tx()) }()
	waitFor(t, "Health to say that the disk is full", func() bool { return st.Health() != nil })
	select {
	case err := <-given:
		t.Fatalf("acknowledged on a full disk: %v", err)
	default:
	}
	if _, err := st.Rows(got.Last, 0); err != nil {
		t.Errorf("read on a full disk: %v", err)
	}
	if err := localengine.Exclusively(st, "PRAGMA max_page_count = 1000000"); err != nil {
		t.Fatal(err)
	}
	if err := <-given; err != nil {
		t.Errorf("after there was space again: %v", err)
	}
	if err := st.Health(); err != nil {
		t.Errorf("Health = %v", err)
	}
	if got, err := st.Run(1); err != nil || got.Turns != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

type sqliteError int

func (e sqliteError) Error() string { return fmt.Sprintf("disk I/O error (%d)", int(e)) }
func (e sqliteError) Code() int     { return int(e) }

func TestFailedSync(t *testing.T) {
	t.Parallel()
	fail := atomic.Bool{}
	st := newStore(t, func(int) error {
		if fail.Load() {
			return sqliteError(1034) // SQLITE_IOERR_FSYNC
		}
		return nil
	})
	r := newRun(1, "a")
	start(t, st, r)
	fail.Store(true)
	c := next(r)
	err := st.Commit(t.Context(), &journal.Tx{Writes: []journal.Write{{Run: c, Row: newRow(t, 1, journal.KindTurn, "x")}}})
	if !errors.Is(err, localengine.ErrDead) || !errors.Is(err, durable.ErrUnavailable) || !errors.As(err, new(sqliteError)) {
		t.Errorf("Commit = %v, want ErrDead with its cause", err)
	}
	fail.Store(false)
	if err := st.Commit(t.Context(), &journal.Tx{Writes: []journal.Write{{Run: c}}}); !errors.Is(err, localengine.ErrDead) {
		t.Errorf("the next Commit = %v, want ErrDead", err)
	}
	if err := st.Health(); !errors.Is(err, localengine.ErrDead) {
		t.Errorf("Health = %v, want ErrDead", err)
	}
	got, err := st.Run(1)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "what was acknowledged", got, r)
}

// A second owner, where locks lie, fences the first.
func TestFencing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	first := storeAt(t, path, nil)
	r := newRun(1, "a")
	start(t, first, r)
	second := storeAt(t, path, nil)
	start(t, second, newRun(2, "b"))
	err := first.Commit(t.Context(), &journal.Tx{Writes: []journal.Write{{Run: next(r), Row: newRow(t, 1, journal.KindTurn, "x")}}})
	if !errors.Is(err, localengine.ErrFenced) {
		t.Errorf("Commit of the first = %v, want ErrFenced", err)
	}
	if owner := fmt.Sprintf("process %d", os.Getpid()); !strings.Contains(err.Error(), owner) {
		t.Errorf("Commit of the first = %v, which does not say who has the file: %s", err, owner)
	}
	if err := first.Health(); !errors.Is(err, localengine.ErrFenced) {
		t.Errorf("Health of the first = %v, want ErrFenced", err)
	}
	if got, err := first.Run(2); err != nil || got.WorkflowID != "b" {
		t.Errorf("the first reads %+v, %v", got, err)
	}
	start(t, second, newRun(3, "c"))
}

// The log starts again from its beginning, whatever is written.
func TestLogStaysSmall(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	st := storeAt(t, path, nil)
	var wg sync.WaitGroup
	for i := range int64(8) {
		wg.Go(func() {
			r := newRun(i+1, fmt.Sprint("w", i))
			start(t, st, r)
			for range 100 {
				r = next(r)
				row := newRow(t, r.RID, journal.KindTurn, "x")
				row.Data = append(row.Data, make([]byte, 50_000)...)
				commit(t, st, &journal.Tx{Writes: []journal.Write{{Run: r, Row: row}}})
			}
		})
	}
	wg.Wait() // 40 MB
	waitFor(t, "the log to be folded", func() bool {
		return fileSize(t, path) > 30<<20
	})
	if n := fileSize(t, path+"-wal"); n > 32<<20 {
		t.Errorf("the log has %d bytes", n)
	}
}
