/*
Package agent is the loop of a language model and its tools, as durable code.

	var finder = agent.New("finder", agent.Config{
		Instruction: "Use filesystem and fetch to answer questions.",
		Servers:     []string{"filesystem", "fetch"},
		Tools:       []*agent.Tool{agent.Func("now", "The time in a city.", now, &agent.FuncOptions{ReadOnly: true})},
	})

An agent is a value: a name, an instruction, the name of a model, names of MCP
servers, functions. What the names stand for is given to the engine's Open, as
[Models] and as the host of package mcphost. Every [Runner], an agent or a
pattern of agents, has one method, Run, which is workflow code:

	res, err := app.Run(ctx, finder, "Summarize README.md.")         // a run of its own, on the configured engine
	run, err := agent.Start(ctx, eng, finder, nil, "Summarize …")    // the same, and go on
	text, err := agent.Text(ctx, finder, "Summarize README.md.")     // inside of a workflow, as a part of its run
	list, err := agent.Object[[]File](ctx, finder, "Which files …")  // an answer of a Go type

# What is recorded

Each call of a model is a step, "llm.<provider>.call"; each call of a tool is
one; and so is the list of a server's tools, which a run keeps to. A conversation
crosses into a step by its digest, however long it is, and each message is
stored once. So a run that was killed in its tenth turn goes on there, and no
recorded call is paid for again.

Every tool call of a model has exactly one result before the model is asked
again, whatever happened: an error, a denial, an unknown outcome, a limit. A tool
that says that it only reads, or that it may be repeated, is called again where
it is not known whether it ran; any other one is called at most once, and then
the model hears that the outcome is unknown.

# What comes of what

	a provider is busy, or unreachable         the engine waits as long as it says, and asks again
	a provider refuses the key                 a question of [Repairs] where ModelSet.AskKey
	a tool that does not exist, bad arguments  a result with a hint; turn after turn: [ErrMistakes]
	the same calls again and again             a result that says so; then [ErrLoop]
	a tool fails, or panics                    a result that says so
	a tool that the policy asks about          a question of [Approvals]
	an answer that does not fit its schema     it is sent back, twice; then [ErrAnswer]
	a limit of [Budget]                        a last turn without tools; Result.Stop says which
	a model that the program does not link     [ErrNoModel]
	neither engine nor durable.With            an error that names the ways in
*/
package agent
