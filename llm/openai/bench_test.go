package openai_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/openai"
)

// BenchmarkCall is what a call costs without the network: the conversation of
// ten turns, eight tools, and an answer with a call. Bare is the same bytes
// through net/http.
func BenchmarkCall(b *testing.B) {
	r := &llm.Request{System: strings.Repeat("instruction ", 100), Messages: []llm.Message{llm.User("Go.")}}
	for i := range 10 {
		id := string(rune('a' + i))
		r.Messages = append(r.Messages,
			llm.Message{Role: llm.RoleModel, Parts: []llm.Part{{Text: "Let me look."}, {Call: &llm.ToolCall{ID: id, Name: "read", Args: json.RawMessage(`{"path":"x"}`)}}}},
			llm.Message{Role: llm.RoleTools, Parts: []llm.Part{{Result: &llm.ToolResult{ID: id, Name: "read", Parts: []llm.Part{{Text: strings.Repeat("line of a file\n", 20)}}}}}})
	}
	for _, name := range []string{"read", "write", "list", "move", "find", "grep", "run", "stat"} {
		r.Tools = append(r.Tools, llm.Tool{Name: name, Description: "Does " + name, Schema: json.RawMessage(`{"type":"object","properties":{"path":{"type":"string","description":"where"}},"required":["path"]}`)})
	}
	var sent []byte
	client := &http.Client{Transport: trip(func(r *http.Request) (*http.Response, error) {
		sent, _ = io.ReadAll(r.Body)
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(whole)), Request: r}, nil
	})}
	m, err := openai.Compatible("local", &openai.Options{BaseURL: "http://127.0.0.1/v1", HTTPClient: client}).Model("m")
	if err != nil {
		b.Fatal(err)
	}
	small := &llm.Request{System: r.System, Messages: r.Messages[:3], Tools: r.Tools[:1]}
	b.Run("small", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := m.Call(b.Context(), small); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("call", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := m.Call(b.Context(), r); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("bare", func(b *testing.B) {
		b.ReportAllocs()
		body := bytes.Clone(sent)
		for b.Loop() {
			res, err := client.Post("http://127.0.0.1/v1/chat/completions", "application/json", bytes.NewReader(body))
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.ReadAll(res.Body)
			_ = res.Body.Close()
		}
	})
}
