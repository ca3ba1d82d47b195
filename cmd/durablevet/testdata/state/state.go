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
