package powercut_test

import (
	"database/sql"
	"math/rand/v2"
	"path/filepath"
	"testing"

	_ "modernc.org/sqlite"

	"github.com/mcpagent/mcpagent/internal/powercut"
)

// rows commits n rows to a file on a watched disk, one by one, cuts the power,
// and says how many of them the image holds, and whether it is sound.
func rows(t *testing.T, n int, synchronous string, keep powercut.Keep, prepare func(*powercut.Disk)) (int, string) {
	t.Helper()
	dir, after := t.TempDir(), t.TempDir()
	disk, err := powercut.Watch(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	prepare(disk)
	db, err := sql.Open("sqlite", filepath.Join(dir, "a.db")+"?_pragma=journal_mode(wal)&_pragma=synchronous("+synchronous+")")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	for i := range n + 1 {
		stmt := "INSERT INTO t VALUES (randomblob(600))"
		if i == 0 {
			stmt = "CREATE TABLE t (a)"
		}
		if _, err := db.Exec(stmt); err != nil {
			t.Fatal(err)
		}
	}
	if err := disk.Image(after, keep); err != nil {
		t.Fatal(err)
	}
	got, err := sql.Open("sqlite", filepath.Join(after, "a.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	var found int
	var sound string
	if err := got.QueryRow("PRAGMA integrity_check").Scan(&sound); err != nil {
		sound = err.Error()
	}
	if err := got.QueryRow("SELECT count(*) FROM t").Scan(&found); err != nil {
		found = -1
	}
	return found, sound
}

func TestSyncedRowsSurvive(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		keep := powercut.Torn(rand.New(rand.NewPCG(seed, 0)))
		if n, sound := rows(t, 20, "full", keep, func(*powercut.Disk) {}); n != 20 || sound != "ok" {
			t.Errorf("seed %d: %d of 20 rows, integrity %s", seed, n, sound)
		}
	}
}

// The layer can tell: without fsync, or with one that lies, rows are lost.
func TestUnsyncedRowsAreLost(t *testing.T) {
	t.Parallel()
	if n, _ := rows(t, 20, "off", powercut.None(), func(*powercut.Disk) {}); n == 20 {
		t.Error("synchronous=OFF lost nothing")
	}
	if n, _ := rows(t, 20, "full", powercut.None(), (*powercut.Disk).Lie); n == 20 {
		t.Error("an fsync that lies lost nothing")
	}
	if n, sound := rows(t, 20, "off", powercut.All(), func(*powercut.Disk) {}); n != 20 || sound != "ok" {
		t.Errorf("the death of a process lost rows: %d of 20, integrity %s", n, sound)
	}
	lost := false
	for seed := range uint64(20) {
		n, _ := rows(t, 20, "off", powercut.Torn(rand.New(rand.NewPCG(seed, 0))), func(*powercut.Disk) {})
		lost = lost || n < 20
	}
	if !lost {
		t.Error("20 torn images without fsync lost nothing")
	}
}

// An fsync that fails has lost what it should have written, though it can
// still be read; and a second one reports success.
func TestFailedSyncDropsWrites(t *testing.T) {
	t.Parallel()
	dir, after := t.TempDir(), t.TempDir()
	disk, err := powercut.Watch(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	db, err := sql.Open("sqlite", filepath.Join(dir, "a.db")+"?_pragma=journal_mode(wal)&_pragma=synchronous(full)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("CREATE TABLE t (a); INSERT INTO t VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	failed := 0
	disk.Hook(func(op powercut.Op) powercut.Verdict {
		if op.Kind == "sync" && failed == 0 {
			failed++
			return powercut.Fail
		}
		return powercut.Go
	})
	if _, err := db.Exec("INSERT INTO t VALUES (2)"); err == nil {
		t.Error("the commit whose fsync failed was acknowledged")
	}
	if n := disk.Unsynced(); n != 0 {
		t.Errorf("%d writes are still to be synced", n)
	}
	disk.Hook(func(op powercut.Op) powercut.Verdict {
		if op.Kind == "write" {
			return powercut.Full
		}
		return powercut.Go
	})
	if _, err := db.Exec("INSERT INTO t VALUES (3)"); err == nil {
		t.Error("a commit on a full disk was acknowledged")
	}
	disk.Cut()
	disk.Hook(nil)
	if _, err := db.Exec("INSERT INTO t VALUES (4)"); err == nil {
		t.Error("a commit after the power cut was acknowledged")
	}
	if err := disk.Image(after, powercut.All()); err != nil {
		t.Fatal(err)
	}
	got, err := sql.Open("sqlite", filepath.Join(after, "a.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	var n int
	if err := got.QueryRow("SELECT count(*) FROM t").Scan(&n); err != nil || n != 1 {
		t.Errorf("%d rows, %v; want the one that was acknowledged", n, err)
	}
}
