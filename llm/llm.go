// Package llm is language models without a vendor: what is said to one, what
// it answers, and how it fails. The providers are packages below it, and each
// is a value that a program lists:
//
//	app, err := mcpagent.Open(ctx, &mcpagent.Options{Models: agent.Models{anthropic.New(nil), openai.New(nil)}}, finder)
//
// Agents name a model ("anthropic:claude-sonnet-5-5"); this package is for who
// calls one directly, and for who writes a provider:
//
//	m, err := anthropic.New(nil).Model("claude-sonnet-5-5")
//	res, err := m.Call(ctx, &llm.Request{Messages: []llm.Message{llm.User("Hello")}})
//
// A call is one attempt: nothing here retries, waits for a rate limit, or
// remembers. That is the engine's, and the agent's.
//
// # Errors
//
//	the provider refused, or could not be reached     [*Error], with its [Class]
//	a request that no provider could take             [*Error] of class [Invalid], before it is sent
//	ctx ended                                         its cause
package llm

import (
	"context"
	"encoding/json"
	"iter"
)

// Provider gives models by name. It is safe for concurrent use, holds
// credentials, and lives on workers: only names cross into runs.
type Provider interface {
	// Provider is its name, the part of a model's name before the colon.
	Provider() string
	// Model gives a model. The empty name is the provider's default. It does
	// no I/O: a model that does not exist fails when it is called.
	Model(name string) (Model, error)
}

// Configured is a [Provider] with a section in the configuration, under its
// name.
type Configured interface {
	Provider
	// Section is a pointer to what the section is decoded into, before the
	// first call of Model. What the program set in Go is there already, and
	// wins.
	Section() any
}

// Renewing is a [Configured] provider that takes its section anew while it
// works: with a key that was replaced, say.
type Renewing interface {
	Configured
	// Renew takes a section of the type of Section, by which calls of Model go
	// from now on, unless it makes no sense. False: requests go where they
	// went, with what they had.
	Renew(section any) bool
}

// Ready is a [Provider] that can tell, without a call, why none would succeed:
// that it has no key, say.
type Ready interface {
	Provider
	// Ready is nil if nothing is known to be missing.
	Ready() error
}

// Model is one language model. It is safe for concurrent use.
type Model interface {
	// Name is the provider's name for it, without the provider.
	Name() string
	// Call sends a request and gives the whole answer. It does not change
	// the request.
	Call(ctx context.Context, r *Request) (*Response, error)
	// Stream sends a request and gives the answer as it comes. The sequence
	// can be ranged over once; it ends after an error, or after the one Delta
	// that has the Response. To break off ends the request.
	Stream(ctx context.Context, r *Request) iter.Seq2[Delta, error]
}

// Request is what a model is asked. The zero value of a field means that the
// provider decides; what is set is sent, or refused by name.
type Request struct {
	// System is the instruction that stands above the conversation.
	System string
	// Messages alternate between user and model. Each call of a tool has its
	// result in the message after it.
	Messages []Message
	// Tools are what the model may call.
	Tools []Tool
	// Choice says whether it must.
	Choice ToolChoice
	// Serial asks for one tool call at a time.
	Serial bool
	// Schema asks for an answer that is JSON of that schema.
	Schema *Schema

	MaxTokens   int // of the answer
	Temperature *float64
	TopP        *float64
	Seed        *int64
	Stop        []string // texts before which the answer ends
	// Effort is how much the model thinks first: none, low, medium or high.
	Effort string
	// User is who it is for, as the provider may know it.
	User string
	// Extra is a JSON object that is merged into the provider's request, for
	// what is not in this type.
	Extra json.RawMessage
}

// ToolChoice says whether the model must call a tool: one of the constants, or
// the name of the tool that it must call.
type ToolChoice string

// The choices beside a tool's name.
const (
	ToolAuto     ToolChoice = ""
	ToolNone     ToolChoice = "none"
	ToolRequired ToolChoice = "required"
)

// Schema is the form of an answer.
type Schema struct {
	Name   string          `json:"name,omitempty"` // for providers that want one: [A-Za-z0-9_-]{1,64}
	Schema json.RawMessage `json:"schema"`         // JSON Schema, of an object
}

// Tool is what a model is told about something that it may call, and what
// those who call it know besides.
type Tool struct {
	Name        string          `json:"name"` // [A-Za-z0-9_-]{1,64}
	Title       string          `json:"title,omitempty"`
	Description string          `json:"description,omitempty"`
	Schema      json.RawMessage `json:"schema,omitempty"` // JSON Schema of the arguments; none: an object without properties
	Output      json.RawMessage `json:"output,omitempty"` // of the structured result; providers don't send it
	Hints       Hints           `json:"hints,omitzero"`
}

// Hints are what a tool says about its effects: the tool annotations of the
// Model Context Protocol. They are claims; a policy decides whom to believe.
type Hints struct {
	ReadOnly    bool  `json:"read_only,omitempty"`
	Idempotent  bool  `json:"idempotent,omitempty"`  // to call it again with the same arguments changes nothing more
	Destructive *bool `json:"destructive,omitempty"` // nil: not said, which means that it may be
	OpenWorld   *bool `json:"open_world,omitempty"`  // nil: not said, which means that it is
}

// Repeatable reports whether a call that may have taken effect may be made
// again.
func (h Hints) Repeatable() bool { return h.ReadOnly || h.Idempotent }

// Response is a model's answer.
type Response struct {
	Message Message    `json:"message"`
	Stop    StopReason `json:"stop"`
	Usage   Usage      `json:"usage"`
	Model   string     `json:"model,omitempty"` // that answered, as the provider calls it
	ID      string     `json:"id,omitempty"`    // the provider's, for support
}

// StopReason is why an answer ends.
type StopReason string

// The reasons. What a provider has beside them is given as it is.
const (
	StopEnd    StopReason = "end"    // the model had said all
	StopTools  StopReason = "tools"  // it waits for results of tools
	StopLength StopReason = "length" // MaxTokens, or the model's own limit
	StopText   StopReason = "stop"   // one of Request.Stop
	StopFilter StopReason = "filter" // the provider held the rest back, or the model refused
)

// Usage is what an answer cost, in tokens.
type Usage struct {
	Input      int64 `json:"input"`                 // all of the request, cached or not
	Output     int64 `json:"output"`                // all of the answer, with reasoning
	CacheRead  int64 `json:"cache_read,omitempty"`  // of Input
	CacheWrite int64 `json:"cache_write,omitempty"` // of Input
	Reasoning  int64 `json:"reasoning,omitempty"`   // of Output
}

// Add is the sum of both.
func (u Usage) Add(v Usage) Usage {
	return Usage{u.Input + v.Input, u.Output + v.Output, u.CacheRead + v.CacheRead, u.CacheWrite + v.CacheWrite, u.Reasoning + v.Reasoning}
}

// Delta is a piece of an answer as it comes: text, a piece of reasoning, or the
// beginning of a tool call; at the end the whole.
type Delta struct {
	Text      string
	Reasoning string
	Call      *ToolCall // its ID and Name, when the model begins it; the arguments come with the Response
	Response  *Response // the whole answer; nothing comes after it
}
