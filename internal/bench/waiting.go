package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/localengine"
)

// waiter has the workflows that wait: for a signal, for a person, for a time.
type waiter struct {
	news     *durable.Signal[string]
	approve  *durable.Question[string]
	state    *durable.Query[string, int]
	wf       *durable.Workflow[string, string]
	echo     *durable.Step[string, string]
	stay     *durable.Step[string, string] // until the engine is closed
	awoken   atomic.Int64                  // replays
	replayed atomic.Int64                  // nanoseconds of the last one
}

// What a run waits for.
const (
	forSignal   = "a signal"
	forQuestion = "a person"
	forTime     = "a time"
	forStep     = "a step"
)

func newWaiter() *waiter {
	w := &waiter{
		news:    durable.NewSignal[string]("news"),
		approve: durable.NewQuestion[string]("approve"),
		state:   durable.NewQuery[string, int]("state"),
	}
	w.echo = durable.NewStep("echo", func(_ context.Context, s string) (string, error) { return s, nil }, nil)
	w.stay = durable.NewStep("stay", func(ctx context.Context, s string) (string, error) { <-ctx.Done(); return "", context.Cause(ctx) }, nil)
	w.wf = durable.NewWorkflow("waiter", func(ctx context.Context, in string) (string, error) {
		n := 0
		if err := w.state.Handle(ctx, func(string) (int, error) { return n, nil }); err != nil {
			return "", err
		}
		for range 3 {
			if _, err := w.echo.Do(ctx, in); err != nil {
				return "", err
			}
			n++
		}
		switch in {
		case forSignal:
			return w.news.Receive(ctx)
		case forQuestion:
			a, err := w.approve.Ask(ctx, "Shall it be?", &durable.AskOptions{Expires: 1000 * time.Hour})
			return a.Value, err
		case forStep:
			return w.stay.Do(ctx, in)
		}
		return "", durable.Sleep(ctx, 1000*time.Hour)
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{w.news, w.approve, w.state}})
	return w
}

// Observe implements [durable.Observer].
func (w *waiter) Observe(o durable.Observation) {
	if o.Kind == "woken" {
		w.awoken.Add(1)
		w.replayed.Store(int64(o.Took))
	}
}

func (w *waiter) open(b *bench, path string) (*durable.Engine, error) {
	return localengine.Open(b.ctx, path, &localengine.Options{Engine: durable.Options{Observer: w, MaxSteps: 20_000}}, w.wf, w.echo, w.stay, w.news, w.approve, w.state)
}

// settle starts runs and returns when all of them wait.
func (w *waiter) settle(b *bench, e *durable.Engine, what string, n int) ([]*durable.Run, error) {
	runs := make([]*durable.Run, n)
	next := atomic.Int64{}
	err := each(256, func(int) (err error) {
		for {
			i := int(next.Add(1)) - 1
			if i >= n {
				return nil
			}
			if runs[i], err = w.wf.Start(b.ctx, e, what, nil); err != nil {
				return err
			}
		}
	})
	if err != nil {
		return nil, err
	}
	for _, r := range runs {
		for {
			d, err := r.Describe(b.ctx)
			if err != nil {
				return nil, err
			}
			if len(d.Waiting) == 1 && (d.Waiting[0].Kind != "step" || d.Waiting[0].Name == "stay") {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
	return runs, nil
}

// inUse is the memory in use: the heap after its garbage is gone, and stacks.
func inUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// waiting measures what waiting runs cost in memory, and a query of one that
// was put away.
func waiting(b *bench) error {
	for _, what := range []string{forSignal, forQuestion, forTime} {
		if err := b.waiting(what, what == forSignal); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) waiting(what string, ask bool) (err error) {
	n := b.size(100_000)
	w := newWaiter()
	path := b.file("waiting.db")
	e, err := w.open(b, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close(context.Background())) }()
	// What an engine with no runs to speak of has already.
	if _, err := w.settle(b, e, what, 2000); err != nil {
		return err
	}
	before := inUse()
	runs, err := w.settle(b, e, what, n)
	if err != nil {
		return err
	}
	refs := make([]durable.Ref, 100)
	for i := range refs {
		r := runs[rand.IntN(len(runs))]
		refs[i] = durable.Ref{WorkflowID: r.WorkflowID, RunID: r.RunID}
	}
	runs = nil
	each := float64(inUse()-before) / float64(n)
	b.add(row{what: fmt.Sprintf("%d runs that wait for %s: memory of each", n, what), ours: fmt.Sprintf("%.0f B", each), limit: "1 KB", ratio: each / 1024, target: 1})
	if !ask {
		return nil
	}
	var over, took times
	for _, r := range refs {
		woken := w.awoken.Load()
		t := time.Now()
		if _, err := e.Run(r.WorkflowID, r.RunID).Query(b.ctx, "state", []byte(`""`)); err != nil {
			return err
		}
		d := time.Since(t)
		if w.awoken.Load() == woken {
			continue // it was still awake
		}
		took = append(took, d)
		over = append(over, d-time.Duration(w.replayed.Load()))
	}
	b.add(row{what: "a query of one that was put away: beyond its replay", ours: fmt.Sprintf("%s, p99 %s, of %s in all", short(over.median()), short(quantile(over, 0.99)), short(took.median())),
		limit: "1 ms", ratio: float64(over.median()) / float64(time.Millisecond), target: 1})
	return nil
}
