package localengine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
	"github.com/mcpagent/mcpagent/durable/localengine"
	"github.com/mcpagent/mcpagent/internal/powercut"
)

// A file that was being made when the power went, or the process, can be
// opened: it is there, or it is made anew.
func TestPowerCutWhileTheFileIsMade(t *testing.T) {
	t.Parallel()
	// made opens a file for the first time, until the power goes at operation
	// n, and reports whether it did.
	made := func(n int, keep powercut.Keep) bool {
		dir, after := t.TempDir(), t.TempDir()
		disk, err := powercut.Watch(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer disk.Close()
		var at string
		disk.Hook(func(op powercut.Op) powercut.Verdict {
			if n--; n != 0 {
				return powercut.Go
			}
			at = op.String()
			return powercut.CutHere
		})
		eng, err := localengine.Open(t.Context(), filepath.Join(dir, "a.db"), nil, job, work)
		if err == nil {
			_ = eng.Close(context.Background()) // without power it can't be clean
		}
		if err := disk.Image(after, keep); err != nil {
			t.Fatal(err)
		}
		next, err := powercut.Watch(after) // so that it need not flush
		if err != nil {
			t.Fatal(err)
		}
		defer next.Close()
		eng, err = localengine.Open(t.Context(), filepath.Join(after, "a.db"), nil, job, work)
		if err != nil {
			t.Errorf("the power went at %s: %v", at, err)
			return at != ""
		}
		if _, err := eng.List(t.Context(), nil); err != nil {
			t.Errorf("the power went at %s: %v", at, err)
		}
		if err := eng.Close(t.Context()); err != nil {
			t.Errorf("the power went at %s: close: %v", at, err)
		}
		left, err := os.ReadDir(after)
		if err != nil || len(left) != 2 {
			t.Errorf("the power went at %s: %v lie about, %v", at, left, err)
		}
		return at != ""
	}
	n := 1
	for made(n, powercut.All()) {
		if n%2 == 0 {
			made(n, powercut.None())
		} else {
			made(n, powercut.Torn(rand.New(rand.NewPCG(uint64(n), 0))))
		}
		n++
	}
	if n < 20 {
		t.Error(fmt.Sprint("only ", n, " operations"))
	}
}

// After an fsync that failed, a new process on the same machine reads what
// never reached the disk. What it acknowledges must not depend on that.
func TestFailedSyncThenAnotherProcess(t *testing.T) {
	t.Parallel()
	dir, second, after := t.TempDir(), t.TempDir(), t.TempDir()
	disk, err := powercut.Watch(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	st := storeAt(t, filepath.Join(dir, "a.db"), nil)
	r := newRun(1, "a")
	start(t, st, r)
	failOne(disk, "wal")
	if err := st.Commit(t.Context(), &journal.Tx{Writes: []journal.Write{{Run: next(r), Row: newRow(t, 1, journal.KindTurn, "x")}}}); !errors.Is(err, localengine.ErrDead) {
		t.Fatalf("Commit = %v, want ErrDead", err)
	}
	disk, err = disk.Restart(second)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	st = storeAt(t, filepath.Join(second, "a.db"), nil)
	start(t, st, newRun(2, "b"))
	if err := disk.Image(after, powercut.None()); err != nil {
		t.Fatal(err)
	}
	st = storeAt(t, filepath.Join(after, "a.db"), nil)
	for rid := range int64(2) {
		if _, err := st.Run(rid + 1); err != nil {
			t.Errorf("run %d, which was acknowledged: %v", rid+1, err)
		}
	}
}

// failOne lets the next fsync of a kind of file fail.
func failOne(disk *powercut.Disk, file string) {
	failed := false
	disk.Hook(func(op powercut.Op) powercut.Verdict {
		if failed || op.Kind != "sync" || op.File != file {
			return powercut.Go
		}
		failed = true
		return powercut.Fail
	})
}

// An fsync that fails while the log is folded ends writing, too.
func TestFailedSyncOfACheckpoint(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	disk, err := powercut.Watch(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	st := storeAt(t, filepath.Join(dir, "a.db"), nil)
	r := newRun(1, "a")
	start(t, st, r)
	failOne(disk, "db")
	waitFor(t, "the log to be folded", func() bool {
		n := next(r)
		row := newRow(t, 1, journal.KindTurn, "x")
		row.Data = append(row.Data, make([]byte, 1<<20)...)
		if err = st.Commit(t.Context(), &journal.Tx{Writes: []journal.Write{{Run: n, Row: row}}}); err == nil {
			r = n
		}
		return st.Health() != nil
	})
	if err := st.Health(); !errors.Is(err, localengine.ErrDead) {
		t.Errorf("Health = %v, want ErrDead", err)
	}
	got, err := st.Run(1)
	if err != nil || got.Turns != r.Turns {
		t.Errorf("what was acknowledged: %+v, %v", got, err)
	}
}
