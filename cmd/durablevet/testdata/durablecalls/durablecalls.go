// Package durablecalls makes durable calls where they are refused, or in an
// order that a replay does not repeat.
package durablecalls

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

var (
	step   = durable.NewStep("step", func(ctx context.Context, s string) (string, error) { return s + time.Now().String(), nil }, nil)
	status = durable.NewStatus[string]("status")
	update = durable.NewUpdate[int, int]("update")
	query  = durable.NewQuery[int, int]("query")
	signal = durable.NewSignal[int]("signal")
	quest  = durable.NewQuestion[int]("question")
)

// Pay makes a durable call.
func Pay(ctx context.Context, s string) error {
	_, err := step.Do(ctx, s) // want `Step.Do .*ErrReadOnly.*\(workflow readers → query handler → Pay → Step.Do\)`
	return err
}

// Careless is a workflow function of another package.
func Careless(ctx context.Context, n int) (int, error) {
	_ = time.Now()
	return n, nil
}

// Define hands its function on.
func Define(name string, fn func(context.Context, int) (int, error)) *durable.Workflow[int, int] {
	return durable.NewWorkflow(name, fn, nil)
}

// DefineStep hands its function on, to a step.
func DefineStep(name string, fn func(context.Context, int) (int, error)) *durable.Step[int, int] {
	return durable.NewStep(name, fn, nil)
}

var ordered = durable.NewWorkflow("ordered", func(ctx context.Context, m map[string]string) (string, error) {
	for _, v := range m { // want `Step.Do in a range over a map in workflow code: the calls have another order in a replay; range over slices.Sorted\(maps.Keys\(m\)\) \(workflow ordered → Step.Do in a range over a map\)`
		_, _ = step.Do(ctx, v)
	}
	for v := range maps.Values(m) { // want `Pay \(Step.Do\) in a range over maps.Values`
		_ = Pay(ctx, v)
	}
	g, _ := durable.NewGroup(ctx, nil)
	for _, v := range m { // want `Group.Go in a range over a map`
		g.Go(func(ctx context.Context) error { return Pay(ctx, v) })
	}
	to := func(s string) { status.Set(ctx, s) }
	for _, v := range m { // want `Status.Set in a range over a map`
		to(v)
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		_ = Pay(ctx, m[k])
	}
	n := 0
	for range m { // counting is the same in any order
		n++
	}
	return "", g.Wait()
}, nil)

var deferring = durable.NewWorkflow("deferring", func(ctx context.Context, n int) (int, error) {
	var mu durable.Mutex
	_ = mu.Lock(ctx)
	defer mu.Unlock()
	scope, cancel := durable.WithTimeout(ctx, time.Hour)
	defer cancel()
	defer status.Set(ctx, "done")
	defer Pay(scope, "x") // want `Pay \(Step.Do\) in a deferred function`
	defer func() {
		durable.Logger(ctx).Info("bye")
		_, _ = step.Do(ctx, "refund") // want `Step.Do in a deferred function in workflow code: a deferred function runs whenever the run is put away, and a durable call ends it there; call it before the function returns`
	}()
	return n, nil
}, nil)

type account struct {
	mu  sync.Mutex
	all sync.RWMutex
	n   int
}

var locking = durable.NewWorkflow("locking", func(ctx context.Context, a *account) (int, error) {
	a.mu.Lock() // want `a.mu.Lock held over Step.Do in workflow code: on line \d+ another coroutine may want it, which stops the whole run; use durable.Mutex`
	_, _ = step.Do(ctx, "x")
	a.mu.Unlock()

	a.mu.Lock()
	a.n++
	a.mu.Unlock()
	_, _ = step.Do(ctx, "x")
	a.held(ctx)
	a.free(ctx)
	return 0, nil
}, nil)

func (a *account) held(ctx context.Context) {
	a.all.RLock() // want `a.all.RLock held over Pay \(Step.Do\) .*\(workflow locking → account.held → a.all.RLock held`
	defer a.all.RUnlock()
	_ = Pay(ctx, "x")
}

func (a *account) free(ctx context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	status.Set(ctx, "x") // does not wait
}

var lost = durable.NewWorkflow("lost", func(ctx context.Context, n int) (int, error) {
	_, _ = step.Do(context.Background(), "x") // want `context.Background\(\) for Step.Do in workflow code: it is refused with ErrLostContext; pass the ctx of the workflow on, or durable.WithoutCancel\(ctx\)`
	_ = durable.Sleep(context.TODO(), 1)      // want `context.TODO\(\) for durable.Sleep`
	bg := context.Background()
	_ = Pay(bg, "x") // want `bg, which is context.Background\(\), for Pay \(Step.Do\)`
	_ = Pay(durable.WithoutCancel(ctx), "x")
	return n, nil
}, nil)

var readers = durable.NewWorkflow("readers", func(ctx context.Context, n int) (int, error) {
	_ = query.Handle(ctx, func(k int) (int, error) {
		_ = time.Now() // want `time.Now .*\(workflow readers → query handler → time.Now\)`
		_ = durable.Now(ctx)
		_ = Pay(ctx, "x")        // a reader reaches a durable call by another function
		_, _ = step.Do(ctx, "x") // want `Step.Do in workflow code: it is refused with ErrReadOnly: do it in the workflow \(workflow readers → query handler → Step.Do\)`
		return n, nil
	})
	_ = update.Handle(ctx, func(ctx context.Context, k int) (int, error) {
		_ = time.Now() // want `workflow readers → update handler → time.Now`
		return k, Pay(ctx, "x")
	}, func(k int) error {
		status.Set(ctx, "x") // want `Status.Set .*ErrReadOnly.*validator of an update`
		return nil
	})
	_ = durable.Await(ctx, func() bool {
		return time.Now().IsZero() // want `condition of an Await → time.Now`
	})
	_ = durable.AwaitTimeout(ctx, 1, func() bool {
		_, ok, _ := signal.TryReceive(ctx) // want `Signal.TryReceive .*ErrReadOnly`
		return ok
	})
	_, _ = durable.Map(ctx, []int{1}, func(ctx context.Context, i int) (int, error) {
		_ = time.Now() // want `function of durable.Map → time.Now`
		return i, nil
	}, nil)
	return n, nil
}, nil)

var operations = durable.NewWorkflow("operations", func(ctx context.Context, e *durable.Engine) (int, error) {
	r, err := readers.Start(ctx, e, 1, nil) // want `Workflow.Start in workflow code is refused with ErrInWorkflow`
	if err != nil {
		return 0, err
	}
	_ = quest.Answer(ctx, e, "id", 1, nil) // want `Question.Answer`
	_ = r.Cancel(ctx, "enough")
	return readers.Run(ctx, 1)
}, nil)

var collecting = durable.NewWorkflow("collecting", func(ctx context.Context, m map[string]string) (int, error) {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	for _, k := range keys { // want `Step.Do for each of keys, in the order of a map, in workflow code: the calls have another order in a replay; sort it first`
		_, _ = step.Do(ctx, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		_, _ = step.Do(ctx, k)
	}
	all := slices.Collect(maps.Keys(m))
	_, _ = durable.Map(ctx, all, step.Do, nil) // want `durable.Map of all, in the order of maps.Keys,`
	sorted := slices.Sorted(maps.Keys(m))
	_, _ = durable.Map(ctx, sorted, step.Do, nil)
	var shared sync.Map
	shared.Range(func(k, v any) bool { // want `Step.Do in sync.Map.Range in workflow code`
		_, _ = step.Do(ctx, "x")
		return true
	})
	return len(keys), nil
}, nil)
