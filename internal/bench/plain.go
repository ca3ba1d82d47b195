package main

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"modernc.org/sqlite"
)

// plain is SQLite as somebody would use it who needs no engine: the same
// driver without database/sql above it, statements prepared once, the same
// tables, pragmas and rows, the log grown ahead, on one connection.
type plain struct {
	c                                 driver.Conn
	begin, commit, insert, update     driver.Stmt
	beginX, commitX, insertX, updateX driver.StmtExecContext
	id                                int64
	runs                              []plainRun
	kind, head, data                  driver.Value
	args                              []driver.NamedValue
}

type plainRun struct{ rid, last, turns int64 }

// newPlain makes the file by the engine itself, with runs that have taken
// steps: the tables and a typical row of a step come from there.
func (b *bench) newPlain(runs int) (_ *plain, err error) {
	path := b.file("plain.db")
	s, err := newStepper(b.ctx, path, runs, nil)
	if err != nil {
		return nil, err
	}
	if _, err = s.together(runs, 3); err == nil {
		_, err = s.alone(3, nil)
	}
	if err = errors.Join(err, s.close()); err != nil {
		return nil, err
	}
	d, err := sqlite.NewConnector("file://" + filepath.ToSlash(path) + "?mode=rw&_synchronous=FULL&_pragma=temp_store(memory)" +
		"&_pragma=wal_autocheckpoint(1000)&_pragma=fullfsync(1)&_pragma=checkpoint_fullfsync(1)&_pragma=cache_size(-16000)")
	if err != nil {
		return nil, err
	}
	c, err := d.Connect(b.ctx)
	if err != nil {
		return nil, err
	}
	p := &plain{c: c}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if err := p.learn(); err != nil {
		return nil, err
	}
	for _, st := range []struct {
		into *driver.Stmt
		exec *driver.StmtExecContext
		sql  string
	}{
		{&p.begin, &p.beginX, "BEGIN IMMEDIATE"},
		{&p.commit, &p.commitX, "COMMIT"},
		{&p.insert, &p.insertX, "INSERT INTO journal (id, run, prev, kind, head, data) VALUES (?,?,?,?,?,?)"},
		{&p.update, &p.updateX, "UPDATE heads SET changed = ?, turns = ?, deaths = ?, last = ?, open_from = ? WHERE rid = ?"},
	} {
		if *st.into, err = c.Prepare(st.sql); err != nil {
			return nil, err
		}
		*st.exec = (*st.into).(driver.StmtExecContext)
	}
	if err := p.turns(1); err != nil {
		return nil, err
	}
	return p, growLog(path + "-wal")
}

// learn reads what rows of a step look like.
func (p *plain) learn() error {
	if err := p.query("SELECT max(id) FROM journal", func(v []driver.Value) { p.id = v[0].(int64) }); err != nil {
		return err
	}
	err := p.query("SELECT kind, head, data FROM journal WHERE kind = 'turn' AND head LIKE '%\"calls\"%' AND head LIKE '%\"done\"%' ORDER BY id DESC LIMIT 1",
		func(v []driver.Value) { p.kind, p.head, p.data = v[0], v[1], v[2] })
	if err != nil {
		return err
	}
	if p.head == nil {
		return fmt.Errorf("no row of a step was found")
	}
	return p.query("SELECT rid, last, turns FROM heads ORDER BY rid", func(v []driver.Value) {
		p.runs = append(p.runs, plainRun{v[0].(int64), v[1].(int64), v[2].(int64)})
	})
}

func (p *plain) query(sql string, f func(v []driver.Value)) error {
	rows, err := p.c.(driver.QueryerContext).QueryContext(context.Background(), sql, nil)
	if err != nil {
		return err
	}
	dest := make([]driver.Value, len(rows.Columns()))
	for {
		switch err := rows.Next(dest); {
		case err == io.EOF:
			return rows.Close()
		case err != nil:
			return errors.Join(err, rows.Close())
		}
		f(dest)
	}
}

func (p *plain) exec(s driver.StmtExecContext, args ...driver.Value) error {
	p.args = p.args[:0]
	for i, v := range args {
		p.args = append(p.args, driver.NamedValue{Ordinal: i + 1, Value: v})
	}
	_, err := s.ExecContext(context.Background(), p.args)
	return err
}

// turns commits what a step of each of the first n runs writes: a row of the
// journal, and the head of the run.
func (p *plain) turns(n int) error { return p.tx(n, true) }

// rows commits n rows of the journal and nothing else.
func (p *plain) rows(n int) error { return p.tx(n, false) }

func (p *plain) tx(n int, runs bool) error {
	if err := p.exec(p.beginX); err != nil {
		return err
	}
	for i := range n {
		r := &p.runs[i%len(p.runs)]
		p.id++
		if err := p.exec(p.insertX, p.id, r.rid, r.last, p.kind, p.head, p.data); err != nil {
			return err
		}
		r.last = p.id
		if !runs {
			continue
		}
		r.turns++
		if err := p.exec(p.updateX, 1763700000000000+p.id, r.turns, int64(0), r.last, r.last, r.rid); err != nil {
			return err
		}
	}
	return p.exec(p.commitX)
}

// pages is how many pages this connection has written.
func (p *plain) pages() (int, error) {
	n, _, err := p.c.(sqlite.DBStatus).Status(sqlite.DBStatusCacheWrite, false)
	return n, err
}

func (p *plain) close() error {
	var errs []error
	for _, s := range []driver.Stmt{p.begin, p.commit, p.insert, p.update} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(append(errs, p.c.Close())...)
}

// growLog gives a log its blocks ahead, as the engine does.
func growLog(path string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	const size, step = 8 << 20, 1 << 20
	for at := fi.Size(); at < size; at += step {
		if _, err := f.WriteAt(make([]byte, step), at); err != nil {
			return err
		}
	}
	return f.Sync()
}
