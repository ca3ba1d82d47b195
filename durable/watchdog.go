package durable

import (
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// watchdog reports runs whose code does not come back.
func (ex *executor) watchdog() {
	limit := ex.opts.watchdog()
	tick := time.NewTimer(time.Hour)
	defer tick.Stop()
	reported := map[*entry]int64{}
	watching := false // as in ex
	for {
		if watching {
			tick.Reset(max(limit/4, 10*time.Millisecond))
		}
		select {
		case <-ex.life.Done():
			return
		case <-ex.rouse:
			watching = true
			continue
		case <-tick.C:
		}
		var stuck []*entry
		now := time.Now().UnixMicro()
		ex.mu.Lock()
		watching = ex.busy.first != nil
		ex.watching = watching
		for e := ex.busy.first; e != nil; e = e.link.next {
			if t := e.turning.Load(); t != 0 && now-t > limit.Microseconds() && reported[e] != t {
				reported[e] = t
				stuck = append(stuck, e)
			}
		}
		for e, t := range reported {
			if e.turning.Load() != t {
				delete(reported, e)
			}
		}
		ex.mu.Unlock()
		for _, e := range stuck {
			ex.deadlocked(e, reported[e], limit)
		}
	}
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
	if err := ex.st.Commit(ex.commits, &journal.Tx{Writes: []journal.Write{{Run: &row}}}); err == nil {
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
		err = ex.st.Commit(ex.commits, tx)
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
