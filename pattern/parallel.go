package pattern

import (
	"context"
	"fmt"
	"strings"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
)

// Parallel asks several runners the same and makes one answer of theirs.
type Parallel struct {
	base
	c ParallelConfig
}

// ParallelConfig says what a [Parallel] is.
type ParallelConfig struct {
	Description string
	Workers     []agent.Runner
	// Join gets all answers and gives the one. Nil: they stand one after the
	// other, each under its worker's name.
	Join agent.Runner
	// Limit is how many work at once. 0: all.
	Limit int
	// Partial goes on with the answers that there are when some workers fail;
	// the others are named. Otherwise a failure is the pattern's.
	Partial bool
}

// NewParallel makes a Parallel.
func NewParallel(name string, c ParallelConfig) *Parallel {
	p := &Parallel{c: c}
	members := c.Workers
	if c.Join != nil {
		members = append(members[:len(members):len(members)], c.Join)
	}
	p.begin(p, name, c.Description, members...)
	if len(c.Workers) == 0 {
		p.err = fmt.Errorf("pattern %q: it has no workers", name)
	}
	return p
}

// done is what came of a worker.
type done struct {
	res *agent.Result
	err error
}

// Run implements [agent.Runner].
func (p *Parallel) Run(ctx context.Context, in *agent.Input) (*agent.Result, error) {
	if p.err != nil {
		return nil, p.err
	}
	each, err := durable.Map(ctx, p.c.Workers, func(ctx context.Context, w agent.Runner) (done, error) {
		ask := *in
		ask.Schema = nil
		res, err := w.Run(ctx, &ask)
		if err != nil {
			err = fmt.Errorf("%s: %w", w.Card().Name, err)
			if !p.c.Partial || ctx.Err() != nil {
				return done{}, err
			}
		}
		return done{res, err}, nil
	}, &durable.GroupOptions{Limit: p.c.Limit})
	if err != nil {
		return nil, err
	}
	var text strings.Builder
	cost := agent.Result{}
	answers := 0
	for i, d := range each {
		name := p.c.Workers[i].Card().Name
		if d.err != nil {
			section(&text, "failed", name, d.err.Error())
			continue
		}
		answers++
		cost.Count(d.res)
		section(&text, "answer", name, d.res.Text())
	}
	if answers == 0 {
		return nil, fmt.Errorf("%s: no worker has an answer: %w", p.card.Name, each[0].err)
	}
	if p.c.Join == nil {
		out := agent.Answer(text.String())
		out.Count(&cost)
		return out, nil
	}
	var ask strings.Builder
	section(&ask, "question", "", question(in))
	ask.WriteString(text.String())
	ask.WriteString("\nSeveral workers were asked the question above. Make one answer of theirs.")
	join := say(ask.String())
	join.Schema = in.Schema
	res, err := p.c.Join.Run(ctx, join)
	if err != nil {
		return nil, err
	}
	out := *res
	out.Count(&cost)
	return &out, nil
}
