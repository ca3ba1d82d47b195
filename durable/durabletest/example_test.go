package durabletest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/durabletest"
)

// The program: an order is paid when a person has approved it within five days.
var (
	approve = durable.NewQuestion[bool]("approve")
	payment = durable.NewStep[int, string]("pay", nil, nil) // bound in main, and below

	order = durable.NewWorkflow("order", func(ctx context.Context, amount int) (string, error) {
		yes, err := approve.Ask(ctx, "Pay?", &durable.AskOptions{Expires: 5 * 24 * time.Hour})
		switch {
		case errors.Is(err, durable.ErrExpired):
			return "expired", nil
		case err != nil || !yes.Value:
			return "rejected", err
		}
		return payment.Do(ctx, amount)
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{approve}})
)

// TestOrder plays the workflow twice: as it usually works, and replayed after
// every turn. The days take no time.
func TestOrder(t *testing.T) {
	t.Parallel()
	durabletest.Modes(t, func(t *testing.T, open durabletest.Open) {
		eng := open(order, payment.Bind(func(_ context.Context, amount int) (string, error) {
			if amount > 100 {
				return "", durable.Permanent(errors.New("too much"))
			}
			return "paid", nil
		}))
		for _, c := range []struct {
			amount int
			after  time.Duration // of the answer; 0: there is none
			want   string
		}{
			{7, 4 * 24 * time.Hour, "paid"},
			{7, 0, "expired"},
		} {
			run, err := order.Start(t.Context(), eng, c.amount, nil)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(c.after) // virtual
			synctest.Wait()     // until everything waits: the question is there
			if c.after > 0 {
				open, err := eng.Questions(t.Context(), nil)
				if err != nil || len(open) != 1 {
					t.Fatalf("questions %v, %v", open, err)
				}
				if err := approve.Answer(t.Context(), eng, open[0].ID, true, nil); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := order.Result(t.Context(), run); got != c.want || err != nil {
				t.Errorf("order of %d, answered after %v: %q, %v; want %q", c.amount, c.after, got, err, c.want)
			}
		}
	})
}

// A test of a workflow is an ordinary test: see TestOrder.
func ExampleModes() {}
