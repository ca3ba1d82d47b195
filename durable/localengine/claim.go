package localengine

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

func micros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n)
}

// self is this process as an owner.
func self() Owner {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return Owner{PID: os.Getpid(), Host: host, Since: time.Now()}
}

// claim makes this process the one that writes. The lock is held. Each claim
// has an epoch of its own, which every transaction compares: where locks do
// not hold, the one who claimed before can't write any more.
func (s *store) claim(o Owner, h hooks) (err error) {
	c, err := dialWriter(s.path, "FULL")
	if err != nil {
		return explain(s.path, err)
	}
	w := &committer{path: s.path, seen: s.seen, intact: s.intact, c: c, hooks: h, known: map[int64]*journal.Run{}, wake: make(chan struct{}, 1), stopped: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(explain(s.path, err), c.close())
		}
	}()
	var mode string
	if err := c.query("PRAGMA journal_mode = WAL", func(v []driver.Value) error { mode = asString(v[0]); return nil }); err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("open %s: the file system does not allow write-ahead logging (SQLite stays in mode %q): use a local disk", s.path, mode)
	}
	// Whoever was here before may have ended over an fsync that failed: what it
	// wrote last can be read, and would be built upon, but is not on disk, and
	// no fsync brings it there any more. Folding the log writes it once more.
	err = c.query("PRAGMA wal_checkpoint(RESTART)", func([]driver.Value) error { return nil })
	if f := classify(err); err != nil && f != faultFull && f != faultBusy {
		return err
	}
	if err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if w.epoch, err = c.int64("SELECT epoch + 1 FROM owner WHERE id = 1"); err != nil {
		return err
	}
	if w.row, err = c.int64("SELECT max((SELECT coalesce(max(id), 0) FROM journal), (SELECT value FROM meta WHERE name = 'row'))"); err != nil {
		return err
	}
	if err := c.exec("UPDATE owner SET epoch = ?, pid = ?, host = ?, since = ?, clean = 0 WHERE id = 1", w.epoch, o.PID, o.Host, o.Since.UnixMicro()); err != nil {
		return err
	}
	if err := migrate(c); err != nil {
		return err
	}
	if h.claim != nil {
		if err := h.claim(); err != nil {
			return err
		}
	}
	if err := c.exec("COMMIT"); err != nil {
		return err
	}
	if w.keeper, err = newKeeper(s.path, &w.gate, w.kill, h); err != nil {
		return err
	}
	s.mu.Lock()
	s.w = w
	s.mu.Unlock()
	go w.run() // close waits for it
	return nil
}

// disclaim takes claim back: this process reads only, again.
func (s *store) disclaim() error {
	s.mu.Lock()
	w := s.w
	s.w = nil
	s.mu.Unlock()
	if w == nil {
		return nil
	}
	return errors.Join(w.close(), w.finish())
}
