package mcphost_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/internal/toolset"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/mcphost"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// TestOneConnection starts a server once, however many want it at the same
// time.
func TestOneConnection(t *testing.T) {
	t.Parallel()
	var dials atomic.Int64
	srv := plain()
	s := mcphost.Server{Dial: func(ctx context.Context) (mcp.Transport, error) {
		dials.Add(1)
		return inside(srv).Dial(ctx)
	}}
	h := open(t, map[string]mcphost.Server{"it": s})
	many(t, 200, func(i int) error {
		in := toolset.CallIn{Server: "it", Tool: "echo", Call: llm.ToolCall{Name: "echo", Args: raw(echoIn{fmt.Sprint(i)})}}
		out, err := h.CallStep(t.Context(), in)
		if err != nil || out.Result.Text() != fmt.Sprint(i) {
			return fmt.Errorf("%d: %+v, %w", i, out.Result, err)
		}
		return nil
	})
	if n := dials.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestReconnects loses the connection again and again under calls. Each that
// may be repeated comes to a result, on one of a few connections.
func TestReconnects(t *testing.T) {
	t.Parallel()
	srv := plain()
	h := open(t, map[string]mcphost.Server{"it": inside(srv)})
	many(t, 100, func(i int) error {
		if i%10 == 5 {
			for ss := range srv.Sessions() {
				_ = ss.Close()
			}
		}
		in := toolset.CallIn{Server: "it", Tool: "echo", Repeat: true, Call: llm.ToolCall{Name: "echo", Args: raw(echoIn{fmt.Sprint(i)})}}
		for range 50 { // the engine's part
			if out, err := h.CallStep(t.Context(), in); err == nil {
				if out.Result.Text() != fmt.Sprint(i) {
					return fmt.Errorf("%d: %+v", i, out.Result)
				}
				return nil
			}
		}
		return fmt.Errorf("%d: no result in 50 attempts", i)
	})
}

// TestCloseUnderCalls ends calls that are under way, and refuses others.
func TestCloseUnderCalls(t *testing.T) {
	t.Parallel()
	began := make(chan struct{}, 100)
	srv := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	addTool(srv, "wait", func(ctx context.Context, _ *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		began <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	})
	h := open(t, map[string]mcphost.Server{"it": inside(srv)})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if out, err := h.CallStep(context.Background(), toolset.CallIn{Server: "it", Tool: "wait"}); err == nil {
				t.Errorf("%+v", out)
			}
		})
	}
	for range 20 {
		<-began
	}
	if err := h.Close(context.Background()); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if out, err := h.CallStep(context.Background(), toolset.CallIn{Server: "it", Tool: "wait"}); err == nil {
		t.Errorf("%+v", out)
	}
}

func many(t *testing.T, n int, do func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := do(i); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestOtherTransports counts a call as sent on a transport that does not say.
func TestOtherTransports(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	srv := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	addTool(srv, "break", func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		n.Add(1)
		go req.Session.Close()
		<-ctx.Done()
		return nil, ctx.Err()
	})
	s := inside(srv)
	s.Timeouts = mcphost.Timeouts{Idle: 2 * time.Second}
	h := open(t, map[string]mcphost.Server{"s": s})
	if res := callTool(t, h, "s", "break", nil); !strings.Contains(res.Text(), "outcome unknown") || n.Load() != 1 {
		t.Errorf("%d calls: %s", n.Load(), res.Text())
	}
}
