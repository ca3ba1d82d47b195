package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/localengine"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/openai"
)

// mock is a server of Chat Completions that wants a tool called for so many
// turns.
func mock(b *testing.B, turns int) *httptest.Server {
	answer := func(message, finish string) []byte {
		return fmt.Appendf(nil, `{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":%s,"finish_reason":%q}],"usage":{"prompt_tokens":10,"completion_tokens":1,"total_tokens":11}}`, message, finish)
	}
	end := answer(`{"role":"assistant","content":"done"}`, "stop")
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		n := bytes.Count(body, []byte(`"role":"tool"`))
		w.Header().Set("Content-Type", "application/json")
		if n >= turns {
			_, _ = w.Write(end)
			return
		}
		_, _ = w.Write(answer(fmt.Sprintf(`{"role":"assistant","content":null,"tool_calls":[{"id":"c%d","type":"function","function":{"name":"sum","arguments":"{\"a\":%d,\"b\":1}"}}]}`, n, n), "tool_calls"))
	}))
	b.Cleanup(srv.Close)
	return srv
}

// BenchmarkTurn is what one turn, a model call and a tool call, costs over the
// same HTTP call without an agent: medians, taken in turns.
func BenchmarkTurn(b *testing.B) {
	const turns = 20
	srv := mock(b, turns)
	a := agent.New("adder", agent.Config{Instruction: "Add.", Tools: []*agent.Tool{sum}, Budget: agent.Budget{Turns: -1}})
	models := agent.Models{openai.New(&openai.Options{APIKey: durable.NewSecret("x"), BaseURL: srv.URL})}
	for name, open := range map[string]func() (*durable.Engine, error){
		"memory": func() (*durable.Engine, error) {
			return durable.NewMemory(b.Context(), &durable.Options{Logger: quiet}, a, models)
		},
		"local": func() (*durable.Engine, error) {
			return localengine.Open(b.Context(), filepath.Join(b.TempDir(), "a.db"), &localengine.Options{Engine: durable.Options{Logger: quiet}}, a, models)
		},
	} {
		b.Run(name, func(b *testing.B) {
			e, err := open()
			if err != nil {
				b.Fatal(err)
			}
			defer func() {
				if err := e.Close(context.Background()); err != nil {
					b.Error(err)
				}
			}()
			var with, without []time.Duration
			var conversation []llm.Message
			for b.Loop() {
				began := time.Now()
				run, err := agent.Start(b.Context(), e, a, nil, "Go.")
				if err != nil {
					b.Fatal(err)
				}
				if _, err = agent.ResultOf(b.Context(), run); err != nil {
					b.Fatal(err)
				}
				with = append(with, time.Since(began)/turns)
				if conversation == nil {
					conversation = said(b, models, a)
				}
				took, err := bare(models, conversation, turns)
				if err != nil {
					b.Fatal(err)
				}
				without = append(without, took/turns)
			}
			slices.Sort(with)
			slices.Sort(without)
			w, wo := with[len(with)/2], without[len(without)/2]
			b.ReportMetric(float64(w.Microseconds()), "µs/turn")
			b.ReportMetric(float64(wo.Microseconds()), "µs/call-alone")
			b.ReportMetric(float64((w - wo).Microseconds()), "µs/over")
		})
	}
}

// said is the whole conversation of the benchmark.
func said(b *testing.B, models agent.Models, a *agent.Agent) []llm.Message {
	ctx := durable.With(b.Context(), models, a)
	res, err := a.Run(ctx, &agent.Input{Messages: []llm.Message{llm.User("Go.")}})
	if err != nil {
		b.Fatal(err)
	}
	return append([]llm.Message{llm.User("Go.")}, res.Messages()...)
}

// bare makes the same calls of the model, through the provider and nothing
// else.
func bare(models agent.Models, conversation []llm.Message, turns int) (time.Duration, error) {
	m, err := models[0].Model("")
	if err != nil {
		return 0, err
	}
	tools := []llm.Tool{{Name: "sum", Description: "adds", Schema: json.RawMessage(`{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}},"required":["a","b"],"additionalProperties":false}`)}}
	began := time.Now()
	for n := range turns + 1 {
		if _, err := m.Call(context.Background(), &llm.Request{System: "Add.", Tools: tools, Messages: conversation[:2*n+1]}); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

// BenchmarkThousandAgents runs 1,000 agents of a turn at once.
func BenchmarkThousandAgents(b *testing.B) {
	srv := mock(b, 1)
	a := agent.New("adder", agent.Config{Instruction: "Add.", Tools: []*agent.Tool{sum}})
	e, err := durable.NewMemory(b.Context(), &durable.Options{Logger: quiet}, a, agent.Models{openai.New(&openai.Options{APIKey: durable.NewSecret("x"), BaseURL: srv.URL})})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				run, err := agent.Start(b.Context(), e, a, nil, "Go.")
				if err == nil {
					_, err = agent.ResultOf(b.Context(), run)
				}
				if err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
	}
	if err := e.Close(context.Background()); err != nil {
		b.Error(err)
	}
}
