package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/internal/toolset"
	"github.com/mcpagent/mcpagent/llm"
)

// Agent is a name, an instruction, a model and tools. It is plain data, safe
// for concurrent use, and can be made at run time. As a [durable.Definer] it is
// the workflow of its name, with the steps of its functions.
type Agent struct {
	name  string
	c     Config
	tools []*offered // of Go
	defs  durable.Set
	wf    *durable.Workflow[*Input, *Result]
	err   error
}

// Config says what an agent is. The zero value is one that only talks.
type Config struct {
	// Title and Description are for people, and for agents and patterns that
	// choose among agents.
	Title, Description string
	// Instruction stands above each conversation.
	Instruction string
	// Model is "provider:model", "provider" for its default, or a name of
	// ModelSet.Names. Empty: the program's default.
	Model string
	// Servers are MCP servers by their names in the configuration: the model
	// gets their tools.
	Servers []string
	// Tools are those that are not of servers.
	Tools []*Tool
	// Policy says which calls a person is asked about, and which are denied.
	Policy Policy
	// Audience is who is meant by its questions. Empty: anybody.
	Audience string
	// Wait is how long a question waits for a person: about a call, about a
	// key, and one of a server. 0: 7 days.
	Wait time.Duration
	// Budget bounds a run.
	Budget Budget
	// FailOnKey makes a run fail whose provider refuses the key, where others
	// ask; see ModelSet.AskKey.
	FailOnKey bool
	Params
}

// wait is how long a question waits.
func (c *Config) wait() time.Duration { return cmp.Or(c.Wait, 7*24*time.Hour) }

// Budget bounds one run of an agent. The last turn is one without tools, for an
// answer from what there is.
type Budget struct {
	Turns  int   // calls of its model, the last turn among them; 0: 50. Negative: no limit
	Calls  int   // calls of its tools; 0: no limit
	Tokens int64 // input and output, also of runners that are its tools; 0: no limit. The last turn comes on top
}

const (
	defaultTurns = 50
	// maxRepairs is how often an answer of the wrong form is sent back.
	maxRepairs = 2
	// maxChanged is how often a call of a model is made again because deploys
	// changed what it refers to. Code that says something else whenever it is
	// replayed does not come to an end otherwise.
	maxChanged = 3
	// maxMistakes is after how many turns in a row with nothing but calls that
	// could not be made the agent gives up.
	maxMistakes = 5
	// sameCalls is after how many equal turns in a row a model is told so; it
	// gets as many more.
	sameCalls = 3
)

// Repair is the answer to a question of [Repairs].
type Repair struct {
	// GiveUp fails the run; otherwise the model is asked again.
	GiveUp bool `json:"give_up,omitempty" jsonschema:"fail the run instead of trying again"`
}

// Repairs is the question of a run that can't go on until a person has mended
// something: a key, an account.
var Repairs = durable.NewQuestion[Repair]("repair").
	Describe("Mend and go on", "A run waits until what it needs is mended: a key, or an account.")

// Messages are what people say to an agent at work. It hears them before its
// next turn.
var Messages = durable.NewSignal[llm.Message]("agent.message")

// Accepts are the messages that agents understand, and more: for the
// WorkflowOptions of a workflow that runs agents.
func Accepts(more ...durable.Accepted) []durable.Accepted {
	return append([]durable.Accepted{Messages, Approvals, Repairs, toolset.Elicitation, Events}, more...)
}

// New makes an agent. Mistakes in the configuration are reported by Open, and
// by Run.
func New(name string, c Config) *Agent {
	a := &Agent{name: name, c: c}
	var errs []error
	if !llm.ToolName(name) {
		errs = append(errs, fmt.Errorf("an agent's name is 1 to 64 letters, digits, _ and -, not %q", name))
	}
	if err := c.Policy.check(); err != nil {
		errs = append(errs, err)
	}
	if c.Wait < 0 {
		errs = append(errs, fmt.Errorf("questions can't wait for %v (Wait); 0 is 7 days", c.Wait))
	}
	taken := map[string]bool{}
	for _, t := range c.Tools {
		if t == nil {
			errs = append(errs, errors.New("a tool is nil"))
			continue
		}
		if t.err != nil {
			errs = append(errs, t.err)
			continue
		}
		if taken[t.Name()] {
			errs = append(errs, fmt.Errorf("two tools are called %q", t.Name()))
		}
		taken[t.Name()] = true
		b := t.bind(name)
		a.tools = append(a.tools, &offered{spec: t.spec, call: b.call})
		if b.define != nil {
			a.defs = append(a.defs, b.define)
		}
	}
	if len(errs) > 0 {
		a.err = fmt.Errorf("agent %q: %w", name, errors.Join(errs...))
	}
	a.wf = NewWorkflow(a)
	return a
}

// Card implements [Runner].
func (a *Agent) Card() *Card {
	return &Card{Name: a.name, Title: a.c.Title, Description: firstOf(a.c.Description, a.c.Instruction)}
}

// Info implements [durable.Definition]: it is the workflow of its name.
func (a *Agent) Info() durable.Info { return a.wf.Info() }

// Define implements [durable.Definer].
func (a *Agent) Define(d *durable.Definitions) {
	if a.err != nil {
		d.Fail(a.err)
		return
	}
	d.Add(a.wf, a.defs)
	if len(a.c.Servers) > 0 {
		d.Add(toolset.List, toolset.Call)
	}
}

// Run implements [Runner]: it asks the model, calls the tools that the model
// wants, and goes on until there is an answer, or a limit is reached. It runs in
// the workflow that ctx is of; each model call, each tool call and each list of
// tools is a recorded step.
func (a *Agent) Run(ctx context.Context, in *Input) (*Result, error) {
	if a.err != nil {
		return nil, a.err
	}
	t, err := a.begin(ctx, in)
	if err != nil {
		return nil, err
	}
	return t.run(ctx)
}
