package durable_test

import (
	"context"
	"reflect"
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

// What a definition says of its types is what serving is made from.
func TestInfoSaysTheTypes(t *testing.T) {
	t.Parallel()
	number, text := reflect.TypeFor[int](), reflect.TypeFor[string]()
	signal := durable.NewSignal[int]("signal").Describe("A", "b")
	for _, c := range []struct {
		def durable.Definition
		in  reflect.Type
		out reflect.Type
	}{
		{signal, number, nil},
		{durable.NewQuery[int, string]("query").Describe("A", "b"), number, text},
		{durable.NewUpdate[int, string]("update").Describe("A", "b"), number, text},
		{durable.NewQuestion[int]("question").Describe("A", "b"), number, nil},
		{durable.NewStatus[string]("status").Describe("A", "b"), nil, text},
		{durable.NewStream[string]("stream").Describe("A", "b"), nil, text},
		{durable.NewStep("step", func(context.Context, int) (string, error) { return "", nil }, &durable.StepOptions{Title: "A", Description: "b"}), number, text},
		{durable.NewWorkflow("workflow", func(context.Context, int) (string, error) { return "", nil },
			&durable.WorkflowOptions{Title: "A", Description: "b", Accepts: []durable.Accepted{signal}}), number, text},
	} {
		i := c.def.Info()
		if i.In != c.in || i.Out != c.out || i.Title != "A" || i.Description != "b" || string(i.Kind) != i.Name {
			t.Errorf("%s: %+v", i.Name, i)
		}
		if i.Kind == durable.KindWorkflow && (len(i.Accepts) != 1 || i.Accepts[0].Name != "signal") {
			t.Errorf("%s accepts %+v", i.Name, i.Accepts)
		}
	}
}
