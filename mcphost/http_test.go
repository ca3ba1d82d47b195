package mcphost_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/mcphost"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// site is a server at an address, which does to requests what a test wants.
type site struct {
	*httptest.Server
	handler atomic.Pointer[http.Handler]
	before  func(w http.ResponseWriter, r *http.Request, body string) bool // true: it answered
	deletes atomic.Int64
}

func newSite(t *testing.T, srv *mcp.Server) *site {
	s := &site{}
	s.renew(t, srv)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			s.deletes.Add(1)
		}
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		if s.before != nil && s.before(w, r, string(body)) {
			return
		}
		(*s.handler.Load()).ServeHTTP(w, r)
	}))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s
}

// renew makes the site forget its sessions.
func (s *site) renew(t *testing.T, srv *mcp.Server) {
	t.Cleanup(func() {
		for ss := range srv.Sessions() {
			_ = ss.Close()
		}
	})
	var h http.Handler = mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return srv }, nil)
	s.handler.Store(&h)
}

// counted is a server with a tool that counts its calls.
func counted(n *atomic.Int64) *mcp.Server {
	srv := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	addTool(srv, "count", func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return text(fmt.Sprint(n.Add(1))), nil
	})
	return srv
}

// remote is a server at an address with short deadlines.
func remote(url string) mcphost.Server {
	return mcphost.Server{URL: url, Pin: "2025-11-25", Timeouts: mcphost.Timeouts{Connect: 3 * time.Second, Idle: 2 * time.Second, Close: 2 * time.Second}}
}

// TestSessionThatIsGone makes a call again that the server refused because it
// does not know the session any more, also one that may be made only once.
func TestSessionThatIsGone(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	web := newSite(t, counted(&n))
	h := open(t, map[string]mcphost.Server{"s": remote(web.URL)})
	if res := callTool(t, h, "s", "count", nil); res.Text() != "1" {
		t.Fatalf("%+v", res)
	}
	web.renew(t, counted(&n)) // a deploy
	if res := callTool(t, h, "s", "count", nil); res.Text() != "2" {
		t.Errorf("%+v", res)
	}
}

// TestRefusedByHTTP tells what was not carried out from what nobody knows.
func TestRefusedByHTTP(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status  int
		unknown bool
	}{{401, false}, {403, false}, {400, false}, {500, true}, {502, true}, {504, true}} {
		t.Run(fmt.Sprint(c.status), func(t *testing.T) {
			t.Parallel()
			var n atomic.Int64
			web := newSite(t, counted(&n))
			web.before = func(w http.ResponseWriter, _ *http.Request, body string) bool {
				if strings.Contains(body, `"tools/call"`) {
					w.WriteHeader(c.status)
					return true
				}
				return false
			}
			h := open(t, map[string]mcphost.Server{"s": remote(web.URL)})
			res := callTool(t, h, "s", "count", nil)
			if !res.Error || strings.Contains(res.Text(), "outcome unknown") != c.unknown || !strings.Contains(res.Text(), http.StatusText(c.status)) {
				t.Errorf("%s", res.Text())
			}
		})
	}
}

// TestConnectionThatBreaks loses the answer of a call that was carried out.
func TestConnectionThatBreaks(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	web := newSite(t, counted(&n))
	web.before = func(w http.ResponseWriter, r *http.Request, body string) bool {
		if strings.Contains(body, `"tools/call"`) {
			(*web.handler.Load()).ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		return false
	}
	h := open(t, map[string]mcphost.Server{"s": remote(web.URL)})
	if res := callTool(t, h, "s", "count", nil); !res.Error || !strings.Contains(res.Text(), "outcome unknown") {
		t.Errorf("%s", res.Text())
	}
	if n.Load() != 1 {
		t.Errorf("%d calls", n.Load())
	}
}

// TestNobodyListens fails without a doubt.
func TestNobodyListens(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(nil)
	web.Close()
	h := open(t, map[string]mcphost.Server{"s": remote(web.URL)})
	res := callTool(t, h, "s", "count", nil)
	if !res.Error || strings.Contains(res.Text(), "outcome unknown") || !strings.Contains(res.Text(), "refused") {
		t.Errorf("%s", res.Text())
	}
	if _, err := list(t, h); !errors.Is(err, mcphost.ErrUnavailable) {
		t.Error(err)
	}
}

// TestSiteThatHangs answers nothing, or ends no session.
func TestSiteThatHangs(t *testing.T) {
	t.Parallel()
	for _, method := range []string{http.MethodPost, http.MethodDelete} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			web := newSite(t, named("x"))
			web.before = func(_ http.ResponseWriter, r *http.Request, _ string) bool {
				if r.Method == method {
					<-r.Context().Done()
					return true
				}
				return false
			}
			h := mcphost.New(&mcphost.Options{Servers: map[string]mcphost.Server{"s": remote(web.URL)}})
			began := time.Now()
			_, err := list(t, h)
			if hangs := method == http.MethodPost; hangs != errors.Is(err, durable.ErrTimeout) {
				t.Error(err)
			}
			if err := h.Close(context.Background()); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// TestHugeAnswers are cut off.
func TestHugeAnswers(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"application/json", "text/event-stream"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			web := newSite(t, named("x"))
			web.before = func(w http.ResponseWriter, r *http.Request, body string) bool {
				if !strings.Contains(body, `"tools/call"`) {
					return false
				}
				w.Header().Set("Content-Type", kind)
				if kind != "application/json" {
					fmt.Fprint(w, "data: ")
				}
				piece := strings.Repeat(" ", 1<<20)
				for range 200 {
					if _, err := io.WriteString(w, piece); err != nil {
						return true
					}
				}
				return true
			}
			h := open(t, map[string]mcphost.Server{"s": remote(web.URL)})
			res := callTool(t, h, "s", "x", nil)
			if !res.Error || !strings.Contains(res.Text(), "outcome unknown") {
				t.Errorf("%s", res.Text())
			}
			t.Log(res.Text())
		})
	}
}

// TestKeepSession leaves the session at the server.
func TestKeepSession(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{false, true} {
		web := newSite(t, named("x"))
		s := remote(web.URL)
		s.KeepSession = keep
		h := mcphost.New(&mcphost.Options{Servers: map[string]mcphost.Server{"s": s}})
		callTool(t, h, "s", "x", nil)
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if n := web.deletes.Load(); (n == 0) != keep {
			t.Errorf("keep %v: %d sessions ended", keep, n)
		}
	}
}

// TestRedirect does not carry credentials to somebody else.
func TestRedirect(t *testing.T) {
	t.Parallel()
	var stolen atomic.Bool
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { stolen.Store(true) }))
	t.Cleanup(thief.Close)
	web := httptest.NewServer(http.RedirectHandler(thief.URL, http.StatusTemporaryRedirect))
	t.Cleanup(web.Close)
	s := remote(web.URL)
	s.APIKey = durable.NewSecret("canary-api-key")
	h := open(t, map[string]mcphost.Server{"s": s})
	if _, err := list(t, h); err == nil || !strings.Contains(err.Error(), "not followed") {
		t.Error(err)
	}
	if stolen.Load() {
		t.Error("the request went to another server")
	}
}

// TestBusy waits as long as the server wants, with an engine's timer, and calls
// again: a call that was refused may be made again whatever the tool is.
func TestBusy(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			var n, refused atomic.Int64
			var keys [2]string
			web := newSite(t, counted(&n))
			web.before = func(w http.ResponseWriter, _ *http.Request, body string) bool {
				if !strings.Contains(body, `"tools/call"`) {
					return false
				}
				_, key, _ := strings.Cut(body, mcphost.EffectKey)
				i := refused.Add(1) - 1
				keys[i], _, _ = strings.Cut(key, ",")
				if i > 0 {
					return false
				}
				w.Header().Set("Retry-After", "2")
				w.WriteHeader(status)
				return true
			}
			h := open(t, map[string]mcphost.Server{"s": remote(web.URL)})
			began := time.Now()
			if res := callTool(t, h, "s", "count", nil); res.Text() != "1" || refused.Load() != 2 || keys[0] != keys[1] {
				t.Errorf("%+v, %d requests, keys %q", res, refused.Load(), keys)
			}
			if took := time.Since(began); took < 2*time.Second {
				t.Errorf("after %v", took)
			}
		})
	}
}

// TestBusyWithAnswers keeps what a person answered while the server is busy.
func TestBusyWithAnswers(t *testing.T) {
	t.Parallel()
	var calls, posts atomic.Int64
	web := newSite(t, desk(&calls))
	var modern http.Handler = mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return desk(&calls) }, &mcp.StreamableHTTPOptions{Stateless: true})
	web.handler.Store(&modern)
	web.before = func(w http.ResponseWriter, _ *http.Request, body string) bool {
		if strings.Contains(body, `"tools/call"`) && posts.Add(1) == 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		return false
	}
	s := remote(web.URL)
	s.Pin = "2026-07-28"
	h := open(t, map[string]mcphost.Server{"desk": s})
	wf := booking(nil)
	eng := engine(t, h, wf)
	run, err := wf.Start(t.Context(), eng, struct{}{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer(t, eng, question(t, eng), `{"guest":"Ann"}`)
	if got, err := wf.Result(t.Context(), run); err != nil || got != "booked for Ann" || calls.Load() != 1 || posts.Load() != 3 {
		t.Errorf("%q, %v, %d calls, %d requests", got, err, calls.Load(), posts.Load())
	}
}

// TestRefusalOfSomethingElse does not take a call for one that was not carried
// out because the server refuses to hear that it was cancelled.
func TestRefusalOfSomethingElse(t *testing.T) {
	t.Parallel()
	cancelled := make(chan struct{}, 1)
	web := newSite(t, named("x"))
	web.before = func(w http.ResponseWriter, r *http.Request, body string) bool {
		switch {
		case strings.Contains(body, `"tools/call"`):
			w.Header().Set("Content-Type", "text/event-stream")
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return true
		case strings.Contains(body, `"notifications/cancelled"`):
			w.WriteHeader(http.StatusBadRequest)
			cancelled <- struct{}{}
			return true
		}
		return false
	}
	h := open(t, map[string]mcphost.Server{"s": remote(web.URL)})
	if res := callTool(t, h, "s", "x", nil); !strings.Contains(res.Text(), "outcome unknown") || !strings.Contains(res.Text(), "timeouts.idle") {
		t.Errorf("%s", res.Text())
	}
	<-cancelled
	// The connection may break of that before the call is seen to.
	late := fmt.Errorf("%w: no sign of life", durable.ErrTimeout)
	if err := mcphost.FailLost(errors.New("Bad Request"), late); !errors.Is(err, durable.ErrTimeout) {
		t.Error(err)
	}
	if err := mcphost.FailLost(errors.New("Bad Request"), io.EOF); !errors.Is(err, mcphost.ErrUnavailable) || !strings.Contains(err.Error(), "Bad Request") {
		t.Error(err)
	}
}
