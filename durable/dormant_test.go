package durable_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

// Of two steps that an engine cut off, the one was sent again and the other's
// unknown outcome ended the run in the same breath: Close waited for the first
// for ever.
func TestAStepWhoseRunEndsWhileItIsSentIsNotWaitedFor(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		wait := func(ctx context.Context, _ none) (none, error) { return none{}, ended(ctx) }
		a := durable.NewStep("a", wait, nil)
		b := durable.NewStep("b", wait, &durable.StepOptions{AtMostOnce: true})
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (none, error) {
			a.Start(ctx, none{})
			return b.Do(ctx, none{})
		}, nil)
		e := op.open(wf, a, b)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		time.Sleep(time.Minute)
		op.close(e)
		e = op.open(wf, a, b)
		if _, err := wf.Result(t.Context(), e.Run(r.WorkflowID, "")); !errors.Is(err, durable.ErrOutcomeUnknown) {
			t.Errorf("result: %v", err)
		}
		time.Sleep(time.Minute)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := e.Close(ctx); err != nil {
			t.Error(err)
		}
	})
}
