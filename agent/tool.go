package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/internal/toolset"
	"github.com/mcpagent/mcpagent/llm"
)

// Tool is something that an agent's model may call: a Go function ([Func]), a
// workflow ([Workflow]) or a Runner ([AsTool]). Tools of MCP servers are not
// among them: an agent has those by the names of its servers.
type Tool struct {
	spec   llm.Tool
	schema *jsonschema.Resolved // of the arguments
	shape  *shape               // of them
	err    error
	// bind makes the tool that of one agent.
	bind func(agent string) bound
}

// bound is a tool of one agent.
type bound struct {
	// call makes one call, in the workflow.
	call   func(ctx context.Context, c *llm.ToolCall) (called, error)
	define durable.Definer // nil: nothing
}

// called is what came of a call: a result, or why its arguments do not fit.
type called struct {
	Result *llm.ToolResult `json:"result,omitempty"`
	Unfit  string          `json:"unfit,omitempty"`
	// Cost is that of the work, where it was another runner's.
	Cost *Result `json:"-"`
}

// Name is what the model calls it by.
func (t *Tool) Name() string { return t.spec.Name }

// FuncOptions say more about a [Func]. The zero value is fine.
type FuncOptions struct {
	Title string
	// ReadOnly and Idempotent functions may be run again where it is not known
	// whether they ran. Any other one runs at most once: if the process dies in
	// the middle, the model hears that the outcome is unknown.
	ReadOnly, Idempotent bool
	// Destructive functions are asked about, unless the agent's policy says
	// otherwise.
	Destructive bool
	// Step are the options of its step: timeouts, and retries where it may be
	// run again. Its AtMostOnce is set here. Without Retry there are 5 attempts,
	// more than deaths of the process make a problem; see durable.Options.
	Step *durable.StepOptions
}

func (o *FuncOptions) hints() llm.Hints {
	return llm.Hints{ReadOnly: o.ReadOnly, Idempotent: o.Idempotent, Destructive: &o.Destructive}
}

// Func makes a tool of a Go function. The arguments' schema is that of In, a
// struct; fields may have a tag jsonschema:"what it is". An error, and a panic,
// is a result that the model sees.
//
// The function is a step of the name "<agent>.<name>": it runs on a worker, and
// durable.StepInfoOf gives it an effect key.
func Func[In, Out any](name, description string, fn func(ctx context.Context, in In) (Out, error), o *FuncOptions) *Tool {
	if o == nil {
		o = &FuncOptions{}
	}
	t := newTool[In](name, description)
	t.spec.Title = o.Title
	t.spec.Hints = o.hints()
	var opts durable.StepOptions
	if o.Step != nil {
		opts = *o.Step
	}
	if opts.Title == "" {
		opts.Title = o.Title
	}
	opts.AtMostOnce = !t.spec.Hints.Repeatable()
	if opts.Retry == nil && !opts.AtMostOnce {
		opts.Retry = toolset.Retry()
	}
	t.bind = func(agent string) bound {
		step := durable.NewStep(agent+"."+name, func(ctx context.Context, in funcIn) (called, error) {
			if err := toolset.Borrow(ctx, &in.ToolCall, in.Lent); err != nil {
				return called{}, err
			}
			return perform(ctx, &in.ToolCall, t, fn)
		}, &opts)
		return bound{
			define: step,
			call: func(ctx context.Context, c *llm.ToolCall) (called, error) {
				in := funcIn{ToolCall: *c}
				var err error
				if in.Lent, err = toolset.Lend(ctx, &in.ToolCall); err != nil {
					return called{}, err
				}
				out, err := step.Do(ctx, in)
				if err != nil {
					return outcome(ctx, c, err)
				}
				return out, nil
			},
		}
	}
	return t
}

// funcIn is a call as it crosses into a function's step.
type funcIn struct {
	llm.ToolCall
	Lent string `json:"lent,omitempty"` // digest of Args
}

func newTool[In any](name, description string) *Tool {
	t := &Tool{spec: llm.Tool{Name: name, Description: description}}
	if !llm.ToolName(name) {
		t.err = fmt.Errorf("a tool's name is 1 to 64 letters, digits, _ and -, not %q", name)
		return t
	}
	s, err := jsonschema.For[In](nil)
	if err == nil && s.Type != "object" {
		err = errors.New("it is not an object")
	}
	if err != nil {
		t.err = fmt.Errorf("tool %q: the schema of its arguments, %T: %w: take a struct", name, *new(In), err)
		return t
	}
	if t.spec.Schema, t.err = json.Marshal(s); t.err == nil {
		t.schema, t.err = resolve(t.spec.Schema)
		t.shape = shapeOf(t.spec.Schema)
	}
	return t
}

func resolve(schema json.RawMessage) (*jsonschema.Resolved, error) {
	s := &jsonschema.Schema{}
	if err := json.Unmarshal(schema, s); err != nil {
		return nil, err
	}
	return s.Resolve(nil)
}

// perform runs a function for a model. Runs on a worker.
func perform[In, Out any](ctx context.Context, c *llm.ToolCall, t *Tool, fn func(context.Context, In) (Out, error)) (res called, err error) {
	in, why := arguments[In](c, t)
	if why != "" {
		return called{Unfit: why}, nil
	}
	defer func() {
		if p := recover(); p != nil {
			durable.Logger(ctx).Error("a tool panicked", "tool", c.Name, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			res, err = failed(c, "%s panicked: %v; it may have done a part of its work", c.Name, p), nil
		}
	}()
	out, err := fn(ctx, in)
	switch {
	case err != nil && (ctx.Err() != nil || durable.Instructs(err)):
		return called{}, err
	case err != nil:
		return failed(c, "%s failed: %v", c.Name, err), nil
	}
	return value(c, out), nil
}

// arguments decodes those of a call, or says what is wrong with them.
func arguments[In any](c *llm.ToolCall, t *Tool) (in In, why string) {
	if c.Bad != "" {
		return in, c.Bad
	}
	raw := c.Args
	if len(bytes.TrimSpace(raw)) == 0 {
		raw = json.RawMessage("{}")
	}
	if t.schema != nil && !t.shape.fits(raw) {
		var v any
		if err := json.Unmarshal(raw, &v); err != nil {
			return in, err.Error()
		}
		if err := t.schema.Validate(v); err != nil {
			return in, err.Error()
		}
	}
	in, err := decode[In](raw)
	if err != nil {
		return in, err.Error()
	}
	return in, ""
}

// decode reads JSON that fits the schema of a type. There 3.0 and 3e0 are
// integers; encoding/json gets them as it reads integers.
func decode[T any](raw []byte) (T, error) {
	var out T
	err := json.Unmarshal(raw, &out)
	var kind *json.UnmarshalTypeError
	if err == nil || !errors.As(err, &kind) || !strings.HasPrefix(kind.Value, "number") {
		return out, err
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return out, err
	}
	b, werr := json.Marshal(whole(v))
	var again T
	if werr != nil || json.Unmarshal(b, &again) != nil {
		return out, err
	}
	return again, nil
}

// whole writes numbers without a fraction as integers.
func whole(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			v[k] = whole(e)
		}
	case []any:
		for i, e := range v {
			v[i] = whole(e)
		}
	case json.Number:
		if f, err := v.Float64(); err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			return int64(f)
		}
	}
	return v
}

// value is a Go value as a result: text as it is, anything else as JSON.
func value(c *llm.ToolCall, out any) called {
	res := &llm.ToolResult{ID: c.ID, Name: c.Name}
	switch out := out.(type) {
	case string:
		res.Parts = []llm.Part{{Text: out}}
	case llm.Part:
		return content(c, out)
	case []llm.Part:
		return content(c, out...)
	default:
		b, err := json.Marshal(out)
		if err != nil {
			return failed(c, "%s did its work, and what it gave can't be written as JSON: %v", c.Name, err)
		}
		res.Data = b
	}
	return called{Result: res}
}

// content is a result of parts. What no request may have would end the run.
func content(c *llm.ToolCall, parts ...llm.Part) called {
	res := &llm.ToolResult{ID: c.ID, Name: c.Name, Parts: parts}
	r := &llm.Request{Messages: []llm.Message{
		llm.User("x"), {Role: llm.RoleModel, Parts: []llm.Part{{Call: &llm.ToolCall{ID: c.ID, Name: c.Name}}}}, {Role: llm.RoleTools, Parts: []llm.Part{{Result: res}}},
	}}
	if err := r.Validate(); err != nil {
		return failed(c, "%s did its work, and what it gave can't be shown to a model: %v", c.Name, err)
	}
	return called{Result: res}
}

func failed(c *llm.ToolCall, format string, args ...any) called {
	return called{Result: toolset.Failed(*c, format, args...)}
}

// outcome makes a result of a call's failure. An error is none of the call's:
// ctx ended, or the engine can't go on.
func outcome(ctx context.Context, c *llm.ToolCall, err error) (called, error) {
	var step *durable.StepError
	var run *durable.RunError
	switch {
	case ctx.Err() != nil || fatal(err):
		return called{}, toolset.Ended(ctx, err)
	case errors.Is(err, durable.ErrOutcomeUnknown):
		return failed(c, "outcome unknown: %s was called and no result came back. It may have taken effect: verify before repeating it.", c.Name), nil
	case errors.As(err, &step), errors.As(err, &run):
		return failed(c, "%s failed: %v", c.Name, err), nil
	}
	return called{}, err
}

// fatal reports whether an error is the program's or the engine's: no model can
// do anything about it.
func fatal(err error) bool {
	for _, e := range []error{durable.ErrNotDefined, durable.ErrUnavailable, durable.ErrClosed, durable.ErrShutdown, durable.ErrNoEngine, durable.ErrForeignContext, durable.ErrForeignGoroutine, ErrNoModel, errOutside} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func unfit(c *llm.ToolCall, why string) *llm.ToolResult {
	return toolset.Failed(*c, "the arguments of %s do not fit: %s; call it again with arguments that fit its schema", c.Name, why)
}

// Workflow makes a tool of a workflow: each call is a child run, which may
// sleep and ask for days. The arguments' schema is that of In, a struct.
func Workflow[In, Out any](w *durable.Workflow[In, Out], o *FuncOptions) *Tool {
	if o == nil {
		o = &FuncOptions{}
	}
	i := w.Info()
	t := newTool[In](strings.NewReplacer(".", "_", "/", "_").Replace(i.Name), i.Description)
	t.spec.Title = i.Title
	if o.Title != "" {
		t.spec.Title = o.Title
	}
	t.spec.Hints = o.hints()
	t.bind = func(string) bound {
		return bound{define: w, call: func(ctx context.Context, c *llm.ToolCall) (called, error) {
			in, why := arguments[In](c, t)
			if why != "" {
				return called{Unfit: why}, nil
			}
			out, err := w.Run(ctx, in)
			if err != nil {
				return outcome(ctx, c, err)
			}
			return value(c, out), nil
		}}
	}
	return t
}

// AsTool makes a tool of a [Runner]: the model gives it a message, and gets the
// text of its answer. It runs as a part of the agent's run.
func AsTool(r Runner) *Tool {
	card := r.Card()
	t := newTool[request](card.Name, card.Description)
	t.spec.Title = card.Title
	t.bind = func(string) bound {
		b := bound{call: func(ctx context.Context, c *llm.ToolCall) (called, error) {
			in, why := arguments[request](c, &Tool{})
			if why == "" && in.Message == "" {
				why = "message is empty"
			}
			if why != "" {
				return called{Unfit: why}, nil
			}
			res, err := r.Run(ctx, &Input{Messages: []llm.Message{llm.User(in.Message)}})
			switch {
			case err == nil:
				out := value(c, res.Text())
				out.Cost = res
				return out, nil
			case ctx.Err() != nil || fatal(err):
				return called{}, toolset.Ended(ctx, err)
			}
			return failed(c, "%s failed: %v", c.Name, err), nil
		}}
		if def, ok := r.(durable.Definer); ok {
			b.define = def
		}
		return b
	}
	return t
}

// request are the arguments of a [Runner] as a tool.
type request struct {
	Message string `json:"message" jsonschema:"what to do, with all that is needed for it"`
}
