package peers

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/google/go-cmp/cmp"
	"github.com/mcpagent/mcpagent/llm"
	ouranthropic "github.com/mcpagent/mcpagent/llm/anthropic"
	ouropenai "github.com/mcpagent/mcpagent/llm/openai"
	"github.com/openai/openai-go/v3"
)

// fixture is an answer that stands in an SDK's own tests.
type fixture struct {
	at     string // where it stands
	body   string
	stream bool
}

// fixtures finds them in the source of a module: strings that are a whole
// answer or a stream, and lists of strings that are the events of one. Where
// the tests need no end of a stream, it is added.
func fixtures(t *testing.T, module string, whole, event func(o map[string]any) bool, end string) []fixture {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests of %s in %s: %v", module, dir, err)
	}
	is := func(s string, want func(map[string]any) bool) bool {
		var o map[string]any
		return json.Unmarshal([]byte(s), &o) == nil && want(o)
	}
	var out []fixture
	fset := token.NewFileSet()
	found := func(n ast.Node, text string) bool {
		at := fset.Position(n.Pos())
		f := fixture{filepath.Base(at.Filename) + ":" + strconv.Itoa(at.Line), text, true}
		_, first, _ := strings.Cut(text, "data:")
		first, _, _ = strings.Cut(first, "\n")
		switch {
		case is(text, whole):
			f.stream = false
		case !is(first, event):
			return false
		case !strings.Contains(text, "finish_reason\":\"") && !strings.Contains(text, "stop_reason\": \"") && !strings.Contains(text, "stop_reason\":\""):
			f.body += end
		}
		out = append(out, f)
		return true
	}
	for _, name := range files {
		f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := constant(n); ok {
				found(n, s)
				return false
			}
			list, ok := n.(*ast.CompositeLit)
			return !ok || !found(n, stream(list))
		})
	}
	return out
}

// stream puts a list of events together; "" if it is none. Events that are
// JSON only get the name of their type, if they have one.
func stream(list *ast.CompositeLit) string {
	var b strings.Builder
	for _, e := range list.Elts {
		s, ok := constant(e)
		var typed struct{ Type string }
		switch err := json.Unmarshal([]byte(s), &typed); {
		case !ok:
			return ""
		case err != nil: // lines, or one of them
			b.WriteString(s)
			if b.WriteString("\n"); strings.HasPrefix(s, "data:") || strings.Contains(s, "\n") {
				b.WriteString("\n")
			}
		default:
			if typed.Type != "" {
				b.WriteString("event: " + typed.Type + "\n")
			}
			b.WriteString("data: " + compact(s) + "\n\n")
		}
	}
	return b.String()
}

// constant is the value of literals and sums of them.
func constant(n ast.Node) (string, bool) {
	switch e := n.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			s, err := strconv.Unquote(e.Value)
			return s, err == nil
		}
	case *ast.ParenExpr:
		return constant(e.X)
	case *ast.BinaryExpr:
		a, ok := constant(e.X)
		if b, also := constant(e.Y); ok && also && e.Op == token.ADD {
			return a + b, true
		}
	}
	return "", false
}

func (f fixture) line() *line {
	if f.stream {
		return replying("text/event-stream", f.body)
	}
	return replying("application/json", f.body)
}

// The reasons to stop in the vendors' words and in ours.
var (
	openaiStops    = map[string]string{"stop": "end", "tool_calls": "tools", "length": "length", "content_filter": "filter"}
	anthropicStops = map[string]string{"end_turn": "end", "tool_use": "tools", "max_tokens": "length", "stop_sequence": "stop", "refusal": "filter"}
)

// agree compares what a provider reads with what an SDK read; stops are the
// reasons to stop in the words of both. Arguments need not have the same
// spaces.
func agree(t *testing.T, f fixture, theirs said, err error, m llm.Model, stops map[string]string) (both bool) {
	t.Helper()
	res, ourErr := ask(t, m, &llm.Request{Messages: []llm.Message{llm.User("x")}, MaxTokens: 100}, f.stream)
	if err != nil || ourErr != nil {
		if (err == nil) != (ourErr == nil) {
			t.Errorf("%s: the SDK has %+v and the error %v; we have %v\n%.1500s", f.at, theirs, err, ourErr, f.body)
		}
		return false
	}
	own := ours(res)
	if stop, ok := stops[theirs.Stop]; ok {
		theirs.Stop = stop
	}
	for i := range theirs.Calls {
		theirs.Calls[i].Args = compact(theirs.Calls[i].Args)
		if i < len(own.Calls) && theirs.Calls[i].ID == "" { // we give it one
			theirs.Calls[i].ID = own.Calls[i].ID
		}
	}
	if diff := cmp.Diff(theirs, own); diff != "" {
		t.Errorf("%s, read by the SDK (-) and by us (+):\n%s\n%.1500s", f.at, diff, f.body)
	}
	return true
}

func has(o map[string]any, names ...string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { _, there := o[name]; return !there })
}

// TestOpenAIFixtures reads the answers in the tests of OpenAI's SDK.
func TestOpenAIFixtures(t *testing.T) {
	t.Parallel()
	choice := func(o map[string]any, name string) bool {
		list, ok := o["choices"].([]any)
		if !ok || len(list) == 0 {
			return false
		}
		first, ok := list[0].(map[string]any)
		return ok && has(first, name)
	}
	found := fixtures(t, "github.com/openai/openai-go/v3",
		func(o map[string]any) bool { return choice(o, "message") }, func(o map[string]any) bool { return choice(o, "delta") },
		`data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`+"\n\n")
	both := 0
	for _, f := range found {
		var theirs said
		var err error
		if c := openaiClient(f.line()); f.stream {
			theirs, _, err = openaiRead(t, c.Chat.Completions.NewStreaming(t.Context(), openai.ChatCompletionNewParams{}))
		} else {
			theirs, _, err = openaiAsk(t, c, openai.ChatCompletionNewParams{}, false)
		}
		if agree(t, f, theirs, err, openaiModel(t, f.line(), "m", ouropenai.Options{}), openaiStops) {
			both++
		}
	}
	t.Logf("%d of %d answers were read", both, len(found))
	if both < 5 {
		t.Errorf("%d of %d answers were read", both, len(found))
	}
}

// TestAnthropicFixtures reads the answers in the tests of Anthropic's SDK.
func TestAnthropicFixtures(t *testing.T) {
	t.Parallel()
	found := fixtures(t, "github.com/anthropics/anthropic-sdk-go",
		func(o map[string]any) bool { return has(o, "role", "content", "stop_reason") && o["type"] == "message" },
		func(o map[string]any) bool { return o["type"] == "message_start" },
		"event: message_delta\n"+`data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":9}}`+"\n\n"+
			"event: message_stop\n"+`data: {"type":"message_stop"}`+"\n\n")
	both := 0
	for _, f := range found {
		var theirs said
		var err error
		if c := anthropicClient(f.line()); f.stream {
			theirs, _, err = anthropicRead(c.Messages.NewStreaming(t.Context(), anthropic.MessageNewParams{}))
		} else {
			theirs, _, err = anthropicAsk(t, c, anthropic.MessageNewParams{MaxTokens: 1}, false)
		}
		if agree(t, f, theirs, err, anthropicModel(t, f.line(), "m", ouranthropic.Options{}), anthropicStops) {
			both++
		}
	}
	t.Logf("%d of %d answers were read", both, len(found))
	if both < 5 {
		t.Errorf("%d of %d answers were read", both, len(found))
	}
}
