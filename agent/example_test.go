package agent_test

import (
	"context"
	"fmt"
	"log"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm/llmtest"
)

type question struct {
	City string `json:"city" jsonschema:"name of the city"`
}

func ExampleFunc() {
	weather := agent.Func("weather", "The weather in a city.", func(_ context.Context, q question) (string, error) {
		return "rain in " + q.City, nil
	}, &agent.FuncOptions{ReadOnly: true})
	guide := agent.New("guide", agent.Config{Instruction: "Answer in one sentence.", Tools: []*agent.Tool{weather}})

	// A script stands for the model; any other provider takes its place.
	model := llmtest.New(llmtest.Call("weather", `{"city":"Bergen"}`), llmtest.Say("It rains in Bergen."))
	eng, err := durable.NewMemory(context.Background(), nil, agent.Models{model}, guide)
	if err != nil {
		log.Fatal(err)
	}
	defer eng.Close(context.Background())

	run, err := agent.Start(context.Background(), eng, guide, nil, "What is the weather in Bergen?")
	if err != nil {
		log.Fatal(err)
	}
	res, err := agent.ResultOf(context.Background(), run)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(res.Text(), res.Turns, "turns,", res.Calls, "call")
	// Output: It rains in Bergen. 2 turns, 1 call
}

func ExampleObject() {
	type grade struct {
		Points int    `json:"points"`
		Why    string `json:"why"`
	}
	grader := agent.New("grader", agent.Config{Instruction: "Grade the story from 1 to 10."})
	model := llmtest.New(llmtest.Say(`{"points": "seven"}`), llmtest.Say(`{"points": 7, "why": "a good end"}`))

	// In a test, plain Go is enough.
	ctx := durable.With(context.Background(), agent.Models{model}, grader)
	g, err := agent.Object[grade](ctx, grader, "Once upon a time …")
	fmt.Println(g.Points, g.Why, err)
	// Output: 7 a good end <nil>
}

func ExampleConversation() {
	friend := agent.New("friend", agent.Config{})
	model := llmtest.New(llmtest.Say("Hello Ada."), llmtest.Say("You are Ada."))
	ctx := durable.With(context.Background(), agent.Models{model}, friend)

	talk := agent.NewConversation(friend)
	for _, s := range []string{"I am Ada.", "Who am I?"} {
		res, err := talk.Say(ctx, s)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(res.Text())
	}
	fmt.Println(len(talk.Messages()), "messages")
	// Output:
	// Hello Ada.
	// You are Ada.
	// 4 messages
}
