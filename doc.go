/*
Package mcpagent is mcp-agent for Go: agents made of language models and MCP
servers, composed with a few patterns, that run durably and that any MCP client
can start, watch, answer and cancel.

	var finder = agent.New("finder", agent.Config{
		Instruction: "Use filesystem and fetch to answer questions.",
		Servers:     []string{"filesystem", "fetch"}, // names from mcp_agent.config.yaml
	})

	app, err := mcpagent.Open(ctx, &mcpagent.Options{Models: agent.Models{anthropic.New(nil)}}, finder)
	if err != nil {
		log.Fatal(err)
	}
	defer app.Close()
	res, err := app.Run(ctx, finder, "Summarize README.md in two sentences.")

An [App] is configuration, models, MCP servers and an engine put together. It is
a facade: what it is made of can be used without it, and nothing below imports
it.

  - [github.com/mcpagent/mcpagent/durable]: workflows, steps, questions to
    people, timers, signals; ordinary Go functions whose progress is durable.
    Its engines keep it in memory, in one SQLite file, or on a Temporal cluster.
  - [github.com/mcpagent/mcpagent/agent]: agents, their loop and their tools.
  - [github.com/mcpagent/mcpagent/pattern]: agents composed.
  - [github.com/mcpagent/mcpagent/llm]: models without a vendor; the providers
    are below it.
  - [github.com/mcpagent/mcpagent/mcphost]: the client's side of the Model
    Context Protocol.
  - [github.com/mcpagent/mcpagent/mcpserve]: its server's side.
  - [github.com/mcpagent/mcpagent/telemetry]: spans, metrics and logs.

docs/quickstart.md begins at the beginning.
*/
package mcpagent
