// Package concurrency waits and forks without the run.
package concurrency

import (
	"context"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mcpagent/mcpagent/durable"
)

var wf = durable.NewWorkflow("concurrent", func(ctx context.Context, n int) (int, error) {
	ch := make(chan int, 1)
	go func() { // want `a go statement in workflow code leaves the run: use durable.NewGroup or durable.Map`
		ch <- 1
	}()
	ch <- 1        // want `a channel send in workflow code stops the whole run: use a variable with durable.Await, or a durable.Signal`
	<-ch           // want `a channel receive`
	_ = <-ch       // want `a channel receive`
	for range ch { // want `a channel receive`
		break
	}
	select { // want `select in workflow code stops the whole run: use durable.Select, Signal.Receive, Future.Get or durable.Await`
	case <-ch:
		time.Sleep(1) // want `time.Sleep`
	default:
	}
	<-ctx.Done() // want `<-ctx.Done\(\) in workflow code stops the whole run: durable calls return when ctx ends; to wait for that alone, use durable.Await with ctx.Err\(\) != nil`
	var wg sync.WaitGroup
	wg.Go(func() {}) // want `sync.WaitGroup.Go`
	wg.Add(1)
	wg.Wait()                          // want `sync.WaitGroup.Wait`
	sync.NewCond(&sync.Mutex{}).Wait() // want `sync.Cond.Wait`
	close(ch)
	return n, nil
}, nil)

var contexts = durable.NewWorkflow("contexts", func(ctx context.Context, n int) (int, error) {
	_, c1 := context.WithTimeout(ctx, 1)            // want `context.WithTimeout in workflow code is not the run's: use durable.WithTimeout or durable.WithCancel`
	_, c2 := context.WithCancel(ctx)                // want `context.WithCancel`
	_, c3 := context.WithDeadline(ctx, time.Time{}) // want `context.WithDeadline`
	context.AfterFunc(ctx, func() {})               // want `context.AfterFunc`
	_, c4 := signal.NotifyContext(ctx)              // want `signal.NotifyContext`
	_ = context.WithValue(ctx, "key", "value")      // a value passes
	_ = context.WithoutCancel(ctx)
	c1()
	c2()
	c3()
	c4()
	g, _ := errgroup.WithContext(ctx) // want `errgroup.WithContext`
	g.Go(nil)                         // want `errgroup.Group.Go`
	return n, g.Wait()                // want `errgroup.Group.Wait`
}, nil)

var right = durable.NewWorkflow("right", func(ctx context.Context, n int) (int, error) {
	g, ctx := durable.NewGroup(ctx, nil)
	g.Go(func(ctx context.Context) error {
		_ = time.Now() // want `workflow right → member of a group → time.Now`
		return durable.Sleep(ctx, 1)
	})
	_, _ = durable.Select(ctx, durable.Elapsed(time.Second))
	return n, g.Wait()
}, nil)

// outside is not reached from a workflow, but the members of its group are
// coroutines of a run.
func outside(ctx context.Context) error {
	_ = time.Now()
	g, _ := durable.NewGroup(ctx, nil)
	g.Go(member)
	g.Go(func(ctx context.Context) error {
		_ = time.Now() // want `\(member of a group in outside → time.Now\)`
		return nil
	})
	return g.Wait()
}

func member(ctx context.Context) error {
	_ = time.Now() // want `\(member of a group in outside → member → time.Now\)`
	return nil
}
