package llmtest_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/anthropic"
	"github.com/mcpagent/mcpagent/llm/llmtest"
	"github.com/mcpagent/mcpagent/llm/openai"
)

// connections counts those that are open.
type connections struct {
	mu         sync.Mutex
	open, most int
	closed     sync.Cond
}

func (c *connections) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open++
	c.most = max(c.most, c.open)
	return &counted{Conn: conn, in: c}, nil
}

// none waits until no connection is open.
func (c *connections) none() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.open > 0 {
		c.closed.Wait()
	}
}

type counted struct {
	net.Conn
	in   *connections
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() {
		c.in.mu.Lock()
		defer c.in.mu.Unlock()
		c.in.open--
		c.in.closed.Broadcast()
	})
	return c.Conn.Close()
}

// TestAbandonedStreamsLeakNothing begins a thousand answers that never end, and
// hears the first word of each. It does not run beside others: it counts.
func TestAbandonedStreamsLeakNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	key := durable.NewSecret("key")
	for name, provider := range map[string]func(url string, c *http.Client) llm.Provider{
		"openai": func(url string, c *http.Client) llm.Provider {
			return openai.New(&openai.Options{APIKey: key, BaseURL: url + "/v1", HTTPClient: c})
		},
		"anthropic": func(url string, c *http.Client) llm.Provider {
			return anthropic.New(&anthropic.Options{APIKey: key, BaseURL: url, HTTPClient: c})
		},
	} {
		s := llmtest.New(llmtest.Answer{Text: strings.Repeat("word ", 1000), Pace: time.Millisecond})
		srv := llmtest.Serve(t, s)
		count := &connections{}
		count.closed.L = &count.mu
		transport := &http.Transport{DialContext: count.dial}
		m, err := provider(srv.URL, &http.Client{Transport: transport}).Model("m")
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 125 {
					heard := ""
					for d, err := range m.Stream(t.Context(), &llm.Request{Messages: []llm.Message{llm.User("x")}}) {
						if err != nil {
							t.Error(err)
						}
						if heard = d.Text; heard != "" {
							break
						}
					}
					if heard == "" {
						t.Error("nothing came")
					}
				}
			})
		}
		wg.Wait()
		count.none() // with the transport still open
		if n := len(s.Requests()); n != 1000 || count.most > 100 {
			t.Errorf("%s: %d requests on at most %d connections", name, n, count.most)
		}
		srv.Close()
		transport.CloseIdleConnections()
	}
	goleak.VerifyNone(t, before)
}
