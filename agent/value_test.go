package agent_test

import (
	"context"
	"strings"
	"testing"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/llmtest"
)

// TestWholeNumbersWithAPoint: to a schema 3.0 and 3e0 are integers, and to
// encoding/json they are not. Some models write them.
func TestWholeNumbersWithAPoint(t *testing.T) {
	t.Parallel()
	type order struct {
		N    int     `json:"n"`
		List []uint8 `json:"list"`
		Part float64 `json:"part"`
		Any  any     `json:"any"`
	}
	const args = `{"n":3.0,"list":[1,2e0],"part":0.5,"any":{"a":[1.5]}}`
	var got []order
	tool := agent.Func("order", "Orders.", func(_ context.Context, o order) (string, error) {
		got = append(got, o)
		return "done", nil
	}, nil)
	a := agent.New("clerk", agent.Config{Tools: []*agent.Tool{tool}})
	m := llmtest.New(llmtest.Calls("order", args, "order", `{"n":3.5,"list":[],"part":1,"any":1}`), llmtest.Say(args))
	o, err := agent.Object[order](durable.With(t.Context(), agent.Models{m}, a), a, "Go.")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, o)
	if len(got) != 2 {
		t.Fatalf("got %+v", got)
	}
	for _, o := range got {
		if o.N != 3 || len(o.List) != 2 || o.List[1] != 2 || o.Part != 0.5 {
			t.Errorf("got %+v", o)
		}
	}
}

// TestPartsThatAreNone: what a function gives and no request may have is a
// failed result, and not the end of the run.
func TestPartsThatAreNone(t *testing.T) {
	t.Parallel()
	for _, p := range []llm.Part{{Media: &llm.Media{}}, {Media: &llm.Media{Type: "image/png"}}, {Call: &llm.ToolCall{ID: "x", Name: "y"}}, {Text: "x", Media: &llm.Media{Type: "a/b", Data: []byte("x")}}} {
		one := agent.Func("one", "Gives one.", func(context.Context, struct{}) (llm.Part, error) { return p, nil }, nil)
		many := agent.Func("many", "Gives many.", func(context.Context, struct{}) ([]llm.Part, error) { return []llm.Part{{Text: "x"}, p}, nil }, nil)
		a := agent.New("clerk", agent.Config{Tools: []*agent.Tool{one, many}})
		m := llmtest.New(llmtest.Calls("one", `{}`, "many", `{}`), llmtest.Say("Done."))
		if text, err := agent.Text(durable.With(t.Context(), agent.Models{m}, a), a, "Go."); err != nil || text != "Done." {
			t.Errorf("%+v: %q, %v", p, text, err)
			continue
		}
		for _, r := range m.Requests()[1].Messages[2].Parts {
			if !r.Result.Error || !strings.Contains(r.Result.Text(), "did its work") {
				t.Errorf("%+v: %+v", p, r.Result)
			}
		}
	}
}
