package localengine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// quota looks whether a failed write means that there is no room: SQLite tells
// a full disk by name, but calls a quota an I/O error and keeps the reason to
// itself. So something is written beside the file. A write that fails for
// another reason, and a failed flush, are what they were: fatal.
func (w *committer) quota(err error) error {
	if codeOf(err) != sqliteIOErrWrite {
		return err
	}
	probe := w.hooks.probe
	if probe == nil {
		probe = writeBeside
	}
	if why := probe(w.path); errors.Is(why, syscall.EDQUOT) || errors.Is(why, syscall.ENOSPC) {
		return &noRoom{why, err}
	}
	return err
}

// noRoom is a write that failed for want of space, though SQLite does not say
// so.
type noRoom struct{ why, err error }

func (e *noRoom) Error() string { return fmt.Sprintf("%v: %v", e.err, e.why) }
func (e *noRoom) Unwrap() error { return e.why }

// Code makes it the full disk that it is.
func (e *noRoom) Code() int { return sqliteFull }

// writeBeside writes as much as a large batch beside the file, and takes it
// away again.
func writeBeside(path string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+"-probe-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	if _, err := f.Write(make([]byte, 1<<20)); err != nil {
		return err
	}
	return f.Sync()
}
