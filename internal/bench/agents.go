package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/localengine"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/anthropic"
	"github.com/mcpagent/mcpagent/llm/openai"
)

// speech is a protocol of models, as the mock speaks it.
type speech struct {
	name, vendor, path string
	provider           func(url string) llm.Provider
	result             string              // what each result in a request has
	call               func(id int) string // an answer that calls the tool
	end                string              // the last answer
	pieces             []string            // it, in two pieces
}

// speeches are both, with what a program writes for them.
func speeches() []speech {
	key := durable.NewSecret("bench")
	whole := func(message, finish string) string {
		return `{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":` + message + `,"finish_reason":"` + finish + `"}],"usage":{"prompt_tokens":10,"completion_tokens":1,"total_tokens":11}}`
	}
	content := func(block, stop string) string {
		return `{"id":"c","type":"message","role":"assistant","model":"m","content":[` + block + `],"stop_reason":"` + stop + `","usage":{"input_tokens":10,"output_tokens":1}}`
	}
	return []speech{
		{
			name: "OpenAI's protocol", vendor: "openai", path: "/chat/completions", result: `"role":"tool"`,
			provider: func(url string) llm.Provider { return openai.New(&openai.Options{APIKey: key, BaseURL: url}) },
			call: func(id int) string {
				return whole(fmt.Sprintf(`{"role":"assistant","content":null,"tool_calls":[{"id":"c%d","type":"function","function":{"name":"sum","arguments":"{\"a\":%d,\"b\":1}"}}]}`, id, id), "tool_calls")
			},
			end: whole(`{"role":"assistant","content":"done"}`, "stop"),
			pieces: []string{
				"data: {\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"do\"}}]}\n\n",
				"data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"ne\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
			},
		},
		{
			name: "Anthropic's protocol", vendor: "anthropic", path: "/v1/messages", result: `"type":"tool_result"`,
			provider: func(url string) llm.Provider { return anthropic.New(&anthropic.Options{APIKey: key, BaseURL: url}) },
			call: func(id int) string {
				return content(fmt.Sprintf(`{"type":"tool_use","id":"c%d","name":"sum","input":{"a":%d,"b":1}}`, id, id), "tool_use")
			},
			end: content(`{"type":"text","text":"done"}`, "end_turn"),
			pieces: []string{
				"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"c\",\"model\":\"m\",\"usage\":{\"input_tokens\":10}}}\n\n" +
					"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"do\"}}\n\n",
				"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"ne\"}}\n\n" +
					"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":1}}\n\n" +
					"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
			},
		},
	}
}

// mock is an endpoint of this process that wants a tool called for so many
// turns. It keeps the requests of one conversation.
type mock struct {
	speech
	turns  int
	url    string
	srv    *http.Server
	served chan error
	kept   atomic.Pointer[[][]byte] // nil: they are not kept
}

// session is an agent that adds, with a mock to talk to.
func (b *bench) session(s speech, turns int) (*mock, *agent.Agent, agent.Models, error) {
	m := &mock{speech: s, turns: turns, served: make(chan error, 1)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, nil, err
	}
	m.url, m.srv = "http://"+l.Addr().String(), &http.Server{Handler: m}
	go func() { m.served <- m.srv.Serve(l) }()
	a := agent.New("adder", agent.Config{Instruction: "Add.", Model: s.vendor + ":m", Tools: m.tools(), Budget: agent.Budget{Turns: -1}})
	return m, a, agent.Models{s.provider(m.url)}, nil
}

// tools are what the mock wants called.
func (m *mock) tools() []*agent.Tool {
	type numbers struct {
		A int `json:"a"`
		B int `json:"b"`
	}
	return []*agent.Tool{agent.Func("sum", "adds", func(_ context.Context, n numbers) (int, error) { return n.A + n.B, nil }, nil)}
}

func (m *mock) close() error {
	err := m.srv.Close()
	if serr := <-m.served; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	return err
}

// ServeHTTP implements [http.Handler].
func (m *mock) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.URL.Path != m.path {
		http.Error(w, "not for the mock", http.StatusNotFound)
		return
	}
	if kept := m.kept.Load(); kept != nil {
		*kept = append(*kept, body) // one after the other
	}
	if bytes.Contains(body, []byte(`"stream":true`)) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, piece := range m.pieces {
			_, _ = io.WriteString(w, piece)
			_ = http.NewResponseController(w).Flush()
		}
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if n := bytes.Count(body, []byte(m.result)); n < m.turns {
		_, _ = io.WriteString(w, m.call(n))
	} else {
		_, _ = io.WriteString(w, m.end)
	}
}

// requests are those of one conversation, as the agent sends them.
func (m *mock) requests(ctx context.Context, e *durable.Engine, a *agent.Agent) ([][]byte, error) {
	var all [][]byte
	m.kept.Store(&all)
	defer m.kept.Store(nil)
	if err := converse(ctx, e, a); err != nil {
		return nil, err
	}
	return all, nil
}

// converse runs an agent to its end.
func converse(ctx context.Context, e *durable.Engine, a *agent.Agent) error {
	run, err := agent.Start(ctx, e, a, nil, "Go.")
	if err != nil {
		return err
	}
	res, err := agent.ResultOf(ctx, run)
	if err == nil && res.Text() != "done" {
		err = fmt.Errorf("the agent's answer is %q", res.Text())
	}
	return err
}

// post sends requests by net/http, and nothing else.
func (m *mock) post(c *http.Client, requests [][]byte) error {
	for _, body := range requests {
		res, err := m.send(c, body)
		if err != nil {
			return err
		}
		_, err = io.ReadAll(res.Body)
		if err = errors.Join(err, res.Body.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (m *mock) send(c *http.Client, body []byte) (*http.Response, error) {
	req, err := http.NewRequest(http.MethodPost, m.url+m.path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer bench")
	return c.Do(req)
}

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
	e, err := durable.NewMemory(b.ctx, &durable.Options{Logger: quiet}, a, models)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close(context.Background())) }()
	requests, err := m.requests(b.ctx, e, a)
	if err != nil {
		return err
	}
	n := b.size(100)
	var cpu [2]times
	got, err := b.interleave(
		contender{"the agent", many(&cpu[0], n, turns, func() error { return converse(b.ctx, e, a) })},
		contender{"bare calls", many(&cpu[1], n, turns, func() error { return m.post(http.DefaultClient, requests) })},
	)
	if err != nil {
		return err
	}
	over := func(t []times, i int) time.Duration { return t[i].minus(t[1]).median() }
	b.add(row{what: "an agent's turn in memory, by " + s.name + ": beyond the bare calls", ours: fmt.Sprintf("%s of %s", short(over(got, 0)), short(got[0].median())),
		limit: fmt.Sprintf("60 µs; bare calls of the same bytes: %s", short(got[1].median())), ratio: float64(over(got, 0)) / float64(60*time.Microsecond), target: 1})
	b.add(row{what: "… processor time", ours: fmt.Sprintf("%s of %s", short(over(cpu[:], 0)), short(cpu[0].median())), limit: "bare calls: " + short(cpu[1].median())})
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
	b.add(row{what: "an agent's turn on a file: flushes, start and end of the run included", ours: number(per(0)), limit: "the same steps without an agent: " + number(per(1)), ratio: per(0) / per(1), target: 1})
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
	set := &agent.ModelSet{Providers: models, Watch: func(_, _ string, ev *agent.Event) {
		if ev.Text != "" {
			said <- time.Now()
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
