package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/internal/plainjson"
	"github.com/mcpagent/mcpagent/llm"
)

// Runner takes messages and gives a result: an [Agent], a pattern made of
// agents, or a function ([Do]). Its Run is workflow code: it runs in the run
// that its context is of.
type Runner interface {
	// Card says what it is; it does not change.
	Card() *Card
	// Run does the work. It leaves the input as it is.
	Run(ctx context.Context, in *Input) (*Result, error)
}

// Card is what others know of a [Runner]: who plans with it, and who shows it.
type Card struct {
	Name        string `json:"name"` // [A-Za-z0-9_-]{1,64}, unique in a program
	Title       string `json:"title,omitempty"`
	Description string `json:"description,omitempty"` // what it is good for
}

// Input is what a [Runner] is asked.
type Input struct {
	// Messages are the conversation so far; the last one is what to answer.
	Messages []llm.Message `json:"messages"`
	// Schema asks for an answer that is JSON of that schema. Nil: text.
	Schema *llm.Schema `json:"schema,omitempty"`
}

// JSONSchema is how an input is written where it is a tool's argument: as one
// message. Input as it is stored, with all messages, is accepted too.
func (*Input) JSONSchema() json.RawMessage {
	return json.RawMessage(`{"type":"object","properties":{"message":{"type":"string","description":"what to do or to answer"}},"required":["message"]}`)
}

// UnmarshalJSON reads an input in each form that it may have: as it is stored,
// {"message": "…"}, or a string.
func (in *Input) UnmarshalJSON(b []byte) error {
	var stored Input
	if p := plainjson.NewParser(b); readInput(p, &stored) && p.End() {
		*in = stored
		return nil
	}
	return in.readOther(b)
}

func (in *Input) readOther(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		*in = Input{Messages: []llm.Message{llm.User(text)}}
		return nil
	}
	type plain Input
	var v struct {
		plain
		Message string `json:"message"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	*in = Input(v.plain)
	if v.Message != "" {
		in.Messages = append(in.Messages, llm.User(v.Message))
	}
	return nil
}

// Say puts together an input: of strings, [llm.Part]s and [llm.Message]s, or
// slices of these. Neighbouring strings and parts are one message of a user.
func Say(content ...any) (*Input, error) {
	in := &Input{}
	var parts []llm.Part
	flush := func() {
		if parts != nil {
			in.Messages = append(in.Messages, llm.Message{Role: llm.RoleUser, Parts: parts})
			parts = nil
		}
	}
	for _, c := range content {
		switch c := c.(type) {
		case string:
			parts = append(parts, llm.Part{Text: c})
		case llm.Part:
			parts = append(parts, c)
		case []llm.Part:
			parts = append(parts, c...)
		case llm.Message:
			flush()
			in.Messages = append(in.Messages, c)
		case []llm.Message:
			flush()
			in.Messages = append(in.Messages, c...)
		case *Input:
			flush()
			in.Messages = append(in.Messages, c.Messages...)
			if c.Schema != nil {
				in.Schema = c.Schema
			}
		default:
			return nil, fmt.Errorf("agent: a %T is neither a string nor a message: give it as text, or as llm.Part", c)
		}
	}
	flush()
	if len(in.Messages) == 0 {
		return nil, errors.New("agent: there is nothing to answer: give a message")
	}
	return in, nil
}

// Result is what came of a [Runner].
type Result struct {
	// Message is the answer.
	Message llm.Message `json:"message"`
	// Stop is why it ends there: [llm.StopEnd] where all was said, otherwise
	// what cut it short.
	Stop llm.StopReason `json:"stop,omitempty"`
	// Usage is the sum over all calls of models.
	Usage llm.Usage `json:"usage,omitzero"`
	// Turns are the calls of models, Calls those of tools.
	Turns int `json:"turns,omitempty"`
	Calls int `json:"calls,omitempty"`

	// messages are what was said after the input, the answer included. They
	// don't leave the run: its journal has them.
	messages []llm.Message
}

// The reasons for which an agent stops before its model does.
const (
	StopTurns  llm.StopReason = "turns"  // Budget.Turns
	StopCalls  llm.StopReason = "calls"  // Budget.Calls
	StopTokens llm.StopReason = "tokens" // Budget.Tokens
)

// Text is the text of the answer.
func (r *Result) Text() string { return r.Message.Text() }

// JSONSchema is what a result looks like, without the details of a message.
func (*Result) JSONSchema() json.RawMessage {
	return json.RawMessage(`{"type":"object","properties":{"message":{"type":"object","description":"the answer"},"stop":{"type":"string","description":"why it ends there"},"usage":{"type":"object","description":"tokens"},"turns":{"type":"integer","description":"calls of models"},"calls":{"type":"integer","description":"calls of tools"}},"required":["message"]}`)
}

// Messages are what was said after the input, tool calls and results
// included, for who goes on with the conversation. Across the border of a run
// only the answer is left.
func (r *Result) Messages() []llm.Message {
	if r.messages == nil {
		return []llm.Message{r.Message}
	}
	return r.messages
}

// Count adds what another result cost.
func (r *Result) Count(o *Result) {
	r.Usage = r.Usage.Add(o.Usage)
	r.Turns += o.Turns
	r.Calls += o.Calls
}

// Text runs a [Runner] and gives the text of its answer.
func Text(ctx context.Context, r Runner, content ...any) (string, error) {
	in, err := Say(content...)
	if err != nil {
		return "", err
	}
	res, err := r.Run(ctx, in)
	if err != nil {
		return "", err
	}
	return res.Text(), nil
}

// Object runs a [Runner] and gives its answer as a value of a Go type, whose
// schema the model gets. Tools run first; an answer that does not fit is sent
// back, at most twice.
func Object[T any](ctx context.Context, r Runner, content ...any) (T, error) {
	in, err := Say(content...)
	if err != nil {
		return *new(T), err
	}
	out, _, err := ObjectOf[T](ctx, r, in)
	return out, err
}

// ObjectOf is [Object] with all that came of it.
func ObjectOf[T any](ctx context.Context, r Runner, in *Input) (out T, res *Result, err error) {
	typed := *in
	if typed.Schema, err = SchemaOf[T](); err != nil {
		return out, nil, err
	}
	if res, err = r.Run(ctx, &typed); err != nil {
		return out, nil, err
	}
	if out, err = decode[T]([]byte(res.Text())); err != nil {
		return out, res, fmt.Errorf("%s: %w: %w", r.Card().Name, ErrAnswer, err)
	}
	return out, res, nil
}

// SchemaOf is the schema of a Go type, as [Object] asks for it. Fields may have
// a tag jsonschema:"what it is".
func SchemaOf[T any]() (*llm.Schema, error) {
	s, err := jsonschema.For[T](nil)
	if err != nil {
		return nil, fmt.Errorf("agent: the schema of %T: %w", *new(T), err)
	}
	b, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("agent: the schema of %T: %w", *new(T), err)
	}
	return &llm.Schema{Name: "answer", Schema: b}, nil
}

// Do makes a [Runner] of a function, for a place in a pattern that needs no
// model, or for code around an agent. The function is workflow code: what does
// I/O belongs into steps.
func Do(name, description string, fn func(ctx context.Context, in *Input) (*Result, error)) Runner {
	f := &function{card: Card{Name: name, Description: description}, fn: fn}
	f.wf = NewWorkflow(f)
	return f
}

type function struct {
	card Card
	fn   func(context.Context, *Input) (*Result, error)
	wf   *durable.Workflow[*Input, *Result]
}

func (f *function) Card() *Card { return &f.card }

func (f *function) Run(ctx context.Context, in *Input) (*Result, error) {
	res, err := f.fn(ctx, in)
	if err == nil && res == nil {
		return nil, fmt.Errorf("%s: the function gave neither a result nor an error", f.card.Name)
	}
	return res, err
}

// Define implements [durable.Definer].
func (f *function) Define(d *durable.Definitions) { d.Add(f.wf) }

// Answer is a result of text alone.
func Answer(text string) *Result {
	return &Result{Message: llm.Message{Role: llm.RoleModel, Parts: []llm.Part{{Text: text}}}, Stop: llm.StopEnd}
}

// NewWorkflow is the workflow that a [Runner] is when it is started by itself:
// of its name, from an [Input] to a [Result]. Agents and patterns make theirs;
// this is for who writes a pattern.
func NewWorkflow(r Runner) *durable.Workflow[*Input, *Result] {
	c := r.Card()
	return durable.NewWorkflow(c.Name, func(ctx context.Context, in *Input) (*Result, error) {
		return r.Run(ctx, in)
	}, &durable.WorkflowOptions{Title: c.Title, Description: c.Description, Accepts: Accepts()})
}

// DefineAll adds those of some runners that are definitions: what a pattern
// does with its members.
func DefineAll(d *durable.Definitions, runners ...Runner) {
	for _, r := range runners {
		if def, ok := r.(durable.Definer); ok {
			d.Add(def)
		}
	}
}
