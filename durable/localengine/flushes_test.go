package localengine_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/localengine"
	"github.com/mcpagent/mcpagent/internal/powercut"
)

// counted is an engine on a disk that counts what SQLite makes durable: each
// fsync of the log that it asks the file system for.
type counted struct {
	e       *durable.Engine
	flushes atomic.Int64 // fsyncs of the log
	groups  atomic.Int64 // commits
	flush   atomic.Pointer[func()]
}

// count opens an engine. What flush holds, if anything, is called in each
// fsync of the log.
func count(t *testing.T, o durable.Options, defs ...durable.Definer) *counted {
	t.Helper()
	c := &counted{}
	dir := t.TempDir()
	disk, err := powercut.Watch(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(disk.Close)
	disk.Hook(func(op powercut.Op) powercut.Verdict {
		if op.Kind == "sync" && op.File == "wal" {
			c.flushes.Add(1)
			if f := c.flush.Load(); f != nil {
				(*f)()
			}
		}
		return powercut.Go
	})
	lo := &localengine.Options{Engine: o}
	lo.SetHook(func(int) error { c.groups.Add(1); return nil })
	if c.e, err = localengine.Open(t.Context(), filepath.Join(dir, "a.db"), lo, defs...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.e.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Each group of commits is one flush, no more and no less; and no step begins
// before the result of the one before it was flushed.
func TestOneFlushForEachGroup(t *testing.T) {
	t.Parallel()
	const runs, steps = 64, 10 // few enough for no checkpoint, which flushes the log too
	var c *counted
	last := make([]int64, runs)
	step := durable.NewStep("step", func(_ context.Context, i int) (int, error) {
		now := c.flushes.Load()
		if now <= last[i] {
			t.Errorf("run %d: a step began after flush %d, as the one before it did", i, now)
		}
		last[i] = now
		return i, nil
	}, nil)
	wf := durable.NewWorkflow("steps", func(ctx context.Context, i int) (int, error) {
		for range steps {
			if _, err := step.Do(ctx, i); err != nil {
				return 0, err
			}
		}
		return i, nil
	}, nil)
	c = count(t, durable.Options{}, wf, step)
	// The first flush of a log has a second one for its header.
	warm, err := wf.Start(t.Context(), c.e, 0, nil)
	if err == nil {
		_, err = wf.Result(t.Context(), warm)
	}
	if err != nil {
		t.Fatal(err)
	}
	clear(last)
	flushes, groups := c.flushes.Load(), c.groups.Load()
	var wg sync.WaitGroup
	for i := range runs {
		wg.Go(func() {
			r, err := wf.Start(t.Context(), c.e, i, &durable.StartOptions{ID: fmt.Sprint(i)})
			if err == nil {
				_, err = wf.Result(t.Context(), r)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	flushes, groups = c.flushes.Load()-flushes, c.groups.Load()-groups
	t.Logf("%d commits in %d groups with %d flushes", runs*(steps+2), groups, flushes)
	if flushes != groups {
		t.Errorf("%d flushes for %d groups, want one for each", flushes, groups)
	}
}

// A signal to a waiting run is acknowledged, and what follows from it begun,
// after two flushes at most, also where the run was put away.
func TestFlushesOfASignal(t *testing.T) {
	t.Parallel()
	for _, awake := range []int{0, -1} {
		t.Run(fmt.Sprint("MaxAwake ", awake), func(t *testing.T) {
			t.Parallel()
			var c *counted
			at := make(chan int64, 1)
			sent := durable.NewSignal[string]("sent")
			step := durable.NewStep("step", func(context.Context, string) (string, error) { at <- c.flushes.Load(); return "", nil }, nil)
			wf := durable.NewWorkflow("waits", func(ctx context.Context, _ string) (string, error) {
				for {
					s, err := sent.Receive(ctx)
					if err != nil || s == "end" {
						return s, err
					}
					if _, err := step.Do(ctx, s); err != nil {
						return "", err
					}
				}
			}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sent}})
			c = count(t, durable.Options{MaxAwake: awake}, wf, step, sent)
			r, err := wf.Start(t.Context(), c.e, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 10 {
				waitFor(t, "the run to wait", func() bool {
					d, err := r.Describe(t.Context())
					return err == nil && len(d.Waiting) == 1 && d.Waiting[0].Kind == "signal"
				})
				before := c.flushes.Load()
				if err := sent.Send(t.Context(), r, "on", nil); err != nil {
					t.Fatal(err)
				}
				if n := <-at - before; n < 1 || n > 2 {
					t.Errorf("signal %d: %d flushes until the step that follows, want 1 or 2", i, n)
				}
			}
		})
	}
}

// Results that come while a flush is under way share the next one, however
// many they are.
func TestFlushesOfAThousandResults(t *testing.T) {
	t.Parallel()
	const n = 1000
	var began, left sync.WaitGroup
	began.Add(n)
	left.Add(n)
	gate := make(chan struct{})
	step := durable.NewStep("step", func(_ context.Context, i int) (int, error) {
		began.Done()
		<-gate
		left.Done()
		return i, nil
	}, nil)
	wf := durable.NewWorkflow("gather", func(ctx context.Context, n int) (int, error) {
		got, err := durable.Map(ctx, make([]int, n), step.Do, nil)
		return len(got), err
	}, nil)
	// A thousand results in one turn take their time under the race detector.
	c := count(t, durable.Options{Watchdog: time.Minute}, wf, step)
	r, err := wf.Start(t.Context(), c.e, n, nil)
	if err != nil {
		t.Fatal(err)
	}
	began.Wait()
	waitFor(t, "the run to wait", func() bool {
		d, err := r.Describe(t.Context())
		return err == nil && len(d.Waiting) == n
	})
	// A flush takes until all steps have returned.
	all := left.Wait
	c.flush.Store(&all)
	before := c.flushes.Load()
	close(gate)
	if got, err := wf.Result(t.Context(), r); err != nil || got != n {
		t.Fatalf("%d results, %v", got, err)
	}
	flushes := c.flushes.Load() - before
	t.Logf("%d flushes", flushes)
	if flushes < 2 || flushes > 20 {
		t.Errorf("%d flushes for %d results, want 20 at most", flushes, n)
	}
}

// flushEyes adds up what an observer is told about flushes.
type flushEyes struct {
	mu      sync.Mutex
	flushes int64
	ops     int
	bad     []durable.Observation
}

func (f *flushEyes) Observe(o durable.Observation) {
	if o.Kind != "flush" {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flushes++
	f.ops += o.Count
	if o.Count < 1 || o.Took <= 0 || o.At.Sub(o.Since) != o.Took || o.RunID != "" {
		f.bad = append(f.bad, o)
	}
}

// The observer hears of each group of commits, and how many share it.
func TestObserverSeesFlushes(t *testing.T) {
	t.Parallel()
	eyes := &flushEyes{}
	step := durable.NewStep("step", func(_ context.Context, i int) (int, error) { return i, nil }, nil)
	wf := durable.NewWorkflow("wf", func(ctx context.Context, i int) (int, error) { return step.Do(ctx, i) }, nil)
	c := count(t, durable.Options{Observer: eyes}, wf, step)
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			r, err := wf.Start(t.Context(), c.e, i, nil)
			if err == nil {
				_, err = wf.Result(t.Context(), r)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := c.e.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	eyes.mu.Lock()
	defer eyes.mu.Unlock()
	// A start, the first turn and the last turn are an operation each.
	if groups := c.groups.Load(); eyes.flushes != groups || eyes.ops < 3*32 || len(eyes.bad) > 0 {
		t.Errorf("saw %d flushes with %d operations, of %d groups; odd: %+v", eyes.flushes, eyes.ops, groups, eyes.bad)
	}
}
