package durable

import (
	"context"
	"fmt"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// A cluster's worker keeps runs in memory that only wait, most of the time. One
// that is put away is its journal and nothing else: no executor, no index, no
// coroutine. Whatever comes for it makes these again, and its code wakes by
// replay from that journal, as on every engine. The cluster has no part in
// that: it is asked for nothing and told nothing.

// PutAway leaves nothing of the run in memory but its journal, until something
// is asked of it. It does nothing while the run is at work, and where the
// journal is not all there is to it: it has a problem, or has ended.
func (h *Hosted) PutAway() {
	e := h.e
	if e == nil || h.working || h.problem != nil || State(e.row.State).Done() {
		return
	}
	e.putAway()
	h.st.Pack()
	if len(e.asking) > 0 {
		h.asking = e.asking
	}
	h.lender.Store(nil)
	h.e = nil
}

// Away reports whether the run is put away.
func (h *Hosted) Away() bool { return h.e == nil }

// Lends reports whether the run's code has lent anything.
func (h *Hosted) Lends() bool { return h.e != nil && h.e.lent.Load() != nil }

// at gives the entry of the run; of one that is put away it is made again.
func (h *Hosted) at() *entry {
	if h.e != nil {
		return h.e
	}
	row, err := h.st.Run(h.rid)
	var open []*openCall
	var pend []pending
	if err == nil {
		open, pend, _, err = openCalls(&h.st, row)
	}
	if err != nil {
		panic(fmt.Sprintf("durable: the journal of a run that was put away can't be read: %v", err)) // this process wrote it
	}
	h.enter(row, open, pend)
	h.e.asking, h.asking = h.asking, nil
	return h.e
}

// enter makes the executor of the run, and its entry.
func (h *Hosted) enter(row *journal.Run, open []*openCall, pend []pending) {
	p := &h.host.proto
	ex := &executor{defs: p.defs, opts: p.opts, log: p.log, policies: p.policies, queues: true, tracer: p.tracer, content: p.content, limit: p.limit, remedy: p.remedy, host: h, st: &h.st}
	ex.life, ex.commits = context.Background(), context.Background()
	ex.reader = &reader{st: ex.st, defs: ex.defs, codec: ex.opts.Codec, watch: func(int64, bool) func(context.Context) error {
		return func(context.Context) error { return errStands }
	}}
	ex.nextRID = h.rid + 1
	e := &entry{ex: ex, rid: h.rid, signals: -1, busy: true, cfg: configOf(row), pend: pend, open: make(map[string]*openCall, len(open)), row: row}
	for _, oc := range open {
		e.open[oc.call.ID] = oc
	}
	ex.entries = map[int64]*entry{h.rid: e}
	ex.byRun, ex.byID = map[string]*entry{row.RunID: e}, map[string]*entry{row.WorkflowID: e}
	h.e = e
	h.lender.Store(e)
}
