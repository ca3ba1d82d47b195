// Package localengine executes runs in one process and keeps them in one
// SQLite file, so that they survive anything that ends the process.
//
//	eng, err := localengine.Open(ctx, "invoice.db", nil, process, payLine, validate, pay)
//	defer eng.Close(context.Background())
//
// A start, a signal, an update, an answer and the result of a step are
// acknowledged when they are on disk (synchronous=FULL), and not before. Many
// runs share one flush. On Open, unfinished runs go on.
//
// # Several processes
//
// One process executes: the one that holds the lock on the file beside the
// database ("invoice.db-lock"). Another one that opens the same file becomes
// its client: it reads for itself, and everything else it asks the owner for,
// through a table. When the owner ends, in whatever way, a client takes over
// within a moment and carries on; a call that was waiting then is answered by
// the new owner. All of them should define the same workflows and steps; one
// that defines none, such as a command line, sets [Options.Client]. The file
// must be on a local disk, or at least all its processes on one host.
//
// # The file
//
// While it is open there are "invoice.db-wal", "invoice.db-shm" and
// "invoice.db-lock" beside "invoice.db". A copy of the first file alone loses
// what is in the second: use [Backup]. After the last process has closed the
// file, it is complete by itself. docs/local-file.md describes the tables.
//
// # Errors
//
//	the file is another program's, or no database      ErrForeign    choose another path
//	its content is damaged                             ErrCorrupt    restore a backup
//	a newer version of this package wrote it           ErrNewer      use that version
//	an older one did, and it is only looked at         ErrOlder      open it to execute once
//	its owner can't be asked (another host)            ErrLocked     *LockedError names the owner
//	the lock or the file was taken away from us        ErrFenced     start again
//	a write failed in a way that can't be trusted      ErrDead       check the disk, start again
//
// A full disk is none of these: nothing is acknowledged until there is space
// again, [durable.Engine.Health] says so, and then everything goes on.
package localengine

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"modernc.org/sqlite"

	"github.com/mcpagent/mcpagent/durable"
)

// Options are the settings of a file. The zero value is fine.
type Options struct {
	// Engine are the settings that all engines share.
	Engine durable.Options

	// ReadOnly opens the file to look at it, beside its owner or without
	// one. Nothing is executed, and no operation that changes something is
	// possible.
	ReadOnly bool
	// Client makes this process never execute, so that it needs to define
	// nothing: it asks the owner of the file, and where there is none, its
	// calls wait for one.
	Client bool

	hooks hooks
}

func (o *Options) log() *slog.Logger {
	if o.Engine.Logger != nil {
		return o.Engine.Logger
	}
	return slog.Default()
}

// Open opens a file, or makes it, and executes the runs in it, or becomes a
// client of the process that does. The path ":memory:" is an engine without a
// file. The caller closes the engine.
func Open(ctx context.Context, path string, o *Options, defs ...durable.Definer) (*durable.Engine, error) {
	if o == nil {
		o = &Options{}
	}
	if path == ":memory:" {
		if o.ReadOnly || o.Client {
			return nil, fmt.Errorf("open %s: ReadOnly and Client need a file that another process owns", path)
		}
		return durable.NewMemory(ctx, &o.Engine, defs...)
	}
	if path == "" {
		return nil, fmt.Errorf("open: the path is empty: name a file, or \":memory:\"")
	}
	d, err := durable.NewDefinitions(defs...)
	if err != nil {
		return nil, err
	}
	full, err := clean(path)
	if err != nil {
		return nil, err
	}
	var b durable.Backend
	if o.ReadOnly {
		b, err = openViewer(full, *o, d)
	} else {
		b, err = openBackend(ctx, full, *o, d)
	}
	if err != nil {
		return nil, err
	}
	return durable.NewEngine(b, d, &o.Engine), nil
}

// clean makes a path that stays the same when the directory or a link changes.
func clean(path string) (string, error) {
	if strings.ContainsRune(path, 0) {
		return "", fmt.Errorf("open %q: a path can't hold a zero byte", path)
	}
	// SQLite locks by descriptor then, not by process, where the system can
	// do that: closing any other descriptor of the file would take a POSIX
	// lock away. It must be asked for before the first connection of the
	// process; where it is too late or impossible, we still open the file
	// through SQLite only.
	_, _ = sqlite.OFDLocking(true)
	full, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("open %s: %w", path, err)
	}
	if real, err := filepath.EvalSymlinks(full); err == nil {
		return real, nil
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(full)); err == nil {
		return filepath.Join(dir, filepath.Base(full)), nil
	}
	return full, nil
}
