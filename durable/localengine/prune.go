package localengine

import (
	"context"
	"database/sql/driver"
	"fmt"
)

// pruneStep is how many runs one transaction deletes.
const pruneStep = 50

// Prune implements [journal.Store]. A run whose parent has not ended stays,
// because the parent may not have seen its outcome yet.
func (s *store) Prune(ctx context.Context, t int64, keep int) (int, error) {
	w := s.committer()
	if w == nil {
		return 0, fmt.Errorf("prune %s: this process only reads it: %w", s.path, ErrLocked)
	}
	const free = " AND NOT EXISTS (SELECT 1 FROM runs p WHERE p.rid = runs.parent AND p.closed = 0)"
	var rids []int64
	add := func(v []driver.Value) error { rids = append(rids, asInt(v[0])); return nil }
	err := s.read(func(c *conn) error {
		if err := c.query("SELECT rid FROM runs WHERE closed > 0 AND closed < ?"+free, add, t); err != nil || keep <= 0 {
			return err
		}
		return c.query("SELECT rid FROM (SELECT rid, parent FROM runs WHERE closed > 0 AND closed >= ? ORDER BY closed DESC, rid DESC LIMIT -1 OFFSET ?) runs WHERE 1"+free, add, t, keep)
	})
	n := 0
	for err == nil && len(rids) > 0 {
		step := rids[:min(pruneStep, len(rids))]
		rids = rids[len(step):]
		var done int
		err = w.own(ctx, func(c *conn) (err error) { done, err = deleteRuns(c, step); return err })
		n += done
	}
	if err != nil {
		return n, fmt.Errorf("prune %s: %w", s.path, err)
	}
	return n, nil
}

// deleteRuns deletes finished runs with all that is theirs.
func deleteRuns(c *conn, rids []int64) (n int, err error) {
	// Numbers once given are never given again.
	if err := c.exec("UPDATE meta SET value = max(value, (SELECT coalesce(max(rid), 0) FROM runs)) WHERE name = 'rid'"); err != nil {
		return 0, err
	}
	if err := c.exec("UPDATE meta SET value = max(value, (SELECT coalesce(max(id), 0) FROM journal)) WHERE name = 'row'"); err != nil {
		return 0, err
	}
	for _, rid := range rids {
		var row int64
		var id, chain string
		found := false
		if err := c.query("SELECT last, workflow_id, chain FROM runs JOIN heads USING (rid) WHERE rid = ? AND closed > 0", func(v []driver.Value) error {
			row, id, chain, found = asInt(v[0]), asString(v[1]), asString(v[2]), true
			return nil
		}, rid); err != nil {
			return 0, err
		}
		if !found {
			continue
		}
		n++
		for row > 0 {
			prev, err := c.int64("SELECT prev FROM journal WHERE id = ?", row)
			if err != nil {
				return 0, err
			}
			if err := c.exec("DELETE FROM journal WHERE id = ?", row); err != nil {
				return 0, err
			}
			row = prev
		}
		for _, sql := range []string{"DELETE FROM asks WHERE rid = ?", "DELETE FROM items WHERE rid = ?", "DELETE FROM heads WHERE rid = ?", "DELETE FROM runs WHERE rid = ?"} {
			if err := c.exec(sql, rid); err != nil {
				return 0, err
			}
		}
		// Blobs live as long as the youngest run of the chain. The runs of a
		// chain have one workflow id.
		others, err := c.int64("SELECT EXISTS (SELECT 1 FROM runs WHERE workflow_id = ? AND chain = ?)", id, chain)
		if err != nil {
			return 0, err
		}
		if others == 0 {
			if err := deleteBlobs(c, chain); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

func deleteBlobs(c *conn, chain string) error {
	var digests []string
	if err := c.query("SELECT digest FROM blob_refs WHERE chain = ?", func(v []driver.Value) error {
		digests = append(digests, asString(v[0]))
		return nil
	}, chain); err != nil {
		return err
	}
	if err := c.exec("DELETE FROM blob_refs WHERE chain = ?", chain); err != nil {
		return err
	}
	for _, d := range digests {
		if err := c.exec("DELETE FROM blobs WHERE digest = ? AND NOT EXISTS (SELECT 1 FROM blob_refs WHERE digest = ?)", d, d); err != nil {
			return err
		}
	}
	return nil
}
