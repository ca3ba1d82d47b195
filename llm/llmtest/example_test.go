package llmtest_test

import (
	"context"
	"fmt"
	"log"

	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/llmtest"
)

func ExampleNew() {
	script := llmtest.New(
		llmtest.Call("read_file", `{"path":"story.md"}`),
		llmtest.Say("A good story."),
	)
	m, _ := script.Model("")
	ctx := context.Background()

	r := &llm.Request{Messages: []llm.Message{llm.User("Grade story.md.")}, Tools: []llm.Tool{{Name: "read_file"}}}
	res, err := m.Call(ctx, r)
	if err != nil {
		log.Fatal(err)
	}
	call := res.Message.Calls()[0]
	fmt.Println(res.Stop, call.Name, string(call.Args))

	r.Messages = append(r.Messages, res.Message, llm.Message{Role: llm.RoleTools, Parts: []llm.Part{
		{Result: &llm.ToolResult{ID: call.ID, Name: call.Name, Parts: []llm.Part{{Text: "Once upon a time."}}}},
	}})
	res, err = m.Call(ctx, r)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(res.Stop, res.Message.Text())
	// Output:
	// tools read_file {"path":"story.md"}
	// end A good story.
}

func ExampleParse() {
	script, err := llmtest.Parse("script.yaml", []byte(`
- error: {class: rate_limit, retry_after: 2s}
- text: Hello there.
`))
	if err != nil {
		log.Fatal(err)
	}
	m, _ := script.Model("")
	r := &llm.Request{Messages: []llm.Message{llm.User("Hello")}}
	_, err = m.Call(context.Background(), r)
	fmt.Println(err)
	for d, err := range m.Stream(context.Background(), r) {
		if err != nil {
			log.Fatal(err)
		}
		if d.Response == nil {
			fmt.Printf("%q\n", d.Text)
		}
	}
	// Output:
	// script:script: rate limit (429): by the script; try again in 2s
	// "Hello "
	// "there."
}
