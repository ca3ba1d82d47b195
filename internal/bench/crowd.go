package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/localengine"
	"github.com/mcpagent/mcpagent/internal/toolset"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/mcphost"
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

// serverVar makes the command an MCP server on its standard input and output.
const serverVar = "MCPAGENT_BENCH_SERVER"

type echoed struct {
	Text string `json:"text"`
}

// echoServer has a tool that says what it is told.
func echoServer() *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "echo", Version: "1"}, nil)
	mcp.AddTool(s, &mcp.Tool{Name: "echo"}, func(_ context.Context, _ *mcp.CallToolRequest, in echoed) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: in.Text}}}, nil, nil
	})
	return s
}

// inside is a server of this process.
func inside(ctx context.Context) (mcp.Transport, error) {
	theirs, ours := mcp.NewInMemoryTransports()
	_, err := echoServer().Connect(ctx, theirs, nil)
	return ours, err
}

// hostCall measures a tool call through the host beyond one by a bare session
// of the SDK, which takes the host's place in the same step.
func hostCall(b *bench) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	for _, revision := range []string{"2025-11-25", "2026-07-28"} {
		child := exec.Command(program)
		child.Env = append(os.Environ(), serverVar+"=1")
		err := b.hostCall("a server of this process, revision "+revision, mcphost.Server{Dial: inside, Pin: revision}, inside)
		if err == nil {
			err = b.hostCall("a server on standard input and output, revision "+revision,
				mcphost.Server{Command: program, Env: map[string]durable.Secret{serverVar: durable.NewSecret("1")}, Pin: revision},
				func(context.Context) (mcp.Transport, error) { return &mcp.CommandTransport{Command: child}, nil })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) hostCall(what string, s mcphost.Server, dial func(context.Context) (mcp.Transport, error)) (err error) {
	h := mcphost.New(&mcphost.Options{Logger: quiet, Servers: map[string]mcphost.Server{"it": s}})
	defer func() { err = errors.Join(err, h.Close(context.Background())) }()
	t, err := dial(b.ctx)
	if err != nil {
		return err
	}
	cs, err := mcp.NewClient(&mcp.Implementation{Name: "bare", Version: "1"}, nil).Connect(b.ctx, t, &mcp.ClientSessionOptions{ProtocolVersion: s.Pin})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cs.Close()) }()
	bare := toolset.Call.Bind(func(ctx context.Context, in toolset.CallIn) (out toolset.CallOut, err error) {
		res, err := cs.CallTool(ctx, &mcp.CallToolParams{Name: in.Tool, Arguments: in.Call.Args})
		if err == nil {
			out.Result = &llm.ToolResult{ID: in.Call.ID, Name: in.Call.Name, Parts: []llm.Part{{Text: res.Content[0].(*mcp.TextContent).Text}}}
		}
		return out, err
	})
	in := toolset.CallIn{Server: "it", Tool: "echo", Call: llm.ToolCall{ID: "1", Name: "it_echo", Args: json.RawMessage(`{"text":"hello"}`)}}
	n := b.size(200)
	var cpu [2]times
	by := func(cpu *times, d durable.Definer) func() (time.Duration, error) {
		ctx := durable.With(b.ctx, d)
		return many(cpu, n, 1, func() error {
			out, err := toolset.Call.Do(ctx, in)
			if err == nil && out.Result.Text() != "hello" {
				err = fmt.Errorf("the server said %q", out.Result.Text())
			}
			return err
		})
	}
	often := *b // many short turns: what is looked for is a small part of a call
	often.rounds *= 5
	got, err := often.interleave(contender{"the host", by(&cpu[0], h)}, contender{"the bare session", by(&cpu[1], bare)})
	if err != nil {
		return err
	}
	over := got[0].minus(got[1]).median()
	b.add(row{what: "a tool call through the host, " + what + ": beyond the bare session's", ours: fmt.Sprintf("%s of %s", short(over), short(got[0].median())),
		limit: "15 µs; bare session: " + short(got[1].median()), ratio: float64(over) / float64(15*time.Microsecond), target: 1})
	b.add(row{what: "… processor time", ours: fmt.Sprintf("%s of %s", short(cpu[0].minus(cpu[1]).median()), short(cpu[0].median())), limit: "bare session: " + short(cpu[1].median())})
	return nil
}
