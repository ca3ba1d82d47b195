package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
)

// Models are the providers that a program links. Given to Open, they bind the
// steps that call models: "llm.<provider>.call" for each. Agents hold names.
//
// The first one that has what it needs ([llm.Ready]) answers agents that name no
// model, unless Default says otherwise.
type Models []llm.Provider

// Define implements [durable.Definer].
func (m Models) Define(d *durable.Definitions) { (&ModelSet{Providers: m}).Define(d) }

// ModelSet is [Models] with settings.
type ModelSet struct {
	Providers []llm.Provider
	// Default is the model of agents that name none: "provider:model",
	// "provider", or one of Names. Empty: the default of the first provider.
	Default string
	// Names are models by a name of the program's own.
	Names map[string]string
	// Watch gives who sees what models say to a run as they say it, and is asked
	// before each call; nil: nobody, and the answer is asked for as a whole. Runs
	// on a worker.
	Watch func(workflowID, runID string) func(*Event)
	// AskKey makes runs whose provider refuses the key, or whose account is
	// empty, ask a person to mend it ([Repairs]), and go on after that. It is
	// for engines on which a run can wait; otherwise such a run fails.
	AskKey bool
	// Renew is called when a provider refuses the key of a call, with the time
	// when that began; true: it has others now, and the call is made again.
	// Nil: it can't be helped. Runs on a worker.
	Renew func(p llm.Provider, since time.Time) bool

	once sync.Once
	made *models
	err  error
}

// Define implements [durable.Definer].
func (m *ModelSet) Define(d *durable.Definitions) {
	m.once.Do(m.make)
	if m.err != nil {
		d.Fail(m.err)
	}
	for _, p := range m.made.by {
		d.Add(p.step)
	}
	d.Provide(m.made)
}

func (m *ModelSet) make() {
	set := &models{set: m, by: map[string]*provider{}}
	m.made = set
	for i, p := range m.Providers {
		if p == nil {
			m.err = errors.Join(m.err, fmt.Errorf("agent: model provider %d is nil", i+1))
			continue
		}
		name := p.Provider()
		if set.by[name] != nil {
			m.err = errors.Join(m.err, fmt.Errorf("agent: two model providers are called %q", name))
			continue
		}
		b := &provider{p: p}
		b.step = durable.NewStep("llm."+name+".call", func(ctx context.Context, in callIn) (said, error) {
			res, err := set.call(ctx, p, in)
			if err != nil {
				return said{}, err
			}
			return said(*res), nil
		}, &durable.StepOptions{
			Title:   "Call a model of " + name,
			Timeout: callTimeout,
			Retry:   &durable.Retry{Initial: time.Second, Backoff: 2, Max: time.Minute, MaxAttempts: 10},
		})
		set.by[name] = b
	}
	if m.err != nil {
		return
	}
	names := slices.Sorted(maps.Keys(m.Names))
	if m.Default != "" {
		names = append(names, m.Default)
	}
	for _, name := range names {
		if _, err := set.resolve(name); err != nil {
			m.err = errors.Join(m.err, err)
		}
	}
}

// callTimeout bounds one answer of a model.
const callTimeout = 10 * time.Minute

// models is the set as runs and steps find it.
type models struct {
	set *ModelSet
	by  map[string]*provider
	lib library
}

type provider struct {
	p    llm.Provider
	step *durable.Step[callIn, said]
}

// ErrNoModel is an agent whose model is not among those that the program
// links.
var ErrNoModel = errors.New("no such model")

// resolve finds the full name of a model: provider:model, where the model may
// be empty for the provider's default.
func (m *models) resolve(name string) (string, error) {
	if name = cmp.Or(m.named(name), m.named(m.set.Default)); name == "" {
		if len(m.set.Providers) == 0 {
			return "", fmt.Errorf("agent: %w: the program lists no provider; add one to agent.Models, anthropic.New(nil) say", ErrNoModel)
		}
		name = m.ready()
	}
	p, model, _ := strings.Cut(name, ":")
	if m.by[p] == nil {
		return "", fmt.Errorf("agent: %w: %q is of provider %q, and the program lists %s; add %s.New(nil) to agent.Models, or name a model as provider:model",
			ErrNoModel, name, p, quotedList(slices.Sorted(maps.Keys(m.by))), p)
	}
	return p + ":" + model, nil
}

// named is what a name of the program's own stands for; any other is itself.
func (m *models) named(name string) string {
	if full, ok := m.set.Names[name]; ok && name != "" {
		return full
	}
	return name
}

// ready is the first provider that says nothing of what it lacks.
func (m *models) ready() string {
	for _, p := range m.set.Providers {
		if r, ok := p.(llm.Ready); !ok || r.Ready() == nil {
			return p.Provider()
		}
	}
	return m.set.Providers[0].Provider()
}

func quotedList(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return `"` + strings.Join(names, `", "`) + `"`
}

// callIn is a call of a model as it crosses into a step: names and digests.
type callIn struct {
	Model string `json:"model,omitempty"`
	Frame string `json:"frame"` // of what stands around the conversation
	Talk  string `json:"talk"`  // of the newest link of the conversation
	Agent string `json:"agent"`
	Turn  int    `json:"turn"`
	ID    string `json:"id"` // Event.Talk
}

// frame is what stands around a conversation and rarely changes.
type frame struct {
	System string         `json:"system,omitempty"`
	Tools  []llm.Tool     `json:"tools,omitempty"`
	Choice llm.ToolChoice `json:"choice,omitempty"`
	Schema *llm.Schema    `json:"schema,omitempty"`
	Params Params         `json:"params,omitzero"`
}

// Params are settings of a model's answers. Zero values leave them to the
// provider.
type Params struct {
	MaxTokens   int             `json:"max_tokens,omitempty"`
	Temperature *float64        `json:"temperature,omitempty"`
	TopP        *float64        `json:"top_p,omitempty"`
	Seed        *int64          `json:"seed,omitempty"`
	Stop        []string        `json:"stop,omitempty"`
	Effort      string          `json:"effort,omitempty"` // none, low, medium or high
	Serial      bool            `json:"serial,omitempty"` // one tool call at a time
	User        string          `json:"user,omitempty"`
	Extra       json.RawMessage `json:"extra,omitempty"` // merged into the provider's request
}

func (f *frame) request(ms []llm.Message) *llm.Request {
	p := &f.Params
	return &llm.Request{
		System: f.System, Messages: ms, Tools: f.Tools, Choice: f.Choice, Serial: p.Serial, Schema: f.Schema,
		MaxTokens: p.MaxTokens, Temperature: p.Temperature, TopP: p.TopP, Seed: p.Seed, Stop: p.Stop, Effort: p.Effort, User: p.User, Extra: p.Extra,
	}
}

// call is one attempt to have a model answer. Runs on a worker.
func (m *models) call(ctx context.Context, p llm.Provider, in callIn) (*llm.Response, error) {
	f, size, err := read[frame](ctx, &m.lib, in.Frame)
	if err != nil {
		return nil, err
	}
	m.lib.put(in.Frame, f, size)
	ms, err := m.lib.conversation(ctx, in.Talk)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	res, err := m.ask(ctx, p, f, ms, in)
	var refused *llm.Error
	if errors.As(err, &refused) && refused.Class == llm.Auth && m.set.Renew != nil && m.set.Renew(p, began) {
		res, err = m.ask(ctx, p, f, ms, in)
	}
	if err == nil && res == nil {
		err = &llm.Error{Provider: p.Provider(), Model: in.Model, Class: llm.Malformed, Message: "there was neither an answer nor an error"}
	}
	if err != nil {
		return nil, instruct(ctx, err)
	}
	return res, nil
}

func (m *models) ask(ctx context.Context, p llm.Provider, f *frame, ms []llm.Message, in callIn) (*llm.Response, error) {
	model, err := p.Model(in.Model)
	if err != nil {
		return nil, durable.Permanent(err)
	}
	return m.answer(ctx, model, f.request(ms), in)
}

// answer streams if somebody watches.
func (m *models) answer(ctx context.Context, model llm.Model, req *llm.Request, in callIn) (*llm.Response, error) {
	tell := m.watcher(ctx, in)
	if tell == nil {
		return model.Call(ctx, req)
	}
	said := false
	res, err := follow(model.Stream(ctx, req), func(d llm.Delta) {
		said = true
		tell(&Event{Kind: EventDelta, Text: d.Text, Think: d.Reasoning, Call: d.Call})
	})
	if err != nil && said {
		tell(&Event{Kind: EventRetract})
	}
	return res, err
}

// follow hands on the pieces of an answer and gives the whole.
func follow(seq iter.Seq2[llm.Delta, error], tell func(llm.Delta)) (*llm.Response, error) {
	for d, err := range seq {
		if err != nil {
			return nil, err
		}
		if d.Response != nil {
			return d.Response, nil
		}
		tell(d)
	}
	return nil, &llm.Error{Class: llm.Malformed, Message: "the answer ended without its end"}
}

// watcher is who sees the pieces of an answer; nil if nobody does.
func (m *models) watcher(ctx context.Context, in callIn) func(*Event) {
	info, _ := durable.StepInfoOf(ctx)
	to := sinkOf(ctx)
	if to == nil && m.set.Watch != nil && info.RunID != "" {
		to = m.set.Watch(info.WorkflowID, info.RunID)
	}
	if to == nil {
		return nil
	}
	return func(ev *Event) {
		ev.Agent, ev.Turn, ev.Talk, ev.Attempt, ev.Time = in.Agent, in.Turn, in.ID, info.Attempt, time.Now()
		to(ev)
	}
}

// instruct turns a model's failure into what the engine should do, with what
// the run decides by.
func instruct(ctx context.Context, err error) error {
	var e *llm.Error
	if ctx.Err() != nil || !errors.As(err, &e) {
		return err
	}
	details, merr := json.Marshal(failure{e.Class, e.Status, e.Code})
	if merr != nil {
		return err
	}
	out := &durable.Error{Type: e.Type(), Message: e.Error(), Details: details}
	if !e.Class.Retriable() {
		return durable.Permanent(out)
	}
	// A run may go on trying for minutes, and whoever started it sees nothing.
	durable.Logger(ctx).Warn("a model call failed", "error", out.Message)
	if e.RetryAfter > 0 {
		return durable.RetryAfter(e.RetryAfter, out)
	}
	return out
}

// failure is what crosses of an [llm.Error].
type failure struct {
	Class  llm.Class `json:"class"`
	Status int       `json:"status,omitempty"`
	Code   string    `json:"code,omitempty"`
}

// classOf is the class of a model's failure as the run sees it; "" if it is
// another failure.
func classOf(err error) llm.Class {
	var e *durable.Error
	for errors.As(err, &e) {
		var f failure
		if json.Unmarshal(e.Details, &f) == nil && f.Class != "" {
			return f.Class
		}
		if e.Cause == nil {
			break
		}
		err = e.Cause
	}
	return ""
}
