package durable_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/durabletest"
)

// scenario runs fn in each mode of durabletest, in a bubble where time is
// virtual.
func scenario(t *testing.T, fn func(t *testing.T, open func(defs ...durable.Definer) *durable.Engine)) {
	t.Helper()
	durabletest.Modes(t, func(t *testing.T, open durabletest.Open) { fn(t, open) })
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

type decision struct {
	Approved bool `json:"approved"`
}

func TestDescribeSaysWhatARunWaitsFor(t *testing.T) {
	scenario(t, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		sig := durable.NewSignal[int]("resume")
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ struct{}) (int, error) {
			g, _ := durable.NewGroup(ctx, nil)
			g.Go(func(ctx context.Context) error { return durable.Sleep(ctx, time.Hour) })
			g.Go(func(ctx context.Context) error { return durable.Await(ctx, func() bool { return false }) })
			g.Go(func(ctx context.Context) error { _, err := sig.Receive(ctx); return err })
			return 0, g.Wait()
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
		e := open(wf)
		r := must[*durable.Run](t)(wf.Start(t.Context(), e, struct{}{}, nil))
		synctest.Wait()
		d := must[*durable.Description](t)(r.Describe(t.Context()))
		var got []string
		for _, w := range d.Waiting {
			got = append(got, w.Text)
		}
		want := `for sleep until 2000-01-01T01:00:00Z; for a condition of its own (Await); for the signal "resume"`
		if s := strings.Join(got, "; "); s != want {
			t.Errorf("waiting:\n got %s\nwant %s", s, want)
		}
	})
}
