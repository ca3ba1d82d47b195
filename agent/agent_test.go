package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/localengine"
	"github.com/mcpagent/mcpagent/llm"
)

// script is a provider whose model answers what a function says.
type script struct {
	mu    sync.Mutex
	asked []*llm.Request
	say   func(n int, r *llm.Request) (*llm.Response, error)
}

func (s *script) Provider() string                     { return "script" }
func (s *script) Model(name string) (llm.Model, error) { return s, nil }
func (s *script) Name() string                         { return "model" }
func (s *script) requests() []*llm.Request             { s.mu.Lock(); defer s.mu.Unlock(); return s.asked }
func (s *script) Call(_ context.Context, r *llm.Request) (*llm.Response, error) {
	s.mu.Lock()
	s.asked = append(s.asked, r)
	n := len(s.asked)
	s.mu.Unlock()
	return s.say(n, r)
}

func (s *script) Stream(ctx context.Context, r *llm.Request) iter.Seq2[llm.Delta, error] {
	return func(yield func(llm.Delta, error) bool) {
		res, err := s.Call(ctx, r)
		if err != nil {
			yield(llm.Delta{}, err)
			return
		}
		for _, w := range strings.SplitAfter(res.Message.Text(), " ") {
			if w != "" && !yield(llm.Delta{Text: w}, nil) {
				return
			}
		}
		yield(llm.Delta{Response: res}, nil)
	}
}

func text(s string) *llm.Response {
	return &llm.Response{Message: llm.Message{Role: llm.RoleModel, Parts: []llm.Part{{Text: s}}}, Stop: llm.StopEnd, Usage: llm.Usage{Input: 10, Output: 1}}
}

func calls(cs ...llm.ToolCall) *llm.Response {
	m := llm.Message{Role: llm.RoleModel}
	for _, c := range cs {
		m.Parts = append(m.Parts, llm.Part{Call: &c})
	}
	return &llm.Response{Message: m, Stop: llm.StopTools, Usage: llm.Usage{Input: 10, Output: 1}}
}

func call(id, name string, args any) llm.ToolCall {
	b, _ := json.Marshal(args)
	return llm.ToolCall{ID: id, Name: name, Args: b}
}

type pair struct {
	A int `json:"a"`
	B int `json:"b"`
}

var sum = agent.Func("sum", "adds", func(_ context.Context, p pair) (int, error) { return p.A + p.B, nil }, &agent.FuncOptions{ReadOnly: true})

// everywhere runs a test on each engine that is in this process, and in plain
// Go.
func everywhere(t *testing.T, s *script, a *agent.Agent, test func(t *testing.T, run func(content ...any) (*agent.Result, error))) {
	t.Helper()
	models := agent.Models{s}
	t.Run("plain", func(t *testing.T) {
		ctx := durable.With(t.Context(), models, a)
		test(t, func(content ...any) (*agent.Result, error) {
			in, err := agent.Say(content...)
			if err != nil {
				return nil, err
			}
			return a.Run(ctx, in)
		})
	})
	on := func(e *durable.Engine) func(content ...any) (*agent.Result, error) {
		return func(content ...any) (*agent.Result, error) {
			run, err := agent.Start(t.Context(), e, a, nil, content...)
			if err != nil {
				return nil, err
			}
			return agent.ResultOf(t.Context(), run)
		}
	}
	t.Run("memory", func(t *testing.T) {
		e, err := durable.NewMemory(t.Context(), nil, models, a)
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close(context.Background())
		test(t, on(e))
	})
	t.Run("local, put away after each turn", func(t *testing.T) {
		e, err := localengine.Open(t.Context(), filepath.Join(t.TempDir(), "a.db"), &localengine.Options{Engine: durable.Options{MaxAwake: -1}}, models, a)
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close(context.Background())
		test(t, on(e))
	})
}

func TestAnAgentCallsItsToolsAndAnswers(t *testing.T) {
	t.Parallel()
	s := &script{say: func(_ int, r *llm.Request) (*llm.Response, error) {
		last := r.Messages[len(r.Messages)-1]
		if last.Role == llm.RoleUser {
			return calls(call("1", "sum", pair{2, 3}), call("2", "sum", pair{4, 5}), call("3", "nothing", nil), llm.ToolCall{ID: "4", Name: "sum", Args: json.RawMessage(`"{a:"`), Bad: "not JSON"}), nil
		}
		var got []string
		for _, p := range last.Parts {
			got = append(got, fmt.Sprint(p.Result.ID, " ", p.Result.Error, " ", p.Result.Text()))
		}
		return text(strings.Join(got, "\n")), nil
	}}
	a := agent.New("adder", agent.Config{Instruction: "Add.", Tools: []*agent.Tool{sum}})
	everywhere(t, s, a, func(t *testing.T, run func(content ...any) (*agent.Result, error)) {
		res, err := run("Add these.")
		if err != nil {
			t.Fatal(err)
		}
		want := "1 false 5\n2 false 9\n3 true there is no tool \"nothing\"; there are \"sum\"\n4 true the arguments of sum do not fit: not JSON; call it again with arguments that fit its schema"
		if res.Text() != want {
			t.Errorf("answer:\n%s\nwant:\n%s", res.Text(), want)
		}
		if res.Turns != 2 || res.Calls != 3 || res.Usage.Input != 20 || res.Stop != llm.StopEnd {
			t.Errorf("result = %+v", res)
		}
	})
	for i, r := range s.requests() {
		if r.System != "Add." || len(r.Tools) != 1 || len(r.Messages) != 1+i%2*2 {
			t.Errorf("request %d: %q, %d tools, %d messages", i, r.System, len(r.Tools), len(r.Messages))
		}
	}
}

func TestAnAgentOutsideNamesTheWaysIn(t *testing.T) {
	t.Parallel()
	a := agent.New("alone", agent.Config{})
	_, err := agent.Text(t.Context(), a, "Hello?")
	if err == nil || !strings.Contains(err.Error(), "App.Run") || !strings.Contains(err.Error(), "durable.With") {
		t.Errorf("error = %v", err)
	}
	_, err = agent.Text(durable.With(t.Context(), agent.Models{}), a, "Hello?")
	if !errors.Is(err, agent.ErrNoModel) {
		t.Errorf("without a provider: %v", err)
	}
}
