package mcpserve_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/mcpserve"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// tokens knows the tokens of ann and bob.
func tokens(_ context.Context, token string) (*mcpserve.Identity, error) {
	name, ok := strings.CutPrefix(token, "token-of-")
	if !ok {
		return nil, errors.New("who is that?")
	}
	return &mcpserve.Identity{Actor: durable.Actor{Name: name, Owner: "team-" + name}}, nil
}

type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer token-of-"+string(b))
	return http.DefaultTransport.RoundTrip(r)
}

func connectAs(t testing.TB, srv *mcpserve.Server, name, revision string) *mcp.ClientSession {
	t.Helper()
	web := httptest.NewServer(srv.Handler())
	t.Cleanup(func() { srv.Close(); web.Close() })
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	return dial(t, &mcp.StreamableClientTransport{Endpoint: web.URL, HTTPClient: &http.Client{Transport: bearer(name)}}, peer{revision: revision})
}

const discover = `{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"x","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`
const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`

// post posts a message to a handler, as if it came in over a connection.
func post(h http.Handler, body string, change func(*http.Request)) (int, string) {
	r := httptest.NewRequest("POST", "http://127.0.0.1/mcp", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	from := func(addr string) {
		a, _ := net.ResolveTCPAddr("tcp", addr)
		*r = *r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(a)))
	}
	from("127.0.0.1:80")
	if change != nil {
		change(r)
	}
	if strings.Contains(body, "server/discover") {
		r.Header.Set("Mcp-Method", "server/discover")
	}
	if to := r.Header.Get("X-Test-Local"); to != "" {
		from(to)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	body1, _ := io.ReadAll(w.Result().Body)
	return w.Result().StatusCode, string(body1)
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func TestHTTPGuards(t *testing.T) {
	t.Parallel()
	m := newMachine()
	eng := engine(t, m)
	handler := func(o *mcpserve.Options) http.Handler {
		srv := mcpserve.New("s", eng, o)
		t.Cleanup(func() { srv.Close() })
		return srv.Handler()
	}
	version := header("Mcp-Protocol-Version", "2026-07-28")
	for name, c := range map[string]struct {
		o      *mcpserve.Options
		body   string
		change func(*http.Request)
		status int
		says   string
	}{
		"old era":               {nil, initialize, nil, 200, `"protocolVersion":"2025-06-18"`},
		"new era":               {nil, discover, version, 200, `2026-07-28`},
		"new era, no header":    {nil, discover, nil, 400, "header is required"},
		"unknown old revision":  {nil, initialize, header("Mcp-Protocol-Version", "1999-01-01"), 400, "2025-11-25"},
		"unknown new revision":  {nil, strings.ReplaceAll(discover, "2026-07-28", "2031-01-01"), header("Mcp-Protocol-Version", "2031-01-01"), 400, "2026-07-28"},
		"no session":            {nil, initialize, header("Mcp-Session-Id", "gone"), 404, "session not found"},
		"another origin":        {nil, initialize, header("Origin", "https://evil.example"), 403, ""},
		"a trusted origin":      {&mcpserve.Options{Origins: []string{"https://app.example"}}, initialize, header("Origin", "https://app.example"), 200, "protocolVersion"},
		"another host name":     {nil, initialize, func(r *http.Request) { r.Host = "evil.example" }, 403, "Host"},
		"another host, allowed": {&mcpserve.Options{AllowRemote: true}, initialize, func(r *http.Request) { r.Host = "mcp.example" }, 200, "protocolVersion"},
		"another machine":       {nil, initialize, header("X-Test-Local", "192.0.2.1:80"), 403, "no authentication"},
		"… allowed":             {&mcpserve.Options{AllowRemote: true}, initialize, header("X-Test-Local", "192.0.2.1:80"), 200, "protocolVersion"},
		"no token":              {&mcpserve.Options{Authenticate: tokens}, initialize, nil, 401, "no bearer token"},
		"bad token":             {&mcpserve.Options{Authenticate: tokens}, initialize, header("Authorization", "Bearer x"), 401, "who is that"},
		"good token":            {&mcpserve.Options{Authenticate: tokens}, initialize, header("Authorization", "Bearer token-of-ann"), 200, "protocolVersion"},
		"not JSON":              {nil, "{", nil, 400, ""},
		"too long":              {nil, `{"jsonrpc":"2.0","id":1,"method":"` + strings.Repeat("x", 17<<20) + `"}`, nil, 413, ""},
	} {
		status, body := post(handler(c.o), c.body, c.change)
		if status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d %.300s, want %d with %q", name, status, body, c.status, c.says)
		}
	}
}

func TestRemoteAddressNeedsAuthentication(t *testing.T) {
	t.Parallel()
	srv := mcpserve.New("s", engine(t, newMachine()), nil)
	for _, addr := range []string{":0", "0.0.0.0:0", "[::]:0"} {
		err := srv.ListenAndServe(t.Context(), addr)
		if err == nil || !strings.Contains(err.Error(), "Options.Authenticate") {
			t.Errorf("ListenAndServe(%q) = %v, want a refusal that names the option", addr, err)
		}
	}
	if err := srv.ListenAndServe(t.Context(), "127.0.0.1:notaport"); err == nil {
		t.Error("a bad address is served")
	}
}

// The end of serving hands over the calls that wait, and then returns.
func TestShutdown(t *testing.T) {
	t.Parallel()
	for _, revision := range revisions {
		for _, how := range []string{"context", "close"} {
			g := newGated(t)
			eng := engine(t, g)
			srv := mcpserve.New("s", eng, nil)
			srv.Add(g.workflow, nil)
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(context.Background())
			defer stop()
			served := make(chan error, 1)
			go func() { served <- srv.Serve(ctx, ln) }()
			cs := dial(t, &mcp.StreamableClientTransport{Endpoint: "http://" + ln.Addr().String() + mcpserve.Endpoint, HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}, peer{revision: revision})
			go func() {
				<-g.began
				if how == "close" {
					srv.Close()
				}
				stop()
			}()
			began := time.Now()
			got := ok(t, cs, "gated", object{"input": "x"})
			if got["reason"] != "shutdown" || got["run_id"] == "" {
				t.Errorf("%s: gated = %v", revision, got)
			}
			select {
			case err := <-served:
				if err != nil {
					t.Errorf("%s, %s: Serve = %v", revision, how, err)
				}
			case <-time.After(patience):
				t.Fatalf("%s, %s: Serve did not return", revision, how)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("%s, %s: it took %v", revision, how, took)
			}
		}
	}
}

func TestEndpoint(t *testing.T) {
	t.Parallel()
	srv := mcpserve.New("s", engine(t, newMachine()), nil)
	ctx, stop := context.WithCancel(context.Background())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, ln) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for path, want := range map[string]int{"/mcp": 200, "/": 404} {
		r, _ := http.NewRequest("POST", "http://"+ln.Addr().String()+path, bytes.NewReader([]byte(initialize)))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "application/json, text/event-stream")
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, res.StatusCode, want)
		}
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
