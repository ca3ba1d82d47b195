package localengine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// lock is the exclusive lock on a file beside the database. It belongs to an
// open file, so the system lets go of it when the process dies, however that
// happens. The database itself can't carry it: SQLite needs its own locks.
// The file says who holds it, for those who can't have it. It is never
// removed: one who waits for a removed file waits for nobody.
type lock struct {
	path string
	f    *os.File
}

func lockPath(path string) string { return path + "-lock" }

// tryLock takes the lock, or returns nil if another process, or another engine
// of this one, has it.
func tryLock(path string, o Owner) (*lock, error) {
	p := lockPath(path)
	for range 10 {
		f, err := os.OpenFile(p, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open %s: its lock file can't be made: check that the directory can be written, or open it with Options.ReadOnly: %w", path, err)
		}
		ok, err := lockFile(f)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open %s: the file system has no locks: use a local disk: %w", path, err), f.Close())
		}
		if !ok {
			return nil, f.Close()
		}
		// The file may have been removed between the two calls: then the lock
		// is on nothing.
		l := &lock{path: p, f: f}
		if l.check() != nil {
			if err := f.Close(); err != nil {
				return nil, err
			}
			continue
		}
		b, err := json.Marshal(o)
		if err == nil {
			b = append(b, '\n')
			if _, err = f.WriteAt(b, 0); err == nil {
				err = f.Truncate(int64(len(b)))
			}
		}
		if err != nil && !errors.Is(err, fs.ErrInvalid) {
			// It is only a note for others; a full disk must not keep us out.
			_ = f.Truncate(0)
		}
		return l, nil
	}
	return nil, fmt.Errorf("open %s: somebody keeps removing the lock file %s: end that program", path, p)
}

// check says whether the lock is still on the file at its path.
func (l *lock) check() error {
	ident, err := l.f.Stat()
	if err != nil {
		return err
	}
	return sameFile(l.path, ident, "the lock file")
}

func (l *lock) release() error { return l.f.Close() }

// holder reads who holds the lock, as far as it is written there.
func holder(path string) (o Owner) {
	b, err := os.ReadFile(lockPath(path))
	if err == nil {
		_ = json.Unmarshal(b, &o)
	}
	return o
}
