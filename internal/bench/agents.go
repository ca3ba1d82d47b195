package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/localengine"
)

// agentTurn measures a turn of an agent in memory, a model call and a tool
// call, beyond the same bytes sent by net/http alone.
func agentTurn(b *bench) error {
	for _, s := range speeches() {
		if err := b.agentTurn(s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

func (b *bench) agentTurn(s speech) (err error) {
	const turns = 10
	m, a, models, err := b.session(s, turns)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	hand := newByHand(m)
	e, err := durable.NewMemory(b.ctx, &durable.Options{Logger: quiet}, a, models, hand.loop, hand.ask, hand.sum)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close(context.Background())) }()
	requests, err := m.requests(b.ctx, e, a)
	if err != nil {
		return err
	}
	n := b.size(100)
	var cpu [3]times
	var own times
	turn := many(&cpu[0], n, turns, func() error { return converse(b.ctx, e, a) })
	all := []contender{
		{"the agent", func() (time.Duration, error) {
			m.calls.Store(0)
			d, err := turn()
			own = append(own, d-time.Duration(m.calls.Load())/time.Duration(n*turns))
			return d, err
		}},
		{"bare calls", many(&cpu[1], n, turns, func() error { return m.post(http.DefaultClient, requests) })},
	}
	if s.vendor == "openai" {
		all = append(all, contender{"by hand", many(&cpu[2], n, turns, func() error { return hand.converse(b.ctx, e) })})
	}
	got, err := b.interleave(all...)
	if err != nil {
		return err
	}
	const limit = 60 * time.Microsecond
	over := func(what string, ours, of, bare time.Duration) {
		b.add(row{what: what, ours: fmt.Sprintf("%s of %s", short(ours), short(of)), limit: "60 µs; bare calls: " + short(bare), ratio: float64(ours) / float64(limit), target: 1})
	}
	over("an agent's turn in memory, by "+s.name+": beyond bare calls of the same bytes, one right after the other", got[0].minus(got[1]).median(), got[0].median(), got[1].median())
	over("… beyond the HTTP calls within it", own[1:].median(), got[0].median(), (got[0].median() - own[1:].median()))
	over("… processor time beyond the bare calls", cpu[0].minus(cpu[1]).median(), cpu[0].median(), cpu[1].median())
	if len(got) > 2 {
		b.add(row{what: "… beside the same loop written by hand, with a step for each call and neither events nor checks", ours: short(got[0].median()), limit: "by hand: " + short(got[2].median()), ratio: got[0].over(got[2]), target: 1})
		b.add(row{what: "… processor time of both", ours: short(cpu[0].median()), limit: "by hand: " + short(cpu[2].median()), ratio: cpu[0].over(cpu[2]), target: 1})
	}
	return nil
}

// many is a stretch of something that has so many turns, and what it used of
// the processors.
func many(cpu *times, n, turns int, do func() error) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		return perOp(cpu, n*turns, func() (time.Duration, error) {
			t := time.Now()
			for range n {
				if err := do(); err != nil {
					return 0, err
				}
			}
			return time.Since(t), nil
		})
	}
}

// agentFile counts the flushes of a turn on a file, against those of two steps
// without an agent, and takes the time of both.
func agentFile(b *bench) (err error) {
	const turns = 10
	m, a, models, err := b.session(speeches()[0], turns)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	// The steps have the options of those of an agent, and values of their size.
	value := strings.Repeat("x", 200)
	echo := func(_ context.Context, s string) (string, error) { return s, nil }
	model := durable.NewStep("model", echo, nil)
	tool := durable.NewStep("tool", echo, &durable.StepOptions{AtMostOnce: true})
	plain := durable.NewWorkflow("plain", func(ctx context.Context, s string) (string, error) {
		for range turns {
			if _, err := model.Do(ctx, s); err != nil {
				return "", err
			}
			if _, err := tool.Do(ctx, s); err != nil {
				return "", err
			}
		}
		return model.Do(ctx, s)
	}, nil)
	c, err := b.countFlushes(0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	e, err := localengine.Open(b.ctx, c.dir+"/a.db", &localengine.Options{Engine: durable.Options{Logger: quiet}}, a, models, plain, model, tool)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close(context.Background())) }()
	requests, err := m.requests(b.ctx, e, a)
	if err != nil {
		return err
	}
	var flushes [2][]int64
	counted := func(i int, do func() (time.Duration, error)) func() (time.Duration, error) {
		return func() (time.Duration, error) {
			before := c.n.Load()
			d, err := do()
			flushes[i] = append(flushes[i], c.n.Load()-before)
			return d, err
		}
	}
	n := b.size(20)
	var cpu [3]times
	got, err := b.interleave(
		contender{"the agent", counted(0, many(&cpu[0], n, turns, func() error { return converse(b.ctx, e, a) }))},
		contender{"steps", counted(1, many(&cpu[1], n, turns, func() error {
			r, err := plain.Start(b.ctx, e, value, nil)
			if err == nil {
				_, err = plain.Result(b.ctx, r)
			}
			return err
		}))},
		contender{"bare calls", many(&cpu[2], n, turns, func() error { return m.post(http.DefaultClient, requests) })},
	)
	if err != nil {
		return err
	}
	per := func(i int) float64 { return float64(median(flushes[i])) / float64(n*turns) }
	b.add(row{what: "an agent's turn on a file: flushes, start and end of the run included", ours: number(per(0)), limit: "the same steps without an agent: " + number(per(1)), ratio: per(0) / per(1), target: 1.02}) // a longer log is folded in more often
	own := got[0].minus(got[2])
	b.add(row{what: "… the time beyond the bare calls", ours: fmt.Sprintf("%s of %s", short(own.median()), short(got[0].median())), limit: "those steps: " + short(got[1].median()), ratio: own.over(got[1])})
	used := cpu[0].minus(cpu[2])
	b.add(row{what: "… processor time", ours: fmt.Sprintf("%s of %s", short(used.median()), short(cpu[0].median())), limit: "those steps: " + short(cpu[1].median()), ratio: used.over(cpu[1])})
	return nil
}

// agentStream measures when the first piece of an answer is there, from the
// start of the run, against the same stream read by net/http alone.
func agentStream(b *bench) error {
	for _, s := range speeches() {
		if err := b.agentStream(s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

func (b *bench) agentStream(s speech) (err error) {
	m, a, models, err := b.session(s, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	said := make(chan time.Time, 16)
	set := &agent.ModelSet{Providers: models, Watch: func(string, string) func(*agent.Event) {
		return func(ev *agent.Event) {
			if ev.Text != "" {
				said <- time.Now()
			}
		}
	}}
	memory, err := durable.NewMemory(b.ctx, &durable.Options{Logger: quiet}, a, set)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, memory.Close(context.Background())) }()
	file, err := localengine.Open(b.ctx, b.file("stream.db"), &localengine.Options{Engine: durable.Options{Logger: quiet}}, a, set)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close(context.Background())) }()
	requests, err := m.requests(b.ctx, memory, a)
	if err != nil {
		return err
	}
	<-said
	<-said
	by := func(e *durable.Engine) func() (time.Duration, error) {
		return b.first(func() (time.Duration, error) {
			t := time.Now()
			if err := converse(b.ctx, e, a); err != nil {
				return 0, err
			}
			d := (<-said).Sub(t)
			<-said
			return d, nil
		})
	}
	got, err := b.interleave(contender{"memory", by(memory)}, contender{"file", by(file)}, contender{"bare stream", b.first(func() (time.Duration, error) {
		t := time.Now()
		res, err := m.send(http.DefaultClient, requests[0])
		if err != nil {
			return 0, err
		}
		lines := bufio.NewScanner(res.Body)
		for lines.Scan() && !strings.Contains(lines.Text(), `"do"`) {
		}
		d := time.Since(t)
		_, err = io.Copy(io.Discard, res.Body)
		return d, errors.Join(err, res.Body.Close())
	})})
	if err != nil {
		return err
	}
	for i, where := range []string{"in memory", "on a file"} {
		over := got[i].minus(got[2]).median()
		b.add(row{what: "the first piece of a stream by " + s.name + ", from the start of a run " + where + ": beyond the bare stream's", ours: fmt.Sprintf("%s of %s", short(over), short(got[i].median())),
			limit: fmt.Sprintf("2 ms; bare stream: %s", short(got[2].median())), ratio: float64(over) / float64(2*time.Millisecond), target: 1})
	}
	return nil
}

// first is the median of some times of one round.
func (b *bench) first(once func() (time.Duration, error)) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		var all times
		for range b.size(100) {
			d, err := once()
			if err != nil {
				return 0, err
			}
			all = append(all, d)
		}
		return all.median(), nil
	}
}
