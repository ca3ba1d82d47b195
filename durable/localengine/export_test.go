package localengine

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// NewStore makes or opens a file as its owner, without the lock. commit is
// called before each COMMIT; its error is taken for that of COMMIT.
func NewStore(path string, commit func(ops int) error) (journal.Store, error) {
	return newStore(path, hooks{commit: commit})
}

// NewStoreGrowing is NewStore with an fsync of its own for the log when it is
// grown ahead.
func NewStoreGrowing(path string, fsync func(*os.File) error) (journal.Store, error) {
	return newStore(path, hooks{grown: fsync})
}

func newStore(path string, h hooks) (journal.Store, error) {
	path, err := clean(path)
	if err != nil {
		return nil, err
	}
	state, err := inspect(path)
	if err != nil {
		return nil, err
	}
	if state == fileAbsent {
		if err := create(path); err != nil {
			return nil, err
		}
	}
	s, err := openStore(path)
	if err != nil {
		return nil, err
	}
	if err := s.claim(self(), h); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Exec runs a statement on the writing connection, in a transaction.
func Exec(st journal.Store, sql string) error {
	return st.(*store).w.own(context.Background(), func(c *conn) error { return c.exec(sql) })
}

// Exclusively runs a statement on the writing connection, between two flushes.
func Exclusively(st journal.Store, sql string) error {
	w := st.(*store).w
	w.gate.Lock()
	defer w.gate.Unlock()
	return w.c.exec(sql)
}

// Number is what a query gives on a reading connection.
func Number(st journal.Store, sql string) (n int64, err error) {
	err = st.(*store).read(func(c *conn) error { n, err = c.int64(sql); return err })
	return n, err
}

// SetHook sets the hook for engines.
func (o *Options) SetHook(commit func(ops int) error) { o.hooks.commit = commit }

// SetQuiet makes an engine that has no clients look for them rarely.
func (o *Options) SetQuiet(d time.Duration) { o.hooks.quiet = d }

// LockPath is the path of the lock file.
func LockPath(path string) string { return lockPath(path) }

// View opens a file for reading only.
func View(path string) (journal.Store, error) { return openStore(path) }

// SetProbe sets what says why a write failed.
func SetProbe(st journal.Store, probe func(path string) error) { st.(*store).w.hooks.probe = probe }

// WriteBeside is what finds out about quotas.
var WriteBeside = writeBeside

// SetClaimHook sets what is called before a claim of the file is committed.
func (o *Options) SetClaimHook(claim func() error) { o.hooks.claim = claim }

// FileNumber is what a query gives on a file that nobody has open.
func FileNumber(path, sql string) (n int64, err error) {
	c, err := dialReader(path)
	if err != nil {
		return 0, err
	}
	n, err = c.int64(sql)
	return n, errors.Join(err, c.close())
}

// WriteLock takes the lock for writing of a file, without waiting, and gives it
// back.
func WriteLock(path string) error {
	c, err := dial(path, "mode=rw")
	if err != nil {
		return err
	}
	if err = c.exec("BEGIN IMMEDIATE"); err == nil {
		err = c.exec("ROLLBACK")
	}
	return errors.Join(err, c.close())
}

// Waiting is how many transactions wait for a flush.
func Waiting(st journal.Store) int { return int(st.(*store).w.depth.Load()) }

// Flushing reports whether somebody flushes.
func Flushing(st journal.Store) bool {
	w := st.(*store).w
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.busy
}

// SameFile says that a file was removed or replaced.
var SameFile = sameFile
