package openai_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/llmtest"
	"github.com/mcpagent/mcpagent/llm/openai"
)

// FuzzAnswer reads whatever an endpoint may send. What is given as an answer
// can be sent back.
func FuzzAnswer(f *testing.F) {
	f.Add(whole, false)
	f.Add(hello, false)
	f.Add("null", false)
	f.Add(`{"error":"x"}`, false)
	f.Add("data: {\"id\":\"c1\",\"choices\":[{\"index\":0,\"delta\":{\"reasoning\":\"H\",\"content\":\"x\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":3,\"id\":\"\",\"function\":{\"name\":\"t\",\"arguments\":\"{\"},\"extra\":1}]},\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n", true)
	f.Add("data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":-1,\"function\":{\"name\":\"a b\"}}]},\"finish_reason\":\"x\"}],\"usage\":{\"total_tokens\":-1}}\n\n", true)
	f.Add("data: {\"error\":{\"message\":\"x\"}}\n\n", true)
	f.Fuzz(func(t *testing.T, body string, streamed bool) {
		var sent string
		answer, kind := body, "application/json"
		if streamed {
			kind = "text/event-stream"
		}
		client := &http.Client{Transport: trip(func(r *http.Request) (*http.Response, error) {
			b, err := io.ReadAll(r.Body)
			sent = string(b)
			return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(strings.NewReader(answer)), Request: r}, err
		})}
		m, err := openai.Compatible("local", &openai.Options{BaseURL: "http://127.0.0.1/v1", HTTPClient: client}).Model("m")
		if err != nil {
			t.Fatal(err)
		}
		r := &llm.Request{Messages: []llm.Message{llm.User("x")}}
		var res *llm.Response
		if streamed {
			_, _, res, err = stream(t, m, r)
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
		if err := llmtest.ValidateOpenAI([]byte(sent)); err != nil {
			t.Errorf("%v\n%s", err, sent)
		}
	})
}
