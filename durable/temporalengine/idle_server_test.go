package temporalengine_test

import (
	"bytes"
	"context"
	"fmt"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/temporalengine"
)

// idleCode waits until it is told three things.
func idleCode(ctx context.Context, tell *durable.Signal[string], heard *durable.Query[string, string]) (said string, err error) {
	if err := heard.Handle(ctx, func(by string) (string, error) { return said + by, nil }); err != nil {
		return "", err
	}
	for range 3 {
		s, err := tell.Receive(ctx)
		if err != nil {
			return "", err
		}
		said += s
	}
	return said, nil
}

// TestIdleRunsHaveNoGoroutine: of runs that wait there is the SDK's goroutine,
// without a call by reflection on its stack, and none of the code's. They
// answer all the same.
func TestIdleRunsHaveNoGoroutine(t *testing.T) {
	t.Parallel()
	ctx := within(t, time.Minute)
	tell, heard := durable.NewSignal[string]("tell"), durable.NewQuery[string, string]("heard")
	flow := durable.NewWorkflow("idle", func(ctx context.Context, _ int) (string, error) { return idleCode(ctx, tell, heard) },
		&durable.WorkflowOptions{Accepts: []durable.Accepted{tell, heard}})
	e := on(t, temporalengine.Options{Engine: durable.Options{MaxAwake: 2, Logger: quietLog}}, flow)
	runs := make([]*durable.Run, 8)
	for i := range runs {
		var err error
		if runs[i], err = flow.Start(ctx, e, 0, &durable.StartOptions{ID: fmt.Sprint(id(t), i)}); err != nil {
			t.Fatal(err)
		}
	}
	hears := func(want string) {
		t.Helper()
		for i, r := range runs {
			describes(t, ctx, r, func(d *durable.Description) bool { return len(d.Waiting) > 0 && int(d.Turns) == len(want)+1 })
			if got, err := heard.Ask(ctx, r, "?"); err != nil || got != want+"?" {
				t.Fatalf("run %d heard %q, %v; want %q", i, got, err, want)
			}
		}
	}
	hears("")
	for i, s := range []string{"a", "b"} {
		for _, r := range runs {
			if err := tell.Send(ctx, r, s, nil); err != nil {
				t.Fatal(err)
			}
		}
		hears("ab"[:i+1])
	}
	var b bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&b, 2); err != nil {
		t.Fatal(err)
	}
	code, direct := 0, 0
	for stack := range strings.SplitSeq(b.String(), "\n\n") {
		if strings.Contains(stack, "temporalengine_test.idleCode(") {
			code++
		}
		if strings.Contains(stack, ").carryOut(") && !strings.Contains(stack, "reflect.Value.call(") {
			direct++
		}
	}
	if code > 2 {
		t.Errorf("%d of %d idle runs have a goroutine of their code; want 2 at most", code, len(runs))
	}
	if direct < len(runs) {
		t.Errorf("%d runs are executed without reflection; want %d at least: see inbound.last", direct, len(runs))
	}
	for _, r := range runs {
		if err := tell.Send(ctx, r, "c", nil); err != nil {
			t.Fatal(err)
		}
		if out, err := flow.Result(ctx, r); err != nil || out != "abc" {
			t.Fatalf("the result is %q, %v", out, err)
		}
	}
}
