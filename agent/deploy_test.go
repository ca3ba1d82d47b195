package agent_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/durabletest"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/llmtest"
)

// A call of a model that was under way, or waited to be made again, while a
// deploy changed the agent's instruction referred to what the run's code does
// not make any more, and the run failed.
func TestAnInstructionIsChangedWhileAModelIsAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		script := llmtest.NewScenes(
			llmtest.Scene{System: "Old.", Answers: []llmtest.Answer{llmtest.Call("sum", `{"a":1,"b":1}`), llmtest.Fail(llm.RateLimit, time.Hour)}},
			llmtest.Scene{System: "New.", Answers: []llmtest.Answer{llmtest.Call("sum", `{"a":1,"b":1}`), llmtest.Say("two")}})
		store := durabletest.NewSurvivor()
		open := func(instruction string) *durable.Engine {
			a := agent.New("adder", agent.Config{Instruction: instruction, Tools: []*agent.Tool{sum}})
			e, err := store.Open(t.Context(), &durable.Options{Logger: quiet}, nil, a, agent.Models{script})
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		e := open("Old.")
		if _, err := agent.Start(t.Context(), e, agent.New("adder", agent.Config{}), &durable.StartOptions{ID: "run"}, "Add."); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if err := e.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		e = open("New.")
		res, err := agent.ResultOf(t.Context(), e.Run("run", ""))
		if err != nil || res.Text() != "two" || len(script.Requests()) != 3 || script.Requests()[2].System != "New." {
			t.Errorf("%d requests: %+v, %v", len(script.Requests()), res, err)
		}
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
		sound(t, script)
	})
}
