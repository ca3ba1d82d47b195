package mcphost

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/internal/toolset"
	"github.com/mcpagent/mcpagent/llm"
)

// The types of listings. [Tool] has the name that models know it by, the
// server's own name for it, and its hints.
type (
	Tool     = toolset.Listed
	Listing  = toolset.Listing
	Broken   = toolset.Broken
	Resource = toolset.Resource
	Prompt   = toolset.Prompt
)

// ListTools lists the tools of servers; none named: of all. Required servers
// that can't be reached are the error, optional ones are in the listing. It is
// one recorded step. Runs in the workflow.
func ListTools(ctx context.Context, servers ...string) (Listing, error) {
	return toolset.List.Do(ctx, toolset.ListIn{Servers: servers})
}

// CallOptions say more about a call. The zero value is fine.
type CallOptions struct {
	// Repeat allows a second attempt of a call whose outcome is unknown: the
	// tool only reads, or the effect key makes it idempotent. [Call] takes it
	// from the tool's hints.
	Repeat bool
	// Wait is how long a question of the server to a person stays open. 0: 7
	// days.
	Wait time.Duration
	// Audience is who is meant by such a question. Empty: anybody.
	Audience string
}

// CallTool calls a tool by its server's name for it, with arguments that
// become a JSON object. It is made at most once, unless the options allow
// more. What the tool, the server or the connection fail at is a result with
// Error set; an error means that ctx ended or the engine can't go on. Runs in
// the workflow.
func CallTool(ctx context.Context, server, tool string, args any, o *CallOptions) (*llm.ToolResult, error) {
	l := toolset.Listed{Server: server, Original: tool}
	l.Name = tool
	l.Hints.Idempotent = o != nil && o.Repeat
	return invoke(ctx, l, args, o)
}

// Call calls a tool of a listing, as CallTool does. Its hints decide whether it
// may be called twice. Runs in the workflow.
func Call(ctx context.Context, t Tool, args any, o *CallOptions) (*llm.ToolResult, error) {
	if o != nil && o.Repeat {
		t.Hints.Idempotent = true
	}
	return invoke(ctx, t, args, o)
}

func invoke(ctx context.Context, l toolset.Listed, args any, o *CallOptions) (*llm.ToolResult, error) {
	if o == nil {
		o = &CallOptions{}
	}
	raw, err := json.Marshal(args)
	if err != nil {
		return nil, fmt.Errorf("arguments of tool %q: %w", l.Original, err)
	}
	return toolset.Invoke(ctx, l, llm.ToolCall{Name: l.Name, Args: raw}, &toolset.Options{Wait: o.Wait, Audience: o.Audience})
}

// ListResources lists what servers offer to read. It is one recorded step.
// Runs in the workflow.
func ListResources(ctx context.Context, servers ...string) ([]Resource, []Broken, error) {
	out, err := toolset.ListResources.Do(ctx, toolset.ListIn{Servers: servers})
	return out.Resources, out.Broken, err
}

// ReadResource reads a resource of a server: text and media. It is one
// recorded step. Runs in the workflow.
func ReadResource(ctx context.Context, server, uri string) ([]llm.Part, error) {
	out, err := toolset.ReadResource.Do(ctx, toolset.ReadIn{Server: server, URI: uri})
	return out.Parts, err
}

// ListPrompts lists what servers offer to say. It is one recorded step. Runs in
// the workflow.
func ListPrompts(ctx context.Context, servers ...string) ([]toolset.PromptInfo, []Broken, error) {
	out, err := toolset.ListPrompts.Do(ctx, toolset.ListIn{Servers: servers})
	return out.Prompts, out.Broken, err
}

// GetPrompt gets a prompt of a server, filled in. It is one recorded step. Runs
// in the workflow.
func GetPrompt(ctx context.Context, server, name string, args map[string]string) (Prompt, error) {
	return toolset.GetPrompt.Do(ctx, toolset.PromptIn{Server: server, Name: name, Args: args})
}

var _ durable.Definer = (*Host)(nil)
