package localengine

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"

	"modernc.org/sqlite"
)

// conn is one connection with its prepared statements. It stands on the
// driver itself, not on database/sql: a commit of a few statements is on the
// path of every step, and the pool's bookkeeping costs as much as the
// statements. Not safe for concurrent use.
type conn struct {
	c     driver.Conn
	stmts map[string]*stmt
}

type stmt struct {
	driver.Stmt
	exec  driver.StmtExecContext
	query driver.StmtQueryContext
	args  []driver.NamedValue
	dest  []driver.Value
	busy  bool // args and dest are in use by a query further up the stack
}

// dsn is the name of a database for the driver: a file: URI, because only
// there SQLite's own parameters count, and with the path escaped, because it
// may hold a question mark.
func dsn(path, params string) string {
	p := filepath.ToSlash(path)
	if !strings.HasPrefix(p, "/") {
		p = "/" + p // a drive letter
	}
	return "file://" + (&url.URL{Path: p}).EscapedPath() + "?" + params
}

// dial opens a connection. params are those of the driver's DSN.
func dial(path, params string) (*conn, error) {
	d, err := sqlite.NewConnector(dsn(path, "_error_rc=1&"+params))
	if err != nil {
		return nil, err
	}
	c, err := d.Connect(context.Background())
	if err != nil {
		return nil, err
	}
	return &conn{c: c, stmts: map[string]*stmt{}}, nil
}

func (c *conn) close() error {
	var errs []error
	for _, s := range c.stmts {
		errs = append(errs, s.Close())
	}
	c.stmts = nil
	return errors.Join(append(errs, c.c.Close())...)
}

func (c *conn) prepare(sql string) (*stmt, error) {
	if s := c.stmts[sql]; s != nil {
		return s, nil
	}
	if c.stmts == nil {
		return nil, errClosed
	}
	ds, err := c.c.Prepare(sql)
	if err != nil {
		return nil, err
	}
	s := &stmt{Stmt: ds, exec: ds.(driver.StmtExecContext), query: ds.(driver.StmtQueryContext)}
	c.stmts[sql] = s
	return s, nil
}

func (s *stmt) bind(args []any) []driver.NamedValue {
	s.args = s.args[:0]
	for i, v := range args {
		if n, ok := v.(int); ok {
			v = int64(n)
		}
		s.args = append(s.args, driver.NamedValue{Ordinal: i + 1, Value: v})
	}
	return s.args
}

// exec runs a statement. Its parameters must be anonymous ("?"): the driver
// matches named ones by string comparison. Args are int, int64, string,
// []byte, bool or nil.
func (c *conn) exec(sql string, args ...any) error {
	_, err := c.execResult(sql, args...)
	return err
}

func (c *conn) execResult(sql string, args ...any) (driver.Result, error) {
	s, err := c.prepare(sql)
	if err != nil {
		return nil, err
	}
	return s.exec.ExecContext(context.Background(), s.bind(args))
}

// script runs several statements without parameters, which are not kept.
func (c *conn) script(sql string) error {
	_, err := c.c.(driver.ExecerContext).ExecContext(context.Background(), sql, nil)
	return err
}

// query calls f for each row. The values are valid after f returns; the slice
// is not.
func (c *conn) query(sql string, f func(v []driver.Value) error, args ...any) (err error) {
	s, err := c.prepare(sql)
	if err != nil {
		return err
	}
	if s.busy {
		return fmt.Errorf("nested query %q", sql)
	}
	s.busy = true
	defer func() { s.busy = false }()
	rows, err := s.query.QueryContext(context.Background(), s.bind(args))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	if n := len(rows.Columns()); len(s.dest) != n {
		s.dest = make([]driver.Value, n)
	}
	for {
		switch err := rows.Next(s.dest); {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		if err := f(s.dest); err != nil {
			return err
		}
	}
}

// int64 is the single number that a query gives, 0 for none or NULL.
func (c *conn) int64(sql string, args ...any) (n int64, err error) {
	err = c.query(sql, func(v []driver.Value) error { n = asInt(v[0]); return nil }, args...)
	return n, err
}

// version is the version of the file's content as the transaction sees it. It
// changes with each COMMIT, of this connection and of others.
func (c *conn) version() (uint32, error) {
	return c.c.(sqlite.FileControl).FileControlDataVersion("main")
}

func asInt(v driver.Value) int64 {
	n, _ := v.(int64)
	return n
}

func asString(v driver.Value) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return ""
}

// asBytes gives nil for NULL and an empty slice for an empty value.
func asBytes(v driver.Value) []byte {
	switch v := v.(type) {
	case string:
		return []byte(v)
	case []byte:
		if v == nil {
			return []byte{}
		}
		return v
	}
	return nil
}
