package anthropic_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/anthropic"
)

type trip func(*http.Request) (*http.Response, error)

func (f trip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// FuzzAnswer reads whatever may be sent. What is given as an answer can be sent
// back.
func FuzzAnswer(f *testing.F) {
	f.Add(whole, false)
	f.Add(hello, false)
	f.Add("null", false)
	f.Add(`{"content":[{"type":"web_search_tool_result","content":[]},{"type":"tool_use","id":"","name":"","input":1}],"stop_reason":"pause_turn"}`, false)
	f.Add(events(
		`{"type":"message_start","message":{"id":"msg_1","usage":{"input_tokens":5}}}`,
		`{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"a","signature":""}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"H"}}`,
		`{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"a","name":"t","input":{}}}`,
		`{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{"}}`,
		`{"type":"content_block_start","index":2,"content_block":{"type":"server_tool_use","id":"b","name":"t","input":{}}}`,
		`{"type":"content_block_delta","index":2,"delta":{"type":"citations_delta","citation":{"type":"x"}}}`,
		`{"type":"message_delta","delta":{"stop_reason":"max_tokens"},"usage":{"output_tokens":7,"cache_read_input_tokens":-1}}`,
	), true)
	f.Add(events(`{"type":"content_block_delta","index":7,"delta":{"type":"text_delta","text":"H"}}`), true)
	f.Add(events(`{"type":"error","error":{"type":"overloaded_error","message":"x"}}`), true)
	f.Fuzz(func(t *testing.T, body string, streamed bool) {
		answer, kind := body, "application/json"
		if streamed {
			kind = "text/event-stream"
		}
		client := &http.Client{Transport: trip(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(strings.NewReader(answer)), Request: r}, nil
		})}
		m, err := anthropic.New(&anthropic.Options{BaseURL: "http://127.0.0.1", APIKey: key, HTTPClient: client}).Model("m")
		if err != nil {
			t.Fatal(err)
		}
		r := &llm.Request{Messages: []llm.Message{llm.User("x")}, Schema: &llm.Schema{Name: "t", Schema: []byte(`{"type":"object"}`)}}
		var res *llm.Response
		if streamed {
			for d, e := range m.Stream(t.Context(), r) {
				res, err = d.Response, e
			}
		} else {
			res, err = m.Call(t.Context(), r)
		}
		var e *llm.Error
		if err != nil {
			if !errors.As(err, &e) {
				t.Errorf("no *llm.Error: %v", err)
			}
			return
		}
		next := &llm.Request{Messages: []llm.Message{llm.User("x"), res.Message}}
		tools := llm.Message{Role: llm.RoleTools}
		for _, c := range res.Message.Calls() {
			tools.Parts = append(tools.Parts, llm.Part{Result: &llm.ToolResult{ID: c.ID, Name: c.Name}})
		}
		if len(tools.Parts) == 0 {
			tools = llm.User("y")
		}
		next.Messages = append(next.Messages, tools)
		answer, kind = hello, "application/json"
		if _, err := m.Call(t.Context(), next); err != nil {
			t.Fatalf("the answer cannot be sent back: %v", err)
		}
	})
}
