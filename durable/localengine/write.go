package localengine

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
	"github.com/mcpagent/mcpagent/internal/plainjson"
)

const (
	insertRun  = "INSERT INTO runs (" + runColumns + ") VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
	insertHead = "INSERT INTO heads (" + headColumns + ") VALUES (?,?,?,?,?,?)"
	updateHead = "UPDATE heads SET changed = ?, turns = ?, deaths = ?, last = ?, open_from = ? WHERE rid = ?"

	// updateRun leaves out what never changes and, above all, closed: naming
	// a column of an index makes SQLite write the index too.
	updateRun    = "UPDATE runs SET state = ?, next = ?, deadline = ?, problem = ?, paused = ?, tags = ?, failure = ?, memo = ?, status = ?, result = ?"
	updateOpen   = updateRun + " WHERE rid = ? AND closed = 0"
	updateClosed = updateRun + ", closed = ? WHERE rid = ?"

	insertRow = "INSERT INTO journal (id, run, prev, kind, head, data) VALUES (?,?,?,?,?,?)"

	insertAsk = "INSERT INTO asks (" + askColumns + ") VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET " +
		"rid = excluded.rid, call = excluded.call, name = excluded.name, kind = excluded.kind, text = excluded.text, schema = excluded.schema, " +
		"context = excluded.context, digest = excluded.digest, audience = excluded.audience, owner = excluded.owner, created = excluded.created, " +
		"expires = excluded.expires, state = excluded.state, answer = excluded.answer, by = excluded.by, note = excluded.note, " +
		"answered = excluded.answered, request_id = excluded.request_id"

	insertSchedule = "INSERT OR REPLACE INTO schedules (" + scheduleColumns + ") VALUES (?,?,?,?,?,?,?,?,?,?,?)"

	insertItem = "INSERT INTO items (rid, name, pos, at, data) VALUES (?,?,?,?,?)"
	insertBlob = "INSERT INTO blobs (digest, data) VALUES (?,?) ON CONFLICT (digest) DO NOTHING"
	insertRef  = "INSERT INTO blob_refs (chain, digest) VALUES (?,?) ON CONFLICT DO NOTHING"
)

// Values for the driver. NULL is nil; an empty value is stored as text, since
// SQLite takes an empty blob for NULL.
func blob(p []byte) any {
	switch {
	case p == nil:
		return nil
	case len(p) == 0:
		return ""
	}
	return p
}

// text binds bytes as a string without a copy: the driver makes its own.
func text(p []byte) any {
	if p == nil {
		return nil
	}
	return unsafe.String(unsafe.SliceData(p), len(p))
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func failure(f *journal.Failure) (any, error) {
	if f == nil {
		return nil, nil
	}
	b, err := plainjson.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("encode a failure: %w", err)
	}
	return string(b), nil
}

// undo puts back what apply wrote into the caller's values.
type undo struct {
	run        *journal.Run
	row        *journal.Row
	last, from int64
}

// revert undoes what was noted since mark.
func (w *committer) revert(mark int) {
	for i := len(w.undo) - 1; i >= mark; i-- {
		u := w.undo[i]
		u.run.Last, u.run.From = u.last, u.from
		if u.row != nil {
			u.row.ID, u.row.Prev = 0, 0
		}
	}
	w.undo = w.undo[:mark]
}

// refused is a transaction that can't be committed, whatever is tried.
type refused struct {
	err   error
	dirty bool // statements of it were carried out: the batch must be rolled back
}

func (r *refused) Error() string { return r.err.Error() }
func (r *refused) Unwrap() error { return r.err }

// apply writes one transaction into the open one of SQLite.
func (w *committer) apply(tx *journal.Tx) error {
	for i := range tx.Writes {
		run, row := tx.Writes[i].Run, tx.Writes[i].Row
		for _, r := range tx.Writes[i].Before {
			w.undo = append(w.undo, undo{run, r, run.Last, run.From})
			w.row++
			r.ID, r.Run, r.Prev = w.row, run.RID, run.Last
			run.Last = r.ID
		}
		w.undo = append(w.undo, undo{run, row, run.Last, run.From})
		if row != nil {
			w.row++
			row.ID, row.Run, row.Prev = w.row, run.RID, run.Last
			run.Last = row.ID
		}
		if run.From == -1 {
			run.From = run.Last
		}
	}
	w.dirty = false
	// Runs that end come before new ones, which may take over their id; and a
	// start, which is only a new run, meets the unique indexes first.
	for _, wr := range tx.Writes {
		if wr.New {
			continue
		}
		if err := w.update(wr.Run); err != nil {
			return err
		}
	}
	for _, wr := range tx.Writes {
		if !wr.New {
			continue
		}
		if err := w.insert(wr.Run); err != nil {
			return err
		}
	}
	for _, wr := range tx.Writes {
		for _, r := range wr.Before {
			if _, err := w.do(insertRow, r.ID, r.Run, r.Prev, r.Kind, text(r.Head), blob(r.Data)); err != nil {
				return err
			}
		}
		if r := wr.Row; r != nil {
			if _, err := w.do(insertRow, r.ID, r.Run, r.Prev, r.Kind, text(r.Head), blob(r.Data)); err != nil {
				return err
			}
		}
	}
	for _, a := range tx.Asks {
		if _, err := w.do(insertAsk, a.ID, a.RID, a.Call, a.Name, a.Kind, a.Text, text(a.Schema), text(a.Context), a.Digest, a.Audience, a.Owner,
			a.Created, a.Expires, a.State, blob(a.Answer), a.By, a.Note, a.Answered, a.RequestID); err != nil {
			return err
		}
	}
	for _, it := range tx.Items {
		if _, err := w.do(insertItem, it.RID, it.Name, it.Offset, it.At, blob(it.Data)); err != nil {
			return err
		}
	}
	for _, x := range tx.Schedules {
		var err error
		if x.Deleted {
			_, err = w.do("DELETE FROM schedules WHERE id = ?", x.ID)
		} else {
			_, err = w.do(insertSchedule, x.ID, x.Owner, text(x.Spec), text(x.Paused), x.Next, x.Last, x.LastRun, x.Buffered, x.Key, x.Created, x.Changed)
		}
		if err != nil {
			return err
		}
	}
	for _, b := range tx.Blobs {
		data := b.Data
		if data == nil {
			data = []byte{}
		}
		if _, err := w.do(insertBlob, b.Digest, blob(data)); err != nil {
			return err
		}
		if _, err := w.do(insertRef, b.Chain, b.Digest); err != nil {
			return err
		}
	}
	return nil
}

// do carries out a statement of a transaction.
func (w *committer) do(sql string, args ...any) (driver.Result, error) {
	res, err := w.c.execResult(sql, args...)
	if err != nil && classify(err) >= faultTx {
		return nil, &refused{err, w.dirty}
	}
	w.dirty = true
	return res, err
}

func (w *committer) update(r *journal.Run) error {
	if was := w.known[r.RID]; was == nil || !onlyHead(was, r) {
		if err := w.updateRun(r); err != nil {
			return err
		}
	}
	res, err := w.do(updateHead, r.Changed, r.Turns, int64(r.Deaths), r.Last, r.From, r.RID)
	return changedOne(res, err, r)
}

func (w *committer) updateRun(r *journal.Run) error {
	fail, err := failure(r.Failure)
	if err != nil {
		return &refused{err, true}
	}
	var res driver.Result
	if r.Closed == 0 {
		res, err = w.do(updateOpen, r.State, r.Next, r.Deadline,
			text(r.Problem), text(r.Paused), text(r.Tags), fail, text(r.Memo), text(r.Status), blob(r.Result), r.RID)
	} else {
		res, err = w.do(updateClosed, r.State, r.Next, r.Deadline,
			text(r.Problem), text(r.Paused), text(r.Tags), fail, text(r.Memo), text(r.Status), blob(r.Result), r.Closed, r.RID)
	}
	return changedOne(res, err, r)
}

// changedOne makes sure that an update found its row.
func changedOne(res driver.Result, err error, r *journal.Run) error {
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return &refused{errors.Join(err, fmt.Errorf("run %d (%s) is not there to be changed: %w", r.RID, r.WorkflowID, journal.ErrNotFound)), true}
	}
	return nil
}

// onlyHead reports whether nothing of a run has changed but what heads holds.
// A committed run is never changed, so what shares its memory is the same.
func onlyHead(was, r *journal.Run) bool {
	same := func(a, b []byte) bool {
		return len(a) == len(b) && unsafe.SliceData(a) == unsafe.SliceData(b) // of nil: nil, of what is empty: not
	}
	return was.Closed == 0 && r.Closed == 0 && was.State == r.State && was.Next == r.Next && was.Deadline == r.Deadline && was.Failure == r.Failure &&
		same(was.Problem, r.Problem) && same(was.Paused, r.Paused) && same(was.Tags, r.Tags) &&
		same(was.Memo, r.Memo) && same(was.Status, r.Status) && same(was.Result, r.Result)
}

// maxKnown bounds the runs of which the committer remembers what it wrote.
const maxKnown = 4096

// remember keeps what a batch has made of its runs.
func (w *committer) remember(batch []*op) {
	for _, o := range batch {
		if o.tx == nil || o.err != nil {
			continue
		}
		for _, wr := range o.tx.Writes {
			if wr.Run.Closed != 0 {
				delete(w.known, wr.Run.RID)
				continue
			}
			if len(w.known) >= maxKnown {
				clear(w.known)
			}
			w.known[wr.Run.RID] = wr.Run
		}
	}
}

func (w *committer) insert(r *journal.Run) error {
	fail, err := failure(r.Failure)
	if err != nil {
		return &refused{err, true}
	}
	_, err = w.do(insertRun, r.RID, r.WorkflowID, r.RunID, r.Chain, orNull(r.Key), r.Name, r.Owner, r.Scope, r.Digest, r.Parent, r.ParentCall, r.Created,
		r.State, r.Next, r.Closed, r.Deadline,
		text(r.Problem), text(r.Paused), text(r.Tags), text(r.Config), fail, text(r.Memo), text(r.Status), blob(r.Result))
	var no *refused
	if errors.As(err, &no) && classify(no.err) == faultDup {
		no.err = fmt.Errorf("run %s: %w: %v", r.WorkflowID, journal.ErrDuplicate, no.err)
	}
	if err == nil {
		_, err = w.do(insertHead, r.RID, r.Changed, r.Turns, int64(r.Deaths), r.Last, r.From)
	}
	return err
}

// try carries out a batch in one transaction and returns when it is on disk.
// Where it returns the operation that spoils the batch, or any error, nothing
// was written.
func (w *committer) try(batch []*op) (bad *op, err error) {
	row := w.row
	w.undo = w.undo[:0]
	defer func() {
		if bad == nil && err == nil {
			return
		}
		w.row = row
		w.revert(0)
		// SQLite has rolled back already after the worst errors; then this
		// one says that there is no transaction.
		_ = w.c.exec("ROLLBACK")
	}()
	if err := w.c.exec("BEGIN IMMEDIATE"); err != nil {
		return nil, err
	}
	if err := w.unfenced(); err != nil {
		return nil, err
	}
	start := time.Now()
	for _, o := range batch {
		o.err = nil
		if o.fn != nil {
			err = o.fn(w.c)
		} else {
			mark := len(w.undo)
			err = w.apply(o.tx)
			var no *refused
			if errors.As(err, &no) && !no.dirty {
				// Nothing of it was done: the others go on without it.
				w.revert(mark)
				o.err, err = no.err, nil
			}
		}
		var no *refused
		switch {
		case errors.As(err, &no):
			o.err = no.err
			return o, nil
		case err != nil:
			return nil, err
		}
	}
	w.pace.executed(len(batch), time.Since(start))
	if w.hooks.commit != nil {
		if err := w.hooks.commit(len(batch)); err != nil {
			return nil, err
		}
	}
	if err := w.c.exec("COMMIT"); err != nil {
		return nil, err
	}
	if w.version, err = w.c.version(); err != nil {
		w.version = 0 // look at the epoch next time
	}
	w.remember(batch)
	return nil, nil
}

// unfenced makes sure in a transaction that no other process owns the file.
// While nobody else has written to it since our last COMMIT, nobody does.
func (w *committer) unfenced() error {
	if v, err := w.c.version(); err == nil && v != 0 && v == w.version {
		return nil
	}
	switch epoch, err := w.c.int64("SELECT epoch FROM owner WHERE id = 1"); {
	case err != nil:
		return err
	case epoch != w.epoch:
		return w.fenced()
	}
	return nil
}

// fenced says who has the file now, as far as can be told.
func (w *committer) fenced() error {
	var o Owner
	_ = w.c.query("SELECT pid, host, since FROM owner WHERE id = 1", func(v []driver.Value) error {
		o = Owner{PID: int(asInt(v[0])), Host: asString(v[1]), Since: micros(asInt(v[2]))}
		return nil
	})
	return &FileError{Path: w.path, Err: ErrFenced, Text: fmt.Sprintf(
		"it was taken over by %v, although this process held the lock: somebody removed the lock file, or the file system's locks do not hold; nothing more is written from here", o)}
}

// own runs work of the engine's own in the next batch.
func (w *committer) own(ctx context.Context, fn func(*conn) error) error {
	return w.commit(ctx, &op{fn: fn})
}
