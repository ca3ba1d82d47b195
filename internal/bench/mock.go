package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/anthropic"
	"github.com/mcpagent/mcpagent/llm/openai"
)

// speech is a protocol of models, as the mock speaks it.
type speech struct {
	name, vendor, path string
	provider           func(url string, c *http.Client) llm.Provider
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
			provider: func(url string, c *http.Client) llm.Provider {
				return openai.New(&openai.Options{APIKey: key, BaseURL: url, HTTPClient: c})
			},
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
			provider: func(url string, c *http.Client) llm.Provider {
				return anthropic.New(&anthropic.Options{APIKey: key, BaseURL: url, HTTPClient: c})
			},
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
	calls  atomic.Int64             // nanoseconds that the agent's HTTP calls took, until the end of the answers
}

// RoundTrip implements [http.RoundTripper] for the agent.
func (m *mock) RoundTrip(r *http.Request) (*http.Response, error) {
	began := time.Now()
	res, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		res.Body = &timed{res.Body, m, began}
	}
	return res, err
}

type timed struct {
	io.ReadCloser
	m     *mock
	began time.Time
}

func (t *timed) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	if err == io.EOF {
		t.m.calls.Add(int64(time.Since(t.began)))
	}
	return n, err
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
	return m, a, agent.Models{s.provider(m.url, &http.Client{Transport: m})}, nil
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
