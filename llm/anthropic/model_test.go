package anthropic_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/anthropic"
)

// endpoint is a server that gives one answer, and keeps the last request.
type endpoint struct {
	status int
	header map[string]string
	body   string

	got  *http.Request
	sent string
	n    int
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	e.got, e.sent, e.n = r, string(b), e.n+1
	w.Header().Set("Content-Type", "application/json")
	if strings.HasPrefix(e.body, "event:") {
		w.Header().Set("Content-Type", "text/event-stream")
	}
	for k, v := range e.header {
		w.Header().Set(k, v)
	}
	if e.status != 0 {
		w.WriteHeader(e.status)
	}
	_, _ = io.WriteString(w, e.body)
}

const canary = "canary-5b1e77"

// open gives a model of an endpoint.
func open(t *testing.T, e *endpoint, name string) llm.Model {
	t.Helper()
	s := httptest.NewServer(e)
	t.Cleanup(s.Close)
	m, err := anthropic.New(&anthropic.Options{BaseURL: s.URL, APIKey: durable.NewSecret(canary), HTTPClient: s.Client()}).Model(name)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// events writes a stream.
func events(datas ...string) string {
	var b strings.Builder
	for _, d := range datas {
		var e struct{ Type string }
		_ = json.Unmarshal([]byte(d), &e)
		b.WriteString("event: " + e.Type + "\ndata: " + d + "\n\n")
	}
	return b.String()
}

const whole = `{"id":"msg_1","type":"message","role":"assistant","model":"claude-1","content":[
	{"type":"thinking","thinking":"Hm.","signature":"c2ln"},
	{"type":"redacted_thinking","data":"b3BhcXVl"},
	{"type":"text","text":"Let me look.","citations":null},
	{"type":"tool_use","id":"a","name":"read","input":{"path": "x"}}],
	"stop_reason":"tool_use","stop_sequence":null,
	"usage":{"input_tokens":5,"cache_creation_input_tokens":3,"cache_read_input_tokens":12,"output_tokens":7,"output_tokens_details":{"thinking_tokens":2}}}`

func wanted(thinking string) *llm.Response {
	return &llm.Response{
		Message: llm.Message{Role: llm.RoleModel, Parts: []llm.Part{
			{Reasoning: &llm.Reasoning{Text: "Hm."}, Raw: &llm.Raw{Provider: "anthropic", Data: json.RawMessage(thinking)}},
			{Reasoning: &llm.Reasoning{}, Raw: &llm.Raw{Provider: "anthropic", Data: json.RawMessage(`{"type":"redacted_thinking","data":"b3BhcXVl"}`)}},
			{Text: "Let me look."},
			{Call: &llm.ToolCall{ID: "a", Name: "read", Args: json.RawMessage(`{"path":"x"}`)}},
		}},
		Stop: llm.StopTools, Model: "claude-1", ID: "msg_1",
		Usage: llm.Usage{Input: 20, Output: 7, CacheRead: 12, CacheWrite: 3, Reasoning: 2},
	}
}

var question = &llm.Request{Messages: []llm.Message{llm.User("Read x.")}, Tools: []llm.Tool{{Name: "read"}}}

func TestCall(t *testing.T) {
	t.Parallel()
	e := &endpoint{body: whole}
	got, err := open(t, e, "").Call(t.Context(), question)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(wanted(`{"type":"thinking","thinking":"Hm.","signature":"c2ln"}`), got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if h := e.got.Header; h.Get("X-Api-Key") != canary || h.Get("Anthropic-Version") == "" || e.got.URL.Path != "/v1/messages" {
		t.Errorf("%s with %v", e.got.URL, h)
	}
	for name := range e.got.Header {
		if !slices.Contains([]string{"X-Api-Key", "Anthropic-Version", "Accept", "Accept-Encoding", "Content-Length", "Content-Type", "User-Agent"}, name) {
			t.Errorf("the endpoint is told more than it needs: %s", name)
		}
	}
}

// TestWholeInSpiteOfAStream: a server that does not stream is read all the same.
func TestWholeInSpiteOfAStream(t *testing.T) {
	t.Parallel()
	var text, thought, called string
	var got *llm.Response
	for d, err := range open(t, &endpoint{body: whole}, "").Stream(t.Context(), question) {
		if err != nil {
			t.Fatal(err)
		}
		text, thought, got = text+d.Text, thought+d.Reasoning, d.Response
		if d.Call != nil {
			called += d.Call.Name
		}
	}
	if d := cmp.Diff(wanted(`{"type":"thinking","thinking":"Hm.","signature":"c2ln"}`), got); d != "" || text != "Let me look." || thought != "Hm." || called != "read" {
		t.Errorf("%q, %q, %q: -want +got\n%s", text, thought, called, d)
	}
}

// TestOddAnswers are those of endpoints that have their own ideas.
func TestOddAnswers(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]llm.Class{
		`{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`: llm.Overloaded,
		`{"id":"x","content":"It is 42.","stop_reason":"end_turn"}`:                   llm.Malformed,
		`{"id":"x","content":[]}`: llm.Malformed,
		`<html>`:                  llm.Malformed,
		`null`:                    llm.Malformed,
	} {
		m := open(t, &endpoint{body: body}, "")
		_, called := m.Call(t.Context(), question)
		var streamed error
		for _, err := range m.Stream(t.Context(), question) {
			streamed = err
		}
		for _, err := range []error{called, streamed} {
			var e *llm.Error
			if body == "null" && err == streamed {
				want = llm.Network // no stream, and nothing that looks like an answer
			}
			if !errors.As(err, &e) || e.Class != want {
				t.Errorf("%s: got %v, want %s", body, err, want)
			}
		}
	}
}

func TestStream(t *testing.T) {
	t.Parallel()
	e := &endpoint{body: events(
		`{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-1","content":[],"stop_reason":null,"usage":{"input_tokens":5,"cache_creation_input_tokens":3,"cache_read_input_tokens":12,"output_tokens":1}}}`,
		`{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"H"}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"m."}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"c2ln"}}`,
		`{"type":"content_block_stop","index":0}`,
		`{"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"b3BhcXVl"}}`,
		`{"type":"content_block_stop","index":1}`,
		`{"type":"ping"}`,
		`{"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}`,
		`{"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"Let me "}}`,
		`{"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"look."}}`,
		`{"type":"content_block_stop","index":2}`,
		`{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"a","name":"read","input":{}}}`,
		`{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":""}}`,
		`{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{\"path\": "}}`,
		`{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"\"x\"}"}}`,
		`{"type":"content_block_stop","index":3}`,
		`{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":7,"output_tokens_details":{"thinking_tokens":2}}}`,
		`{"type":"message_stop"}`,
	)}
	var text, thought string
	var calls []string
	var got *llm.Response
	for d, err := range open(t, e, "").Stream(t.Context(), question) {
		if err != nil {
			t.Fatal(err)
		}
		text, thought, got = text+d.Text, thought+d.Reasoning, d.Response
		if d.Call != nil {
			calls = append(calls, d.Call.Name)
		}
	}
	if d := cmp.Diff(wanted(`{"type":"thinking","thinking":"Hm.","signature":"c2ln"}`), got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if text != "Let me look." || thought != "Hm." || !cmp.Equal(calls, []string{"read"}) {
		t.Errorf("as it came: %q, %q, %v", text, thought, calls)
	}
}

// TestStreamOutOfOrder has events of blocks that did not begin.
func TestStreamOutOfOrder(t *testing.T) {
	t.Parallel()
	for _, event := range []string{
		`{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}`,
		`{"type":"content_block_delta","index":-1,"delta":{"type":"text_delta","text":"x"}}`,
		`{"type":"content_block_stop","index":0}`,
	} {
		e := &endpoint{body: events(`{"type":"message_start","message":{}}`, event, `{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{}}`, `{"type":"message_stop"}`)}
		var err error
		for _, err = range open(t, e, "").Stream(t.Context(), question) {
		}
		if e, ok := errors.AsType[*llm.Error](err); !ok || e.Class != llm.Malformed {
			t.Errorf("%s: %v", event, err)
		}
	}
}

// TestThoughtsGoBackUnchanged sends an answer back, with the result of its call.
func TestThoughtsGoBackUnchanged(t *testing.T) {
	t.Parallel()
	e := &endpoint{body: whole}
	m := open(t, e, "")
	res, err := m.Call(t.Context(), question)
	if err != nil {
		t.Fatal(err)
	}
	r := *question
	r.Messages = append(r.Messages[:1:1], res.Message, llm.Message{Role: llm.RoleTools, Parts: []llm.Part{{Result: &llm.ToolResult{ID: "a", Name: "read", Data: json.RawMessage(`{"n":1}`)}}}}, llm.User("Hurry."))
	if _, err := m.Call(t.Context(), &r); err != nil {
		t.Fatal(err)
	}
	want := `[{"content":[{"text":"Read x.","cache_control":{"type":"ephemeral"},"type":"text"}],"role":"user"},` +
		`{"content":[{"type":"thinking","thinking":"Hm.","signature":"c2ln"},{"type":"redacted_thinking","data":"b3BhcXVl"},` +
		`{"text":"Let me look.","type":"text"},{"id":"a","input":{"path":"x"},"name":"read","type":"tool_use"}],"role":"assistant"},` +
		`{"content":[{"tool_use_id":"a","content":[{"text":"{\"n\":1}","type":"text"}],"type":"tool_result"},` +
		`{"text":"Hurry.","cache_control":{"type":"ephemeral"},"type":"text"}],"role":"user"}]`
	var sent struct {
		Messages json.RawMessage `json:"messages"`
	}
	if err := json.Unmarshal([]byte(e.sent), &sent); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, string(sent.Messages)); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	said := func(kind, message string) string {
		return `{"type":"error","error":{"type":"` + kind + `","message":"` + message + `"},"request_id":"req_1"}`
	}
	for name, c := range map[string]struct {
		e    endpoint
		want llm.Error
	}{
		"rate limit": {
			endpoint{status: 429, header: map[string]string{"Retry-After": "7", "Request-Id": "r1"}, body: said("rate_limit_error", "slow down")},
			llm.Error{Class: llm.RateLimit, Status: 429, Code: "rate_limit_error", Message: "slow down", RetryAfter: 7 * time.Second, RequestID: "r1"},
		},
		"overloaded": {
			endpoint{status: 529, body: said("overloaded_error", "Overloaded")},
			llm.Error{Class: llm.Overloaded, Status: 529, Code: "overloaded_error", Message: "Overloaded", RequestID: "req_1"},
		},
		"key": {
			endpoint{status: 401, body: said("authentication_error", "invalid x-api-key "+canary)},
			llm.Error{Class: llm.Auth, Status: 401, Code: "authentication_error", Message: "invalid x-api-key (secret)", RequestID: "req_1"},
		},
		"too long": {
			endpoint{status: 400, body: said("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum")},
			llm.Error{Class: llm.TooLong, Status: 400, Code: "invalid_request_error", Message: "prompt is too long: 210000 tokens > 200000 maximum", RequestID: "req_1"},
		},
		"money": {
			endpoint{status: 400, body: said("invalid_request_error", "Your credit balance is too low")},
			llm.Error{Class: llm.Quota, Status: 400, Code: "invalid_request_error", Message: "Your credit balance is too low", RequestID: "req_1"},
		},
		"a page": {
			endpoint{status: 502, header: map[string]string{"Content-Type": "text/html"}, body: `<html>nginx</html>`},
			llm.Error{Class: llm.Server, Status: 502, Message: "Bad Gateway"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.want.Provider, c.want.Model = "anthropic", "claude-sonnet-5-5"
			m := open(t, &c.e, "")
			_, called := m.Call(t.Context(), question)
			var streamed error
			for _, err := range m.Stream(t.Context(), question) {
				streamed = err
			}
			for how, err := range map[string]error{"called": called, "streamed": streamed} {
				var got *llm.Error
				if !errors.As(err, &got) {
					t.Fatalf("%s: %v", how, err)
				}
				if d := cmp.Diff(&c.want, got); d != "" {
					t.Errorf("%s: -want +got\n%s", how, d)
				}
			}
			if c.e.n != 2 {
				t.Errorf("%d requests, want one for each call", c.e.n)
			}
		})
	}
}
