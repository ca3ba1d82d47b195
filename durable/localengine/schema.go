package localengine

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	// applicationID marks our files in the header of the database: "mcpA".
	applicationID = 0x6d637041
	// schemaVersion is what this code writes, and the newest that it reads.
	schemaVersion = 2
)

// schema creates the current version. What is where, and how to read it by hand, is in
// docs/local-file.md.
//
// The hot path is one insert at the end of journal and one update of a row of
// heads, which is narrow and has no index: whatever every turn dirties is
// written again in every flush. A row of runs is some twenty times as wide and
// changes only when the run ends, or something is published. The journal has no
// index on the run; its rows are a list that heads.last heads. The data column
// is last, so that the head of a row is read without its payloads.
const schema = `
CREATE TABLE meta (
	name  TEXT PRIMARY KEY,
	value ANY
) WITHOUT ROWID;
CREATE TABLE owner (
	id    INTEGER PRIMARY KEY CHECK (id = 1),
	epoch INTEGER NOT NULL,
	pid   INTEGER NOT NULL,
	host  TEXT NOT NULL,
	since INTEGER NOT NULL,
	clean INTEGER NOT NULL
);
CREATE TABLE runs (
	rid         INTEGER PRIMARY KEY,
	workflow_id TEXT NOT NULL,
	run_id      TEXT NOT NULL,
	chain       TEXT NOT NULL,
	key         TEXT,
	name        TEXT NOT NULL,
	owner       TEXT NOT NULL,
	scope       TEXT NOT NULL,
	digest      TEXT NOT NULL,
	parent      INTEGER NOT NULL,
	parent_call TEXT NOT NULL,
	created     INTEGER NOT NULL,
	state       TEXT NOT NULL,
	next        TEXT NOT NULL,
	closed      INTEGER NOT NULL,
	deadline    INTEGER NOT NULL,
	problem     TEXT,
	paused      TEXT,
	tags        TEXT,
	config      TEXT,
	failure     TEXT,
	memo        TEXT,
	status      TEXT,
	result      BLOB
);
CREATE INDEX runs_workflow_id ON runs (workflow_id);
CREATE UNIQUE INDEX runs_run_id ON runs (run_id);
CREATE UNIQUE INDEX runs_key ON runs (key) WHERE key IS NOT NULL;
CREATE UNIQUE INDEX runs_live ON runs (workflow_id) WHERE closed = 0;
CREATE INDEX runs_open ON runs (rid) WHERE closed = 0;
CREATE INDEX runs_parent ON runs (parent, parent_call) WHERE parent > 0;
CREATE TABLE heads (
	rid       INTEGER PRIMARY KEY,
	changed   INTEGER NOT NULL,
	turns     INTEGER NOT NULL,
	deaths    INTEGER NOT NULL,
	last      INTEGER NOT NULL,
	open_from INTEGER NOT NULL
);
CREATE TABLE journal (
	id   INTEGER PRIMARY KEY,
	run  INTEGER NOT NULL,
	prev INTEGER NOT NULL,
	kind TEXT NOT NULL,
	head TEXT NOT NULL,
	data BLOB
);
CREATE TABLE asks (
	id         TEXT NOT NULL UNIQUE,
	rid        INTEGER NOT NULL,
	call       TEXT NOT NULL,
	name       TEXT NOT NULL,
	kind       TEXT NOT NULL,
	text       TEXT NOT NULL,
	schema     TEXT,
	context    TEXT,
	digest     TEXT NOT NULL,
	audience   TEXT NOT NULL,
	owner      TEXT NOT NULL,
	created    INTEGER NOT NULL,
	expires    INTEGER NOT NULL,
	state      TEXT NOT NULL,
	answer     BLOB,
	by         TEXT NOT NULL,
	note       TEXT NOT NULL,
	answered   INTEGER NOT NULL,
	request_id TEXT NOT NULL
);
CREATE INDEX asks_rid ON asks (rid);
CREATE INDEX asks_open ON asks (created) WHERE state = 'open';
CREATE TABLE items (
	rid  INTEGER NOT NULL,
	name TEXT NOT NULL,
	pos  INTEGER NOT NULL,
	at   INTEGER NOT NULL,
	data BLOB,
	PRIMARY KEY (rid, name, pos)
) WITHOUT ROWID;
CREATE TABLE blobs (
	digest TEXT NOT NULL UNIQUE,
	data   BLOB NOT NULL
);
CREATE TABLE blob_refs (
	chain  TEXT NOT NULL,
	digest TEXT NOT NULL,
	PRIMARY KEY (chain, digest)
) WITHOUT ROWID;
CREATE INDEX blob_refs_digest ON blob_refs (digest);
CREATE TABLE schedules (
	id       TEXT PRIMARY KEY,
	owner    TEXT NOT NULL,
	spec     TEXT NOT NULL,
	paused   TEXT,
	next     INTEGER NOT NULL,
	last     INTEGER NOT NULL,
	last_run TEXT NOT NULL,
	buffered INTEGER NOT NULL,
	key      TEXT NOT NULL,
	created  INTEGER NOT NULL,
	changed  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE requests (
	seq      INTEGER PRIMARY KEY AUTOINCREMENT,
	pid      INTEGER NOT NULL,
	host     TEXT NOT NULL,
	created  INTEGER NOT NULL,
	deadline INTEGER NOT NULL,
	replied  INTEGER NOT NULL,
	op       TEXT NOT NULL,
	body     TEXT,
	reply    TEXT
);
`

// fileState is what inspect found.
type fileState int

const (
	fileAbsent fileState = iota // nothing, or an empty file
	fileOurs
)

// inspect looks at the file without changing it: it refuses what isn't ours
// before a lock, a log or a byte of ours is put beside or into it.
func inspect(path string) (fileState, error) {
	fi, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		dir := filepath.Dir(path)
		if di, derr := os.Stat(dir); derr != nil {
			return 0, fmt.Errorf("open %s: the directory %s does not exist: create it, or choose another path (%w)", path, dir, derr)
		} else if !di.IsDir() {
			return 0, fmt.Errorf("open %s: %s is not a directory", path, dir)
		}
		return fileAbsent, nil
	case err != nil:
		return 0, fmt.Errorf("open %s: %w", path, err)
	case fi.IsDir():
		return 0, fmt.Errorf("open %s: it is a directory: name a file in it", path)
	case !fi.Mode().IsRegular():
		return 0, fmt.Errorf("open %s: it is not a regular file", path)
	case fi.Size() == 0:
		return fileAbsent, nil
	}
	c, err := dialReader(path)
	if err != nil {
		return 0, explain(path, err)
	}
	st, err := identify(c, path)
	return st, errors.Join(err, c.close())
}

// identify says whether the database is ours and of a version that we read.
func identify(c *conn, path string) (fileState, error) {
	app, err := c.int64("PRAGMA application_id")
	if err != nil {
		return 0, explain(path, err)
	}
	tables, err := c.int64("SELECT count(*) FROM sqlite_schema")
	if err != nil {
		return 0, explain(path, err)
	}
	version, err := c.int64("PRAGMA user_version")
	if err != nil {
		return 0, explain(path, err)
	}
	switch {
	case app == 0 && tables == 0 && version == 0:
		return fileAbsent, nil
	case app != applicationID:
		return 0, &FileError{Path: path, Err: ErrForeign, Text: fmt.Sprintf(
			"it is a SQLite database of another program (application id %#x, %d tables and indexes); choose another path", app, tables)}
	case version > schemaVersion:
		return 0, &FileError{Path: path, Err: ErrNewer, Text: fmt.Sprintf(
			"it has schema version %d and this program reads up to %d; use the version of the program that wrote it, or a newer one", version, schemaVersion)}
	}
	// The two must agree: user_version is what is read first, the meta table
	// is what survives a dump and restore.
	meta, err := c.int64("SELECT value FROM meta WHERE name = 'schema'")
	if err != nil {
		return 0, explain(path, err)
	}
	if meta != version || version < 1 {
		return 0, &FileError{Path: path, Err: ErrCorrupt, Text: fmt.Sprintf(
			"its header says schema version %d and its table meta says %d; restore a backup", version, meta)}
	}
	ours := "'meta', 'owner', 'runs', 'journal', 'asks', 'items', 'blobs', 'blob_refs', 'requests'"
	want := int64(9)
	if version >= 2 {
		want, ours = 11, ours+", 'heads', 'schedules'"
	}
	switch n, err := c.int64("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN (" + ours + ")"); {
	case err != nil:
		return 0, explain(path, err)
	case n != want:
		return 0, &FileError{Path: path, Err: ErrCorrupt, Text: fmt.Sprintf("%d of its tables are missing; restore a backup", want-n)}
	}
	return fileOurs, nil
}

// dialReader opens a connection that can't write. In a directory that can't
// be written either, a file without a log is read as it stands.
func dialReader(path string) (*conn, error) {
	const params = "mode=ro&_busy_timeout=5000&_pragma=temp_store(memory)&_query_only=1"
	try := func(params string) (*conn, error) {
		c, err := dial(path, params)
		if err != nil {
			return nil, err
		}
		if _, err := c.int64("SELECT count(*) FROM sqlite_schema"); err != nil {
			return nil, errors.Join(err, c.close())
		}
		return c, nil
	}
	c, err := try(params)
	if code := codeOf(err) & 0xff; code == sqliteCantOpen || code == sqliteReadOnly {
		if fi, serr := os.Stat(path + "-wal"); serr != nil || fi.Size() == 0 {
			if c, ierr := try(params + "&immutable=1"); ierr == nil {
				return c, nil
			}
		}
	}
	return c, err
}

// dialWriter opens a connection that writes. sync is FULL for the owner, whose
// commits are acknowledged to users, and NORMAL for a client, whose requests
// are acknowledged only when the owner has answered them.
func dialWriter(path, sync string) (*conn, error) {
	c, err := dial(path, "mode=rw&_busy_timeout=5000&_synchronous="+sync+
		"&_pragma=temp_store(memory)&_pragma=wal_autocheckpoint(0)&_pragma=fullfsync(1)&_pragma=checkpoint_fullfsync(1)&_pragma=cache_size(-16000)")
	if err != nil {
		return nil, err
	}
	return c, nil
}

// create makes an absent or empty file ours. The lock is held. The file is made
// beside its place and renamed: whatever happens over it leaves nothing that
// can't be opened, as the journal of a half-made database would be.
func create(path string) (err error) {
	fi, err := os.Stat(path)
	if err == nil && fi.Size() > 0 {
		return fill(path, path) // a database, but without tables
	}
	made := path + "-new"
	clear := func() error {
		var errs []error
		for _, p := range []string{made, made + "-journal", made + "-wal", made + "-shm"} {
			if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, fmt.Errorf("create %s: %w", path, err))
			}
		}
		return errors.Join(errs...)
	}
	if err := clear(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = clear()
		}
	}()
	f, err := os.OpenFile(made, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	if fi != nil {
		err = f.Chmod(fi.Mode().Perm()) // somebody has put an empty file there
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	if err := fill(made, path); err != nil {
		return err
	}
	if err := os.Rename(made, path); err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

// fill makes the schema in an empty database, which will be at path.
func fill(file, path string) (err error) {
	c, err := dialWriter(file, "FULL")
	if err != nil {
		return explain(path, err)
	}
	defer func() { err = errors.Join(err, c.close()) }()
	var mode string
	err = c.query("PRAGMA journal_mode = WAL", func(v []driver.Value) error { mode = asString(v[0]); return nil })
	if err != nil {
		return explain(path, err)
	}
	if mode != "wal" {
		return fmt.Errorf("create %s: the file system does not allow write-ahead logging (SQLite stays in mode %q): use a local disk", path, mode)
	}
	err = c.script("BEGIN IMMEDIATE;" + schema + fmt.Sprintf(
		"INSERT INTO meta (name, value) VALUES ('schema', %d), ('created', %d), ('rid', 0), ('row', 0);"+
			"INSERT INTO owner (id, epoch, pid, host, since, clean) VALUES (1, 0, 0, '', 0, 1);"+
			"PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT",
		schemaVersion, time.Now().UnixMicro(), applicationID, schemaVersion))
	if err == nil {
		// Closing would do it too, and not say if it could not.
		err = c.query("PRAGMA wal_checkpoint(TRUNCATE)", func([]driver.Value) error { return nil })
	}
	return explain(path, err)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
