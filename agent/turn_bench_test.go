package agent_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/anthropic"
	"github.com/mcpagent/mcpagent/llm/openai"
)

// BenchmarkTurn is ten turns of an agent, a model call and a tool call each,
// in memory. Its endpoint answers at once, without a network.
func BenchmarkTurn(b *testing.B) {
	for _, p := range []struct {
		name, result string
		call, end    string
		provider     func(*http.Client, string) llm.Provider
	}{
		{
			"openai", `"role":"tool"`,
			`{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"c%d","type":"function","function":{"name":"sum","arguments":"{\"a\":%d,\"b\":1}"}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":10,"completion_tokens":1,"total_tokens":11}}`,
			`{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"done"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":1,"total_tokens":11}}`,
			func(c *http.Client, url string) llm.Provider {
				return openai.New(&openai.Options{APIKey: durable.NewSecret("bench"), BaseURL: url, HTTPClient: c})
			},
		},
		{
			"anthropic", `"type":"tool_result"`,
			`{"id":"c","type":"message","role":"assistant","model":"m","content":[{"type":"tool_use","id":"c%d","name":"sum","input":{"a":%d,"b":1}}],"stop_reason":"tool_use","usage":{"input_tokens":10,"output_tokens":1}}`,
			`{"id":"c","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"done"}],"stop_reason":"end_turn","usage":{"input_tokens":10,"output_tokens":1}}`,
			func(c *http.Client, url string) llm.Provider {
				return anthropic.New(&anthropic.Options{APIKey: durable.NewSecret("bench"), BaseURL: url, HTTPClient: c})
			},
		},
	} {
		const turns = 10
		answer := func(body []byte) string {
			if n := bytes.Count(body, []byte(p.result)); n < turns {
				return fmt.Sprintf(p.call, n, n)
			}
			return p.end
		}
		run := func(b *testing.B, c *http.Client, url string) {
			type numbers struct {
				A int `json:"a"`
				B int `json:"b"`
			}
			a := agent.New("adder", agent.Config{Instruction: "Add.", Model: p.name + ":m", Budget: agent.Budget{Turns: -1},
				Tools: []*agent.Tool{agent.Func("sum", "adds", func(_ context.Context, n numbers) (int, error) { return n.A + n.B, nil }, nil)}})
			e, err := durable.NewMemory(b.Context(), &durable.Options{Logger: slog.New(slog.DiscardHandler)}, a, agent.Models{p.provider(c, url)})
			if err != nil {
				b.Fatal(err)
			}
			defer e.Close(context.Background())
			b.ReportAllocs()
			for b.Loop() {
				r, err := agent.Start(b.Context(), e, a, nil, "Go.")
				if err != nil {
					b.Fatal(err)
				}
				if res, err := agent.ResultOf(b.Context(), r); err != nil || res.Turns != turns+1 {
					b.Fatal(res, err)
				}
			}
		}
		b.Run(p.name+"/direct", func(b *testing.B) {
			run(b, &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				body, err := io.ReadAll(r.Body)
				text := answer(body)
				return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, ContentLength: int64(len(text)), Body: io.NopCloser(strings.NewReader(text)), Request: r}, err
			})}, "http://bench.invalid/v1")
		})
		b.Run(p.name+"/http", func(b *testing.B) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, answer(body))
			}))
			defer s.Close()
			run(b, http.DefaultClient, s.URL+"/v1")
		})
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
