package toolset_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/durabletest"
	"github.com/mcpagent/mcpagent/internal/toolset"
)

// deadly is a step with what it does, and a call of it.
type deadly func(do func(context.Context) error) (step durable.Definer, call func(context.Context) error)

func made[In, Out any](s *durable.Step[In, Out]) deadly {
	return func(do func(context.Context) error) (durable.Definer, func(context.Context) error) {
		step := s.Bind(func(ctx context.Context, _ In) (out Out, err error) { return out, do(ctx) })
		return step, func(ctx context.Context) error {
			var in In
			_, err := s.Do(ctx, in)
			return err
		}
	}
}

// A step that may be repeated had three attempts: a run whose process had died
// three times in one of them failed, though nothing was wrong, also when a
// person resumed it from the problem that this is.
func TestDeathsAreNoFailures(t *testing.T) {
	for name, step := range map[string]deadly{
		"list tools": made(toolset.List), "call a tool": made(toolset.Call),
		"list resources": made(toolset.ListResources), "read a resource": made(toolset.ReadResource),
		"list prompts": made(toolset.ListPrompts), "get a prompt": made(toolset.GetPrompt),
	} {
		for limit, max := range map[string]int{"three at most": 0, "any number": -1} {
			t.Run(name+", "+limit, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { dieThrice(t, step, max) }) })
		}
	}
}

// dieThrice lets the process die in the first three attempts of a step.
func dieThrice(t *testing.T, define deadly, maxDeaths int) {
	const deaths = 3
	attempts, store := 0, durabletest.NewSurvivor()
	began := make(chan struct{})
	step, call := define(func(ctx context.Context) error {
		if attempts++; attempts > deaths {
			return nil
		}
		began <- struct{}{}
		<-ctx.Done()
		return ctx.Err() // of a process that is dead
	})
	wf := durable.NewWorkflow("run", func(ctx context.Context, _ struct{}) (struct{}, error) { return struct{}{}, call(ctx) }, nil)
	live := func(killed func(string) bool) *durable.Engine {
		e, err := store.Open(t.Context(), &durable.Options{Logger: slog.New(slog.DiscardHandler), MaxDeaths: maxDeaths}, killed, wf, step)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	for range deaths {
		var killed atomic.Bool
		e := live(func(string) bool { return killed.Load() })
		if _, err := wf.Start(t.Context(), e, struct{}{}, &durable.StartOptions{ID: "r"}); err != nil {
			t.Fatal(err)
		}
		<-began
		killed.Store(true)
		_ = e.Close(context.Background()) // its process is dead
	}
	e := live(nil)
	defer e.Close(context.Background())
	run := e.Run("r", "")
	if maxDeaths == 0 {
		_, err := wf.Result(t.Context(), run)
		var blocked *durable.BlockedError
		if !errors.As(err, &blocked) || blocked.Problem.Kind != "poison" {
			t.Fatalf("after %d deaths: %v", deaths, err)
		}
		if err := run.Resume(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := wf.Result(t.Context(), run); err != nil || attempts != deaths+1 {
		t.Errorf("%d attempts: %v", attempts, err)
	}
}
