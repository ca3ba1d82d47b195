package durable_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/durabletest"
)

// Timers that are overdue when the engine is opened, or by the time that their
// turn is on disk, fire in due order, whatever the order of their calls.
func TestOverdueTimersFireInDueOrder(t *testing.T) {
	t.Parallel()
	const n = 200
	minutes := func(i int) int { return 1 + i*77%n }
	wf := durable.NewWorkflow("wf", func(ctx context.Context, _ struct{}) ([]int, error) {
		var order []int
		g, _ := durable.NewGroup(ctx, nil)
		for i := range n {
			g.Go(func(ctx context.Context) error {
				err := durable.Sleep(ctx, time.Duration(minutes(i))*time.Minute)
				order = append(order, minutes(i))
				return err
			})
		}
		return order, g.Wait()
	}, nil)
	want := make([]int, n)
	for i := range want {
		want[i] = i + 1
	}
	check := func(t *testing.T, e *durable.Engine) {
		t.Helper()
		got, err := wf.Result(t.Context(), e.Run("w", ""))
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("the timers fired as %v, %v", got, err)
		}
	}
	for _, m := range durabletest.All() {
		for _, what := range []string{"opened late", "committed late"} {
			t.Run(m.Name+"/"+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					st := durabletest.NewSurvivor()
					slow := what == "committed late"
					e, err := st.Open(t.Context(), &m.Options, func(point string) bool {
						if slow && point == "after commit turn" {
							slow = false
							time.Sleep(n * time.Minute) // a disk that takes its time
						}
						return false
					}, wf)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := wf.Start(t.Context(), e, struct{}{}, &durable.StartOptions{ID: "w"}); err != nil {
						t.Fatal(err)
					}
					if what == "opened late" {
						synctest.Wait()
						if err := e.Close(t.Context()); err != nil {
							t.Fatal(err)
						}
						time.Sleep(n * time.Minute)
						if e, err = st.Open(t.Context(), &m.Options, nil, wf); err != nil {
							t.Fatal(err)
						}
					}
					check(t, e)
					if err := e.Close(t.Context()); err != nil {
						t.Error(err)
					}
				})
			})
		}
	}
}
