package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/llmtest"
)

type pair struct {
	A int `json:"a"`
	B int `json:"b"`
}

var sum = agent.Func("sum", "adds", func(_ context.Context, p pair) (int, error) { return p.A + p.B, nil }, &agent.FuncOptions{ReadOnly: true})

func TestAnAgentCallsItsToolsAndAnswers(t *testing.T) {
	t.Parallel()
	a := agent.New("adder", agent.Config{Instruction: "Add.", Tools: []*agent.Tool{sum}})
	everywhere(t, []llmtest.Answer{
		{Calls: []llm.ToolCall{call("1", "sum", `{"a":2,"b":3}`), call("2", "sum", `{"a":4,"b":5}`), call("3", "nothing", ""), {ID: "4", Name: "sum", Args: json.RawMessage(`"{a:"`), Bad: "not JSON"}}},
		echo,
	}, func(t *testing.T, w *world) {
		res, err := w.run(a, "Add these.")
		if err != nil {
			t.Fatal(err)
		}
		want := "1 false 5\n2 false 9\n3 true there is no tool \"nothing\"; there are \"sum\"\n4 true the arguments of sum do not fit: not JSON; call it again with arguments that fit its schema"
		if res.Text() != want {
			t.Errorf("answer:\n%s\nwant:\n%s", res.Text(), want)
		}
		if res.Turns != 2 || res.Calls != 2 || res.Usage.Input == 0 || res.Stop != llm.StopEnd {
			t.Errorf("result = %+v", res)
		}
		for i, r := range w.script.Requests() {
			if r.System != "Add." || len(r.Tools) != 1 || len(r.Messages) != 1+i*2 {
				t.Errorf("request %d: %q, %d tools, %d messages", i, r.System, len(r.Tools), len(r.Messages))
			}
		}
	}, a)
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

// mute is a provider whose models say nothing: neither an answer nor an error.
type mute struct{}

func (mute) Provider() string                  { return "mute" }
func (mute) Name() string                      { return "mute" }
func (m mute) Model(string) (llm.Model, error) { return m, nil }

func (mute) Call(context.Context, *llm.Request) (*llm.Response, error) { return nil, nil }

func (mute) Stream(context.Context, *llm.Request) iter.Seq2[llm.Delta, error] {
	return func(func(llm.Delta, error) bool) {}
}

func TestAModelThatGivesNothingFailsTheCall(t *testing.T) {
	t.Parallel()
	a := agent.New("alone", agent.Config{})
	synctest.Test(t, func(t *testing.T) { // it is asked ten times
		_, err := agent.Text(durable.With(t.Context(), agent.Models{mute{}}), a, "Hello?")
		if err == nil || !strings.Contains(err.Error(), "neither an answer nor an error") {
			t.Errorf("error = %v", err)
		}
	})
}
