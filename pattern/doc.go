/*
Package pattern composes agents: runners made of runners, so that patterns go
into one another.

	var (
		draft = pattern.NewEvaluatorOptimizer("draft", pattern.EvaluatorConfig{
			Writer: writer, Criteria: "Correct, under 400 words.", MinRating: pattern.Good,
		})
		report = pattern.NewOrchestrator("report", pattern.OrchestratorConfig{
			Description: "Researches a topic.", Workers: []agent.Runner{finder, draft},
		})
	)
	app, err := mcpagent.Open(ctx, opts, report)

A pattern is workflow code, and a definition of the workflow of its name: given
to Open it brings its members along. They run as parts of its run.

	Parallel             the same question to several runners at once, and one answer of theirs
	Orchestrator         a plan of tasks for its workers, carried out step by step, and a synthesis
	EvaluatorOptimizer   a draft, judged and written again until it is good enough
*/
package pattern

import (
	"fmt"
	"strings"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
)

// base is what the patterns have in common.
type base struct {
	card    agent.Card
	wf      *durable.Workflow[*agent.Input, *agent.Result]
	members []agent.Runner
	err     error
}

// begin completes a pattern. Its own name belongs to it, and its members.
func (b *base) begin(r agent.Runner, name, description string, members ...agent.Runner) {
	b.card = agent.Card{Name: name, Description: description}
	b.wf = agent.NewWorkflow(r)
	for i, m := range members {
		if m == nil {
			b.err = fmt.Errorf("pattern %q: member %d is nil", name, i+1)
			return
		}
	}
	b.members = members
}

// Card implements [agent.Runner].
func (b *base) Card() *agent.Card { return &b.card }

// Info implements [durable.Definition]: it is the workflow of its name.
func (b *base) Info() durable.Info { return b.wf.Info() }

// Define implements [durable.Definer].
func (b *base) Define(d *durable.Definitions) {
	if b.err != nil {
		d.Fail(b.err)
		return
	}
	d.Add(b.wf)
	agent.DefineAll(d, b.members...)
}

// question is the text of what is asked last.
func question(in *agent.Input) string {
	for i := len(in.Messages) - 1; i >= 0; i-- {
		if m := in.Messages[i]; m.Role == llm.RoleUser {
			return m.Text()
		}
	}
	return ""
}

// say is an input of one message.
func say(text string) *agent.Input {
	return &agent.Input{Messages: []llm.Message{llm.User(text)}}
}

// section is a part of a prompt: what it is, in a tag, and the text.
func section(b *strings.Builder, tag, name, text string) {
	if name != "" {
		fmt.Fprintf(b, "<%s name=%q>\n%s\n</%s>\n", tag, name, strings.TrimSpace(text), tag)
		return
	}
	fmt.Fprintf(b, "<%s>\n%s\n</%s>\n", tag, strings.TrimSpace(text), tag)
}
