// Command hello is an agent with the tools of two MCP servers, on the engine
// that mcp_agent.config.yaml names.
//
//	go run ./examples/hello -model script:examples/hello/script.yaml   # no model, no key
//	go run ./examples/hello                                            # with OPENAI_API_KEY or ANTHROPIC_API_KEY
//	go run ./examples/hello -model ollama:qwen3 "What is here?"
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/mcpagent/mcpagent"
	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/examples/internal/choose"
)

var finder = agent.New("finder", agent.Config{
	Instruction: "Use filesystem and fetch to answer questions.",
	Servers:     []string{"filesystem", "fetch"}, // names from mcp_agent.config.yaml
})

func main() {
	ctx := context.Background()
	opts, question := choose.Options("hello", "Summarize README.md in two sentences.")
	app, err := mcpagent.Open(ctx, opts, finder)
	if err != nil {
		log.Fatal(err)
	}
	defer app.Close()
	res, err := app.Run(ctx, finder, question)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(res.Text())
}
