package mcphost_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/engines"
	"github.com/mcpagent/mcpagent/mcphost"
)

func load(t *testing.T, h *mcphost.Host, files map[string]string) error {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := engines.Load("", &engines.LoadOptions{Dir: dir, Env: []string{"HOME=" + dir, "WHERE=there"}, Sections: map[string]any{"mcp": h.Section()}})
	return err
}

// TestSection starts a server that a file of the Python project describes.
func TestSection(t *testing.T) {
	t.Parallel()
	h := openWith(t, &mcphost.Options{Servers: map[string]mcphost.Server{"second": inside(named("ours"))}})
	err := load(t, h, map[string]string{"mcp_agent.config.yaml": `
execution_engine: asyncio
mcp:
  servers:
    first:
      command: ` + os.Args[0] + `
      env: {` + serverVar + `: plain}
      read_timeout_seconds: 20
      allowed_tools: [ech*]
      roots:
        - uri: file:///data
    second:
      command: never-started
    third:
      url: http://127.0.0.1:1/mcp
      required: false
`, "mcp_agent.secrets.yaml": `
mcp:
  servers:
    third:
      headers: {Authorization: Bearer canary-of-the-file}
`})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"first", "second", "third"}, h.Servers()); diff != "" || h.Check() != nil {
		t.Error(diff, h.Check())
	}
	listing, err := list(t, h)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"first_echo", "second_ours"}, names(listing)); diff != "" {
		t.Error(diff)
	}
	if len(listing.Broken) != 1 || listing.Broken[0].Server != "third" || strings.Contains(listing.Broken[0].Error, "canary") {
		t.Errorf("%+v", listing.Broken)
	}
	if res := callTool(t, h, "first", "echo", echoIn{"x"}); res.Text() != "x" {
		t.Errorf("%+v", res)
	}
}

// TestSectionProblems are reported at once, each at its place.
func TestSectionProblems(t *testing.T) {
	t.Parallel()
	h := open(t, nil)
	err := load(t, h, map[string]string{"mcp_agent.config.yaml": `
mcp:
  servers:
    a: {transport: websocket, url: "ws://x/"}
    b: {args: [x]}
    c: {command: x, roots: [{uri: /data}]}
    d: {transport: streamable_http, url: "http://x/", auth: {oauth: {enabled: true}}}
    e: {transport: stdio, url: "http://x/"}
`})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"mcp.servers.a.transport: websocket", "mcp.servers.b: neither", "mcp.servers.c.roots[0].uri",
		"mcp.servers.d.auth.oauth.enabled", "mcp.servers.e.transport",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
	t.Log(err)
}

// TestCheck reports what is wrong with servers of the options.
func TestCheck(t *testing.T) {
	t.Parallel()
	h := open(t, map[string]mcphost.Server{
		"both":   {Command: "x", URL: "http://x/"},
		"pinned": {Command: "x", Pin: "2020-01-01"},
		"env":    {Command: "x", Env: map[string]durable.Secret{"A=B": durable.NewSecret("v")}, Timeouts: mcphost.Timeouts{Idle: time.Second}},
	})
	err := h.Check()
	for _, want := range []string{"mcp.servers.both.command", "mcp.servers.pinned.pin", "mcp.servers.env.env"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
	if res := callTool(t, h, "both", "t", nil); !res.Error || !strings.Contains(res.Text(), "not both") {
		t.Errorf("%+v", res)
	}
}
