package pattern

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
)

// Orchestrator plans an objective as tasks for its workers, carries the plan
// out, and makes one answer of what came of it. The steps of a plan follow one
// another; the tasks of a step run side by side.
type Orchestrator struct {
	base
	c       OrchestratorConfig
	workers map[string]agent.Runner
	planner agent.Runner
	writer  agent.Runner
}

// OrchestratorConfig says what an [Orchestrator] is.
type OrchestratorConfig struct {
	Description string
	Workers     []agent.Runner
	// Planner makes the plan: its answer is a Plan. Nil: an agent.
	Planner agent.Runner
	// Synthesizer makes one answer of the results. Nil: an agent.
	Synthesizer agent.Runner
	// Model is that of both agents. Empty: the program's default.
	Model string
	// MaxSteps and MaxTasks bound a plan: its steps, and the tasks of a step.
	// 0: 10 of each.
	MaxSteps, MaxTasks int
	// Limit is how many tasks run at once. 0: all of a step.
	Limit int
}

// Plan is what a planner answers.
type Plan struct {
	Steps []Step `json:"steps" jsonschema:"in the order in which they are done"`
}

// Step is a part of a [Plan]: tasks that do not need one another.
type Step struct {
	Description string `json:"description" jsonschema:"what the step is for"`
	Tasks       []Task `json:"tasks"`
}

// Task is work for one worker.
type Task struct {
	Worker string `json:"worker" jsonschema:"the name of the worker"`
	Task   string `json:"task" jsonschema:"what to do, with all that the worker needs to know"`
}

// NewOrchestrator makes an Orchestrator.
func NewOrchestrator(name string, c OrchestratorConfig) *Orchestrator {
	o := &Orchestrator{c: c, workers: map[string]agent.Runner{}, planner: c.Planner, writer: c.Synthesizer}
	if o.c.MaxSteps == 0 {
		o.c.MaxSteps = 10
	}
	if o.c.MaxTasks == 0 {
		o.c.MaxTasks = 10
	}
	if o.planner == nil {
		o.planner = agent.New(name+"_planner", agent.Config{
			Model: c.Model, Description: "Plans.",
			Instruction: "You plan work for others. You get an objective and a list of workers. Break the objective into steps; the tasks of a step run at the same time, and see the results of the steps before it. Use only the workers of the list, by their exact names. Use as few steps and tasks as the objective needs.",
		})
	}
	if o.writer == nil {
		o.writer = agent.New(name+"_synthesizer", agent.Config{
			Model: c.Model, Description: "Puts results together.",
			Instruction: "You get an objective and the results of work that was done for it. Write the answer to the objective from these results. Don't tell how the work was done, unless the objective asks for it.",
		})
	}
	members := append(c.Workers[:len(c.Workers):len(c.Workers)], o.planner, o.writer)
	o.begin(o, name, c.Description, members...)
	if o.err != nil {
		return o
	}
	var errs []error
	if len(c.Workers) == 0 {
		errs = append(errs, errors.New("it has no workers"))
	}
	for _, w := range c.Workers {
		n := w.Card().Name
		if o.workers[n] != nil {
			errs = append(errs, fmt.Errorf("two workers are called %q", n))
		}
		o.workers[n] = w
	}
	if len(errs) > 0 {
		o.err = fmt.Errorf("pattern %q: %w", name, errors.Join(errs...))
	}
	return o
}

// maxPlans is how often a plan that can't be carried out is sent back.
const maxPlans = 3

// ErrPlan is a planner that makes no plan that can be carried out.
var ErrPlan = durable.NewErrorType("PlanError")

// Run implements [agent.Runner].
func (o *Orchestrator) Run(ctx context.Context, in *agent.Input) (*agent.Result, error) {
	if o.err != nil {
		return nil, o.err
	}
	cost := agent.Result{}
	objective := question(in)
	plan, err := o.plan(ctx, objective, &cost)
	if err != nil {
		return nil, err
	}
	var before strings.Builder // what came of the steps so far
	for i, s := range plan.Steps {
		results, err := durable.Map(ctx, s.Tasks, func(ctx context.Context, t Task) (*agent.Result, error) {
			var ask strings.Builder
			section(&ask, "objective", "", objective)
			ask.WriteString(before.String())
			fmt.Fprintf(&ask, "\nDo this part of the objective, and nothing else: %s", t.Task)
			res, err := o.workers[t.Worker].Run(ctx, say(ask.String()))
			if err != nil {
				return nil, fmt.Errorf("step %d, task of %s: %w", i+1, t.Worker, err)
			}
			return res, nil
		}, &durable.GroupOptions{Limit: o.c.Limit})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.card.Name, err)
		}
		fmt.Fprintf(&before, "<step description=%q>\n", s.Description)
		for j, res := range results {
			cost.Count(res)
			section(&before, "result", s.Tasks[j].Worker, s.Tasks[j].Task+"\n\n"+res.Text())
		}
		before.WriteString("</step>\n")
	}
	var ask strings.Builder
	section(&ask, "objective", "", objective)
	ask.WriteString(before.String())
	ask.WriteString("\nWrite the answer to the objective.")
	last := say(ask.String())
	last.Schema = in.Schema
	res, err := o.writer.Run(ctx, last)
	if err != nil {
		return nil, err
	}
	out := *res
	out.Count(&cost)
	return &out, nil
}

// plan has a plan made that can be carried out.
func (o *Orchestrator) plan(ctx context.Context, objective string, cost *agent.Result) (*Plan, error) {
	var ask strings.Builder
	section(&ask, "objective", "", objective)
	for _, w := range o.c.Workers {
		section(&ask, "worker", w.Card().Name, w.Card().Description)
	}
	fmt.Fprintf(&ask, "\nMake a plan of at most %d steps, with at most %d tasks each.", o.c.MaxSteps, o.c.MaxTasks)
	text := ask.String()
	for n := 1; ; n++ {
		plan, res, err := agent.ObjectOf[Plan](ctx, o.planner, say(text))
		if err != nil {
			return nil, fmt.Errorf("%s: make a plan: %w", o.card.Name, err)
		}
		cost.Count(res)
		why := o.check(&plan)
		if why == nil {
			return &plan, nil
		}
		if n == maxPlans {
			return nil, fmt.Errorf("%s: %w", o.card.Name, ErrPlan.New("no plan that can be carried out in %d attempts: %v", n, why))
		}
		text = fmt.Sprintf("%s\n\nYour plan of before can't be carried out: %v. Make another one.", ask.String(), why)
	}
}

func (o *Orchestrator) check(p *Plan) error {
	if len(p.Steps) == 0 {
		return errors.New("it has no steps")
	}
	if len(p.Steps) > o.c.MaxSteps {
		return fmt.Errorf("it has %d steps, and %d are allowed", len(p.Steps), o.c.MaxSteps)
	}
	var errs []error
	for i, s := range p.Steps {
		if len(s.Tasks) == 0 || len(s.Tasks) > o.c.MaxTasks {
			errs = append(errs, fmt.Errorf("step %d has %d tasks, and 1 to %d are allowed", i+1, len(s.Tasks), o.c.MaxTasks))
		}
		for _, t := range s.Tasks {
			if o.workers[t.Worker] == nil {
				errs = append(errs, fmt.Errorf("step %d: there is no worker %q", i+1, t.Worker))
			}
		}
	}
	return errors.Join(errs...)
}
