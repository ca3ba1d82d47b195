package telemetry_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/mcpserve"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// A client of MCP says in _meta which span its call belongs to: the run is
// below that, and a signal is linked to it.
func TestMCPCallsAreLinked(t *testing.T) {
	t.Parallel()
	callsOfMCP(t, func(e *engine, defs ...durable.Definer) {
		e.open = func(o durable.Options) (*durable.Engine, error) { return durable.NewMemory(t.Context(), &o, defs...) }
	})
}

func callsOfMCP(t *testing.T, on func(e *engine, defs ...durable.Definer)) {
	sig := durable.NewSignal[string]("resume")
	wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (string, error) { return sig.Receive(ctx) },
		&durable.WorkflowOptions{Accepts: []durable.Accepted{sig}})
	r := newReceiver(t)
	e := &engine{t: t, r: r}
	on(e, wf)
	e.start()
	srv := mcpserve.New("server", e.Engine, nil)
	srv.Add(wf, &mcpserve.Tool{Name: "begin", Async: true})
	host := mcp.NewServer(&mcp.Implementation{Name: "host", Version: "1"}, nil)
	if err := srv.Attach(host); err != nil {
		t.Fatal(err)
	}
	ours, theirs := mcp.NewInMemoryTransports()
	ss, err := host.Connect(t.Context(), ours, nil)
	if err != nil {
		t.Fatal(err)
	}
	cs, err := mcp.NewClient(&mcp.Implementation{Name: "client", Version: "1"}, nil).Connect(t.Context(), theirs, nil)
	if err != nil {
		t.Fatal(err)
	}
	call := func(tool, trace string, args map[string]any) map[string]any {
		t.Helper()
		res, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: args, Meta: mcp.Meta{"traceparent": trace}})
		if err != nil {
			t.Fatal(err)
		}
		if res.IsError {
			t.Fatalf("%s: %v", tool, res.Content[0].(*mcp.TextContent).Text)
		}
		m, _ := res.StructuredContent.(map[string]any)
		return m
	}
	ids := call("begin", caller, nil)
	call("workflows-resume", sender, map[string]any{"run_id": ids["run_id"], "signal_name": "resume", "payload": "go"})
	if got, err := wf.Result(t.Context(), e.Run(ids["workflow_id"].(string), "")); err != nil || got != "go" {
		t.Fatal(got, err)
	}
	if err := cs.Close(); err != nil {
		t.Error(err)
	}
	if err := ss.Wait(); err != nil {
		t.Error(err)
	}
	e.stop()
	want := `(b7ad6b7169203331)
  run wf run.state=completed
    received signal resume ~ 2222222222222222
    signal resume
    started wf
`
	if d := cmp.Diff(want, r.tree(t, callerTrace)); d != "" {
		t.Errorf("spans (-want +got):\n%s", d)
	}
}
