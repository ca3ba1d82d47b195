package localengine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// readers is how many connections serve reads. Each is used by one reader at
// a time, and no read lasts: an open read keeps the log from starting again.
const readers = 4

// store is a [journal.Store] on one SQLite file. Everybody reads; the one who
// claims it writes too.
type store struct {
	path  string
	files []openFile // as they were opened
	pool  chan *conn // of readers
	conns int        // in the pool or lent
	seen  durable.Observer

	mu     sync.Mutex
	w      *committer // nil until claimed
	closed bool
	gone   chan struct{} // closed by Close
}

// openStore opens a file that exists, for reading.
func openStore(path string) (_ *store, err error) {
	s := &store{path: path, pool: make(chan *conn, readers), gone: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	for range readers {
		c, err := dialReader(path)
		if err != nil {
			return nil, explain(path, err)
		}
		s.pool <- c
		s.conns++
	}
	err = s.read(func(c *conn) error {
		st, err := identify(c, path)
		if err == nil && st != fileOurs {
			err = &FileError{Path: path, Err: ErrCorrupt, Text: "it lost its tables; restore a backup"}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	// From the first read to the last close the log and its index stay the
	// same files. In a directory that can't be written there are none.
	for _, f := range []openFile{{path, "the database", nil}, {path + "-wal", "the log of the database", nil}, {path + "-shm", "the index of the log", nil}} {
		if f.ident, err = os.Stat(f.path); err == nil {
			s.files = append(s.files, f)
		} else if f.path == path {
			return nil, err
		}
	}
	return s, nil
}

// openFile is a file that must stay what and where it is: what is written into
// one that was removed is lost, and two indexes of one log ruin it.
type openFile struct {
	path, what string
	ident      os.FileInfo
}

// intact says whether files were taken away.
func (s *store) intact() error {
	for _, f := range s.files {
		if err := sameFile(f.path, f.ident, f.what); err != nil {
			return err
		}
	}
	return nil
}

// read lends a reading connection to f, which must not keep it.
func (s *store) read(f func(*conn) error) error {
	var c *conn
	select {
	case c = <-s.pool:
	case <-s.gone:
		return errClosed
	}
	defer func() { s.pool <- c }()
	err := f(c)
	if err != nil && codeOf(err)&0xff == sqliteCorrupt {
		return explain(s.path, err)
	}
	return err
}

// committer is the writing side, nil if this process does not own the file.
func (s *store) committer() *committer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w
}

// Commit implements [journal.Store].
func (s *store) Commit(ctx context.Context, tx *journal.Tx) error {
	w := s.committer()
	if w == nil {
		return fmt.Errorf("write to %s: this process only reads it: %w", s.path, ErrLocked)
	}
	return w.commit(ctx, &op{tx: tx})
}

// Health implements [journal.Store].
func (s *store) Health() error {
	if w := s.committer(); w != nil {
		return w.health()
	}
	return nil
}

// Close implements [journal.Store]. What was acknowledged is on disk already;
// what was not gets errClosed.
func (s *store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	w := s.w
	s.mu.Unlock()
	var errs []error
	if w != nil {
		errs = append(errs, w.close())
	}
	close(s.gone)
	for range s.conns {
		errs = append(errs, (<-s.pool).close())
	}
	if w != nil {
		// Last: the connection that closes a file last folds the log into it,
		// and readers can't.
		errs = append(errs, w.finish())
	}
	return errors.Join(errs...)
}
