package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/internal/toolset"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/mcphost"
)

// serverVar makes the command an MCP server on its standard input and output.
const serverVar = "MCPAGENT_BENCH_SERVER"

type echoed struct {
	Text string `json:"text"`
}

// echoServer has a tool that says what it is told, and one that says how long
// the metadata of its call is.
func echoServer() *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "echo", Version: "1"}, nil)
	say := func(text string) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}, nil, nil
	}
	mcp.AddTool(s, &mcp.Tool{Name: "echo"}, func(_ context.Context, _ *mcp.CallToolRequest, in echoed) (*mcp.CallToolResult, any, error) {
		return say(in.Text)
	})
	mcp.AddTool(s, &mcp.Tool{Name: "meta"}, func(_ context.Context, req *mcp.CallToolRequest, _ echoed) (*mcp.CallToolResult, any, error) {
		raw, err := json.Marshal(req.Params.Meta)
		if err != nil {
			return nil, nil, err
		}
		return say(fmt.Sprintf("%d bytes", len(raw)))
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
// of the SDK, which takes the host's place in a step of the memory engine.
func hostCall(b *bench) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	for _, revision := range []string{"2025-11-25", "2026-07-28"} {
		err := b.hostCall("a server of this process, revision "+revision, mcphost.Server{Dial: inside, Pin: revision}, inside)
		if err == nil {
			err = b.hostCall("a server on standard input and output, revision "+revision,
				mcphost.Server{Command: program, Env: map[string]durable.Secret{serverVar: durable.NewSecret("1")}, Pin: revision},
				func(context.Context) (mcp.Transport, error) {
					child := exec.Command(program)
					child.Env = append(os.Environ(), serverVar+"=1")
					return &mcp.CommandTransport{Command: child}, nil
				})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) hostCall(what string, s mcphost.Server, dial func(context.Context) (mcp.Transport, error)) (err error) {
	who := mcp.Implementation{Name: "bench", Version: "1"}
	h := mcphost.New(&mcphost.Options{Logger: quiet, Name: who.Name, Version: who.Version, Servers: map[string]mcphost.Server{"it": s}})
	defer func() { err = errors.Join(err, h.Close(context.Background())) }()
	// Each has a server of its own: one that is called twice as often is warmer.
	connect := func(o *mcp.ClientOptions) (*mcp.ClientSession, error) {
		t, err := dial(b.ctx)
		if err != nil {
			return nil, err
		}
		return mcp.NewClient(&who, o).Connect(b.ctx, t, &mcp.ClientSessionOptions{ProtocolVersion: s.Pin})
	}
	plain, err := connect(nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plain.Close()) }()
	same, err := connect(&mcp.ClientOptions{Capabilities: &mcp.ClientCapabilities{
		Elicitation: &mcp.ElicitationCapabilities{Form: &mcp.FormElicitationCapabilities{}, URL: &mcp.URLElicitationCapabilities{}},
	}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, same.Close()) }()
	c := &calls{b: b, steps: []*durable.Step[toolset.CallIn, toolset.CallOut]{
		toolset.Call,
		bareCall("plain", plain, func(durable.StepInfo) mcp.Meta { return nil }),
		bareCall("same", same, func(info durable.StepInfo) mcp.Meta {
			return mcp.Meta{"progressToken": "1", mcphost.EffectKey: info.Key}
		}),
	}}
	c.wf = durable.NewWorkflow("calls", c.make, nil)
	if c.e, err = durable.NewMemory(b.ctx, &durable.Options{Logger: quiet}, h, c.wf, c.steps[1], c.steps[2]); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.e.Close(context.Background())) }()
	if err := c.sameBytes(); err != nil {
		return err
	}
	wall, err := c.inTurns(b.size(500) * b.rounds)
	if err != nil {
		return err
	}
	cpu := make([]times, len(c.steps))
	var each []contender
	for i, step := range c.steps {
		each = append(each, contender{step.Name(), func() (time.Duration, error) {
			n := b.size(200)
			return perOp(&cpu[i], n, func() (time.Duration, error) {
				t := time.Now()
				_, err := c.run("echo", slices.Repeat([]int{i}, n))
				return time.Since(t), err
			})
		}})
	}
	often := *b // many short turns: what is looked for is a small part of a call
	often.rounds *= 3
	if _, err := often.interleave(each...); err != nil {
		return err
	}
	const limit = 15 * time.Microsecond
	for i, line := range []string{1: "a tool call through the host, " + what + ": beyond the bare session's", 2: "… beyond the bare session's call with the same bytes"} {
		if line != "" {
			over := wall[0].minus(wall[i]).median()
			b.add(row{what: line, ours: fmt.Sprintf("%s of %s; processor time %s of %s", short(over), short(wall[0].median()), short(cpu[0].minus(cpu[i]).median()), short(cpu[0].median())),
				limit: "15 µs; bare session: " + short(wall[i].median()), ratio: float64(over) / float64(limit), target: 1})
		}
	}
	return nil
}

// bareCall is the step of the host, made by a session alone.
func bareCall(name string, cs *mcp.ClientSession, meta func(durable.StepInfo) mcp.Meta) *durable.Step[toolset.CallIn, toolset.CallOut] {
	return durable.NewStep(name, func(ctx context.Context, in toolset.CallIn) (out toolset.CallOut, err error) {
		info, _ := durable.StepInfoOf(ctx)
		res, err := cs.CallTool(ctx, &mcp.CallToolParams{Meta: meta(info), Name: in.Tool, Arguments: in.Call.Args})
		if err == nil {
			out.Result = &llm.ToolResult{ID: in.Call.ID, Name: in.Call.Name, Parts: []llm.Part{{Text: res.Content[0].(*mcp.TextContent).Text}}}
		}
		return out, err
	}, nil)
}

// calls are runs of the memory engine that call a tool in several ways.
type calls struct {
	b     *bench
	steps []*durable.Step[toolset.CallIn, toolset.CallOut]
	e     *durable.Engine
	wf    *durable.Workflow[callsIn, struct{}]
	// Of the newest run, for each of its calls.
	took times
	said []string
}

// callsIn says which tool is called, and in which ways, one after the other.
type callsIn struct {
	Tool  string `json:"tool"`
	Order []int  `json:"order"`
}

func (c *calls) make(ctx context.Context, in callsIn) (struct{}, error) {
	c.took, c.said = c.took[:0], c.said[:0]
	call := toolset.CallIn{Server: "it", Tool: in.Tool, Call: llm.ToolCall{ID: "1", Name: "it_" + in.Tool, Args: json.RawMessage(`{"text":"hello"}`)}}
	for _, i := range in.Order {
		t := time.Now() //durablevet:ignore the clock is what is asked for, and there is no replay
		out, err := c.steps[i].Do(ctx, call)
		if err != nil {
			return struct{}{}, err
		}
		c.took = append(c.took, time.Since(t)) //durablevet:ignore the same
		c.said = append(c.said, out.Result.Text())
	}
	return struct{}{}, nil
}

// run gives the times of a run's calls.
func (c *calls) run(tool string, order []int) (times, error) {
	r, err := c.wf.Start(c.b.ctx, c.e, callsIn{tool, order}, nil)
	if err == nil {
		_, err = c.wf.Result(c.b.ctx, r)
	}
	return c.took, err
}

// sameBytes sees to it that the last way says what the host says. Its token of
// progress stays one digit long, where that of the host counts.
func (c *calls) sameBytes() error {
	_, err := c.run("meta", []int{0, 2})
	if err == nil && c.said[0] != c.said[1] {
		err = fmt.Errorf("the host sends metadata of %s, the bare session of %s", c.said[0], c.said[1])
	}
	return err
}

// inTurns calls in each way n times, one call of each in turn, in an order that
// is drawn anew each time: who comes after whom is not the same for all. What
// is looked for is a small part of a call, and shows in the median of the
// differences of neighbours.
func (c *calls) inTurns(n int) ([]times, error) {
	const rounds = 25 // of a run
	got := make([]times, len(c.steps))
	for done := -rounds; done < n; done += rounds { // the first one gets warm
		var order []int
		for range rounds {
			order = append(order, rand.Perm(len(c.steps))...)
		}
		took, err := c.run("echo", order)
		if err != nil {
			return nil, err
		}
		if done < 0 {
			continue
		}
		for k, i := range order {
			got[i] = append(got[i], took[k])
			if c.said[k] != "hello" {
				return nil, fmt.Errorf("the server said %q", c.said[k])
			}
		}
	}
	return got, nil
}
