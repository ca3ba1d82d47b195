package mcphost_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/internal/npmtest"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/mcphost"
)

// published is a server that others wrote.
func published(t *testing.T, name string, args ...string) mcphost.Server {
	t.Helper()
	command, script := npmtest.Node(t, "testdata/servers", "@modelcontextprotocol/server-"+name+"/dist/index.js")
	return mcphost.Server{Command: command, Args: append(script, args...)}
}

func TestPublishedFilesystem(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a.txt"), []byte("first\nsecond\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	h := open(t, map[string]mcphost.Server{"fs": published(t, "filesystem", dir)})
	listing, err := list(t, h)
	if err != nil {
		t.Fatal(err)
	}
	read := listing.Tools[slices.IndexFunc(listing.Tools, func(l mcphost.Tool) bool { return l.Name == "fs_read_text_file" })]
	write := listing.Tools[slices.IndexFunc(listing.Tools, func(l mcphost.Tool) bool { return l.Name == "fs_write_file" })]
	if !read.Hints.ReadOnly || write.Hints.ReadOnly || len(read.Schema) == 0 || len(read.Output) == 0 {
		t.Errorf("read %+v, write %+v", read.Hints, write.Hints)
	}
	if res := callTool(t, h, "fs", "read_text_file", map[string]string{"path": filepath.Join(dir, "a.txt")}); res.Error || !strings.Contains(res.Text(), "second") || len(res.Data) == 0 {
		t.Errorf("%+v", res)
	}
	if res := callTool(t, h, "fs", "write_file", map[string]string{"path": filepath.Join(dir, "b.txt"), "content": "new"}); res.Error {
		t.Errorf("%+v", res)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "b.txt")); err != nil || string(b) != "new" {
		t.Errorf("%q, %v", b, err)
	}
	if res := callTool(t, h, "fs", "read_text_file", map[string]string{"path": filepath.Join(filepath.Dir(dir), "out.txt")}); !res.Error || !strings.Contains(res.Text(), "denied") {
		t.Errorf("%+v", res)
	}
}

func TestPublishedEverything(t *testing.T) {
	t.Setenv("MCPHOST_TEST_LEAK", "canary-of-the-environment")
	s := published(t, "everything")
	s.Env = map[string]durable.Secret{"TOKEN": durable.NewSecret("canary-token")}
	s.Roots = []mcphost.Root{{URI: "file:///data", Name: "data"}}
	h := open(t, map[string]mcphost.Server{"all": s})
	listing, err := list(t, h)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"all_echo", "all_get-tiny-image", "all_get-roots-list", "all_trigger-elicitation-request", "all_trigger-url-elicitation", "all_list_resources", "all_get_prompt"} {
		if !slices.Contains(names(listing), want) {
			t.Errorf("%s is missing: %v", want, names(listing))
		}
	}
	if slices.Contains(names(listing), "all_trigger-sampling-request") {
		t.Error("sampling was offered, which the host does not do")
	}
	if res := callTool(t, h, "all", "echo", map[string]string{"message": "hi"}); res.Text() != "Echo: hi" {
		t.Errorf("%+v", res)
	}
	if res := callTool(t, h, "all", "get-tiny-image", nil); !slices.ContainsFunc(res.Parts, func(p llm.Part) bool { return p.Media != nil && p.Media.Type == "image/png" && len(p.Media.Data) > 100 }) {
		t.Errorf("%+v", res)
	}
	var weather map[string]any
	if res := callTool(t, h, "all", "get-structured-content", map[string]string{"location": "New York"}); json.Unmarshal(res.Data, &weather) != nil || weather["temperature"] == nil {
		t.Errorf("%+v", res)
	}
	if res := callTool(t, h, "all", "get-env", nil); strings.Contains(res.Text(), "canary") || !strings.Contains(res.Text(), `"TOKEN": "(secret)"`) {
		t.Errorf("%s", res.Text())
	}
	if res := callTool(t, h, "all", "trigger-long-running-operation", map[string]int{"duration": 1, "steps": 4}); !strings.Contains(res.Text(), "completed") {
		t.Errorf("%+v", res)
	}
	if res := callTool(t, h, "all", "get-roots-list", nil); !strings.Contains(res.Text(), "file:///data") {
		t.Errorf("%+v", res)
	}
	if res := callTool(t, h, "all", "no-such-tool", nil); !res.Error || !strings.Contains(res.Text(), "no-such-tool") {
		t.Errorf("%+v", res)
	}
	parts, err := do(t, h, func(ctx context.Context) ([]llm.Part, error) {
		all, _, err := mcphost.ListResources(ctx, "all")
		if err != nil || len(all) < 3 {
			return nil, err
		}
		return mcphost.ReadResource(ctx, "all", all[0].URI)
	})
	if err != nil || len(parts) == 0 || parts[0].Text == "" {
		t.Errorf("%+v, %v", parts, err)
	}
}

// TestPublishedElicitation answers the form of a server that others wrote.
func TestPublishedElicitation(t *testing.T) {
	t.Parallel()
	h := open(t, map[string]mcphost.Server{"all": published(t, "everything")})
	wf := durable.NewWorkflow("ask", func(ctx context.Context, _ struct{}) (*llm.ToolResult, error) {
		return mcphost.CallTool(ctx, "all", "trigger-elicitation-request", nil, nil)
	}, nil)
	eng := engine(t, h, wf)
	run, err := wf.Start(t.Context(), eng, struct{}{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	q := question(t, eng)
	t.Logf("%s: %s", q.Text, q.Schema)
	answer(t, eng, q, `{"name":"Ann","check":true}`)
	res, err := wf.Result(t.Context(), run)
	if err != nil || res.Error || !strings.Contains(res.Text(), "Ann") {
		t.Errorf("%+v, %v", res, err)
	}
}
