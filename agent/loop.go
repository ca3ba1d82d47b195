package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/internal/toolset"
	"github.com/mcpagent/mcpagent/llm"
)

// Errors of a run of an agent, beside those of its models and its engine.
var (
	// ErrAnswer is an answer that is not of the form that was asked for, after
	// it was sent back.
	ErrAnswer = durable.NewErrorType("AnswerError")
	// ErrLoop is a model that makes the same calls again and again.
	ErrLoop = durable.NewErrorType("LoopError")
	// ErrMistakes is a model that calls tools that don't exist, or with
	// arguments that don't fit, turn after turn.
	ErrMistakes = durable.NewErrorType("MistakesError")
)

// offered is a tool as the model of one run sees it.
type offered struct {
	spec             llm.Tool
	server, original string // of a server's tool
	call             func(ctx context.Context, c *llm.ToolCall) (called, error)
}

func (o *offered) destructive() bool {
	return !o.spec.Hints.ReadOnly && o.spec.Hints.Destructive != nil && *o.spec.Hints.Destructive
}

// talk is one run of an agent's loop.
type talk struct {
	a      *Agent
	model  string // its provider's name for it
	ask    bool   // a person, to mend a key
	p      *provider
	frame  frame
	framed string // its digest
	tools  map[string]*offered
	log    transcript
	schema *jsonschema.Resolved
	given  int    // messages of the input
	id     string // in events
	turns  int    // calls of its model
	calls  int    // calls of its tools
	res    Result // with what runners cost that are its tools

	remembered map[string]bool // answers that hold for the run
	repairs    int
	mistakes   int
	same       int
	last       string // what the turn before called
}

func (a *Agent) begin(ctx context.Context, in *Input) (*talk, error) {
	if in == nil || len(in.Messages) == 0 {
		return nil, fmt.Errorf("%s: there is nothing to answer: give a message", a.name)
	}
	t := &talk{a: a, tools: map[string]*offered{}, remembered: map[string]bool{}, given: len(in.Messages)}
	set, ok := durable.Provided[*models](ctx)
	if !ok {
		if _, inRun := durable.InfoOf(ctx); !inRun {
			return nil, fmt.Errorf("%s: %w", a.name, errOutside)
		}
		return nil, fmt.Errorf("%s: %w: the program gave no agent.Models to Open", a.name, ErrNoModel)
	}
	// The name is recorded: a default that changes is for runs to come.
	model, err := durable.SideEffect(ctx, func() string {
		full, _ := set.resolve(a.c.Model) // the error is asked for below
		return full
	})
	if err != nil {
		return nil, err
	}
	if model == "" {
		_, err := set.resolve(a.c.Model)
		return nil, fmt.Errorf("%s: %w", a.name, cmp.Or(err, ErrNoModel))
	}
	name, own, _ := strings.Cut(model, ":")
	if t.p = set.by[name]; t.p == nil {
		return nil, fmt.Errorf("%s: %w: the run began with %q, and the program does not list provider %q any more", a.name, ErrNoModel, model, name)
	}
	t.id = durable.UUID(ctx, "agent.talk")[:8]
	t.log.lib = &set.lib
	t.model, t.ask = own, set.set.AskKey && !a.c.FailOnKey
	if err := t.offer(ctx); err != nil {
		return nil, err
	}
	t.frame.System, t.frame.Params = a.c.Instruction, a.c.Params
	if in.Schema != nil {
		if t.schema, err = resolve(in.Schema.Schema); err != nil {
			return nil, fmt.Errorf("%s: the schema of the answer: %w", a.name, err)
		}
		t.frame.Schema = in.Schema
	}
	return t, t.log.add(ctx, in.Messages...)
}

// offer collects the tools. Those of servers are listed by a step, and a run
// keeps to that list.
func (t *talk) offer(ctx context.Context) error {
	add := func(o *offered) {
		t.tools[o.spec.Name] = o
		t.frame.Tools = append(t.frame.Tools, o.spec)
	}
	for _, o := range t.a.tools {
		add(o)
	}
	if len(t.a.c.Servers) == 0 {
		return nil
	}
	list, err := toolset.List.Do(ctx, toolset.ListIn{Servers: t.a.c.Servers})
	if err != nil {
		return fmt.Errorf("%s: list the tools of %s: %w", t.a.name, quotedList(t.a.c.Servers), err)
	}
	for _, b := range list.Broken {
		durable.Logger(ctx).Warn("an MCP server is left out", "agent", t.a.name, "server", b.Server, "error", b.Error)
	}
	for _, l := range list.Tools {
		if t.tools[l.Name] != nil {
			return fmt.Errorf("%s: tool %q of server %q has the name of a tool of the agent: rename that", t.a.name, l.Name, l.Server)
		}
		add(&offered{spec: l.Tool, server: l.Server, original: l.Original,
			call: func(ctx context.Context, c *llm.ToolCall) (called, error) {
				res, err := toolset.Invoke(ctx, l, *c, &toolset.Options{Wait: t.a.c.Wait, Audience: t.a.c.Audience, Recorded: true})
				return called{Result: res}, err
			}})
	}
	return nil
}

func (t *talk) run(ctx context.Context) (*Result, error) {
	for {
		if err := t.hear(ctx); err != nil {
			return nil, err
		}
		limit := t.limit()
		res, err := t.think(ctx, limit != "")
		if err != nil {
			return nil, err
		}
		calls := res.Message.Calls()
		switch {
		case len(calls) > 0 && limit == "":
			if err := t.act(ctx, calls); err != nil {
				return nil, err
			}
			continue
		case len(calls) > 0:
			// It was told not to. What it called has no place in an answer, nor
			// in a conversation that goes on after it.
			res.Message = withoutCalls(res.Message)
			t.log.replace(res.Message)
		case t.schema != nil && res.Stop == llm.StopEnd:
			again, err := t.repair(ctx, res, limit)
			if err != nil {
				return nil, err
			}
			if again {
				continue
			}
		}
		if limit != "" {
			res.Stop = limit
		}
		t.res.Message, t.res.Stop, t.res.messages = res.Message, res.Stop, slices.Clip(t.log.messages[t.given:])
		return &t.res, nil
	}
}

func withoutCalls(m llm.Message) llm.Message {
	out := llm.Message{Role: m.Role}
	for _, p := range m.Parts {
		if p.Call == nil {
			out.Parts = append(out.Parts, p)
		}
	}
	return out
}

// hear takes what people said meanwhile.
func (t *talk) hear(ctx context.Context) error {
	if _, in := durable.InfoOf(ctx); !in {
		return nil
	}
	for {
		m, ok, err := Messages.TryReceive(ctx)
		if err != nil || !ok {
			return err
		}
		m.Role = llm.RoleUser
		if err := t.log.add(ctx, m); err != nil {
			return err
		}
	}
}

// limit says which limit is reached; "" is none. The turn that comes is the
// last one then.
func (t *talk) limit() llm.StopReason {
	b := t.a.c.Budget
	turns := b.Turns
	if turns == 0 {
		turns = defaultTurns
	}
	switch {
	case turns > 0 && t.turns >= turns-1 && (t.turns > 0 || len(t.tools) > 0):
		return StopTurns
	case b.Calls > 0 && t.calls >= b.Calls:
		return StopCalls
	case b.Tokens > 0 && t.res.Usage.Input+t.res.Usage.Output >= b.Tokens:
		return StopTokens
	}
	return ""
}

// lastTurn is what a model is told when it must come to an end.
const lastTurn = "You have reached the limit of this conversation. Don't call tools any more: answer now, from what you have, and say what is missing."

// think asks the model once. Where its provider refuses the key it asks a
// person, and then the model again.
func (t *talk) think(ctx context.Context, last bool) (*llm.Response, error) {
	if err := t.seal(ctx, last); err != nil {
		return nil, err
	}
	talk, err := t.log.seal(ctx)
	if err != nil {
		return nil, err
	}
	t.turns++
	t.res.Turns++
	in := callIn{Model: t.model, Frame: t.framed, Talk: talk, Agent: t.a.name, Turn: t.turns, ID: t.id}
	for changed := 0; ; {
		if err := t.tell(ctx, &Event{Kind: EventTurn}); err != nil {
			return nil, err
		}
		out, err := t.p.step.Do(ctx, in)
		if err == nil {
			res := (*llm.Response)(&out)
			t.res.Usage = t.res.Usage.Add(res.Usage)
			if len(res.Message.Parts) > 0 {
				if err := t.log.add(ctx, res.Message); err != nil {
					return nil, err
				}
			}
			return res, t.tell(ctx, &Event{Kind: EventAnswer, Tokens: res.Usage.Input + res.Usage.Output, Stop: string(res.Stop)})
		}
		if errors.Is(err, errChanged) && changed < maxChanged {
			changed++
			continue
		}
		again, rerr := t.mend(ctx, err)
		if rerr != nil {
			return nil, rerr
		}
		if !again {
			return nil, fmt.Errorf("%s: %w", t.a.name, err)
		}
	}
}

// tell records a milestone of this conversation.
func (t *talk) tell(ctx context.Context, ev *Event) error {
	ev.Agent, ev.Turn, ev.Talk = t.a.name, t.turns, t.id
	return tell(ctx, ev)
}

// seal lends what stands around the conversation, if it is not what it was.
func (t *talk) seal(ctx context.Context, last bool) error {
	if t.framed != "" && !last {
		return nil
	}
	f := t.frame
	if last {
		f.System = strings.TrimSpace(f.System + "\n\n" + lastTurn)
		if len(f.Tools) > 0 {
			f.Choice = llm.ToolNone
		}
	}
	var err error
	t.framed, _, err = lend(ctx, &f)
	return err
}

// mend asks a person to mend what a provider refuses; false where that does
// not help, or is not wanted.
func (t *talk) mend(ctx context.Context, err error) (bool, error) {
	class := classOf(err)
	if class != llm.Auth && class != llm.Quota || !t.ask {
		return false, nil
	}
	a, aerr := Repairs.Ask(ctx, fmt.Sprintf("%v. Mend that, then answer, and %s goes on.", err, t.a.name), &durable.AskOptions{
		Kind: "repair", Expires: t.a.c.wait(), Audience: t.a.c.Audience,
	})
	switch {
	case errors.Is(aerr, durable.ErrExpired), errors.Is(aerr, durable.ErrNoEngine):
		return false, nil
	case aerr != nil:
		return false, aerr
	}
	return !a.Value.GiveUp, nil
}

// repair looks whether an answer is of the form that was asked for, and sends
// it back if it is not and a limit does not forbid it.
func (t *talk) repair(ctx context.Context, res *llm.Response, limit llm.StopReason) (again bool, err error) {
	why := t.misfit(res.Message.Text())
	if why == nil {
		return false, nil
	}
	if limit == StopTurns || limit == StopTokens {
		return false, fmt.Errorf("%s: %w", t.a.name, ErrAnswer.New("the answer is not of the form that was asked for, and the budget (%s) allows no repair: %v", limit, why))
	}
	if t.repairs++; t.repairs > maxRepairs {
		return false, fmt.Errorf("%s: %w", t.a.name, ErrAnswer.New("the answer is not of the form that was asked for, after %d repairs: %v", maxRepairs, why))
	}
	return true, t.log.add(ctx, llm.User(fmt.Sprintf("Your answer is not JSON of the schema that was asked for: %v. Answer again, with that JSON and nothing else.", why)))
}

func (t *talk) misfit(text string) error {
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return err
	}
	return t.schema.Validate(v)
}

// act makes the calls of a turn, side by side. Each has exactly one result.
func (t *talk) act(ctx context.Context, calls []*llm.ToolCall) error {
	if err := t.again(calls); err != nil {
		return err
	}
	made := 0
	one := func(ctx context.Context, c *llm.ToolCall) (*llm.ToolResult, error) {
		res, was, err := t.one(ctx, c)
		if was {
			made++
		}
		return res, err
	}
	results := make([]*llm.ToolResult, 1)
	var err error
	if len(calls) == 1 { // the usual, which needs no goroutine of its own
		results[0], err = one(ctx, calls[0])
	} else {
		results, err = durable.Map(ctx, calls, one, nil)
	}
	if err != nil {
		return err
	}
	if t.mistakes++; made > 0 {
		t.mistakes = 0
	}
	if t.mistakes >= maxMistakes {
		return fmt.Errorf("%s: %w", t.a.name, ErrMistakes.New("%d turns in a row had no call that could be made; the last one: %s", t.mistakes, results[0].Text()))
	}
	parts := make([]llm.Part, len(results))
	for i, r := range results {
		parts[i].Result = r
	}
	return t.log.add(ctx, llm.Message{Role: llm.RoleTools, Parts: parts})
}

// again notices a model that turns in a circle.
func (t *talk) again(calls []*llm.ToolCall) error {
	var b strings.Builder
	for _, c := range calls {
		b.WriteString(c.Name)
		b.WriteByte(' ')
		b.Write(c.Args)
		b.WriteByte('\n')
	}
	if b.String() != t.last {
		t.last, t.same = b.String(), 1
		return nil
	}
	if t.same++; t.same >= 2*sameCalls {
		return fmt.Errorf("%s: %w", t.a.name, ErrLoop.New("the model made the same calls %d times in a row: %s", t.same, brief([]byte(strings.TrimSpace(t.last)))))
	}
	return nil
}

// one gives the result of one call; made is whether it was one that could be
// made.
func (t *talk) one(ctx context.Context, c *llm.ToolCall) (res *llm.ToolResult, made bool, err error) {
	call := *c
	if res = t.refuse(&call); res == nil {
		made = true
		t.calls++
		t.res.Calls++
		if res, err = t.permit(ctx, t.tools[call.Name], &call); err == nil && res == nil {
			res, made, err = t.call(ctx, &call)
		}
	}
	if err != nil {
		return nil, true, err
	}
	return res, made, t.tell(ctx, &Event{Kind: EventResult, Call: &llm.ToolCall{ID: call.ID, Name: call.Name}, Error: res.Error})
}

// refuse is the result of a call that can't be made, nil of any other.
func (t *talk) refuse(call *llm.ToolCall) *llm.ToolResult {
	switch {
	case t.tools[call.Name] == nil:
		return toolset.Failed(*call, "there is no tool %q; there are %s", call.Name, quotedList(t.names()))
	case t.same >= sameCalls:
		return toolset.Failed(*call, "you made this very call %d times in a row; its result will be the same. Do something else, or answer.", t.same)
	case call.Bad != "":
		return unfit(call, call.Bad)
	case t.a.c.Budget.Calls > 0 && t.calls >= t.a.c.Budget.Calls:
		return toolset.Failed(*call, "no more tool calls: the limit of %d is reached", t.a.c.Budget.Calls)
	}
	return nil
}

// call calls the tool.
func (t *talk) call(ctx context.Context, call *llm.ToolCall) (res *llm.ToolResult, made bool, err error) {
	if err := t.tell(ctx, &Event{Kind: EventCall, Call: &llm.ToolCall{ID: call.ID, Name: call.Name}}); err != nil {
		return nil, true, err
	}
	out, err := t.tools[call.Name].call(ctx, call)
	if err != nil {
		return nil, true, err
	}
	if out.Cost != nil {
		t.res.Count(out.Cost)
	}
	if out.Unfit != "" {
		out.Result = unfit(call, out.Unfit)
	}
	out.Result.ID, out.Result.Name = call.ID, call.Name
	return out.Result, out.Unfit == "", nil
}

func (t *talk) names() []string {
	out := make([]string, len(t.frame.Tools))
	for i, s := range t.frame.Tools {
		out[i] = s.Name
	}
	return out
}
