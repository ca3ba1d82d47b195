package localengine

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

const (
	runColumns = "rid, workflow_id, run_id, chain, key, name, owner, scope, digest, parent, parent_call, created, " +
		"state, next, closed, deadline, problem, paused, tags, config, failure, memo, status, result"
	headColumns = "rid, changed, turns, deaths, last, open_from"

	selectRuns = "SELECT runs." + runColumns + ", changed, turns, deaths, last, open_from FROM "
	withHeads  = " CROSS JOIN heads USING (rid) WHERE "

	// allRuns and openRuns are where to look for runs: among a million ended
	// ones the unfinished have an index of their own. It is for conditions
	// with closed = 0.
	allRuns  = "runs"
	openRuns = "runs INDEXED BY runs_open"
)

func scanRun(v []driver.Value) (*journal.Run, error) {
	r := &journal.Run{
		RID: asInt(v[0]), WorkflowID: asString(v[1]), RunID: asString(v[2]), Chain: asString(v[3]), Key: asString(v[4]),
		Name: asString(v[5]), Owner: asString(v[6]), Scope: asString(v[7]), Digest: asString(v[8]),
		Parent: asInt(v[9]), ParentCall: asString(v[10]), Created: asInt(v[11]),
		State: asString(v[12]), Next: asString(v[13]), Closed: asInt(v[14]), Deadline: asInt(v[15]),
		Problem: asBytes(v[16]), Paused: asBytes(v[17]), Tags: asBytes(v[18]), Config: asBytes(v[19]),
		Memo: asBytes(v[21]), Status: asBytes(v[22]), Result: asBytes(v[23]),
		Changed: asInt(v[24]), Turns: asInt(v[25]), Deaths: int(asInt(v[26])), Last: asInt(v[27]), From: asInt(v[28]),
	}
	if f := asBytes(v[20]); f != nil {
		r.Failure = &journal.Failure{}
		if err := json.Unmarshal(f, r.Failure); err != nil {
			return nil, fmt.Errorf("run %d: the failure is damaged: %w", r.RID, err)
		}
	}
	return r, nil
}

// runs reads all runs that a condition selects.
func (s *store) runs(where string, args ...any) ([]*journal.Run, error) {
	return s.runsFrom(allRuns, where, args...)
}

func (s *store) runsFrom(from, where string, args ...any) (all []*journal.Run, err error) {
	err = s.read(func(c *conn) error {
		return c.query(selectRuns+from+withHeads+where, func(v []driver.Value) error {
			r, err := scanRun(v)
			all = append(all, r)
			return err
		}, args...)
	})
	if err != nil {
		return nil, fmt.Errorf("read runs: %w", err)
	}
	return all, nil
}

func (s *store) run(where string, args ...any) (*journal.Run, error) {
	all, err := s.runs(where+" LIMIT 1", args...)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, journal.ErrNotFound
	}
	return all[0], nil
}

// MaxRID implements [journal.Store].
func (s *store) MaxRID() (rid int64, err error) {
	err = s.read(func(c *conn) error {
		rid, err = c.int64("SELECT max((SELECT coalesce(max(rid), 0) FROM runs), (SELECT value FROM meta WHERE name = 'rid'))")
		return err
	})
	return rid, err
}

// Unfinished implements [journal.Store]. It reads page by page, so that f may
// take its time and use the store.
func (s *store) Unfinished(f func(*journal.Run) error) error {
	for after := int64(0); ; {
		page, err := s.runsFrom(openRuns, "closed = 0 AND runs.rid > ? ORDER BY runs.rid LIMIT 256", after)
		if err != nil {
			return err
		}
		for _, r := range page {
			if err := f(r); err != nil {
				return err
			}
			after = r.RID
		}
		if len(page) < 256 {
			return nil
		}
	}
}

// Run implements [journal.Store].
func (s *store) Run(rid int64) (*journal.Run, error) { return s.run("runs.rid = ?", rid) }

// Find implements [journal.Store].
func (s *store) Find(workflowID, runID string) (*journal.Run, error) {
	if runID == "" {
		return s.run("workflow_id = ? ORDER BY runs.rid DESC", workflowID)
	}
	r, err := s.run("run_id = ?", runID)
	if err == nil && workflowID != "" && r.WorkflowID != workflowID {
		return nil, journal.ErrNotFound
	}
	return r, err
}

// FindKey implements [journal.Store].
func (s *store) FindKey(key string) (*journal.Run, error) {
	if key == "" {
		return nil, journal.ErrNotFound
	}
	return s.run("key = ?", key)
}

// List implements [journal.Store].
func (s *store) List(f *journal.Filter) ([]*journal.Run, error) {
	var args []any
	from, where := allRuns, []string{"1"}
	and := func(cond string, vals ...any) {
		where = append(where, cond)
		args = append(args, vals...)
	}
	if f.Workflow != "" {
		and("name = ?", f.Workflow)
	}
	if f.WorkflowID != "" {
		and("workflow_id = ?", f.WorkflowID)
	}
	if f.Owner != nil {
		and("owner = ?", *f.Owner)
	}
	if len(f.States) > 0 {
		if !slices.ContainsFunc(f.States, func(s string) bool { return s != "running" }) {
			from = openRuns
			and("closed = 0")
		}
		vals := make([]any, len(f.States))
		for i, s := range f.States {
			vals[i] = s
		}
		and("state IN (?"+strings.Repeat(", ?", len(vals)-1)+")", vals...)
	}
	if f.CreatedAfter > 0 {
		and("created > ?", f.CreatedAfter)
	}
	if f.CreatedBefore > 0 {
		and("created < ?", f.CreatedBefore)
	}
	// The statements are kept by their text, so the order must not vary; the
	// number of tags does, which is bounded by what callers write.
	for _, k := range sortedKeys(f.Tags) {
		and("EXISTS (SELECT 1 FROM json_each(runs.tags) t WHERE t.key = ? AND t.value = ?)", k, f.Tags[k])
	}
	if f.Before > 0 {
		and("runs.rid < ?", f.Before)
	}
	limit := f.Limit
	if limit <= 0 {
		limit = 100
	}
	return s.runsFrom(from, strings.Join(where, " AND ")+" ORDER BY runs.rid DESC LIMIT ?", append(args, limit)...)
}

// Children implements [journal.Store].
func (s *store) Children(rid int64) ([]*journal.Run, error) {
	return s.runs("parent = ? AND parent > 0 AND closed = 0 ORDER BY runs.rid", rid)
}

// ChildOf implements [journal.Store].
func (s *store) ChildOf(rid int64, call string) (*journal.Run, error) {
	return s.run("parent = ? AND parent > 0 AND parent_call = ? ORDER BY runs.rid DESC", rid, call)
}

// Rows implements [journal.Store].
func (s *store) Rows(last, from int64) (rows []*journal.Row, err error) {
	err = s.read(func(c *conn) error {
		for id := last; id > 0 && id >= from; {
			var r *journal.Row
			err := c.query("SELECT run, prev, kind, head, data FROM journal WHERE id = ?", func(v []driver.Value) error {
				r = &journal.Row{ID: id, Run: asInt(v[0]), Prev: asInt(v[1]), Kind: asString(v[2]), Head: asBytes(v[3]), Data: asBytes(v[4])}
				return nil
			}, id)
			switch {
			case err != nil:
				return err
			case r == nil:
				return fmt.Errorf("journal row %d is missing: %w", id, journal.ErrNotFound)
			case r.Prev >= id:
				return &FileError{Path: s.path, Err: ErrCorrupt, Text: fmt.Sprintf("journal row %d follows row %d; restore a backup", id, r.Prev)}
			}
			rows = append(rows, r)
			id = r.Prev
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	for i, j := 0, len(rows)-1; i < j; i, j = i+1, j-1 {
		rows[i], rows[j] = rows[j], rows[i]
	}
	return rows, nil
}

const askColumns = "id, rid, call, name, kind, text, schema, context, digest, audience, owner, created, expires, state, answer, by, note, answered, request_id"

func (s *store) asks(where string, args ...any) (all []*journal.Ask, err error) {
	err = s.read(func(c *conn) error {
		return c.query("SELECT "+askColumns+" FROM asks WHERE "+where, func(v []driver.Value) error {
			all = append(all, &journal.Ask{
				ID: asString(v[0]), RID: asInt(v[1]), Call: asString(v[2]), Name: asString(v[3]), Kind: asString(v[4]), Text: asString(v[5]),
				Schema: asBytes(v[6]), Context: asBytes(v[7]), Digest: asString(v[8]), Audience: asString(v[9]), Owner: asString(v[10]),
				Created: asInt(v[11]), Expires: asInt(v[12]), State: asString(v[13]), Answer: asBytes(v[14]),
				By: asString(v[15]), Note: asString(v[16]), Answered: asInt(v[17]), RequestID: asString(v[18]),
			})
			return nil
		}, args...)
	})
	if err != nil {
		return nil, fmt.Errorf("read questions: %w", err)
	}
	return all, nil
}

// Ask implements [journal.Store].
func (s *store) Ask(id string) (*journal.Ask, error) {
	all, err := s.asks("id = ?", id)
	if err == nil && len(all) == 0 {
		err = journal.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// Asks implements [journal.Store].
func (s *store) Asks(rid int64, openOnly bool) ([]*journal.Ask, error) {
	switch {
	case rid == 0 && openOnly:
		return s.asks("state = 'open' ORDER BY created, rowid")
	case openOnly:
		return s.asks("rid = ? AND state = 'open' ORDER BY created, rowid", rid)
	case rid == 0:
		return s.asks("1 ORDER BY created, rowid")
	}
	return s.asks("rid = ? ORDER BY created, rowid", rid)
}

// Items implements [journal.Store].
func (s *store) Items(rid int64, name string, from int64, limit int) (all []*journal.Item, err error) {
	if limit <= 0 {
		limit = -1
	}
	err = s.read(func(c *conn) error {
		return c.query("SELECT pos, at, data FROM items WHERE rid = ? AND name = ? AND pos >= ? ORDER BY pos LIMIT ?", func(v []driver.Value) error {
			all = append(all, &journal.Item{RID: rid, Name: name, Offset: asInt(v[0]), At: asInt(v[1]), Data: asBytes(v[2])})
			return nil
		}, rid, name, from, limit)
	})
	return all, err
}

// StreamEnds implements [journal.Store].
func (s *store) StreamEnds(rid int64) (map[string]int64, error) {
	ends := map[string]int64{}
	err := s.read(func(c *conn) error {
		return c.query("SELECT name, max(pos) + 1 FROM items WHERE rid = ? GROUP BY name", func(v []driver.Value) error {
			ends[asString(v[0])] = asInt(v[1])
			return nil
		}, rid)
	})
	return ends, err
}

const scheduleColumns = "id, owner, spec, paused, next, last, last_run, buffered, key, created, changed"

// Schedules implements [journal.Store].
func (s *store) Schedules() (all []*journal.Schedule, err error) {
	err = s.read(func(c *conn) error {
		return c.query("SELECT "+scheduleColumns+" FROM schedules ORDER BY id", func(v []driver.Value) error {
			all = append(all, &journal.Schedule{
				ID: asString(v[0]), Owner: asString(v[1]), Spec: asBytes(v[2]), Paused: asBytes(v[3]), Next: asInt(v[4]), Last: asInt(v[5]),
				LastRun: asString(v[6]), Buffered: asInt(v[7]), Key: asString(v[8]), Created: asInt(v[9]), Changed: asInt(v[10]),
			})
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read the schedules: %w", err)
	}
	return all, nil
}

// Blob implements [journal.Store].
func (s *store) Blob(digest string) (b *journal.Blob, err error) {
	err = s.read(func(c *conn) error {
		return c.query("SELECT data FROM blobs WHERE digest = ?", func(v []driver.Value) error {
			b = &journal.Blob{Digest: digest, Data: asBytes(v[0])}
			return nil
		}, digest)
	})
	if err == nil && b == nil {
		err = journal.ErrNotFound
	}
	return b, err
}

func sortedKeys(m map[string]string) []string {
	return slices.Sorted(maps.Keys(m))
}
