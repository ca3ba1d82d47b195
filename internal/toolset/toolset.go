// Package toolset is what runs and the workers that hold the connections to
// MCP servers say to each other: the steps, their wire types, and the loop that
// makes one tool call out of them. It knows neither the protocol nor an engine;
// package mcphost binds the steps, package agent calls them.
package toolset

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
)

// The steps. Their names are those that the Python project's retry policies
// are translated to.
var (
	// List asks servers for their tools.
	List = durable.NewStep[ListIn, Listing]("mcp.list_tools", nil, &durable.StepOptions{
		Title: "List the tools of MCP servers", Timeout: listTimeout, Retry: Retry(),
	})
	// Call calls one tool. It is made at most once unless the call says
	// otherwise; see [Invoke].
	Call = durable.NewStep[CallIn, CallOut]("mcp.call_tool", nil, &durable.StepOptions{
		Title: "Call a tool of an MCP server", Retry: Retry(),
	})
	ListResources = durable.NewStep[ListIn, Resources]("mcp.list_resources", nil, &durable.StepOptions{
		Title: "List the resources of MCP servers", Timeout: listTimeout, Retry: Retry(),
	})
	ReadResource = durable.NewStep[ReadIn, Contents]("mcp.read_resource", nil, &durable.StepOptions{
		Title: "Read a resource of an MCP server", Retry: Retry(),
	})
	ListPrompts = durable.NewStep[ListIn, Prompts]("mcp.list_prompts", nil, &durable.StepOptions{
		Title: "List the prompts of MCP servers", Timeout: listTimeout, Retry: Retry(),
	})
	GetPrompt = durable.NewStep[PromptIn, Prompt]("mcp.get_prompt", nil, &durable.StepOptions{
		Title: "Get a prompt of an MCP server", Retry: Retry(),
	})
)

// listTimeout leaves room for servers that are installed when they start.
const listTimeout = 5 * time.Minute

// Retry is the policy of what is safe to repeat, about 8 seconds of patience: a
// server that is down for longer is something that the model, or a person,
// should hear of.
//
// Attempts that are lost to a death of the process count, so there are more of
// them than [durable.Options.MaxDeaths]: a run whose process keeps dying gets a
// problem, and can be resumed from it, before it fails.
func Retry() *durable.Retry {
	return &durable.Retry{MaxAttempts: 5, Initial: 500 * time.Millisecond, Max: 10 * time.Second}
}

// Elicitation is the question that a run asks when a server wants to know
// something from a person before it goes on with a call. The answer to a form
// is its content, or an [InputResponse]; where the server asks for a consent
// only, an InputResponse.
var Elicitation = durable.NewQuestion[json.RawMessage]("mcp.elicitation").
	Describe("A server's question", "An MCP server asks for something before it goes on with a tool call.")

// Errors that a step's failure answers to, on both sides of the engine.
var (
	// ErrUnavailable is a server that can't be reached: it does not start,
	// does not answer, or is not configured.
	ErrUnavailable = durable.NewErrorType("ServerInitializationError")
	// ErrProtocol is a server's refusal: an error instead of a result.
	ErrProtocol = durable.NewErrorType("McpError")
	// ErrDenied is a tool that the configuration does not allow.
	ErrDenied = durable.NewErrorType("ToolNotAllowed")
)

// ListIn names servers as the configuration does. None: all of them.
type ListIn struct {
	Servers []string `json:"servers,omitempty"`
}

// Listing is what there is to call. Required servers that can't be reached
// make the step fail; optional ones are named.
type Listing struct {
	Tools  []Listed `json:"tools"`
	Broken []Broken `json:"broken,omitempty"`
}

// Listed is a tool of a server. Its Name is unique in the listing and the same
// in every listing of this configuration.
type Listed struct {
	llm.Tool
	Server string `json:"server"`
	// Original is the server's name for it.
	Original string `json:"original"`
	// Method is what the host does instead of calling a tool, where it offers
	// a server's resources and prompts as tools: resources/list,
	// resources/read, prompts/list or prompts/get. Empty: it calls the tool.
	Method string `json:"method,omitempty"`
	// Timeout bounds a call, whatever progress it reports. 0: the engine's.
	Timeout time.Duration `json:"timeout,omitempty"`
}

// Repeatable reports whether a call that may have reached the server may be
// made again: the tool says that it only reads, or that a second call with the
// same arguments changes nothing more.
func (l *Listed) Repeatable() bool { return l.Hints.Repeatable() }

// Broken is an optional server that can't be reached, and why.
type Broken struct {
	Server string `json:"server"`
	Error  string `json:"error"`
}

// CallIn is one call, or the next part of one that needed input.
type CallIn struct {
	Server string       `json:"server"`
	Tool   string       `json:"tool"`             // the server's name for it
	Method string       `json:"method,omitempty"` // as in Listed
	Call   llm.ToolCall `json:"call"`
	Lent   string       `json:"lent,omitempty"` // digest of the call's arguments; see [Borrow]
	// Repeat allows the host to make the call again where its outcome is
	// unknown.
	Repeat bool `json:"repeat,omitempty"`
	// Wait is how long a server's question may stay open.
	Wait time.Duration `json:"wait,omitempty"`
	// Responses are all answers so far, by the keys of their requests.
	Responses map[string]InputResponse `json:"responses,omitempty"`
	// State is what the part before gave.
	State json.RawMessage `json:"state,omitempty"`
}

// CallOut is the result, or what the server needs first. Without either the
// server is busy: it did nothing, and is to be called again with the state.
type CallOut struct {
	Result *llm.ToolResult `json:"result,omitempty"`
	Needs  []InputRequest  `json:"needs,omitempty"`
	State  json.RawMessage `json:"state,omitempty"`
	// After is how long a busy server wants to be left alone. 0: it did not
	// say.
	After time.Duration `json:"after,omitempty"`
	// Held tells that the server waits for the answers in a live call, which
	// has to be told if none will come.
	Held bool `json:"held,omitempty"`
}

// The kinds of requests for input.
const (
	Form = "form" // fields to fill in
	URL  = "url"  // a page to visit, and consent to it
)

// InputRequest is what a server asks people in the middle of a call.
type InputRequest struct {
	Key     string          `json:"key"`
	Kind    string          `json:"kind"`
	Message string          `json:"message"`
	Schema  json.RawMessage `json:"schema,omitempty"` // of the content of a form
	URL     string          `json:"url,omitempty"`
	// Note says what was wrong with the answer before.
	Note string `json:"note,omitempty"`
}

// InputResponse answers an [InputRequest].
type InputResponse struct {
	Action  string          `json:"action"` // accept, decline or cancel
	Content json.RawMessage `json:"content,omitempty"`
}

// The actions of an [InputResponse].
const (
	Accept  = "accept"
	Decline = "decline"
	Cancel  = "cancel" // nobody said anything
)

// ReadIn names a resource.
type ReadIn struct {
	Server string `json:"server"`
	URI    string `json:"uri"`
}

// Resources are what servers offer to read.
type Resources struct {
	Resources []Resource `json:"resources"`
	Broken    []Broken   `json:"broken,omitempty"`
}

// Resource is something that a server offers to read. Of a template, URI is the
// template (RFC 6570).
type Resource struct {
	Server      string `json:"server"`
	URI         string `json:"uri"`
	Template    bool   `json:"template,omitempty"`
	Name        string `json:"name,omitempty"`
	Title       string `json:"title,omitempty"`
	Description string `json:"description,omitempty"`
	Type        string `json:"type,omitempty"` // MIME type
	Size        int64  `json:"size,omitempty"`
}

// Contents are a resource's content.
type Contents struct {
	Parts []llm.Part `json:"parts"`
}

// Prompts are what servers offer to say.
type Prompts struct {
	Prompts []PromptInfo `json:"prompts"`
	Broken  []Broken     `json:"broken,omitempty"`
}

// PromptInfo is a prompt that a server offers.
type PromptInfo struct {
	Server      string           `json:"server"`
	Name        string           `json:"name"` // the server's
	Title       string           `json:"title,omitempty"`
	Description string           `json:"description,omitempty"`
	Arguments   []PromptArgument `json:"arguments,omitempty"`
}

// PromptArgument is a text that a prompt takes.
type PromptArgument struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Required    bool   `json:"required,omitempty"`
}

// PromptIn names a prompt and its arguments.
type PromptIn struct {
	Server string            `json:"server"`
	Name   string            `json:"name"`
	Args   map[string]string `json:"args,omitempty"`
}

// Prompt is what a prompt says.
type Prompt struct {
	Description string        `json:"description,omitempty"`
	Messages    []llm.Message `json:"messages"`
}

// Failed is a call's result that says why there is none.
func Failed(c llm.ToolCall, format string, args ...any) *llm.ToolResult {
	return &llm.ToolResult{ID: c.ID, Name: c.Name, Error: true, Parts: []llm.Part{{Text: fmt.Sprintf(format, args...)}}}
}

// Glob matches a name against a pattern in which * stands for any text and ?
// for one character, whatever these are.
func Glob(pattern, name string) bool {
	p, n := []rune(pattern), []rune(name)
	i, j, star, mark := 0, 0, -1, 0
	for j < len(n) {
		switch {
		case i < len(p) && p[i] == '*':
			star, mark = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == n[j]):
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}
