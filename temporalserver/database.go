package temporalserver

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"

	"github.com/jmoiron/sqlx"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/metrics"
	"go.temporal.io/server/common/persistence/sql"
	"go.temporal.io/server/common/persistence/sql/sqlplugin"
	"go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"

	"go.temporal.io/server/common/resolver"
	sqliteschema "go.temporal.io/server/schema/sqlite"
	driver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// database is the one connection that all services share. As long as it is
// open nobody else, in this process or another, can use the file.
type database struct {
	config *config.SQL
	admin  sqlplugin.AdminDB
}

// schemaName is what the server calls the schema in schema_version, and
// schemaVersion is the one that it comes with.
const (
	schemaName    = "temporal"
	schemaVersion = sqliteschema.Version + "/" + sqliteschema.VisibilityVersion
)

// openDatabase opens the database, or makes it, and sees to the namespace.
func openDatabase(o *Options) (*database, error) {
	db := &database{config: &config.SQL{PluginName: sqlite.PluginName, MaxConns: 1, MaxIdleConns: 1}}
	// The server keeps its connections by their name for the life of the process.
	// A name that does not come again leaves this one to us; SQLite ignores a
	// pragma that it does not know.
	id := "i" + strconv.FormatUint(rand.Uint64(), 36)
	if o.File == "" {
		db.config.DatabaseName = id
		db.config.ConnectAttributes = map[string]string{"mode": "memory", "cache": "shared"}
	} else {
		db.config.DatabaseName = o.File
		db.config.ConnectAttributes = map[string]string{
			"mode": "rwc",
			// They are given to SQLite in the order of these names, and the lock has to
			// come before the journal: then there is no file of shared memory, and the
			// lock is held from the first access on.
			" locking_mode":           "exclusive",
			"journal_mode":            "wal",
			"synchronous":             o.Synchronous,
			"temporalserver_instance": id,
		}
	}
	if err := db.open(o); err != nil {
		return nil, errors.Join(fileError(o.File, err), db.close())
	}
	return db, nil
}

func (db *database) open(o *Options) (err error) {
	db.admin, err = sql.NewSQLAdminDB(sqlplugin.DbKindMain, db.config, resolver.NewNoopResolver(), log.NewNoopLogger(), metrics.NoopMetricsHandler)
	if err != nil {
		return err
	}
	if o.File != "" { // in memory, opening it made the tables
		if err := db.prepare(); err != nil {
			return err
		}
	}
	return db.makeNamespace(o)
}

// prepare makes the tables in an empty file, all or none of them, and refuses
// a file that has others.
func (db *database) prepare() error {
	tables, err := db.admin.ListTables("")
	if err != nil {
		return err
	}
	if len(tables) > 0 {
		if !slices.Contains(tables, "schema_version") {
			return ErrNotOurs
		}
		version, err := db.admin.ReadSchemaVersion(schemaName)
		if err != nil || version != schemaVersion {
			return fmt.Errorf("%w: it has version %q, this server's is %q", ErrNotOurs, version, schemaVersion)
		}
		return nil
	}
	if err := db.admin.Exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err = func() error {
		if err := sqliteschema.SetupSchemaOnDB(db.admin); err != nil {
			return err
		}
		if err := db.admin.CreateSchemaVersionTables(); err != nil {
			return err
		}
		if err := db.admin.UpdateSchemaVersion(schemaName, schemaVersion, schemaVersion); err != nil {
			return err
		}
		return db.admin.Exec("COMMIT")
	}()
	if err != nil {
		return errors.Join(fmt.Errorf("make the tables: %w", err), db.admin.Exec("ROLLBACK"))
	}
	return nil
}

// close closes the connection. The server's own pool never does: it would keep
// the lock on the file, and the memory, for the life of the process.
func (db *database) close() error {
	if db.admin == nil {
		return nil
	}
	field := reflect.Indirect(reflect.ValueOf(db.admin)).FieldByName("db")
	if field.Type() != reflect.TypeFor[*sqlx.DB]() {
		return fmt.Errorf("close the database: the server's %T has no *sqlx.DB", db.admin)
	}
	return (*sqlx.DB)(field.UnsafePointer()).Close()
}

// fileError says what an error of SQLite means for the caller.
func fileError(file string, err error) error {
	var e *driver.Error
	if errors.As(err, &e) {
		switch e.Code() & 0xff {
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
			return fmt.Errorf("open %s: %w: %w", file, ErrFileInUse, err)
		case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
			return fmt.Errorf("open %s: %w: %w", file, ErrNotOurs, err)
		}
	}
	if _, ok := errors.AsType[*OptionError](err); ok {
		return err
	}
	if file == "" {
		file = "the database in memory"
	}
	return fmt.Errorf("open %s: %w", file, err)
}
