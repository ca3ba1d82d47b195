package wire_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/llm/internal/wire"
)

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		header, text string
		want         time.Duration
	}{
		{"Retry-After: 2", "", 2 * time.Second},
		{"Retry-After: 0.25", "", 250 * time.Millisecond},
		{"Retry-After: -1", "", 0},
		{"Retry-After: NaN", "", 0},
		{"Retry-After: 1e300", "", 365 * 24 * time.Hour},
		{"Retry-After: soon", "try again in 3s", 3 * time.Second},
		{"Retry-After-Ms: 1500; Retry-After: 9", "", 1500 * time.Millisecond},
		{"Retry-After: Sat, 21 Nov 2026 20:00:00 GMT; Date: Sat, 21 Nov 2026 20:01:00 GMT", "", 0},
		{"", "Please try again in 1m2.5s.", 62500 * time.Millisecond},
		{"", "Please retry after 12 seconds", 12 * time.Second},
		{"", "Try again in 430ms", 430 * time.Millisecond},
		{"", "try again in a while", 0},
		{"X-Ratelimit-Remaining-Requests: 0; X-Ratelimit-Reset-Requests: 17ms", "", 17 * time.Millisecond},
		{"X-Ratelimit-Remaining-Requests: 5; X-Ratelimit-Reset-Requests: 1h", "", 0},
	} {
		h := http.Header{}
		for line := range strings.SplitSeq(c.header, "; ") {
			if name, value, ok := strings.Cut(line, ": "); ok {
				h.Set(name, value)
			}
		}
		if got := wire.RetryAfter(h, c.text); got != c.want {
			t.Errorf("%q %q: got %v, want %v", c.header, c.text, got, c.want)
		}
	}
}

func TestWordsHideSecrets(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"Incorrect API key provided: sk-proj-abcd1234.": "Incorrect API key provided: (secret)",
		"header Bearer abc.def-123 was wrong":           "header (secret) was wrong",
		"the key canary-1 is no key":                    "the key (secret) is no key",
		"no secret at all":                              "no secret at all",
	} {
		if got := wire.Words(text, "canary-1", "", "no"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := wire.Words(strings.Repeat("ä", 5000)); len(got) > 1100 || !strings.HasSuffix(got, " …") {
		t.Errorf("%d bytes", len(got))
	}
}

// TestNobodyIsFollowed holds that neither keys nor a conversation go where an
// endpoint points to.
func TestNobodyIsFollowed(t *testing.T) {
	t.Parallel()
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the other server was asked") }))
	t.Cleanup(thief.Close)
	for _, status := range []int{301, 302, 303, 307, 308} {
		front := httptest.NewServer(http.RedirectHandler(thief.URL+"/v1/messages?key=canary-1", status))
		t.Cleanup(front.Close)
		at := &wire.Endpoint{URL: front.URL}
		at.Secret("X-Api-Key", "", durable.NewSecret("canary-1"))
		var answer any
		_, err := wire.Caller{Provider: "anthropic", At: at}.Ask(t.Context(), []byte(`{}`), &answer)
		var e *llm.Error
		if !errors.As(err, &e) || e.Class != llm.Invalid || e.Status != status || !strings.Contains(e.Message, "anthropic.base_url") || strings.Contains(err.Error(), "canary") {
			t.Errorf("%d: %v", status, err)
		}
	}
}

// TestConnectionsAreKept lets many agents ask at once, and again.
func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	const agents = 40
	var opened, waiting atomic.Int32
	gates := []chan struct{}{make(chan struct{}), make(chan struct{})}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := waiting.Add(1)
		gate := gates[(n-1)/agents]
		if n%agents == 0 {
			close(gate) // all are there
		}
		<-gate
		_, _ = io.WriteString(w, "{}")
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	c := wire.Caller{Provider: "openai", At: &wire.Endpoint{URL: srv.URL}}
	for range gates {
		var wg sync.WaitGroup
		for range agents {
			wg.Go(func() {
				var answer any
				if _, err := c.Ask(t.Context(), []byte(`{}`), &answer); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	if n := opened.Load(); n > agents+agents/4 {
		t.Errorf("%d connections for twice %d calls", n, agents)
	}
}

type endless struct{ sent int64 }

func (e *endless) Read(p []byte) (int, error) {
	e.sent += int64(len(p))
	return len(p), nil
}

func (e *endless) Close() error { return nil }

type trip func(*http.Request) (*http.Response, error)

func (f trip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// at is a caller of an endpoint that answers with a body.
func at(body io.ReadCloser) wire.Caller {
	return wire.Caller{At: &wire.Endpoint{URL: "http://example.com", Client: &http.Client{Transport: trip(func(r *http.Request) (*http.Response, error) {
		if err := r.Context().Err(); err != nil {
			return nil, err
		}
		return &http.Response{StatusCode: 200, Body: body}, nil
	})}}}
}

func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	body := &endless{}
	_, err := at(body).Ask(t.Context(), nil, new(any))
	var e *llm.Error
	if !errors.As(err, &e) || e.Class != llm.Malformed || !errors.Is(err, wire.ErrTooLarge) || body.sent != 64<<20 {
		t.Errorf("%d bytes, %v", body.sent, err)
	}
	body = &endless{}
	s, err := at(body).Listen(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Next() || !errors.Is(s.End(true), wire.ErrTooLarge) || body.sent > 65<<20 {
		t.Errorf("%d bytes, %v", body.sent, s.End(true))
	}
}

func TestStream(t *testing.T) {
	t.Parallel()
	s, err := at(io.NopCloser(strings.NewReader("\ufeffevent: first\ndata: 0\n\n: a comment\nevent: x\ndata: 1\r\ndata:2\n\nevent: nothing\n\n\nid: 7\ndata: 3\n\ndata: broken off"))).Listen(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var got []string
	for s.Next() {
		got = append(got, s.Kind+" "+string(s.Data))
	}
	if want := []string{"first 0", "x 1\n2", " 3"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	var e *llm.Error
	if err := s.End(true); err != nil {
		t.Error(err)
	}
	if err := s.End(false); !errors.As(err, &e) || e.Class != llm.Network {
		t.Errorf("half an answer: %v", err)
	}
}

// TestMembersOfOtherTypes are left out; what is no JSON is no answer.
func TestMembersOfOtherTypes(t *testing.T) {
	t.Parallel()
	ask := func(body string) (id string, n int, err error) {
		var v struct {
			ID string
			N  int
		}
		_, err = at(io.NopCloser(strings.NewReader(body))).Ask(t.Context(), nil, &v)
		return v.ID, v.N, err
	}
	if id, n, err := ask(`{"id":{"a":1},"n":3}`); id != "" || n != 3 || err != nil {
		t.Errorf("got %q, %d, %v", id, n, err)
	}
	for _, body := range []string{"", `{"id":"x"`, "[]", `"x"`, "<html>"} {
		var e *llm.Error
		if _, _, err := ask(body); !errors.As(err, &e) || e.Class != llm.Malformed {
			t.Errorf("%q: %v", body, err)
		}
	}
}

func TestCauseWins(t *testing.T) {
	t.Parallel()
	because := errors.New("because")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(because)
	if _, err := at(nil).Ask(ctx, nil, new(any)); err != because {
		t.Errorf("got %v", err)
	}
}

func TestUniqueIDs(t *testing.T) {
	t.Parallel()
	call := func(id string) llm.Part { return llm.Part{Call: &llm.ToolCall{ID: id, Name: "t"}} }
	r := &llm.Request{Messages: []llm.Message{llm.User("x"), {Role: llm.RoleModel, Parts: []llm.Part{call("call_0")}}}}
	answer := &llm.Message{Parts: []llm.Part{call("call_0"), call(""), call("x"), call("x")}}
	wire.UniqueIDs(r, answer)
	seen := map[string]bool{"call_0": true}
	for i, c := range answer.Calls() {
		if seen[c.ID] || c.ID == "" || wire.CallID(c.ID) != c.ID || i == 2 && c.ID != "x" {
			t.Errorf("call %d has the ID %q", i, c.ID)
		}
		seen[c.ID] = true
	}
	for _, id := range []string{"a.b", strings.Repeat("a", 41), ""} {
		if got := wire.CallID(id); got == id || got != wire.CallID(id) || wire.CallID(got) != got {
			t.Errorf("%q becomes %q", id, got)
		}
	}
}

// TestEndlessError: what an endpoint says of a failure is read to a bound.
func TestEndlessError(t *testing.T) {
	t.Parallel()
	sent := make(chan int, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		piece := []byte(strings.Repeat("the disk is full. ", 1<<12))
		n := 0
		for r.Context().Err() == nil && n < 48<<20 {
			m, _ := w.Write(piece)
			n += m
		}
		sent <- n
	}))
	defer s.Close()
	u, err := wire.BaseURL("x", s.URL)
	if err != nil {
		t.Fatal(err)
	}
	e := wire.NewEndpoint(u, nil, func(*llm.Error, []byte) string { return "" })
	_, err = wire.Caller{Provider: "x", Model: "m", At: &e}.Ask(t.Context(), []byte("{}"), new(any))
	var failed *llm.Error
	if !errors.As(err, &failed) || failed.Class != llm.Server || !strings.HasPrefix(failed.Message, "the disk is full. the") {
		t.Error(err)
	}
	if n := <-sent; n > 24<<20 { // it is on the way, in buffers of the system
		t.Errorf("%d bytes of an error were read", n)
	}
}

func TestCallName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"": "_", "read-file_2": "read-file_2", "functions.read": "functions_read", "a\nb": "a_b", strings.Repeat("é", 40): strings.Repeat("_", 64)} {
		if got := wire.CallName(name); got != want {
			t.Errorf("%q becomes %q, want %q", name, got, want)
		}
	}
}

// TestSecretsThatComeBack are told by an endpoint in other forms than they were
// sent in, and in places where nobody expects them.
func TestSecretsThatComeBack(t *testing.T) {
	t.Parallel()
	for _, told := range []string{"canary-token", "Bearer canary-token", `canary"quoted`, "?k=canary%22quoted", "pass!word", "pass%21word", "Basic bWU6cGFzcyF3b3Jk", "canary-of-query", "canary"} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Request-Id", told)
			w.WriteHeader(http.StatusUnauthorized)
			_ = json.NewEncoder(w).Encode(map[string]string{"said": told})
		}))
		u, err := wire.BaseURL("x", strings.Replace(s.URL, "://", "://me:pass%21word@", 1)+"/v1?api_key=canary-of-query")
		if err != nil {
			t.Fatal(err)
		}
		e := wire.NewEndpoint(u, nil, func(e *llm.Error, body []byte) string {
			e.Code = told
			return string(body)
		})
		for name, value := range map[string]string{"Authorization": "Bearer canary-token", "X-Quoted": `canary"quoted`, "X-Short": "canary"} {
			e.Secret(name, "", durable.NewSecret(value))
		}
		_, err = wire.Caller{Provider: "x", Model: "m", At: &e}.Ask(t.Context(), []byte("{}"), new(any))
		s.Close()
		var failed *llm.Error
		if !errors.As(err, &failed) || failed.Status != http.StatusUnauthorized {
			t.Fatal(err)
		}
		for _, shown := range []string{failed.Error(), failed.RequestID, failed.Code, fmt.Sprintf("%#v", failed)} {
			for _, secret := range []string{"canary", "token", "quoted", "word", "bWU6"} {
				if strings.Contains(shown, secret) {
					t.Errorf("%q is shown as %q", told, shown)
				}
			}
		}
	}
	if got := wire.Words("dial https://me:other@host/v1: no"); strings.Contains(got, "other") {
		t.Error(got)
	}
	for _, bad := range []string{"htps://me:canary@host", "me:canary@host/v1?k=canary", "https://me:%zz-canary@host", "host?key=canary"} {
		if _, err := wire.BaseURL("x", bad); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
