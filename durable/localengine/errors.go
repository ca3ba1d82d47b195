package localengine

import (
	"errors"
	"fmt"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

// Sentinels, for errors.Is. The package comment has the table of situations.
var (
	ErrForeign = errors.New("the file belongs to another program")
	ErrCorrupt = errors.New("the file is damaged")
	ErrOlder   = errors.New("the file was written by an older version")
	ErrNewer   = errors.New("the file was written by a newer version")
	ErrLocked  = errors.New("another process owns the file")
	ErrFenced  = errors.New("this process no longer owns the file")
	ErrDead    = errors.New("the file can no longer be written")
)

// errClosed is internal: users of an engine see durable.ErrClosed.
var errClosed = errors.New("the store is closed")

// FileError says what is wrong with which file, and what to do next. Err is
// one of the sentinels.
type FileError struct {
	Path  string
	Err   error
	Text  string
	Cause error // of SQLite or the operating system; may be nil
}

func (e *FileError) Error() string {
	s := fmt.Sprintf("%s: %v: %s", e.Path, e.Err, e.Text)
	if e.Cause != nil {
		s += fmt.Sprintf(" (%v)", e.Cause)
	}
	return s
}

// Is makes a file that can no longer be written answer to
// [durable.ErrUnavailable] as well.
func (e *FileError) Is(target error) bool {
	return target == durable.ErrUnavailable && (e.Err == ErrDead || e.Err == ErrFenced)
}

// Unwrap makes errors.Is hold for the sentinel and for the cause.
func (e *FileError) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Err}
	}
	return []error{e.Err, e.Cause}
}

// Owner is the process that executes the runs of a file.
type Owner struct {
	PID   int       `json:"pid"`
	Host  string    `json:"host"`
	Since time.Time `json:"since"`
}

func (o Owner) String() string {
	if o.PID == 0 {
		return "an unknown process"
	}
	return fmt.Sprintf("process %d on host %s, since %s", o.PID, o.Host, o.Since.Format(time.RFC3339))
}

// LockedError is [ErrLocked] with the owner's name.
type LockedError struct {
	Path  string
	Owner Owner
	Text  string
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("%s: %v: %v; %s", e.Path, ErrLocked, e.Owner, e.Text)
}

// Unwrap makes errors.Is hold for [ErrLocked].
func (e *LockedError) Unwrap() error { return ErrLocked }

// Primary result codes of SQLite.
const (
	sqliteError      = 1
	sqlitePerm       = 3
	sqliteBusy       = 5
	sqliteLocked     = 6
	sqliteReadOnly   = 8
	sqliteIOErr      = 10
	sqliteCorrupt    = 11
	sqliteFull       = 13
	sqliteCantOpen   = 14
	sqliteTooBig     = 18
	sqliteConstraint = 19
	sqliteMismatch   = 20
	sqliteNotADB     = 26

	sqliteIOErrWrite   = sqliteIOErr | 3<<8
	sqliteIOErrFsync   = sqliteIOErr | 4<<8
	sqliteIOErrShmSize = sqliteIOErr | 19<<8 // the index of the log can't grow: no space
)

// codeOf is the extended result code of an error of SQLite, 0 for others.
func codeOf(err error) int {
	var e interface{ Code() int }
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

// explain turns what SQLite says about a file into what the user can do.
func explain(path string, err error) error {
	if err == nil {
		return nil
	}
	var fe *FileError
	if errors.As(err, &fe) {
		return err
	}
	switch codeOf(err) & 0xff {
	case sqliteNotADB:
		return &FileError{Path: path, Err: ErrForeign, Cause: err, Text: "it is not a SQLite database, or its first page was overwritten; choose another path, or restore a backup"}
	case sqliteCorrupt:
		return &FileError{Path: path, Err: ErrCorrupt, Cause: err, Text: "restore a backup; what can still be read shows sqlite3 with .recover"}
	case sqliteCantOpen, sqlitePerm, sqliteReadOnly:
		return fmt.Errorf("open %s: not allowed: check that the file and its directory can be written, or open it with Options.ReadOnly: %w", path, err)
	case sqliteBusy, sqliteLocked:
		return fmt.Errorf("open %s: another program keeps it locked; end the program that works on it (a sqlite3 shell in a transaction, say): %w", path, err)
	case sqliteError:
		// A table or column of ours is missing.
		return &FileError{Path: path, Err: ErrCorrupt, Cause: err, Text: "its tables are not those of its schema version; restore a backup"}
	}
	return fmt.Errorf("open %s: %w", path, err)
}

type fault int

const (
	faultFatal fault = iota // the store must not write again
	faultFull               // no space now: the same batch may be tried again
	faultBusy               // somebody else holds the write lock
	faultTx                 // only this transaction is bad
	faultDup                // a uniqueness that belongs to the contract
)

// classify says what an error of a write means. What isn't known is fatal:
// after a failed fsync nothing may be believed.
func classify(err error) fault {
	switch code := codeOf(err); code & 0xff {
	case sqliteFull:
		return faultFull
	case sqliteBusy, sqliteLocked:
		return faultBusy
	case sqliteTooBig, sqliteMismatch:
		return faultTx
	case sqliteConstraint:
		if code>>8 == 8 || code>>8 == 6 { // unique, primary key
			return faultDup
		}
		return faultTx
	case sqliteIOErr:
		if code == sqliteIOErrShmSize {
			return faultFull
		}
	}
	return faultFatal
}
