// Package mcpagent is mcp-agent for Go: long-running, interactive tools and
// agents that any MCP client can start, watch, answer and cancel, and that
// survive the death of their process.
//
// The root package is empty so far. It will hold the facade: configuration,
// models, MCP servers and an engine put together. What exists is built from
// these packages, which are used on their own:
//
//   - [github.com/mcpagent/mcpagent/durable]: workflows, steps, questions to
//     people, timers, signals; ordinary Go functions whose progress is durable.
//   - [github.com/mcpagent/mcpagent/durable/localengine]: runs them on one
//     SQLite file.
//   - [github.com/mcpagent/mcpagent/durable/temporalengine]: runs them on a
//     Temporal cluster.
//   - [github.com/mcpagent/mcpagent/durable/engines]: opens the engine that a
//     configuration file names.
//   - [github.com/mcpagent/mcpagent/mcpserve]: offers them as tools of an MCP
//     server, over stdio and HTTP.
//
// A whole program of that kind is examples/invoice.
package mcpagent
