package durabletest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// Memory is the engine in memory, for [TestEngine]. What it holds outlives the
// closing of an engine, as a file does.
func Memory() Engine {
	var mu sync.Mutex
	wires := map[string]*wire{}
	return Engine{
		Name: "memory",
		Open: func(ctx context.Context, place string, o *durable.Options, defs ...durable.Definer) (*durable.Engine, error) {
			d, err := durable.NewDefinitions(defs...)
			if err != nil {
				return nil, err
			}
			mu.Lock()
			w := &wire{Store: journal.NewMemory()}
			if was := wires[place]; was != nil {
				w.Store = was.Store
			}
			wires[place] = w
			mu.Unlock()
			b, err := durable.NewExecutor(ctx, w, d, o)
			if err != nil {
				return nil, err
			}
			return durable.NewEngine(b, d, o), nil
		},
		Kill: func(place string) {
			mu.Lock()
			defer mu.Unlock()
			wires[place].cut.Store(true)
		},
	}
}

// wire is a way to a store that can be cut.
type wire struct {
	journal.Store
	cut atomic.Bool
}

var errCut = errors.New("the process is dead")

// Commit implements [journal.Store].
func (w *wire) Commit(ctx context.Context, tx *journal.Tx) error {
	if w.cut.Load() {
		return errCut
	}
	return w.Store.Commit(ctx, tx)
}
