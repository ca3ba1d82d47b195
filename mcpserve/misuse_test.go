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

// Mistakes of the program panic when the server is put together, and say how
// to mend them.
func TestMisuse(t *testing.T) {
	t.Parallel()
	type recursive struct{ Next *recursive }
	m := newMachine()
	long := durable.NewWorkflow(strings.Repeat("w", 60), func(context.Context, struct{}) (int, error) { return 1, nil }, nil)
	dotted := durable.NewWorkflow("a.b", func(context.Context, struct{}) (int, error) { return 1, nil }, nil)
	slashed := durable.NewWorkflow("a/b", func(context.Context, struct{}) (int, error) { return 1, nil }, nil)
	endless := durable.NewWorkflow("endless", func(context.Context, recursive) (int, error) { return 1, nil }, nil)
	stream := durable.NewStream[int]("stream")
	streams := durable.NewWorkflow("streams", func(context.Context, Invoice) (int, error) { return 1, nil }, &durable.WorkflowOptions{Accepts: []durable.Accepted{stream}})
	eng := engine(t, m, long, dotted, slashed, endless, streams)
	add := func(def durable.Definition, o *mcpserve.Tool) func(*mcpserve.Server) {
		return func(s *mcpserve.Server) { s.Add(def, o) }
	}
	both := func(fs ...func(*mcpserve.Server)) func(*mcpserve.Server) {
		return func(s *mcpserve.Server) {
			for _, f := range fs {
				f(s)
			}
		}
	}
	for _, c := range []struct {
		do   func(*mcpserve.Server)
		says string
	}{
		{add(nil, nil), "pass the workflow"},
		{add(durable.NewQuestion[int]("stranger"), nil), "WorkflowOptions"},
		{add(durable.NewWorkflow("stranger", func(context.Context, int) (int, error) { return 0, nil }, nil), nil), "Open"},
		{add(durable.NewQuestion[string]("more"), nil), "another definition"},
		{add(stream, nil), "cannot be a tool"},
		{add(m.workflow, &mcpserve.Tool{Name: "a.b"}), `has '.'`},
		{add(m.workflow, &mcpserve.Tool{Name: strings.Repeat("x", 65)}), "1 to 64"},
		{add(m.workflow, &mcpserve.Tool{Name: "workflows-list"}), "run control; set Tool.Name"},
		{add(long, nil), "Options.Controls"},
		{both(add(dotted, nil), add(slashed, nil)), `"a_b" is taken by workflow "a.b"`},
		{both(add(m.workflow, nil), add(m.workflow, &mcpserve.Tool{Name: "again"})), "one tool"},
		{both(add(m.ask, nil), add(m.ask, nil)), `"more" is taken by question "more"; set Tool.Name`},
		{add(endless, nil), "set Tool.InputSchema"},
		{add(streams, &mcpserve.Tool{InputSchema: []byte(`{"type":`)}), "InputSchema"},
		{add(streams, &mcpserve.Tool{ID: "{nope}"}), `no field "nope"`},
		{add(m.ask, &mcpserve.Tool{Async: true, Wait: time.Second}), "only workflows have Tool.Async"},
		{add(m.workflow, &mcpserve.Tool{Const: 1}), "only questions have Tool.Const"},
		{add(m.workflow, &mcpserve.Tool{Async: true, CancelRun: true}), "does not wait"},
		{add(m.workflow, &mcpserve.Tool{Wait: -1}), "positive"},
		{add(m.ask, &mcpserve.Tool{Const: "yes"}), "is no answer to the question, which takes a bool"},
		{add(m.ask, &mcpserve.Tool{Const: func() {}}), "Tool.Const"},
		{add(m.ask, &mcpserve.Tool{Arg: "run_id"}), `"run_id" is taken`},
		{func(*mcpserve.Server) { mcpserve.New("", eng, nil) }, "needs a name"},
		{func(*mcpserve.Server) { mcpserve.New("s", nil, nil) }, "engine is nil"},
		{func(*mcpserve.Server) { mcpserve.New("s", eng, &mcpserve.Options{Controls: []string{"workflows-lst"}}) }, `"workflows-lst"`},
		{func(*mcpserve.Server) { mcpserve.New("s", eng, &mcpserve.Options{Origins: []string{"example.com"}}) }, "Options.Origins"},
	} {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.Contains(got, c.says) {
					t.Errorf("panic %s, want one that says %q", got, c.says)
				}
			}()
			c.do(mcpserve.New("s", eng, nil))
		}()
	}
	if err := mcpserve.New("s", eng, nil).Attach(nil); err == nil {
		t.Error("Attach(nil) is fine")
	}
}

// A misspelled id is not taken for no id, which would mean the only run there
// is; and what does not fit is named by its place.
func TestMisspelledArguments(t *testing.T) {
	t.Parallel()
	m := newMachine()
	srv := mcpserve.New("s", engine(t, m), nil)
	srv.Add(m.workflow, &mcpserve.Tool{Async: true})
	srv.Add(m.ask, &mcpserve.Tool{Name: "yes", Const: true})
	srv.Add(m.add, nil)
	cs := connect(t, srv, peer{})
	ok(t, cs, "machine", nil)
	for tool, args := range map[string]object{
		"yes":                   {"workflowId": "another"},
		"add":                   {"workflowId": "another", "payload": 1},
		mcpserve.ControlStatus:  {"workflowId": "another"},
		mcpserve.ControlCancel:  {"workflow_ID": "another"},
		mcpserve.ControlResume:  {"id": "another"},
		mcpserve.ControlAnswer:  {"workflow": "another", "value": true},
		mcpserve.ControlRuns:    {"page_size": "many"},
		"workflows-machine-run": {"workflow_id": 1},
	} {
		e := refused(t, cs, tool, args, "bad_arguments")
		if says := fmt.Sprint(e["message"]); strings.Contains(says, "validating") || strings.Contains(says, "/properties") {
			t.Errorf("%s: %s", tool, says)
		} else {
			t.Log(tool, says)
		}
	}
}
