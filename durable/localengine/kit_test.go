package localengine_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/durabletest"
	"github.com/mcpagent/mcpagent/durable/localengine"
)

// kitEngine is the engine on a file, in virtual time.
func kitEngine() durabletest.Engine {
	var mu sync.Mutex
	alive := map[string]*atomic.Bool{} // by place
	modes := []string{"awake", "batched", "paranoid"}
	if raceDetector {
		modes = modes[2:] // the others are played without it
	}
	return durabletest.Engine{
		Name:  "local",
		Modes: modes,
		Open: func(ctx context.Context, place string, o *durable.Options, defs ...durable.Definer) (*durable.Engine, error) {
			lives := &atomic.Bool{}
			lives.Store(true)
			mu.Lock()
			alive[place] = lives
			mu.Unlock()
			lo := &localengine.Options{Engine: *o}
			lo.SetQuiet(24 * time.Hour)
			lo.SetHook(func(int) error {
				if !lives.Load() {
					return errors.New("the process is dead")
				}
				return nil
			})
			return localengine.Open(ctx, filepath.Join(place, "kit.db"), lo, defs...)
		},
		Kill: func(place string) {
			mu.Lock()
			defer mu.Unlock()
			alive[place].Store(false)
		},
	}
}

// clientEngine is the engine on a file that another process executes, seen by
// a client of that file, in real time.
func clientEngine() durabletest.Engine {
	open := func(client bool) func(ctx context.Context, place string, o *durable.Options, defs ...durable.Definer) (*durable.Engine, error) {
		return func(ctx context.Context, place string, o *durable.Options, defs ...durable.Definer) (*durable.Engine, error) {
			return localengine.Open(ctx, filepath.Join(place, "kit.db"), &localengine.Options{Engine: *o, Client: client}, defs...)
		}
	}
	return durabletest.Engine{Name: "local-client", Open: open(false), Client: open(true), Hour: 200 * time.Millisecond, Modes: []string{"awake"}}
}

// TestContract plays the contract of engines on a file.
func TestContract(t *testing.T) {
	t.Parallel()
	durabletest.TestEngine(t, kitEngine())
}
