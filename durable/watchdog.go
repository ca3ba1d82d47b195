package durable

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// watchdog reports runs whose code does not come back.
func (ex *executor) watchdog() {
	limit := ex.opts.watchdog()
	tick := time.NewTimer(time.Hour)
	defer tick.Stop()
	out := outstanding{every: max(limit/4, 10*time.Millisecond), turns: map[*entry]*outing{}}
	watching := false // as in ex
	for {
		if watching {
			out.since = time.Now()
			tick.Reset(out.every)
		}
		select {
		case <-ex.life.Done():
			return
		case <-ex.rouse:
			watching = true
			continue
		case <-tick.C:
		}
		ex.mu.Lock()
		watching = ex.busy.first != nil
		ex.watching = watching
		stuck := out.count(time.Now(), ex.busy.first, limit)
		ex.mu.Unlock()
		for _, e := range stuck {
			ex.deadlocked(e, out.turns[e].began, limit)
		}
	}
}

// outstanding are the runs whose code is at work, as the watchdog sees them from
// tick to tick.
type outstanding struct {
	every time.Duration // from one tick to the next
	since time.Time     // when the tick that comes was set
	turns map[*entry]*outing
}

// outing is the time for which a run's code has been at work.
type outing struct {
	began    int64 // UnixMicro
	lasted   time.Duration
	reported bool
}

// count counts a tick for each run that is busy, and gives those that are over
// the limit by it. A tick counts for what it was set to, however late it comes:
// what kept the watchdog from a processor, a machine that is overloaded or was
// asleep, may have kept the code from one.
func (o *outstanding) count(now time.Time, busy *entry, limit time.Duration) (stuck []*entry) {
	passed := min(now.Sub(o.since), o.every)
	for e := busy; e != nil; e = e.link.next {
		began := e.turning.Load()
		if began == 0 {
			continue
		}
		t := o.turns[e]
		if t == nil || t.began != began {
			t = &outing{began: began}
			o.turns[e] = t
		}
		t.lasted += min(passed, now.Sub(time.UnixMicro(began)))
		if t.lasted > limit && !t.reported {
			t.reported = true
			stuck = append(stuck, e)
		}
	}
	for e, t := range o.turns {
		if e.turning.Load() != t.began && !slices.Contains(stuck, e) {
			delete(o.turns, e)
		}
	}
	return stuck
}

// deadlocked makes a stuck run visible. Its turn is committed, and the
// problem gone, if the code comes back after all.
func (ex *executor) deadlocked(e *entry, since int64, limit time.Duration) {
	p := &Problem{Kind: "deadlock", Since: time.Now().UTC(), Tries: 1,
		Text: fmt.Sprintf("the workflow's code has not blocked in a durable call for %v: it waits outside of durable, or computes; other runs go on\n%s", limit, stuckStacks())}
	e.writing.Lock()
	defer e.writing.Unlock()
	if e.turning.Load() != since || e.detached.Load() != nil {
		return // it came back, or was ended
	}
	row := *e.rowNow()
	row.Problem = jsonOf(p)
	ex.log.Error("run is stuck", "run_id", row.RunID, "workflow", row.Name, "problem", p.Text)
	// Only the stored row says so: when the loop comes back, its next commit
	// takes the problem away.
	if err := ex.commit(ex.commits, &journal.Tx{Writes: []journal.Write{{Run: &row}}}); err == nil {
		e.accused = true
		ex.changed(row.RID)
	}
}

// acquit takes away what the watchdog found, where the code has come back and
// had nothing to commit. It belongs to the loop.
func (e *entry) acquit() {
	e.writing.Lock()
	accused := e.accused
	e.writing.Unlock()
	if !accused {
		return
	}
	row := *e.row
	if err := e.write(&journal.Tx{Writes: []journal.Write{{Run: &row}}}); err != nil {
		e.ex.log.Error("a problem that is gone could not be taken away", "run_id", row.RunID, "error", err)
		return
	}
	e.ex.changed(row.RID)
}

// stuckStacks gives the stacks of coroutines that are not parked.
func stuckStacks() string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var out []string
	for g := range strings.SplitSeq(string(buf), "\n\n") {
		if strings.Contains(g, "durable.(*coroutine).main") && !strings.Contains(g, "durable.(*run).park(") {
			out = append(out, g)
		}
	}
	if len(out) > 5 {
		out = out[:5]
	}
	return strings.Join(out, "\n\n")
}

// stuck reports whether the run's code has not come back for longer than the
// watchdog allows.
func (e *entry) stuck() bool {
	since := e.turning.Load()
	return since != 0 && time.Now().UnixMicro()-since > e.ex.opts.watchdog().Microseconds()
}

// terminateStuck ends a run whose code does not come back: no loop can do it.
// When the code comes back after all, it finds itself detached. It does
// nothing about other runs.
func (ex *executor) terminateStuck(req *Request) (*Reply, error) {
	e, _, no := ex.target(req)
	if no != nil {
		return nil, nil
	}
	e.writing.Lock()
	defer e.writing.Unlock()
	if !e.stuck() || e.detached.Load() != nil {
		return nil, nil
	}
	was := e.rowNow()
	row, tx, err := ex.ending(was, Terminated, &journal.Failure{Type: "terminated", Message: req.Reason}, req.Actor.Name, req.Reason)
	if err == nil {
		err = ex.commit(ex.commits, tx)
	}
	if err != nil {
		return nil, fmt.Errorf("terminate run %v: %w", refOf(was), err)
	}
	e.detached.Store(row) // e.row is the loop's
	e.accused = false
	e.observeEnd(row)
	ex.drop(e)
	ex.plannedEnded(e.cfg)
	if row.Parent != 0 {
		ex.tellParent(row)
	}
	ex.changed(row.RID)
	return &Reply{Ref: refOf(row)}, nil
}

// ousted reports whether the run was ended while its code did not come back,
// and gives up what it was about to do. It belongs to the loop.
func (e *entry) ousted(ins []*incoming) bool {
	row := e.detached.Load()
	if row == nil || State(e.row.State).Done() {
		return false
	}
	e.setRow(row)
	e.over(nil, ins)
	return true
}
