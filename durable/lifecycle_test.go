package durable_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

func TestAChainOfManyRunsIsReachedByItsFirstHandle(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		sig := durable.NewSignal[string]("s")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, n int) (string, error) {
			if n > 0 {
				return "", durable.ContinueAsNew(n - 1)
			}
			return sig.Receive(ctx)
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, 1200, nil))
		synctest.Wait()
		if err := sig.Send(t.Context(), r, "hi", nil); err != nil {
			t.Fatal(err)
		}
		if got := must[string](t)(wf.Result(t.Context(), r)); got != "hi" {
			t.Errorf("got %q", got)
		}
	})
}

func TestAPanicIsTriedAgainWithoutAnybody(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		sig := durable.NewSignal[int]("s")
		var broken atomic.Bool
		broken.Store(true)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (int, error) {
			sum := 0
			for range 3 {
				n, err := sig.Receive(ctx)
				if err != nil {
					return 0, err
				}
				if broken.Load() {
					panic("bad day")
				}
				sum += n
			}
			return sum, nil
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, none{}, nil))
		for i := range 3 { // kept while it is blocked
			if err := sig.Send(t.Context(), r, i+1, &durable.SendOptions{ID: fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
		}
		d := must[*durable.Description](t)(r.Describe(t.Context()))
		if d.Problem == nil || d.Problem.Kind != "panic" || d.Problem.Tries < 2 {
			t.Errorf("problem: %+v", d.Problem)
		}
		broken.Store(false)
		time.Sleep(time.Hour)
		if got, err := wf.Result(t.Context(), r); err != nil || got != 6 {
			t.Errorf("got %d, %v", got, err)
		}
	})
}

func TestContinueAsNewCarriesUpdatesIDsAndCancel(t *testing.T) {
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		sig := durable.NewSignal[int]("s")
		u := durable.NewUpdate[int, int]("u")
		status := durable.NewStatus[int]("round")
		var sum atomic.Int64
		wf := durable.NewWorkflow("wf", func(ctx context.Context, n int) (int, error) {
			status.Set(ctx, n)
			_ = u.Handle(ctx, func(ctx context.Context, k int) (int, error) {
				// The end of the run waits for it.
				return n, durable.Sleep(ctx, time.Minute)
			}, nil)
			k, err := sig.Receive(ctx)
			if err != nil {
				return n, err
			}
			sum.Add(int64(k))
			return 0, durable.ContinueAsNew(n + 1)
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig, u, status}})
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, 0, &durable.StartOptions{ID: "c", Timeout: 1000 * time.Hour, Tags: map[string]string{"x": "y"}}))
		answer := make(chan string, 1)
		go func() {
			n, err := u.Send(t.Context(), r, 1, nil)
			answer <- fmt.Sprint(n, err)
		}()
		synctest.Wait()
		for i := range 5 {
			for range 2 {
				if err := sig.Send(t.Context(), r, 1, &durable.SendOptions{ID: fmt.Sprint("id", i)}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := <-answer; got != "0 <nil>" {
			t.Errorf("the update of the first run: %s", got)
		}
		synctest.Wait()
		if got, ok, err := status.Of(t.Context(), e.Run("c", "")); got != 5 || !ok || err != nil {
			t.Errorf("round %d, %v, %v; want 5", got, ok, err)
		}
		for i := range 5 { // ids of earlier runs of the chain are still known
			if err := sig.Send(t.Context(), r, 1, &durable.SendOptions{ID: fmt.Sprint("id", i)}); err != nil {
				t.Fatal(err)
			}
		}
		if got := must[int](t)(u.Send(t.Context(), r, 1, nil)); got != 5 {
			t.Errorf("update by the handle of the first run was answered by round %d", got)
		}
		d := must[*durable.Description](t)(e.Run("c", "").Describe(t.Context()))
		if d.Tags["x"] != "y" || d.Deadline.IsZero() || d.Chain != r.RunID {
			t.Errorf("newest run: %+v", d)
		}
		if err := r.Cancel(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		if _, err := wf.Result(t.Context(), r); !errors.Is(err, context.Canceled) {
			t.Errorf("result: %v", err)
		}
	})
}

func TestAWorkflowIDIsPlainText(t *testing.T) {
	scenario(t, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		wf := durable.NewWorkflow("wf", func(context.Context, int) (int, error) { return 1, nil }, nil)
		e := open(wf)
		for _, id := range []string{"a\x00b", "a\nb", "\xff", strings.Repeat("x", 501)} {
			if _, err := wf.Start(t.Context(), e, 1, &durable.StartOptions{ID: id}); !errors.Is(err, durable.ErrBadInput) {
				t.Errorf("start with id %q: %v, want ErrBadInput", id, err)
			}
		}
		if _, err := wf.Start(t.Context(), e, 1, &durable.StartOptions{ID: "é/\"quoted\" 注文"}); err != nil {
			t.Error(err)
		}
	})
}
