package mcphost_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/mcphost"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// named is a server with tools of these names, which say their name.
func named(tools ...string) *mcp.Server {
	srv := mcp.NewServer(&mcp.Implementation{Name: "named", Version: "1"}, nil)
	for _, name := range tools {
		addTool(srv, name, func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) { return text(name), nil })
	}
	return srv
}

func names(l mcphost.Listing) []string {
	var out []string
	for _, t := range l.Tools {
		out = append(out, t.Name)
	}
	return out
}

// TestNames lists tools whose names are long, odd or alike, and calls each by
// the name that it got.
func TestNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("long", 30)
	servers := map[string]mcphost.Server{
		"a":     inside(named("b_c", "c", "x.y", "x_y", long, long+"er")),
		"a_b":   inside(named("c")),
		"my.fs": inside(named("read")),
		"my_fs": inside(named("read")),
	}
	h := open(t, servers)
	listing, err := list(t, h)
	if err != nil {
		t.Fatal(err)
	}
	good := regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	seen := map[string]bool{}
	for _, l := range listing.Tools {
		if !good.MatchString(l.Name) || seen[l.Name] {
			t.Errorf("%q: not a name, or not unique", l.Name)
		}
		seen[l.Name] = true
		res, err := do(t, h, func(ctx context.Context) (*llm.ToolResult, error) { return mcphost.Call(ctx, l, nil, nil) })
		if err != nil || res.Text() != l.Original || res.Name != l.Name {
			t.Errorf("%s of %s: %+v, %v", l.Name, l.Server, res, err)
		}
	}
	if len(listing.Tools) != 9 {
		t.Errorf("%d tools: %v", len(listing.Tools), names(listing))
	}
	for _, want := range []string{"a_c", "a_x_y", "a_b_c", "my_fs_read"} {
		if !seen[want] {
			t.Errorf("%s is missing in %v", want, names(listing))
		}
	}
	// A name does not depend on what else is there.
	some, err := do(t, h, func(ctx context.Context) (mcphost.Listing, error) { return mcphost.ListTools(ctx, "a") })
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names(some) {
		if !seen[n] {
			t.Errorf("alone it is called %s", n)
		}
	}
}

// TestAllowAndDeny hold in listings and at calls.
func TestAllowAndDeny(t *testing.T) {
	t.Parallel()
	s := inside(named("read_file", "read_dir", "write_file", "delete"))
	s.Allow, s.Deny = []string{"read_*", "write_????"}, []string{"*_dir"}
	none := inside(named("read_file"))
	none.Allow = []string{}
	h := open(t, map[string]mcphost.Server{"fs": s, "none": none})
	listing, err := list(t, h)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"fs_read_file", "fs_write_file"}, names(listing)); diff != "" {
		t.Error(diff)
	}
	for tool, ok := range map[string]bool{"read_file": true, "read_dir": false, "delete": false} {
		res := callTool(t, h, "fs", tool, nil)
		if res.Error == ok || !ok && !strings.Contains(res.Text(), "does not allow") {
			t.Errorf("%s: %+v", tool, res)
		}
	}
	if res := callTool(t, h, "none", "read_file", nil); !res.Error {
		t.Errorf("%+v", res)
	}
}

// TestBroken leaves optional servers out and names them; a required one fails
// the listing.
func TestBroken(t *testing.T) {
	t.Parallel()
	gone := mcphost.Server{Command: "no-such-command-here", Optional: true}
	h := open(t, map[string]mcphost.Server{"good": inside(named("x")), "gone": gone})
	listing, err := list(t, h)
	if err != nil || len(listing.Tools) != 1 || len(listing.Broken) != 1 || listing.Broken[0].Server != "gone" || !strings.Contains(listing.Broken[0].Error, "no-such-command-here") {
		t.Fatalf("%+v, %v", listing, err)
	}
	if res := callTool(t, h, "gone", "x", nil); !res.Error || !strings.Contains(res.Text(), "no-such-command-here") {
		t.Errorf("%+v", res)
	}
	if res := callTool(t, h, "unknown", "x", nil); !res.Error || !strings.Contains(res.Text(), "there are gone, good") {
		t.Errorf("%+v", res)
	}
	gone.Optional = false
	h = open(t, map[string]mcphost.Server{"good": inside(named("x")), "gone": gone})
	if _, err := list(t, h); !errors.Is(err, mcphost.ErrUnavailable) {
		t.Error(err)
	}
}

// library is a server with resources and prompts.
func library() *mcp.Server {
	srv := named("lend")
	srv.AddResource(&mcp.Resource{URI: "book://1", Name: "one", Description: "the first", MIMEType: "text/plain", Size: 5},
		func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
			return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: "book://1", Text: "words"}, {URI: "book://1/cover", MIMEType: "image/png", Blob: []byte{1, 2, 3}}}}, nil
		})
	srv.AddResourceTemplate(&mcp.ResourceTemplate{URITemplate: "book://{n}", Name: "any"},
		func(_ context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
			if req.Params.URI == "book://404" {
				return nil, mcp.ResourceNotFoundError(req.Params.URI)
			}
			return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: req.Params.URI, Text: "of " + req.Params.URI}}}, nil
		})
	srv.AddPrompt(&mcp.Prompt{Name: "review", Description: "a review", Arguments: []*mcp.PromptArgument{{Name: "title", Required: true}}},
		func(_ context.Context, req *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			return &mcp.GetPromptResult{Description: "about it", Messages: []*mcp.PromptMessage{
				{Role: "user", Content: &mcp.TextContent{Text: "Review " + req.Params.Arguments["title"]}},
				{Role: "assistant", Content: &mcp.TextContent{Text: "It is"}},
			}}, nil
		})
	return srv
}

func TestResourcesAndPrompts(t *testing.T) {
	t.Parallel()
	for _, revision := range []string{"2025-11-25", "2026-07-28"} {
		t.Run(revision, func(t *testing.T) {
			t.Parallel()
			s := inside(library())
			s.Pin = revision
			h := open(t, map[string]mcphost.Server{"lib": s})
			type all struct {
				Resources []mcphost.Resource
				Parts     []llm.Part
				Missing   string
				Prompts   int
				Prompt    mcphost.Prompt
			}
			got, err := do(t, h, func(ctx context.Context) (a all, err error) {
				if a.Resources, _, err = mcphost.ListResources(ctx); err != nil {
					return a, err
				}
				if a.Parts, err = mcphost.ReadResource(ctx, "lib", "book://1"); err != nil {
					return a, err
				}
				_, err = mcphost.ReadResource(ctx, "lib", "book://404")
				if !errors.Is(err, mcphost.ErrProtocol) {
					return a, fmt.Errorf("a missing resource: %w", err)
				}
				prompts, _, err := mcphost.ListPrompts(ctx, "lib")
				if err != nil {
					return a, err
				}
				a.Prompts = len(prompts)
				a.Prompt, err = mcphost.GetPrompt(ctx, "lib", "review", map[string]string{"title": "Emma"})
				return a, err
			})
			if err != nil {
				t.Fatal(err)
			}
			want := all{
				Resources: []mcphost.Resource{
					{Server: "lib", URI: "book://1", Name: "one", Description: "the first", Type: "text/plain", Size: 5},
					{Server: "lib", URI: "book://{n}", Template: true, Name: "any"},
				},
				Parts:   []llm.Part{{Text: "words"}, {Media: &llm.Media{Type: "image/png", Data: []byte{1, 2, 3}, Name: "book://1/cover"}}},
				Prompts: 1,
				Prompt: mcphost.Prompt{Description: "about it", Messages: []llm.Message{
					llm.User("Review Emma"), {Role: llm.RoleModel, Parts: []llm.Part{{Text: "It is"}}},
				}},
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestOffered offers resources and prompts as tools, unless it is told not to.
func TestOffered(t *testing.T) {
	t.Parallel()
	h := open(t, map[string]mcphost.Server{"lib": inside(library()), "plain": inside(named("read_resource"))})
	listing, err := list(t, h)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"lib_get_prompt", "lib_lend", "lib_list_prompts", "lib_list_resources", "lib_read_resource", "plain_read_resource"}, names(listing)); diff != "" {
		t.Error(diff)
	}
	for _, c := range []struct{ tool, args, want string }{
		{"lib_list_resources", `{}`, "book://{n}"},
		{"lib_read_resource", `{"uri":"book://7"}`, "of book://7"},
		{"lib_list_prompts", ``, "review"},
		{"lib_get_prompt", `{"name":"review","arguments":{"title":"Emma"}}`, "Review Emma"},
		{"lib_read_resource", `{"uri":"book://404"}`, "not found"},
		{"lib_read_resource", `{"uri":7}`, "do not fit"},
		{"plain_read_resource", `{}`, "read_resource"},
	} {
		l := listing.Tools[slices.IndexFunc(listing.Tools, func(l mcphost.Tool) bool { return l.Name == c.tool })]
		var args any
		if c.args != "" {
			args = json.RawMessage(c.args)
		}
		res, err := do(t, h, func(ctx context.Context) (*llm.ToolResult, error) { return mcphost.Call(ctx, l, args, nil) })
		if err != nil || !strings.Contains(strings.ToLower(res.Text()), strings.ToLower(c.want)) {
			t.Errorf("%s(%s): %+v, %v", c.tool, c.args, res, err)
		}
	}
	h = openWith(t, &mcphost.Options{Servers: map[string]mcphost.Server{"lib": inside(library())}, ToolsOnly: true})
	listing, err = list(t, h)
	if diff := cmp.Diff([]string{"lib_lend"}, names(listing)); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

// TestContent brings all kinds of content into a result.
func TestContent(t *testing.T) {
	t.Parallel()
	srv := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	addTool(srv, "all", func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{
			&mcp.TextContent{Text: "hello"},
			&mcp.ImageContent{Data: []byte{1}, MIMEType: "image/png"},
			&mcp.AudioContent{Data: []byte{2}, MIMEType: "audio/wav"},
			&mcp.EmbeddedResource{Resource: &mcp.ResourceContents{URI: "x://1", Text: "inner"}},
			&mcp.EmbeddedResource{Resource: &mcp.ResourceContents{URI: "x://2", Blob: []byte{3}, MIMEType: "application/pdf"}},
			&mcp.ResourceLink{URI: "x://3", Name: "three", MIMEType: "text/plain", Description: "the third"},
		}, StructuredContent: map[string]any{"n": 1}, IsError: true}, nil
	})
	h := open(t, map[string]mcphost.Server{"s": inside(srv)})
	want := &llm.ToolResult{Name: "all", Error: true, Data: json.RawMessage(`{"n":1}`), Parts: []llm.Part{
		{Text: "hello"},
		{Media: &llm.Media{Type: "image/png", Data: []byte{1}}},
		{Media: &llm.Media{Type: "audio/wav", Data: []byte{2}}},
		{Text: "Resource x://1:\ninner"},
		{Media: &llm.Media{Type: "application/pdf", Data: []byte{3}, Name: "x://2"}},
		{Text: "Resource x://3 (three, text/plain): the third"},
	}}
	if diff := cmp.Diff(want, callTool(t, h, "s", "all", nil)); diff != "" {
		t.Error(diff)
	}
}

// TestEffectKey sends the step's key and the run's trace: the same in a second
// attempt, another in another call.
func TestEffectKey(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var keys, traces []string
	srv := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	addTool(srv, "t", func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		mu.Lock()
		defer mu.Unlock()
		key, _ := req.Params.Meta[mcphost.EffectKey].(string)
		trace, _ := req.Params.Meta["traceparent"].(string)
		keys, traces = append(keys, key), append(traces, trace)
		return text("ok"), nil
	})
	h := open(t, map[string]mcphost.Server{"s": inside(srv)})
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	wf := durable.NewWorkflow("two", func(ctx context.Context, _ struct{}) (struct{}, error) {
		for range 2 {
			if _, err := mcphost.CallTool(ctx, "s", "t", nil, nil); err != nil {
				return struct{}{}, err
			}
		}
		return struct{}{}, nil
	}, nil)
	eng := engine(t, h, wf)
	run, err := wf.Start(durable.WithTrace(t.Context(), trace), eng, struct{}{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := run.Result(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(keys) != 2 || keys[0] == "" || keys[0] == keys[1] {
		t.Errorf("keys %q", keys)
	}
	for _, got := range traces {
		if !strings.Contains(got, "4bf92f3577b34da6a3ce929d0e0e4736") {
			t.Errorf("traces %q", traces)
		}
	}
}

// TestProgress keeps a call alive that takes longer than the idle deadline;
// without it the call ends.
func TestProgress(t *testing.T) {
	t.Parallel()
	srv := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	addTool(srv, "work", func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for i := range 15 {
			<-tick.C
			err := req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: req.Params.GetProgressToken(), Progress: float64(i)})
			if err != nil {
				return nil, err
			}
		}
		return text("worked"), nil
	})
	for request, want := range map[time.Duration]string{0: "worked", time.Second: "timeouts.request"} {
		s := inside(srv)
		s.Timeouts = mcphost.Timeouts{Idle: 800 * time.Millisecond, Request: request}
		h := open(t, map[string]mcphost.Server{"s": s})
		if res := callTool(t, h, "s", "work", nil); !strings.Contains(res.Text(), want) {
			t.Errorf("request %v: %+v", request, res)
		}
	}
}

// TestCancel tells the server that a call's run was cancelled.
func TestCancel(t *testing.T) {
	t.Parallel()
	began, ended := make(chan struct{}), make(chan struct{})
	srv := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	addTool(srv, "wait", func(ctx context.Context, _ *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		close(began)
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	})
	h := open(t, map[string]mcphost.Server{"s": inside(srv)})
	wf := durable.NewWorkflow("w", func(ctx context.Context, _ struct{}) (string, error) {
		_, err := mcphost.CallTool(ctx, "s", "wait", nil, nil)
		return "", err
	}, nil)
	eng := engine(t, h, wf)
	run, err := wf.Start(t.Context(), eng, struct{}{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	<-began
	if err := run.Cancel(t.Context(), "enough"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("the server was not told")
	}
	if _, err := run.Result(t.Context()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestListChanged reads the list again only when the server says that it
// changed.
func TestListChanged(t *testing.T) {
	t.Parallel()
	for _, revision := range []string{"2025-11-25", "2026-07-28"} {
		t.Run(revision, func(t *testing.T) {
			t.Parallel()
			srv := named("one")
			var lists atomic.Int64
			srv.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
				return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
					if method == "tools/list" {
						lists.Add(1)
					}
					return next(ctx, method, req)
				}
			})
			s := inside(srv)
			s.Pin = revision
			h := open(t, map[string]mcphost.Server{"s": s})
			for range 3 {
				if l, err := list(t, h); err != nil || len(l.Tools) != 1 {
					t.Fatalf("%+v, %v", l, err)
				}
			}
			if n := lists.Load(); n != 1 {
				t.Errorf("%d lists", n)
			}
			addTool(srv, "two", func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) { return text("two"), nil })
			poll(t, "the new tool", func() bool {
				l, err := list(t, h)
				return err == nil && len(l.Tools) == 2
			})
		})
	}
}

// TestSecrets gives a server secrets that it repeats wherever it can. None
// comes back.
func TestSecrets(t *testing.T) {
	t.Parallel()
	const header, key, env = "canary-header-1", `canary-"key"-2`, "canary-env-3"
	srv := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	var seen http.Header
	addTool(srv, "say", func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		seen = req.Extra.Header
		all := header + " " + key + " " + env
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: all}}, StructuredContent: map[string]any{"all": all}}, nil
	})
	addTool(srv, "fail", func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return nil, errors.New("bad: " + header + key + env)
	})
	web := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return srv }, nil))
	t.Cleanup(web.Close)
	var logs strings.Builder
	h := openWith(t, &mcphost.Options{
		Logger: slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Servers: map[string]mcphost.Server{"s": {
			URL: web.URL, APIKey: durable.NewSecret(key), Headers: map[string]durable.Secret{"X-Key": durable.NewSecret(header)},
			Env: map[string]durable.Secret{"E": durable.NewSecret(env)},
		}},
	})
	wf := durable.NewWorkflow("w", func(ctx context.Context, tool string) (*llm.ToolResult, error) {
		return mcphost.CallTool(ctx, "s", tool, nil, nil)
	}, nil)
	eng := engine(t, h, wf)
	for _, tool := range []string{"say", "fail", "missing"} {
		run, err := wf.Start(t.Context(), eng, tool, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := wf.Result(t.Context(), run)
		if err != nil {
			t.Fatal(err)
		}
		if tool == "say" && res.Text() != "(secret) (secret) (secret)" {
			t.Errorf("%+v", res)
		}
		export, err := run.Export(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(export), "canary") {
			t.Errorf("%s: a secret is in the run: %s", tool, export)
		}
	}
	if strings.Contains(logs.String(), "canary") {
		t.Errorf("a secret is in the log: %s", logs.String())
	}
	if seen.Get("X-Key") != header || seen.Get("Authorization") != "Bearer "+key {
		t.Errorf("the server saw %v", seen)
	}
}
