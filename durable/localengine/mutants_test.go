package localengine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/internal/journal"
	"github.com/mcpagent/mcpagent/durable/localengine"
	"github.com/mcpagent/mcpagent/internal/powercut"
)

// What mutation showed that no test looked at; docs/mutation.md.

// The log is grown ahead of what is written, once something is.
func TestTheLogIsGrownAhead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	st := storeAt(t, path, nil)
	start(t, st, newRun(1, "a"))
	waitFor(t, "a log of 8 MB", func() bool {
		fi, err := os.Stat(path + "-wal")
		return err == nil && fi.Size() >= 8<<20
	})
}

// An fsync that fails while the log is grown ends writing: what is in the log
// may never reach the disk.
func TestFailedSyncOfALogThatGrows(t *testing.T) {
	t.Parallel()
	var tries atomic.Int32
	st, err := localengine.NewStoreGrowing(filepath.Join(t.TempDir(), "a.db"), func(*os.File) error {
		tries.Add(1)
		return syscall.EIO
	})
	if err != nil {
		t.Fatal(err)
	}
	r := newRun(1, "a")
	start(t, st, r)
	waitFor(t, "Health to say that writing has ended", func() bool { return errors.Is(st.Health(), localengine.ErrDead) })
	if err := st.Commit(t.Context(), &journal.Tx{Writes: []journal.Write{{Run: next(r)}}}); !errors.Is(err, localengine.ErrDead) || !errors.Is(err, syscall.EIO) {
		t.Errorf("Commit = %v, want ErrDead", err)
	}
	if err := st.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if n := tries.Load(); n != 1 {
		t.Errorf("%d tries after one that failed", n-1)
	}
}

// While the log is grown nobody else can write: a client could have put a
// request where zeros go.
func TestTheLogIsGrownUnderTheLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	tried := make(chan error, 1)
	st, err := localengine.NewStoreGrowing(path, func(*os.File) error {
		select {
		case tried <- localengine.WriteLock(path):
		default:
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	start(t, st, newRun(1, "a"))
	if err := <-tried; err == nil || !strings.Contains(err.Error(), "locked") {
		t.Errorf("the lock of the file, while its log is grown: %v", err)
	}
	if err := st.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// held is a store whose flushes can be held, and the sizes of these.
type held struct {
	journal.Store
	mu    sync.Mutex // held to hold them
	sizes []int
}

func newHeld(t *testing.T) *held {
	h := &held{}
	h.Store = newStore(t, func(ops int) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.sizes = append(h.sizes, ops)
		return nil
	})
	return h
}

// put commits a new run with so many bytes, and gives how that ended.
func (h *held) put(ctx context.Context, t *testing.T, rid int64, size int) <-chan error {
	row := newRow(t, rid, journal.KindEvent, "x")
	row.Data = append(row.Data, make([]byte, size)...)
	done := make(chan error, 1)
	go func() {
		done <- h.Commit(ctx, &journal.Tx{Writes: []journal.Write{{New: true, Run: newRun(rid, fmt.Sprint("w", rid)), Row: row}}})
	}()
	return done
}

// A flush does not grow without bounds, however much waits; but what is larger
// than that goes by itself.
func TestAFlushIsBounded(t *testing.T) {
	t.Parallel()
	h := newHeld(t)
	h.mu.Lock()
	all := []<-chan error{h.put(t.Context(), t, 1, 0)}
	waitFor(t, "the first flush", func() bool { return localengine.Waiting(h.Store) == 0 && localengine.Flushing(h.Store) })
	for i := range int64(4) {
		all = append(all, h.put(t.Context(), t, i+2, 9<<20))
	}
	all = append(all, h.put(t.Context(), t, 6, 17<<20))
	waitFor(t, "all to wait", func() bool { return localengine.Waiting(h.Store) == 5 })
	h.mu.Unlock()
	for _, done := range all {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := slices.Max(h.sizes); n > 1 {
		t.Errorf("%d transactions of 9 MB in one flush", n)
	}
}

// What was withdrawn before a flush had it is not written.
func TestWhatWasWithdrawnIsNotWritten(t *testing.T) {
	t.Parallel()
	h := newHeld(t)
	h.mu.Lock()
	first := h.put(t.Context(), t, 1, 0)
	waitFor(t, "the first flush", func() bool { return localengine.Waiting(h.Store) == 0 && localengine.Flushing(h.Store) })
	ctx, cancel := context.WithCancel(t.Context())
	second, third := h.put(ctx, t, 2, 0), h.put(t.Context(), t, 3, 0)
	waitFor(t, "the others to wait", func() bool { return localengine.Waiting(h.Store) == 2 })
	cancel()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("what was withdrawn ended with %v", err)
	}
	if n := localengine.Waiting(h.Store); n != 1 {
		t.Errorf("%d transactions wait, of one", n)
	}
	h.mu.Unlock()
	for _, done := range []<-chan error{first, third} {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if _, err := h.Run(2); !errors.Is(err, journal.ErrNotFound) {
		t.Errorf("what was withdrawn is in the file: %v", err)
	}
	if _, err := h.Run(3); err != nil {
		t.Errorf("what waited behind it: %v", err)
	}
}

// A full disk is tried more and more rarely, at last once a second.
func TestAFullDiskIsTriedMoreAndMoreRarely(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tries, full := 0, false
		st, err := localengine.NewStore(filepath.Join(t.TempDir(), "a.db"), func(int) error {
			if !full {
				return nil
			}
			tries++
			return noRoom{}
		})
		if err != nil {
			t.Fatal(err)
		}
		r := newRun(1, "a")
		start(t, st, r)
		full = true
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := st.Commit(ctx, &journal.Tx{Writes: []journal.Write{{Run: next(r)}}}); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "full") {
			t.Errorf("Commit = %v", err)
		}
		if tries < 60 || tries > 70 {
			t.Errorf("%d tries in a minute", tries)
		}
		full = false
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A file that could not be made leaves nothing behind.
func TestAFileThatCouldNotBeMadeLeavesNothing(t *testing.T) {
	t.Parallel()
	failed := 0
	for n, more := 1, true; more; n += 4 {
		dir := t.TempDir()
		disk, err := powercut.Watch(dir)
		if err != nil {
			t.Fatal(err)
		}
		left := n
		disk.Hook(func(powercut.Op) powercut.Verdict {
			if left--; left != 0 {
				return powercut.Go
			}
			return powercut.Fail
		})
		st, err := localengine.NewStore(filepath.Join(dir, "a.db"), nil)
		if err == nil {
			_ = st.Close() // that may be what failed
		} else {
			failed++
			if lie, _ := filepath.Glob(filepath.Join(dir, "*-new*")); len(lie) > 0 {
				t.Errorf("after %v: %v", err, lie)
			}
		}
		disk.Close()
		more = left <= 0
	}
	if failed < 5 {
		t.Errorf("it could not be made %d times", failed)
	}
}

// That a file can't be looked for does not say that it is gone.
func TestWhatCannotBeLookedForIsNotGone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a")
	writeFile(t, path, nil)
	ident, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := localengine.SameFile("\x00", ident, "the file"); err != nil {
		t.Error(err)
	}
	if err := localengine.SameFile(path, ident, "the file"); err != nil {
		t.Error(err)
	}
	writeFile(t, path+"-other", nil)
	if err := localengine.SameFile(path+"-other", ident, "the file"); !errors.Is(err, localengine.ErrFenced) || !strings.Contains(err.Error(), "the file was replaced") {
		t.Errorf("another file in its place: %v", err)
	}
	if err := localengine.SameFile(path+"-gone", ident, "the file"); !errors.Is(err, localengine.ErrFenced) || !strings.Contains(err.Error(), "the file was removed") {
		t.Errorf("a file that is gone: %v", err)
	}
}

// What a client asked for and was at work when the owner ended is answered by
// the next owner.
func TestARequestGoesOnToTheNextOwner(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	goes := durable.NewSignal[int]("goes")
	upd := durable.NewUpdate[int, int]("u")
	wf := durable.NewWorkflow("wf", func(ctx context.Context, _ int) (int, error) {
		done := false
		if err := upd.Handle(ctx, func(ctx context.Context, n int) (int, error) {
			more, err := goes.Receive(ctx)
			done = true
			return n + more, err
		}, nil); err != nil {
			return 0, err
		}
		return 0, durable.Await(ctx, func() bool { return done })
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{goes, upd}})
	first, err := localengine.Open(t.Context(), path, nil, wf)
	if err != nil {
		t.Fatal(err)
	}
	second, err := localengine.Open(t.Context(), path, nil, wf)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := second.Close(context.Background()); err != nil {
			t.Errorf("Close: %v", err)
		}
	}()
	if _, err := wf.Start(t.Context(), first, 0, &durable.StartOptions{ID: "r"}); err != nil {
		t.Fatal(err)
	}
	r := second.Run("r", "")
	type answer struct {
		n   int
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		n, err := upd.Send(t.Context(), r, 1, nil)
		answered <- answer{n, err}
	}()
	waitFor(t, "the update to be at work", func() bool {
		d, err := r.Describe(t.Context())
		return err == nil && slices.ContainsFunc(d.Waiting, func(w durable.Wait) bool { return w.Kind == "signal" })
	})
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := goes.Send(t.Context(), r, 41, nil); err != nil {
		t.Fatal(err)
	}
	if a := <-answered; a.n != 42 || a.err != nil {
		t.Errorf("the update was answered with %d, %v", a.n, a.err)
	}
}

// That the process of a client is not found says something only on its host.
func TestAClientOnAnotherHostIsAnswered(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	openEngine(t, path, nil)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	const gone = 1<<31 - 2 // no process has this number
	sqlFile(t, path, fmt.Sprintf(`INSERT INTO requests (pid, host, created, deadline, replied, op, body) VALUES
		(%d, 'elsewhere', 1, 0, 0, 'list', '{"op":"list","filter":{}}'), (%d, '%s', 1, 0, 0, 'list', '{"op":"list","filter":{}}')`, gone, gone, host))
	number := func(sql string) int64 {
		n, err := localengine.FileNumber(path, sql)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	waitFor(t, "both requests to be done with", func() bool { return number("SELECT count(*) FROM requests WHERE replied = 0") == 0 })
	if n := number("SELECT count(*) FROM requests WHERE host = 'elsewhere'"); n != 1 {
		t.Error("the client on another host was not answered")
	}
	if n := number("SELECT count(*) FROM requests"); n != 1 {
		t.Error("the client that is gone was answered")
	}
}
