package journal

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
)

// Memory is a store that lives as long as the process.
type Memory struct {
	mu        sync.Mutex // guards all
	runs      map[int64]*Run
	order     []int64 // RIDs, ascending
	rows      map[int64]*Row
	nextRow   int64
	maxRID    int64
	byRun     map[string]int64
	byID      map[string][]int64 // ascending
	byKey     map[string]int64
	children  map[int64][]int64 // by parent
	asks      map[string]*Ask
	askOrder  []string
	items     map[int64]map[string][]*Item
	schedules map[string]*Schedule
	blobs     map[string]*Blob
	owners    map[string]map[string]bool // chains that a blob belongs to, by its digest
}

// NewMemory makes an empty store.
func NewMemory() *Memory {
	return &Memory{
		schedules: map[string]*Schedule{}, runs: map[int64]*Run{}, rows: map[int64]*Row{}, byRun: map[string]int64{}, byID: map[string][]int64{}, byKey: map[string]int64{},
		children: map[int64][]int64{}, asks: map[string]*Ask{}, items: map[int64]map[string][]*Item{}, blobs: map[string]*Blob{}, owners: map[string]map[string]bool{},
	}
}

func open(state string) bool { return state == "running" || state == "paused" }

// Commit implements [Store].
func (m *Memory) Commit(_ context.Context, tx *Tx) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	ending := map[int64]bool{}
	for _, w := range tx.Writes {
		if !w.New && !open(w.Run.State) {
			ending[w.Run.RID] = true
		}
	}
	for _, w := range tx.Writes {
		if !w.New {
			continue
		}
		_, run := m.byRun[w.Run.RunID]
		_, key := m.byKey[w.Run.Key]
		if run || w.Run.Key != "" && key {
			return ErrDuplicate
		}
		for _, rid := range m.byID[w.Run.WorkflowID] {
			if open(m.runs[rid].State) && !ending[rid] {
				return ErrDuplicate
			}
		}
	}
	for _, w := range tx.Writes {
		r := w.Run
		put := func(row *Row) {
			m.nextRow++
			row.ID, row.Prev = m.nextRow, r.Last
			r.Last = m.nextRow
			m.rows[row.ID] = row
		}
		for _, row := range w.Before {
			put(row)
		}
		if w.Row != nil {
			put(w.Row)
			if r.From == -1 {
				r.From = m.nextRow
			}
		}
		if w.New {
			m.order = append(m.order, r.RID)
			m.maxRID = max(m.maxRID, r.RID)
			m.byRun[r.RunID] = r.RID
			m.byID[r.WorkflowID] = append(m.byID[r.WorkflowID], r.RID)
			if r.Key != "" {
				m.byKey[r.Key] = r.RID
			}
			if r.Parent != 0 {
				m.children[r.Parent] = append(m.children[r.Parent], r.RID)
			}
		}
		m.runs[r.RID] = r
	}
	for _, a := range tx.Asks {
		if m.asks[a.ID] == nil {
			m.askOrder = append(m.askOrder, a.ID)
		}
		m.asks[a.ID] = a
	}
	for _, it := range tx.Items {
		s := m.items[it.RID]
		if s == nil {
			s = map[string][]*Item{}
			m.items[it.RID] = s
		}
		s[it.Name] = append(s[it.Name], it)
	}
	for _, x := range tx.Schedules {
		if x.Deleted {
			delete(m.schedules, x.ID)
			continue
		}
		m.schedules[x.ID] = x
	}
	for _, b := range tx.Blobs {
		if m.blobs[b.Digest] == nil {
			m.blobs[b.Digest] = b
			m.owners[b.Digest] = map[string]bool{}
		}
		m.owners[b.Digest][b.Chain] = true
	}
	return nil
}

// MaxRID implements [Store].
func (m *Memory) MaxRID() (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.maxRID, nil
}

// Unfinished implements [Store].
func (m *Memory) Unfinished(f func(*Run) error) error {
	m.mu.Lock()
	var all []*Run
	for _, rid := range m.order {
		if r := m.runs[rid]; open(r.State) {
			all = append(all, r)
		}
	}
	m.mu.Unlock()
	for _, r := range all {
		if err := f(r); err != nil {
			return err
		}
	}
	return nil
}

// Run implements [Store].
func (m *Memory) Run(rid int64) (*Run, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return found(m.runs[rid])
}

func found[T any](v *T) (*T, error) {
	if v == nil {
		return nil, ErrNotFound
	}
	return v, nil
}

// Find implements [Store].
func (m *Memory) Find(workflowID, runID string) (*Run, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if runID == "" {
		ids := m.byID[workflowID]
		if len(ids) == 0 {
			return nil, ErrNotFound
		}
		return m.runs[ids[len(ids)-1]], nil
	}
	r, err := found(m.runs[m.byRun[runID]])
	if err == nil && workflowID != "" && r.WorkflowID != workflowID {
		return nil, ErrNotFound
	}
	return r, err
}

// FindKey implements [Store].
func (m *Memory) FindKey(key string) (*Run, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return found(m.runs[m.byKey[key]])
}

// List implements [Store].
func (m *Memory) List(f *Filter) ([]*Run, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	limit := cmp.Or(f.Limit, 100)
	var out []*Run
	for i := len(m.order) - 1; i >= 0 && len(out) < limit; i-- {
		r := m.runs[m.order[i]]
		if f.Before > 0 && r.RID >= f.Before || !f.matches(r) {
			continue
		}
		out = append(out, r)
	}
	return out, nil
}

func (f *Filter) matches(r *Run) bool {
	if f.Workflow != "" && r.Name != f.Workflow || f.WorkflowID != "" && r.WorkflowID != f.WorkflowID ||
		f.Owner != nil && r.Owner != *f.Owner || len(f.States) > 0 && !slices.Contains(f.States, r.State) ||
		f.CreatedAfter > 0 && r.Created <= f.CreatedAfter || f.CreatedBefore > 0 && r.Created >= f.CreatedBefore {
		return false
	}
	if len(f.Tags) > 0 {
		var tags map[string]string
		_ = json.Unmarshal(r.Tags, &tags)
		for k, v := range f.Tags {
			if tags[k] != v {
				return false
			}
		}
	}
	return true
}

// Children implements [Store].
func (m *Memory) Children(rid int64) ([]*Run, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*Run
	for _, c := range m.children[rid] {
		if r := m.runs[c]; open(r.State) {
			out = append(out, r)
		}
	}
	return out, nil
}

// ChildOf implements [Store].
func (m *Memory) ChildOf(rid int64, call string) (*Run, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	kids := m.children[rid]
	for i := len(kids) - 1; i >= 0; i-- {
		if r := m.runs[kids[i]]; r.ParentCall == call {
			return r, nil
		}
	}
	return nil, ErrNotFound
}

// Rows implements [Store].
func (m *Memory) Rows(last, from int64) ([]*Row, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*Row
	for id := last; id != 0 && id >= from; {
		r := m.rows[id]
		if r == nil {
			return nil, ErrNotFound
		}
		out = append(out, r)
		id = r.Prev
	}
	slices.Reverse(out)
	return out, nil
}

// Ask implements [Store].
func (m *Memory) Ask(id string) (*Ask, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return found(m.asks[id])
}

// Asks implements [Store].
func (m *Memory) Asks(rid int64, openOnly bool) ([]*Ask, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*Ask
	for _, id := range m.askOrder {
		a := m.asks[id]
		if a == nil || rid != 0 && a.RID != rid || openOnly && a.State != "open" {
			continue
		}
		out = append(out, a)
	}
	return out, nil
}

// Items implements [Store].
func (m *Memory) Items(rid int64, name string, from int64, limit int) ([]*Item, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*Item
	for _, it := range m.items[rid][name] {
		if it.Offset >= from && len(out) < limit {
			out = append(out, it)
		}
	}
	return out, nil
}

// StreamEnds implements [Store].
func (m *Memory) StreamEnds(rid int64) (map[string]int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]int64{}
	for name, items := range m.items[rid] {
		for _, it := range items {
			out[name] = max(out[name], it.Offset+1)
		}
	}
	return out, nil
}

// Blob implements [Store].
func (m *Memory) Blob(digest string) (*Blob, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return found(m.blobs[digest])
}

// Schedules implements [Store].
func (m *Memory) Schedules() ([]*Schedule, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]*Schedule, 0, len(m.schedules))
	for _, id := range slices.Sorted(maps.Keys(m.schedules)) {
		out = append(out, m.schedules[id])
	}
	return out, nil
}

// Prune implements [Store].
func (m *Memory) Prune(_ context.Context, t int64, keep int) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ended []int64
	for _, rid := range m.order {
		if !open(m.runs[rid].State) {
			ended = append(ended, rid)
		}
	}
	gone := map[int64]bool{}
	chains := map[string]bool{}
	for i, rid := range ended {
		r := m.runs[rid]
		if p := m.runs[r.Parent]; p != nil && open(p.State) {
			continue // it may not have seen the outcome yet
		}
		if r.Closed < t || keep > 0 && len(ended)-i > keep {
			gone[rid] = true
		}
	}
	for rid := range gone {
		r := m.runs[rid]
		for id := r.Last; id != 0; {
			prev := m.rows[id].Prev
			delete(m.rows, id)
			id = prev
		}
		delete(m.runs, rid)
		delete(m.byRun, r.RunID)
		if m.byKey[r.Key] == rid {
			delete(m.byKey, r.Key)
		}
		delete(m.items, rid)
		delete(m.children, rid)
		drop := func(ids []int64) []int64 { return slices.DeleteFunc(ids, func(x int64) bool { return x == rid }) }
		m.byID[r.WorkflowID] = drop(m.byID[r.WorkflowID])
		if len(m.byID[r.WorkflowID]) == 0 {
			delete(m.byID, r.WorkflowID)
		}
		if r.Parent != 0 {
			m.children[r.Parent] = drop(m.children[r.Parent])
		}
	}
	m.order = slices.DeleteFunc(m.order, func(rid int64) bool { return gone[rid] })
	for _, r := range m.runs {
		chains[r.Chain] = true
	}
	for d, owners := range m.owners {
		for c := range owners {
			if !chains[c] {
				delete(owners, c)
			}
		}
		if len(owners) == 0 {
			delete(m.blobs, d)
			delete(m.owners, d)
		}
	}
	m.askOrder = slices.DeleteFunc(m.askOrder, func(id string) bool {
		if gone[m.asks[id].RID] {
			delete(m.asks, id)
			return true
		}
		return false
	})
	return len(gone), nil
}

// Health implements [Store].
func (m *Memory) Health() error { return nil }

// Close implements [Store].
func (m *Memory) Close() error { return nil }
