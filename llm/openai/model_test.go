package openai_test

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
	"github.com/mcpagent/mcpagent/llm/openai"
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
	if strings.HasPrefix(e.body, "data:") {
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
func open(t *testing.T, e *endpoint) llm.Model {
	t.Helper()
	s := httptest.NewServer(e)
	t.Cleanup(s.Close)
	m, err := openai.Compatible("local", &openai.Options{BaseURL: s.URL + "/v1", APIKey: durable.NewSecret(canary), HTTPClient: s.Client()}).Model("m")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// stream collects an answer.
func stream(t *testing.T, m llm.Model, r *llm.Request) (text string, calls []string, res *llm.Response, err error) {
	t.Helper()
	for d, e := range m.Stream(t.Context(), r) {
		if e != nil {
			return text, calls, nil, e
		}
		text += d.Text
		if d.Call != nil {
			calls = append(calls, d.Call.Name)
		}
		res = d.Response
	}
	return text, calls, res, nil
}

const whole = `{"id":"c1","object":"chat.completion","model":"m-1","choices":[{"index":0,"finish_reason":"tool_calls","message":{"role":"assistant","content":"Let me look.",
	"tool_calls":[{"id":"a","type":"function","function":{"name":"read","arguments":"{\"path\": \"x\"}"}},{"id":"b","type":"function","function":{"name":"read","arguments":"{oops"}}]}}],
	"usage":{"prompt_tokens":20,"completion_tokens":7,"total_tokens":27,"prompt_tokens_details":{"cached_tokens":12},"completion_tokens_details":{"reasoning_tokens":3}}}`

var want = &llm.Response{
	Message: llm.Message{Role: llm.RoleModel, Parts: []llm.Part{
		{Text: "Let me look."},
		{Call: &llm.ToolCall{ID: "a", Name: "read", Args: json.RawMessage(`{"path":"x"}`)}},
		{Call: &llm.ToolCall{ID: "b", Name: "read", Args: json.RawMessage(`"{oops"`), Bad: "the arguments are no JSON object: invalid character 'o' looking for beginning of object key string"}},
	}},
	Stop: llm.StopTools, Model: "m-1", ID: "c1",
	Usage: llm.Usage{Input: 20, Output: 7, CacheRead: 12, Reasoning: 3},
}

func TestCall(t *testing.T) {
	t.Parallel()
	e := &endpoint{body: whole}
	got, err := open(t, e).Call(t.Context(), &llm.Request{Messages: []llm.Message{llm.User("Read x and y.")}, Tools: []llm.Tool{{Name: "read"}}})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if h := e.got.Header.Get("Authorization"); h != "Bearer "+canary || e.got.URL.Path != "/v1/chat/completions" {
		t.Errorf("%s with %s", e.got.URL, h)
	}
	for name := range e.got.Header {
		if !slices.Contains([]string{"Authorization", "Accept", "Accept-Encoding", "Content-Length", "Content-Type", "User-Agent"}, name) {
			t.Errorf("the endpoint is told more than it needs: %s", name)
		}
	}
}

func TestStream(t *testing.T) {
	t.Parallel()
	e := &endpoint{body: `data: {"id":"c1","model":"m-1","choices":[{"index":0,"delta":{"role":"assistant","content":"Let me "}}]}

data: {"id":"c1","choices":[{"index":0,"delta":{"content":"look."}}]}

data: {"id":"c1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"read","arguments":""}}]}}]}

data: {"id":"c1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"path\": "}}]}}]}

data: {"id":"c1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"x\"}"}}]}}]}

data: {"id":"c1","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"b","function":{"name":"read","arguments":"{oops"}}]}}]}

data: {"id":"c1","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}

data: {"id":"c1","choices":[],"usage":{"prompt_tokens":20,"completion_tokens":7,"total_tokens":27,"prompt_tokens_details":{"cached_tokens":12},"completion_tokens_details":{"reasoning_tokens":3}}}

data: [DONE]

`}
	text, calls, got, err := stream(t, open(t, e), &llm.Request{Messages: []llm.Message{llm.User("Read x and y.")}, Tools: []llm.Tool{{Name: "read"}}})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if text != "Let me look." || !cmp.Equal(calls, []string{"read", "read"}) {
		t.Errorf("as it came: %q, %v", text, calls)
	}
	if !strings.Contains(e.sent, `"stream_options":{"include_usage":true}`) {
		t.Errorf("no usage was asked for: %s", e.sent)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		e    endpoint
		want llm.Error
	}{
		"rate limit": {
			endpoint{status: 429, header: map[string]string{"Retry-After": "7", "X-Request-Id": "r1"}, body: `{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}`},
			llm.Error{Class: llm.RateLimit, Status: 429, Code: "rate_limit_exceeded", Message: "slow down", RetryAfter: 7 * time.Second, RequestID: "r1"},
		},
		"milliseconds": {
			endpoint{status: 429, header: map[string]string{"Retry-After": "1", "Retry-After-Ms": "250"}, body: `{"error":{"message":"slow down"}}`},
			llm.Error{Class: llm.RateLimit, Status: 429, Message: "slow down", RetryAfter: 250 * time.Millisecond},
		},
		"a date": {
			endpoint{status: 429, header: map[string]string{"Date": "Sat, 21 Nov 2026 20:00:00 GMT", "Retry-After": "Sat, 21 Nov 2026 20:00:30 GMT"}, body: `{"error":{"message":"slow down"}}`},
			llm.Error{Class: llm.RateLimit, Status: 429, Message: "slow down", RetryAfter: 30 * time.Second},
		},
		"in words": {
			endpoint{status: 429, body: `{"error":{"message":"Limit reached. Please try again in 6m0.5s.","type":"tokens"}}`},
			llm.Error{Class: llm.RateLimit, Status: 429, Code: "tokens", Message: "Limit reached. Please try again in 6m0.5s.", RetryAfter: 6*time.Minute + 500*time.Millisecond},
		},
		"reset": {
			endpoint{status: 429, header: map[string]string{"X-Ratelimit-Remaining-Tokens": "0", "X-Ratelimit-Reset-Tokens": "6m0s", "X-Ratelimit-Remaining-Requests": "9", "X-Ratelimit-Reset-Requests": "1h"}, body: `{}`},
			llm.Error{Class: llm.RateLimit, Status: 429, Message: "{}", RetryAfter: 6 * time.Minute},
		},
		"quota": {
			endpoint{status: 429, header: map[string]string{"Retry-After": "7"}, body: `{"error":{"message":"no money","type":"insufficient_quota","code":"insufficient_quota"}}`},
			llm.Error{Class: llm.Quota, Status: 429, Code: "insufficient_quota", Message: "no money"},
		},
		"key": {
			endpoint{status: 401, body: `{"error":{"message":"Incorrect API key provided: ` + canary + ` or sk-abc***xyz.","type":"invalid_request_error","code":"invalid_api_key"}}`},
			llm.Error{Class: llm.Auth, Status: 401, Code: "invalid_api_key", Message: "Incorrect API key provided: (secret) or (secret)"},
		},
		"too long": {
			endpoint{status: 400, body: `{"error":{"message":"This model's maximum context length is 8192 tokens","type":"invalid_request_error","code":"context_length_exceeded"}}`},
			llm.Error{Class: llm.TooLong, Status: 400, Code: "context_length_exceeded", Message: "This model's maximum context length is 8192 tokens"},
		},
		"a string": {
			endpoint{status: 404, body: `{"error":"model 'm' not found"}`},
			llm.Error{Class: llm.NotFound, Status: 404, Message: "model 'm' not found"},
		},
		"a page": {
			endpoint{status: 502, header: map[string]string{"Content-Type": "text/html"}, body: `<html>nginx</html>`},
			llm.Error{Class: llm.Server, Status: 502, Message: "Bad Gateway"},
		},
		"overloaded": {
			endpoint{status: 503, body: ``},
			llm.Error{Class: llm.Overloaded, Status: 503},
		},
		"filter": {
			endpoint{status: 400, body: `{"error":{"message":"held back","code":"content_filter"}}`},
			llm.Error{Class: llm.Filter, Status: 400, Code: "content_filter", Message: "held back"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.want.Provider, c.want.Model = "local", "m"
			m := open(t, &c.e)
			r := &llm.Request{Messages: []llm.Message{llm.User("Hello")}}
			_, called := m.Call(t.Context(), r)
			_, _, _, streamed := stream(t, m, r)
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
