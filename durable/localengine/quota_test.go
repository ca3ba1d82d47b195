package localengine_test

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
	"github.com/mcpagent/mcpagent/durable/localengine"
)

// ioErr is SQLite's error of a write that failed.
type ioErr struct{}

func (ioErr) Error() string { return "disk I/O error" }
func (ioErr) Code() int     { return 10 | 3<<8 }

// TestQuota: a write that failed because of a quota is tried again until there
// is room; one that failed for another reason ends the store.
func TestQuota(t *testing.T) {
	t.Parallel()
	var why atomic.Pointer[error]
	st := newStore(t, func(int) error {
		if why.Load() != nil {
			return ioErr{}
		}
		return nil
	})
	localengine.SetProbe(st, func(string) error {
		if p := why.Load(); p != nil {
			return *p
		}
		return nil
	})
	fails := func(err error) { why.Store(&err) }
	r := newRun(1, "a")
	start(t, st, r)
	fails(syscall.EDQUOT)
	r = next(r)
	given := make(chan error)
	go func() {
		given <- st.Commit(t.Context(), &journal.Tx{Writes: []journal.Write{{Run: r, Row: newRow(t, 1, journal.KindTurn, "x")}}})
	}()
	waitFor(t, "Health to say that there is no room", func() bool { return st.Health() != nil })
	if err := st.Health(); errors.Is(err, localengine.ErrDead) || !errors.Is(err, syscall.EDQUOT) {
		t.Errorf("Health = %v: a quota is not the end", err)
	}
	select {
	case err := <-given:
		t.Fatalf("acknowledged without room: %v", err)
	default:
	}
	why.Store(nil)
	if err := <-given; err != nil {
		t.Errorf("after there was room again: %v", err)
	}
	fails(nil) // there is room
	r = next(r)
	if err := st.Commit(t.Context(), &journal.Tx{Writes: []journal.Write{{Run: r}}}); !errors.Is(err, localengine.ErrDead) {
		t.Errorf("a write that failed for another reason: %v", err)
	}
}

// TestQuotaProbe: the probe leaves nothing, and finds room where there is.
func TestQuotaProbe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := localengine.WriteBeside(dir + "/x.db"); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
	if err := localengine.WriteBeside(t.TempDir() + "/gone/x.db"); err == nil {
		t.Error("it wrote into a directory that is not there")
	}
}
