// Package state keeps things in package variables.
package state

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/mcpagent/mcpagent/durable"
)

var (
	errFixed = errors.New("fixed")
	table    = map[string]int{"a": 1}
	prepared map[string]int

	counter int
	cache   = map[string]int{}
	config  struct{ limit int }
	level   string
	hits    atomic.Int64
	raw     int64
	known   sync.Map
	child   *durable.Workflow[int, int]
)

func init() { prepared = map[string]int{"a": 1} }

// Configure changes what workflows read.
func Configure(s string) { level = s; child = nil }

var wf = durable.NewWorkflow("state", func(ctx context.Context, n int) (int, error) {
	counter++                // want `a write to the package variable counter in workflow code is shared by all runs and forgotten by a crash: keep it in a variable of the workflow, or publish it with a durable.Status`
	cache["x"] = n           // want `a write to the package variable cache`
	delete(cache, "x")       // want `a write to the package variable cache`
	config.limit = 3         // want `a write to the package variable config`
	_ = level                // want `the package variable level, which is written after the start,`
	hits.Add(1)              // want `the package variable hits`
	atomic.AddInt64(&raw, 1) // want `the package variable raw`
	known.Store(1, 1)        // want `the package variable known`
	local := map[string]int{}
	local["x"] = table["a"] + prepared["a"]
	if child != nil {
		return n, errFixed
	}
	return local["x"], nil
}, nil)

var query = durable.NewQuery[int, int]("query")

func define() *durable.Workflow[int, int] {
	runs := 0
	seen := map[int]bool{}
	return durable.NewWorkflow("captured", func(ctx context.Context, n int) (int, error) {
		runs++         // want `a write to runs, which is declared outside the workflow, in workflow code is shared by all runs and forgotten by a crash`
		seen[n] = true // want `a write to seen, which is declared outside the workflow,`
		asked, sum := 0, 0
		_ = query.Handle(ctx, func(k int) (int, error) {
			asked++ // want `a write to asked in workflow code: this function only reads: it runs at any time, and not again in a replay`
			twice := k
			twice *= 2
			return twice, nil
		})
		v, err := durable.SideEffect(ctx, func() int {
			sum = 3 // want `a write to sum in workflow code: it is not made again in a replay: return the value`
			return 3
		})
		g, _ := durable.NewGroup(ctx, nil)
		g.Go(func(context.Context) error {
			sum += v
			runs++ // want `a write to runs`
			return nil
		})
		n++
		return sum, err
	}, nil)
}
