package localengine_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
	"github.com/mcpagent/mcpagent/durable/localengine"
)

func fileSize(t testing.TB, path string) int64 {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Size()
}

// sqlFile makes a database with a script.
func sqlFile(t testing.TB, path, script string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(script); err != nil {
		t.Fatal(err)
	}
}

// ours makes a file of this engine with one run and closes it.
func ours(t testing.TB, path string) {
	t.Helper()
	st, err := localengine.NewStore(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	start(t, st, newRun(1, "a"))
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		make func(path string)
		want error
	}{
		"text":             {func(p string) { writeFile(t, p, []byte("dear diary, "+fmt.Sprint(make([]int, 500)))) }, localengine.ErrForeign},
		"zeros":            {func(p string) { writeFile(t, p, make([]byte, 8192)) }, localengine.ErrForeign},
		"foreign":          {func(p string) { sqlFile(t, p, "CREATE TABLE t (a)") }, localengine.ErrForeign},
		"foreign with log": {func(p string) { sqlFile(t, p, "PRAGMA journal_mode = WAL; CREATE TABLE t (a)") }, localengine.ErrForeign},
		"newer": {func(p string) {
			ours(t, p)
			sqlFile(t, p, "PRAGMA user_version = 99; UPDATE meta SET value = 99 WHERE name = 'schema'")
		}, localengine.ErrNewer},
		"versions differ": {func(p string) { ours(t, p); sqlFile(t, p, "UPDATE meta SET value = 0 WHERE name = 'schema'") }, localengine.ErrCorrupt},
		"no tables":       {func(p string) { ours(t, p); sqlFile(t, p, "DROP TABLE meta") }, localengine.ErrCorrupt},
		"no runs":         {func(p string) { ours(t, p); sqlFile(t, p, "DROP TABLE runs") }, localengine.ErrCorrupt},
		"truncated": {func(p string) {
			ours(t, p)
			if err := os.Truncate(p, fileSize(t, p)/2); err != nil {
				t.Fatal(err)
			}
		}, localengine.ErrCorrupt},
		"overwritten": {func(p string) {
			ours(t, p)
			b, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			for i := 100; i < 4096; i++ {
				b[i] = 0xa5
			}
			writeFile(t, p, b)
		}, localengine.ErrCorrupt},
		"directory": {func(p string) {
			if err := os.Mkdir(p, 0o755); err != nil {
				t.Fatal(err)
			}
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.db")
			c.make(path)
			before, _ := os.ReadFile(path)
			eng, err := localengine.Open(t.Context(), path, nil)
			if err == nil {
				eng.Close(context.Background())
				t.Fatal("opened")
			}
			t.Log(err)
			if c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			var fe *localengine.FileError
			if c.want != nil && (!errors.As(err, &fe) || fe.Path == "" || fe.Text == "") {
				t.Errorf("%#v says too little", err)
			}
			after, _ := os.ReadFile(path)
			if string(before) != string(after) {
				t.Error("the file was changed")
			}
			if c.want == localengine.ErrForeign {
				if _, err := os.Stat(localengine.LockPath(path)); err == nil {
					t.Error("a lock file was left beside another program's file")
				}
			}
		})
	}
}

func writeFile(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOpenMissingDirectory(t *testing.T) {
	t.Parallel()
	_, err := localengine.Open(t.Context(), filepath.Join(t.TempDir(), "no", "a.db"), nil)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	t.Log(err)
	_, err = localengine.Open(t.Context(), filepath.Join(t.TempDir(), "a.db"), &localengine.Options{ReadOnly: true})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	t.Log(err)
}

// The file has all tables, but one is not as its version says.
func TestMissingColumn(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	ours(t, path)
	sqlFile(t, path, "ALTER TABLE runs DROP COLUMN memo")
	_, err := localengine.Open(t.Context(), path, nil)
	var fe *localengine.FileError
	if !errors.Is(err, localengine.ErrCorrupt) || !errors.As(err, &fe) || fe.Path == "" || fe.Text == "" {
		t.Errorf("Open = %v, want ErrCorrupt with path and remedy", err)
	}
}

// An empty file, and one that a crash left without tables, are made ours.
func TestOpenEmpty(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	writeFile(t, path, nil)
	ours(t, path)
	path = filepath.Join(t.TempDir(), "b.db")
	sqlFile(t, path, "PRAGMA journal_mode = WAL; CREATE TABLE t (a); DROP TABLE t")
	ours(t, path)
}

// After a clean close the file is complete by itself, and a copy of an open
// one is not, which is what Backup is for.
func TestBackup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "a.db")
	st := storeAt(t, path, nil)
	start(t, st, newRun(1, "a"))
	if err := localengine.Exec(st, "INSERT INTO requests (pid, host, created, deadline, replied, op, body) VALUES (1, 'x', 1, 0, 0, 'start', '{}')"); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "copy.db")
	if err := localengine.Backup(t.Context(), path, copied); err != nil {
		t.Fatal(err)
	}
	start(t, st, newRun(2, "b"))
	if err := localengine.Backup(t.Context(), path, copied); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over an existing file: %v", err)
	}
	back := storeAt(t, copied, nil)
	if r, err := back.Run(1); err != nil || r.WorkflowID != "a" {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := back.Run(2); !errors.Is(err, journal.ErrNotFound) {
		t.Errorf("what came later: %v", err)
	}
	if n, err := localengine.Number(back, "SELECT count(*) FROM requests"); n != 0 || err != nil {
		t.Errorf("%d requests in the copy, %v", n, err)
	}
	start(t, back, newRun(2, "c"))
	left, err := filepath.Glob(filepath.Join(dir, "*.part"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := localengine.Backup(t.Context(), filepath.Join(dir, "none.db"), filepath.Join(dir, "x.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("backup of nothing: %v", err)
	}
}

func TestCleanCloseLeavesOneFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	ours(t, path)
	if _, err := os.Stat(path + "-wal"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the log is still there: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	path := filepath.Join(f.TempDir(), "a.db")
	ours(f, path)
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(0, []byte{})
	f.Add(100, []byte{0xff, 0, 1})
	f.Add(60, []byte{0, 0, 0, 9})
	f.Add(4096, []byte("garbage"))
	f.Fuzz(func(t *testing.T, at int, patch []byte) {
		b := append([]byte(nil), good...)
		if at < 0 || at > len(b) {
			return
		}
		b = append(b[:at], append(append([]byte(nil), patch...), b[min(len(b), at+len(patch)):]...)...)
		path := filepath.Join(t.TempDir(), "a.db")
		writeFile(t, path, b)
		st, err := localengine.NewStore(path, nil)
		if err != nil {
			return
		}
		_, _ = st.Run(1)
		_, _ = st.List(&journal.Filter{})
		_ = st.Close()
	})
}
