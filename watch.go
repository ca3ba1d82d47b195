package mcpagent

import (
	"context"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
)

// watchers are those who follow runs of this process.
type watchers struct {
	mu sync.Mutex
	by map[string]map[*watcher]bool // workflow id
}

// watcher holds what a model said until somebody takes it.
type watcher struct {
	mu    sync.Mutex
	said  []*agent.Event
	ready chan struct{} // has a value when there is something
}

// of is how those who follow a run are told what is said in it; nil if nobody
// does.
func (w *watchers) of(id, _ string) func(*agent.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.by[id]) == 0 {
		return nil
	}
	return func(ev *agent.Event) { w.tell(id, ev) }
}

// tell hands a delta to those who follow the run. It never waits for them.
func (w *watchers) tell(id string, ev *agent.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for to := range w.by[id] {
		to.mu.Lock()
		to.said = append(to.said, ev)
		to.mu.Unlock()
		select {
		case to.ready <- struct{}{}:
		default:
		}
	}
}

// add begins to follow the run that will have an id: what it says first would be
// missed once it has begun.
func (w *watchers) add(id string) (*watcher, func()) {
	to := &watcher{ready: make(chan struct{}, 1)}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.by == nil {
		w.by = map[string]map[*watcher]bool{}
	}
	if w.by[id] == nil {
		w.by[id] = map[*watcher]bool{}
	}
	w.by[id][to] = true
	return to, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if delete(w.by[id], to); len(w.by[id]) == 0 {
			delete(w.by, id)
		}
	}
}

func (to *watcher) take() []*agent.Event {
	to.mu.Lock()
	defer to.mu.Unlock()
	out := to.said
	to.said = nil
	return out
}

// turnOf is what deltas belong to.
type turnOf struct {
	agent, talk string
	turn        int
}

// follow gives the events of a run until it ends: the recorded ones in their
// order, and what is said in a turn between the turn's beginning and its answer.
func (to *watcher) follow(ctx context.Context, run *durable.Run) iter.Seq2[*agent.Event, error] {
	return func(yield func(*agent.Event, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		type recorded struct {
			ev  *agent.Event
			err error
		}
		marks := make(chan recorded)
		var reading sync.WaitGroup
		defer func() { cancel(); reading.Wait() }()
		reading.Go(func() {
			defer close(marks)
			for e, err := range agent.Events.Read(ctx, run, 0) {
				select {
				case marks <- recorded{e.Value, err}:
				case <-ctx.Done():
					return
				}
				if err != nil {
					return
				}
			}
		})
		open := map[turnOf]bool{}
		var early []*agent.Event // of turns whose beginning is still to come
		pass := func(evs []*agent.Event) bool {
			for _, ev := range evs {
				at := turnOf{ev.Agent, ev.Talk, ev.Turn}
				is, known := open[at]
				switch {
				case !known:
					early = append(early, ev)
				case is && !yield(ev, nil):
					return false
				}
			}
			return true
		}
		for {
			select {
			case m, ok := <-marks:
				if !ok {
					pass(to.take()) // what a turn without an answer took back
					return
				}
				if m.err != nil {
					if ctx.Err() == nil {
						yield(nil, m.err)
					}
					return
				}
				at := turnOf{m.ev.Agent, m.ev.Talk, m.ev.Turn}
				switch m.ev.Kind {
				case agent.EventAnswer:
					if !pass(to.take()) {
						return
					}
					open[at] = false
				case agent.EventTurn:
					open[at] = true
				}
				if !yield(m.ev, nil) {
					return
				}
				if m.ev.Kind == agent.EventTurn {
					waiting := early
					early = nil
					if !pass(waiting) {
						return
					}
				}
			case <-to.ready:
				if !pass(to.take()) {
					return
				}
			}
		}
	}
}

// remindAfter is how long a run waits for a person before that is logged.
const remindAfter = 2 * time.Second

// remind logs what a run waits for, where that is a person, a problem, or
// something that failed and is tried again.
func (a *App) remind(ctx context.Context, run *durable.Run) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(remindAfter)
		defer tick.Stop()
		told := map[string]bool{}
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			d, err := run.Describe(ctx)
			if err != nil {
				continue // the wait for the result says it better
			}
			for _, q := range d.Questions {
				if !told[q.ID] {
					told[q.ID] = true
					a.log.Warn("a run waits for a person", "run", run.WorkflowID, "question", q.Text, "id", q.ID, "kind", q.Kind)
				}
			}
			for _, w := range d.Waiting {
				if !a.client && strings.HasPrefix(w.Name, "llm.") {
					continue // who calls models says so at once
				}
				if f := w.Failure; f != nil && !told[w.Call+" "+f.Message] {
					told[w.Call+" "+f.Message] = true
					attrs := []any{"run", run.WorkflowID, "step", w.Name, "attempt", w.Attempt, "error", f.Message}
					if !w.Due.IsZero() {
						attrs = append(attrs, "due", w.Due)
					}
					a.log.Warn("a run tries again", attrs...)
				}
			}
			if p := d.Problem; p != nil && !told["problem "+p.Text] {
				told["problem "+p.Text] = true
				a.log.Warn("a run can't go on", "run", run.WorkflowID, "problem", p.Kind, "text", p.Text)
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}
