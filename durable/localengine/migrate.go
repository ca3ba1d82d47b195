package localengine

import "fmt"

// migrations lead from the version before to theirs. Each is carried out by
// the owner, in the transaction that claims the file: a death on the way
// leaves the file as it was. They are not edited once they are released; a
// kept file of each version is under testdata.
var migrations = map[int64]func(*conn) error{
	2: toVersion2,
}

// migrate brings the file to the current version. The transaction is open.
func migrate(c *conn) error {
	version, err := c.int64("PRAGMA user_version")
	if err != nil {
		return err
	}
	for version < schemaVersion {
		version++
		if err := migrations[version](c); err != nil {
			return fmt.Errorf("migrate to schema version %d: %w", version, err)
		}
		if err := c.script(fmt.Sprintf("UPDATE meta SET value = %d WHERE name = 'schema'; PRAGMA user_version = %d", version, version)); err != nil {
			return fmt.Errorf("migrate to schema version %d: %w", version, err)
		}
	}
	return nil
}

// toVersion2 takes what changes with every turn out of runs, and adds the
// schedules.
func toVersion2(c *conn) error {
	return c.script(`
CREATE TABLE heads (
	rid       INTEGER PRIMARY KEY,
	changed   INTEGER NOT NULL,
	turns     INTEGER NOT NULL,
	deaths    INTEGER NOT NULL,
	last      INTEGER NOT NULL,
	open_from INTEGER NOT NULL
);
INSERT INTO heads SELECT rid, changed, turns, deaths, last, open_from FROM runs;
ALTER TABLE runs DROP COLUMN changed;
ALTER TABLE runs DROP COLUMN turns;
ALTER TABLE runs DROP COLUMN deaths;
ALTER TABLE runs DROP COLUMN last;
ALTER TABLE runs DROP COLUMN open_from;
CREATE INDEX runs_open ON runs (rid) WHERE closed = 0;
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
`)
}

// current refuses a file of an older version where nobody here may migrate it.
func (s *store) current() error {
	return s.read(func(c *conn) error {
		version, err := c.int64("PRAGMA user_version")
		if err == nil && version < schemaVersion {
			err = &FileError{Path: s.path, Err: ErrOlder, Text: fmt.Sprintf(
				"it has schema version %d, and only who executes its runs may bring it to version %d: open it once without ReadOnly and Client, or end an owner that runs an older version", version, schemaVersion)}
		}
		return err
	})
}
