package mcphost_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/mcpagent/mcpagent/internal/toolset"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/mcphost"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// intruder is the transport of a server that asks, on the wire, what the
// session of the SDK would not let it ask.
type intruder struct {
	mcp.Transport
	mcp.Connection
	replies chan *jsonrpc.Response
}

func (i *intruder) Connect(ctx context.Context) (_ mcp.Connection, err error) {
	i.Connection, err = i.Transport.Connect(ctx)
	return i, err
}

func (i *intruder) Read(ctx context.Context) (jsonrpc.Message, error) {
	for {
		m, err := i.Connection.Read(ctx)
		if res, ok := m.(*jsonrpc.Response); ok && res.ID.Raw() == "intruder" {
			i.replies <- res
			continue
		}
		return m, err
	}
}

// TestServerThatAsksAgainstItsRevision: by 2026-07-28 a server says in its
// result what it needs. One that asks in the middle of a call is refused, and
// the call goes on.
func TestServerThatAsksAgainstItsRevision(t *testing.T) {
	t.Parallel()
	theirs, ours := mcp.NewInMemoryTransports()
	in := &intruder{Transport: theirs, replies: make(chan *jsonrpc.Response, 1)}
	srv := mcp.NewServer(&mcp.Implementation{Name: "intruder", Version: "1"}, nil)
	mcp.AddTool(srv, &mcp.Tool{Name: "ask"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		id, err := jsonrpc.MakeID("intruder")
		if err != nil {
			return nil, nil, err
		}
		err = in.Write(ctx, &jsonrpc.Request{ID: id, Method: "elicitation/create",
			Params: json.RawMessage(`{"mode":"form","message":"Your name?","requestedSchema":{"type":"object","properties":{"name":{"type":"string"}}}}`)})
		if err != nil {
			return nil, nil, err
		}
		select {
		case res := <-in.replies:
			if res.Error == nil {
				return nil, nil, errors.New("it was answered")
			}
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "refused"}}}, nil, nil
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	})
	h := open(t, map[string]mcphost.Server{"it": {Pin: "2026-07-28", Dial: func(ctx context.Context) (mcp.Transport, error) {
		_, err := srv.Connect(ctx, in, nil)
		return ours, err
	}}})
	out, err := h.CallStep(t.Context(), toolset.CallIn{Server: "it", Tool: "ask", Call: llm.ToolCall{ID: "1", Name: "ask", Args: json.RawMessage(`{}`)}})
	if err != nil || out.Result == nil || out.Result.Text() != "refused" {
		t.Errorf("%+v, %v", out, err)
	}
}
