// Package mcphost holds the connections to MCP servers: it starts them, speaks
// to them, and calls their tools as steps of durable runs.
//
//	host := mcphost.New(&mcphost.Options{Servers: map[string]mcphost.Server{
//		"filesystem": {Command: "npx", Args: []string{"-y", "@modelcontextprotocol/server-filesystem", "."}},
//		"search":     {URL: "https://example.com/mcp", Headers: map[string]durable.Secret{"X-Key": key}},
//	}})
//	defer host.Close(ctx)
//	eng, err := localengine.Open(ctx, "runs.db", nil, host, research)
//
// In a workflow, [ListTools] and [CallTool] are durable calls: their results
// are recorded once. A call of a tool that neither only reads nor is idempotent
// is made at most once; when its outcome is unknown, the result says so. Where
// a server asks a person something in the middle of a call, the run asks it as
// a [durable.Question], for as long as it takes.
//
// Servers are started and connected when they are first needed, again when
// they died, and ended by [Host.Close]. A server that runs as a process gets a
// group of its own and few variables of the environment. Nothing of it survives
// Close, nor this process, however that ends; DESIGN.md says how, and on which
// systems.
//
// # Errors
//
//	the server does not start or answer, or is not configured   [ErrUnavailable], in an [*Error]
//	it refused the request                                      [ErrProtocol], in an [*Error]
//	the configuration does not allow the tool                   [ErrDenied]
//	it took too long                                            [durable.ErrTimeout], in an [*Error]
//	the call was sent, and nobody knows what came of it         [durable.ErrOutcomeUnknown]
//	an answer is larger than Options.MaxMessage                 [durable.ErrTooLarge], in an [*Error]
//	Close had to kill processes                                 an [*Error] for each server
//
// All of them hold on both sides of a step. None shows a configured secret.
package mcphost

import (
	"fmt"
	"strings"

	"github.com/mcpagent/mcpagent/internal/toolset"
)

// Errors of servers, for errors.Is, also about the failure of a step.
var (
	ErrUnavailable error = toolset.ErrUnavailable
	ErrProtocol    error = toolset.ErrProtocol
	ErrDenied      error = toolset.ErrDenied
)

// EffectKey is the key in a request's _meta under which a server finds the
// effect key of a tool call: the same whenever the same call is made again,
// and for no other call. A server that remembers it takes effect once.
const EffectKey = "io.github.mcpagent/effect-key"

// Error is the failure of a server.
type Error struct {
	Server string // its name in the configuration
	Op     string // what was tried: "connect", "close", or the method
	// Stderr is the end of what a server that runs as a process wrote there
	// last, where that may explain it.
	Stderr string
	Err    error
}

// Error names the server, what was tried and what happened.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "server %q: %s: %v", e.Server, e.Op, e.Err)
	if e.Stderr != "" {
		fmt.Fprintf(&b, "; it wrote last: %s", e.Stderr)
	}
	return b.String()
}

// Unwrap gives what it came from.
func (e *Error) Unwrap() error { return e.Err }

// kindOf makes an error that answers to a kind without saying its name, which
// is for policies, not for people.
func kindOf(kind error, format string, args ...any) error {
	return &ofKind{kind, fmt.Errorf(format, args...)}
}

type ofKind struct{ kind, err error }

func (e *ofKind) Error() string   { return e.err.Error() }
func (e *ofKind) Unwrap() []error { return []error{e.kind, e.err} }
