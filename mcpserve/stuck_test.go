package mcpserve_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/mcpserve"
)

// full is an engine on a full disk: it withholds every acknowledgement, and
// says why when it is no longer waited for.
type full struct{}

func (full) Do(ctx context.Context, req *durable.Request) (*durable.Reply, error) {
	<-ctx.Done()
	return nil, fmt.Errorf("not written: %w: the disk is full", ctx.Err())
}

func (full) Close(context.Context) error { return nil }

// A call on a full disk went on for ever, and nobody heard of the disk.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	m := newMachine()
	defs, err := durable.NewDefinitions(m.workflow)
	if err != nil {
		t.Fatal(err)
	}
	srv := mcpserve.New("full", durable.NewEngine(full{}, defs, nil), &mcpserve.Options{Wait: time.Millisecond})
	srv.Add(m.workflow, nil)
	srv.Add(m.ask, nil)
	cs := connect(t, srv, peer{})
	for tool, args := range map[string]object{
		"machine":               {},
		"workflows-machine-run": {},
		"more":                  {"value": true},
		mcpserve.ControlStatus:  {},
		mcpserve.ControlCancel:  {"workflow_id": "x"},
	} {
		res := call(t, cs, tool, args)
		if got := text(res); !res.IsError || !strings.Contains(got, "disk is full") {
			t.Errorf("%s = %s, want an error that names the disk", tool, got)
		}
	}
}

// A run that waits for a thousand children filled the context of the model
// that asked for its status.
func TestManyWaits(t *testing.T) {
	t.Parallel()
	nap := durable.NewWorkflow("nap", func(ctx context.Context, _ int) (int, error) { return 0, durable.Sleep(ctx, time.Hour) }, nil)
	status := durable.NewStatus[string]("status")
	naps := durable.NewWorkflow("naps", func(ctx context.Context, in struct{ N int }) (int, error) {
		all, err := durable.Map(ctx, make([]int, in.N), nap.Run, nil)
		return len(all), err
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{status}})
	srv := mcpserve.New("s", engine(t, naps, nap), nil)
	srv.Add(naps, &mcpserve.Tool{Async: true})
	srv.Add(status, nil)
	cs := connect(t, srv, peer{})
	ok(t, cs, "naps", object{"N": 100})
	until(t, "all children wait", func() bool { return strings.Contains(text(call(t, cs, "status", nil)), "nap (100 times)") })
	waits := ok(t, cs, "status", nil)["waiting_for"].([]any)
	if w := waits[0].(object); len(waits) != 1 || w["count"] != 100.0 {
		t.Errorf("waiting_for = %v, want one entry that counts 100", waits)
	}
}
