package mcpserve_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/localengine"
	"github.com/mcpagent/mcpagent/mcpserve"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// A question outlives the process that asked it: the answer that a client
// brings to the next one reaches the run.
func TestAnswerAfterRestart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "runs.db")
	w, _ := asking[Decision](nil)
	open := func() (*durable.Engine, *mcpserve.Server) {
		eng, err := localengine.Open(context.Background(), path, &localengine.Options{Engine: durable.Options{Logger: slog.New(slog.DiscardHandler)}}, w)
		if err != nil {
			t.Fatal(err)
		}
		srv := mcpserve.New("s", eng, nil)
		srv.Add(w, nil)
		return eng, srv
	}
	elicit, _, _ := person()
	p := peer{revision: "2026-07-28", transport: "http", elicit: elicit, manual: true}
	args := object{"input": "Pay?"}

	eng, srv := open()
	asked := call(t, connect(t, srv, p), "asker", args)
	if !asked.NeedsInput() {
		t.Fatalf("asker = %+v", asked)
	}
	srv.Close()
	if err := eng.Close(context.Background()); err != nil {
		t.Fatal(err)
	}

	eng, srv = open()
	defer func() {
		srv.Close()
		if err := eng.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	res, err := connect(t, srv, p).CallTool(ctx, &mcp.CallToolParams{
		Name: "asker", Arguments: args, RequestState: asked.RequestState, InputResponses: mcp.InputResponseMap{"answer": accept(object{"approved": true})},
	})
	if err != nil || text(res) != `{"approved":true} by mcp:tester` {
		t.Errorf("asker after a restart = %+v, %v", res, err)
	}
}
