package journal

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"
)

// One is the store of a single run, with the one that continues it, in memory:
// a tenth of what [Memory] takes for it. It is for those who have many, each
// for one goroutine at a time. The zero value is empty.
type One struct {
	runs   []*Run // in the order in which they were made
	rows   []*Row // by number, from 1; those that are not in packed
	packed []byte // the rows that came before them, see Pack
	asks   []*Ask
	items  []*Item
	blobs  []*Blob
}

// Pack puts the rows together, each without what the allocator adds to it. It
// is for a run that nothing is read of for a while.
func (o *One) Pack() {
	o.unpack()
	size := 0
	for _, r := range o.rows {
		size += len(r.Head) + len(r.Data) + len(r.Kind) + 5*binary.MaxVarintLen32
	}
	b := make([]byte, 0, size)
	for _, r := range o.rows {
		b = binary.AppendVarint(binary.AppendVarint(b, r.Run), r.Prev)
		for _, part := range [][]byte{[]byte(r.Kind), r.Head, r.Data} {
			b = append(binary.AppendUvarint(b, uint64(len(part))), part...)
		}
	}
	o.packed, o.rows = slices.Clip(slices.Clone(b)), nil
}

// unpack is the reverse of Pack.
func (o *One) unpack() {
	b := o.packed
	o.packed = nil
	for len(b) > 0 {
		r := &Row{ID: int64(len(o.rows) + 1)}
		for _, to := range []*int64{&r.Run, &r.Prev} {
			v, n := binary.Varint(b)
			*to, b = v, b[n:]
		}
		var parts [3][]byte
		for i := range parts {
			v, n := binary.Uvarint(b)
			end := n + int(v)
			if v > 0 {
				parts[i] = b[n:end:end]
			}
			b = b[end:]
		}
		r.Kind, r.Head, r.Data = string(parts[0]), parts[1], parts[2]
		o.rows = append(o.rows, r)
	}
}

// Commit implements [Store].
func (o *One) Commit(_ context.Context, tx *Tx) error {
	for _, w := range tx.Writes {
		if w.New && slices.ContainsFunc(o.runs, func(r *Run) bool { return r.RunID == w.Run.RunID }) {
			return ErrDuplicate
		}
	}
	for _, w := range tx.Writes {
		put := func(row *Row) {
			o.unpack()
			row.ID, row.Prev = int64(len(o.rows)+1), w.Run.Last
			w.Run.Last = row.ID
			o.rows = append(o.rows, row)
		}
		for _, row := range w.Before {
			put(row)
		}
		if w.Row != nil {
			put(w.Row)
			if w.Run.From == -1 {
				w.Run.From = w.Row.ID
			}
		}
		if i := slices.IndexFunc(o.runs, func(r *Run) bool { return r.RID == w.Run.RID }); i >= 0 {
			o.runs[i] = w.Run
		} else {
			o.runs = append(o.runs, w.Run)
		}
	}
	for _, a := range tx.Asks {
		if i := slices.IndexFunc(o.asks, func(had *Ask) bool { return had.ID == a.ID }); i >= 0 {
			o.asks[i] = a
		} else {
			o.asks = append(o.asks, a)
		}
	}
	o.items = append(o.items, tx.Items...)
	for _, b := range tx.Blobs {
		if _, err := o.Blob(b.Digest); err != nil {
			o.blobs = append(o.blobs, b)
		}
	}
	return nil
}

// MaxRID implements [Store].
func (o *One) MaxRID() (top int64, _ error) {
	for _, r := range o.runs {
		top = max(top, r.RID)
	}
	return top, nil
}

// Unfinished implements [Store].
func (o *One) Unfinished(f func(*Run) error) error {
	for _, r := range o.runs {
		if open(r.State) {
			if err := f(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// run finds the newest one of which ok is true.
func (o *One) run(ok func(*Run) bool) (*Run, error) {
	for _, r := range slices.Backward(o.runs) {
		if ok(r) {
			return r, nil
		}
	}
	return nil, ErrNotFound
}

// Run implements [Store].
func (o *One) Run(rid int64) (*Run, error) {
	return o.run(func(r *Run) bool { return r.RID == rid })
}

// Find implements [Store].
func (o *One) Find(workflowID, runID string) (*Run, error) {
	return o.run(func(r *Run) bool {
		return (workflowID == "" || r.WorkflowID == workflowID) && (runID == "" || r.RunID == runID)
	})
}

// FindKey implements [Store].
func (o *One) FindKey(key string) (*Run, error) {
	return o.run(func(r *Run) bool { return key != "" && r.Key == key })
}

// List implements [Store].
func (o *One) List(f *Filter) ([]*Run, error) {
	var out []*Run
	for _, r := range slices.Backward(o.runs) {
		if len(out) < cmp.Or(f.Limit, 100) && (f.Before == 0 || r.RID < f.Before) && f.matches(r) {
			out = append(out, r)
		}
	}
	return out, nil
}

// Children implements [Store]: they are elsewhere.
func (o *One) Children(int64) ([]*Run, error) { return nil, nil }

// ChildOf implements [Store].
func (o *One) ChildOf(int64, string) (*Run, error) { return nil, ErrNotFound }

// Rows implements [Store].
func (o *One) Rows(last, from int64) ([]*Row, error) {
	o.unpack()
	var out []*Row
	for id := last; id > 0 && id >= from; id = o.rows[id-1].Prev {
		if id > int64(len(o.rows)) {
			return nil, ErrNotFound
		}
		out = append(out, o.rows[id-1])
	}
	slices.Reverse(out)
	return out, nil
}

// Ask implements [Store].
func (o *One) Ask(id string) (*Ask, error) {
	for _, a := range o.asks {
		if a.ID == id {
			return a, nil
		}
	}
	return nil, ErrNotFound
}

// Asks implements [Store].
func (o *One) Asks(rid int64, openOnly bool) ([]*Ask, error) {
	var out []*Ask
	for _, a := range o.asks {
		if (rid == 0 || a.RID == rid) && (!openOnly || a.State == "open") {
			out = append(out, a)
		}
	}
	return out, nil
}

// Items implements [Store].
func (o *One) Items(rid int64, name string, from int64, limit int) ([]*Item, error) {
	var out []*Item
	for _, it := range o.items {
		if it.RID == rid && it.Name == name && it.Offset >= from && len(out) < limit {
			out = append(out, it)
		}
	}
	return out, nil
}

// StreamEnds implements [Store].
func (o *One) StreamEnds(rid int64) (map[string]int64, error) {
	out := map[string]int64{}
	for _, it := range o.items {
		if it.RID == rid {
			out[it.Name] = max(out[it.Name], it.Offset+1)
		}
	}
	return out, nil
}

// Blob implements [Store].
func (o *One) Blob(digest string) (*Blob, error) {
	for _, b := range o.blobs {
		if b.Digest == digest {
			return b, nil
		}
	}
	return nil, ErrNotFound
}

// Schedules implements [Store]: it has none.
func (o *One) Schedules() ([]*Schedule, error) { return nil, nil }

// Prune implements [Store]: nothing is ever too old.
func (o *One) Prune(context.Context, int64, int) (int, error) { return 0, nil }

// Health implements [Store].
func (o *One) Health() error { return nil }

// Close implements [Store].
func (o *One) Close() error { return nil }
