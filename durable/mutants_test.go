package durable_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

// What mutation showed that no test looked at; docs/mutation.md.

// The outcome of a step that came while the run was paused is stored: the next
// process does not send the step again.
func TestAStoredOutcomeIsNotSentAgain(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		var ran atomic.Int32
		step := durable.NewStep("step", func(context.Context, none) (int, error) {
			time.Sleep(time.Second)
			return int(ran.Add(1)), nil
		}, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) { return step.Do(ctx, none{}) }, nil)
		e := op.open(wf, step)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		synctest.Wait()
		if err := r.Pause(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		for range 2 {
			op.close(e)
			e = op.open(wf, step)
			time.Sleep(time.Minute)
		}
		r = e.Run(r.WorkflowID, "")
		if err := r.Resume(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if got := must[int](t)(wf.Result(t.Context(), r)); got != 1 || ran.Load() != 1 {
			t.Errorf("result %d, the step ran %d times", got, ran.Load())
		}
	})
}
