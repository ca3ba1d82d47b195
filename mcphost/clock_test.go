package mcphost_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/internal/toolset"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/mcphost"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// clockHost is a host with a server whose tools never come to an end by
// themselves: one is silent, one reports progress every 40 seconds, one asks
// first.
func clockHost(t *testing.T, revision string) *mcphost.Host {
	srv := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	addTool(srv, "silent", func(ctx context.Context, _ *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	addTool(srv, "quick", func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) { return text("done"), nil })
	addTool(srv, "chatty", func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		for n := 1.0; ; n++ {
			select {
			case <-time.After(40 * time.Second):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			if err := req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: n}); err != nil {
				return nil, err
			}
		}
	})
	addTool(srv, "asks", func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		if _, err := req.Session.Elicit(ctx, &mcp.ElicitParams{Mode: "form", Message: "Who comes?", RequestedSchema: guestSchema}); err != nil {
			return nil, err
		}
		<-ctx.Done()
		return nil, ctx.Err()
	})
	s := reach(t, srv, "inside", revision)
	s.Timeouts = mcphost.Timeouts{Idle: time.Minute, Request: 210 * time.Second}
	return mcphost.New(&mcphost.Options{Servers: map[string]mcphost.Server{"s": s}, Logger: slog.New(slog.DiscardHandler)})
}

func clockCall(tool string) toolset.CallIn {
	return toolset.CallIn{Server: "s", Tool: tool, Call: llm.ToolCall{ID: "1", Name: tool}}
}

// TestDeadlines end each call when it has had its own time, whichever others
// there are on the connection.
func TestDeadlines(t *testing.T) {
	t.Parallel()
	for _, revision := range []string{"2025-11-25", "2026-07-28"} {
		t.Run(revision, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := clockHost(t, revision)
				began := time.Now()
				var calls sync.WaitGroup
				for _, c := range []struct {
					tool  string
					start time.Duration
					end   time.Duration
					why   string
				}{
					{"silent", 0, 60 * time.Second, "timeouts.idle"},
					{"chatty", 0, 210 * time.Second, "timeouts.request"},
					{"silent", 30 * time.Second, 90 * time.Second, "timeouts.idle"},
					{"quick", 45 * time.Second, 45 * time.Second, ""},
					{"chatty", 100 * time.Second, 310 * time.Second, "timeouts.request"},
					{"silent", time.Hour, time.Hour + time.Minute, "timeouts.idle"},
				} {
					calls.Go(func() {
						time.Sleep(c.start)
						_, err := h.CallStep(t.Context(), clockCall(c.tool))
						if took := time.Since(began); took != c.end {
							t.Errorf("%s, begun at %v, ended at %v, not %v: %v", c.tool, c.start, took, c.end, err)
						}
						if timeout := errors.Is(err, durable.ErrTimeout); timeout != (c.why != "") || timeout && !strings.Contains(err.Error(), c.why) {
							t.Errorf("%s: %v, not %q", c.tool, err, c.why)
						}
					})
				}
				calls.Wait()
				if err := h.Close(context.Background()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestDeadlineOfAQuestion does not come while a server waits for an answer, and
// the call has all of its time again afterwards.
func TestDeadlineOfAQuestion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := clockHost(t, "2025-11-25")
		in := clockCall("asks")
		out, err := h.CallStep(t.Context(), in)
		if err != nil || !out.Held || len(out.Needs) != 1 {
			t.Fatalf("%+v, %v", out, err)
		}
		time.Sleep(2 * time.Hour)
		in.State = out.State
		in.Responses = map[string]toolset.InputResponse{out.Needs[0].Key: {Action: toolset.Accept, Content: []byte(`{"guest":"Ann"}`)}}
		answered := time.Now()
		_, err = h.CallStep(t.Context(), in)
		if took := time.Since(answered); took != time.Minute || !errors.Is(err, durable.ErrTimeout) || !strings.Contains(err.Error(), "timeouts.idle") {
			t.Errorf("after %v: %v", took, err)
		}
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}
