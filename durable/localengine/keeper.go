package localengine

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"
)

const (
	// The log is folded into the database when it has this many pages: about
	// four megabytes, some five hundred commits of a lone run.
	checkpointPages = 1000
	// The log is grown ahead to this size and never truncated while the file
	// is open: an fsync of a growing file costs several times that of one
	// whose blocks are there.
	logBytes = 8 << 20
	// growStep is how much is added at a time, between two flushes.
	growStep = 512 << 10
)

// keeper looks after the log, off the path of the commits, on a connection
// and a goroutine of its own.
type keeper struct {
	path    string
	gate    *sync.Mutex // of the committer
	fatal   func(error) // ends writing for good
	grown   func(*os.File) error
	c       *conn
	pages   int // written since the start of the log; of the committer's goroutine
	counted int
	due     chan struct{}
	quit    context.CancelFunc
	done    chan struct{}
	trouble atomic.Pointer[error]
}

func newKeeper(path string, gate *sync.Mutex, fatal func(error), h hooks) (*keeper, error) {
	c, err := dialWriter(path, "FULL")
	if err != nil {
		return nil, err
	}
	ctx, quit := context.WithCancel(context.Background())
	k := &keeper{path: path, gate: gate, fatal: fatal, grown: h.grown, c: c, due: make(chan struct{}, 1), quit: quit, done: make(chan struct{})}
	if k.grown == nil {
		k.grown = (*os.File).Sync
	}
	go k.run(ctx, h.quiet > 0) // stop waits for it
	return k, nil
}

// wrote is called by the committer after each flush.
func (k *keeper) wrote(c *conn) {
	n, _, err := c.c.(sqlite.DBStatus).Status(sqlite.DBStatusCacheWrite, false)
	if err != nil {
		return
	}
	first := k.counted == 0 // the log is in use: time to grow it
	if n-k.pages >= checkpointPages || first {
		if !first {
			k.pages = n
		}
		select {
		case k.due <- struct{}{}:
		default:
		}
	}
	k.counted = n
}

func (k *keeper) run(ctx context.Context, grown bool) {
	defer close(k.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.due:
		}
		if !grown {
			grown = true
			k.note(k.grow(ctx))
			continue
		}
		k.note(k.checkpoint(ctx))
	}
}

func (k *keeper) note(err error) {
	if codeOf(err) == sqliteIOErrFsync {
		// Of the log, too, there may be parts that never reach the disk now,
		// in front of what would be acknowledged next.
		k.fatal(err)
	}
	if err != nil {
		err = fmt.Errorf("%s: the log grows because it can't be folded into the file: %w", k.path, err)
		k.trouble.Store(&err)
		return
	}
	k.trouble.Store(nil)
}

func (k *keeper) health() error {
	if err := k.trouble.Load(); err != nil {
		return *err
	}
	return nil
}

// checkpoint folds the log into the database. The bulk of it runs beside the
// commits; only when little is left, it holds them for a moment: a log starts
// from its beginning again only if it was folded whole.
func (k *keeper) checkpoint(ctx context.Context) error {
	for before, rounds := int64(0), 0; rounds < 3; rounds++ {
		n, err := k.passive()
		if err != nil || ctx.Err() != nil {
			return err
		}
		if n-before < checkpointPages/4 {
			break
		}
		before = n
	}
	k.gate.Lock()
	defer k.gate.Unlock()
	_, err := k.passive()
	return err
}

// passive folds what no reader needs, and says how many pages of the log, as
// it was when that began, are folded now.
func (k *keeper) passive() (n int64, err error) {
	err = k.c.query("PRAGMA wal_checkpoint(PASSIVE)", func(v []driver.Value) error { n = asInt(v[2]); return nil })
	return n, err
}

// grow writes zeros behind the end of the log. Frames are recognised by their
// salt and checksum, so zeros are no frames. The write lock is held for each
// step: another process may be writing a request.
func (k *keeper) grow(ctx context.Context) error {
	f, err := os.OpenFile(k.path+"-wal", os.O_WRONLY, 0)
	if err != nil {
		return nil // it will grow by itself
	}
	defer f.Close()
	zeros := make([]byte, growStep)
	for ctx.Err() == nil {
		fi, err := f.Stat()
		if err != nil || fi.Size() >= logBytes {
			return nil
		}
		k.gate.Lock()
		err = k.c.exec("BEGIN IMMEDIATE")
		if err == nil {
			if fi, err = f.Stat(); err == nil {
				_, err = f.WriteAt(zeros, fi.Size())
			}
			if serr := k.grown(f); serr != nil {
				k.fatal(fmt.Errorf("fsync: %w", serr)) // before the gate opens
				err = serr
			}
			err = errors.Join(err, k.c.exec("ROLLBACK"))
		}
		k.gate.Unlock()
		if err != nil {
			return nil // a full disk is the committer's to report
		}
		time.Sleep(time.Millisecond) // let the commits pass
	}
	return nil
}

func (k *keeper) stop() {
	k.quit()
	<-k.done
}

func (k *keeper) close() error { return k.c.close() }
