package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/localengine"
)

// agentsAtOnce runs 1,000 agents at once, and then has as many wait for a
// person.
func agentsAtOnce(b *bench) error {
	for _, onFile := range []bool{false, true} {
		if err := b.agentsAtOnce(onFile); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) agentsAtOnce(onFile bool) (err error) {
	const turns = 3
	m, a, models, err := b.session(speeches()[0], turns)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	asks := agent.New("asks", agent.Config{Instruction: "Add.", Model: m.vendor + ":m", Tools: m.tools(), Policy: agent.Policy{{Do: agent.Ask}}})
	where, opts := "in memory", durable.Options{Logger: quiet, Watchdog: time.Minute} // a busy machine is no deadlock
	open := func() (*durable.Engine, error) { return durable.NewMemory(b.ctx, &opts, a, asks, models) }
	if onFile {
		where = "on a file"
		open = func() (*durable.Engine, error) {
			return localengine.Open(b.ctx, b.file("agents.db"), &localengine.Options{Engine: opts}, a, asks, models)
		}
	}
	e, err := open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close(context.Background())) }()
	requests, err := m.requests(b.ctx, e, a)
	if err != nil {
		return err
	}
	n := b.size(1000)
	all := func(do func() error) func() (time.Duration, error) {
		return func() (time.Duration, error) {
			t := time.Now()
			err := each(n, func(int) error { return do() })
			return time.Since(t), err
		}
	}
	got, err := b.interleave(
		contender{"agents", all(func() error { return converse(b.ctx, e, a) })},
		contender{"bare calls", all(func() error { return m.post(http.DefaultClient, requests) })},
	)
	if err != nil {
		return err
	}
	calls := time.Duration(n * turns)
	b.add(row{what: fmt.Sprintf("%d agents of %d turns at once, %s, until the last has ended", n, turns, where), ours: fmt.Sprintf("%s, %s a turn", short(got[0].median()), short(got[0].median()/calls)),
		limit: fmt.Sprintf("their bare calls at once: %s, %s a turn", short(got[1].median()), short(got[1].median()/calls)), ratio: got[0].over(got[1])})

	http.DefaultClient.CloseIdleConnections()
	before := inUse()
	err = each(n, func(int) error {
		run, err := agent.Start(b.ctx, e, asks, nil, "Go.")
		if err != nil {
			return err
		}
		return waitsFor(b.ctx, run, "question")
	})
	if err != nil {
		return err
	}
	http.DefaultClient.CloseIdleConnections()
	b.add(row{what: fmt.Sprintf("… as many that wait for a person: memory of each, %s", where), ours: fmt.Sprintf("%.1f KB", float64(int64(inUse())-int64(before))/float64(n)/1024)})
	return nil
}
