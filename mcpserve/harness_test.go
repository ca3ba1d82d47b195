package mcpserve_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/mcpserve"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if runChild() {
		return
	}
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// revisions are the protocol revisions that the tests speak.
var revisions = []string{"2025-06-18", "2025-11-25", "2026-07-28"}

func engine(t testing.TB, defs ...durable.Definer) *durable.Engine {
	t.Helper()
	eng, err := durable.NewMemory(context.Background(), &durable.Options{Logger: slog.New(slog.DiscardHandler)}, defs...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := eng.Close(context.Background()); err != nil {
			t.Errorf("close the engine: %v", err)
		}
	})
	return eng
}

// peer is how a test's client is.
type peer struct {
	revision  string
	transport string // memory or http
	elicit    func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error)
	progress  func(context.Context, *mcp.ProgressNotificationClientRequest)
	manual    bool // input_required answers reach the test
}

// connect connects a client to a server.
func connect(t testing.TB, srv *mcpserve.Server, p peer) *mcp.ClientSession {
	t.Helper()
	var transport mcp.Transport
	switch p.transport {
	case "", "memory":
		m := mcp.NewServer(&mcp.Implementation{Name: "host", Version: "1"}, nil)
		if err := srv.Attach(m); err != nil {
			t.Fatal(err)
		}
		ours, theirs := mcp.NewInMemoryTransports()
		ss, err := m.Connect(context.Background(), ours, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ss.Wait() })
		transport = theirs
	case "http":
		web := httptest.NewServer(srv.Handler())
		t.Cleanup(func() { srv.Close(); web.Close() })
		transport = &mcp.StreamableClientTransport{Endpoint: web.URL, HTTPClient: web.Client()}
	}
	return dial(t, transport, p)
}

func dial(t testing.TB, transport mcp.Transport, p peer) *mcp.ClientSession {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "tester", Version: "1"}, &mcp.ClientOptions{
		Capabilities: &mcp.ClientCapabilities{}, ElicitationHandler: p.elicit, ProgressNotificationHandler: p.progress,
		MultiRoundTrip: &mcp.MultiRoundTripOptions{Disabled: p.manual},
	})
	cs, err := client.Connect(context.Background(), transport, &mcp.ClientSessionOptions{ProtocolVersion: p.revision})
	if err != nil {
		t.Fatalf("connect as %+v: %v", p, err)
	}
	t.Cleanup(func() { cs.Close() })
	return cs
}

// every runs a test for each revision over each transport.
func every(t *testing.T, f func(t *testing.T, p peer)) {
	for _, transport := range []string{"memory", "http"} {
		for _, revision := range revisions {
			t.Run(transport+"/"+revision, func(t *testing.T) {
				t.Parallel()
				f(t, peer{revision: revision, transport: transport})
			})
		}
	}
}

type object = map[string]any

// call calls a tool and fails the test if it can't be called at all.
func call(t testing.TB, cs *mcp.ClientSession, tool string, args any) *mcp.CallToolResult {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	res, err := cs.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: args})
	if err != nil {
		t.Fatalf("call %s(%v): %v", tool, args, err)
	}
	return res
}

// ok calls a tool that must succeed and gives its structured content.
func ok(t testing.TB, cs *mcp.ClientSession, tool string, args any) object {
	t.Helper()
	res := call(t, cs, tool, args)
	if res.IsError {
		t.Fatalf("call %s(%v) = error %s", tool, args, text(res))
	}
	return content(t, res)
}

// refused calls a tool that must fail with an error of a type.
func refused(t testing.TB, cs *mcp.ClientSession, tool string, args any, kind string) object {
	t.Helper()
	res := call(t, cs, tool, args)
	if !res.IsError {
		t.Fatalf("call %s(%v) = %s, want an error of type %s", tool, args, text(res), kind)
	}
	e := content(t, res)
	if e["type"] != kind {
		t.Fatalf("call %s(%v) = error %s, want type %s", tool, args, text(res), kind)
	}
	return e
}

func content(t testing.TB, res *mcp.CallToolResult) object {
	t.Helper()
	raw, err := json.Marshal(res.StructuredContent)
	if err != nil {
		t.Fatal(err)
	}
	var m object
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatalf("structured content %s: %v", raw, err)
	}
	return m
}

func text(res *mcp.CallToolResult) string {
	var s string
	for _, c := range res.Content {
		if c, ok := c.(*mcp.TextContent); ok {
			s += c.Text
		}
	}
	return s
}

// until repeats f until it is true.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !f() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("it never happened: %s", what)
		}
	}
}

func tools(t testing.TB, cs *mcp.ClientSession) map[string]*mcp.Tool {
	t.Helper()
	all := map[string]*mcp.Tool{}
	for tool, err := range cs.Tools(context.Background(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		all[tool.Name] = tool
	}
	return all
}

func names(m map[string]*mcp.Tool) []string {
	var out []string
	for n := range m {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}
