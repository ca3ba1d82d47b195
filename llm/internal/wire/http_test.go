package wire_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

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

type endless struct{ sent int64 }

func (e *endless) Read(p []byte) (int, error) {
	e.sent += int64(len(p))
	return len(p), nil
}

func (e *endless) Close() error { return nil }

type trip func(*http.Request) (*http.Response, error)

func (f trip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	body := &endless{}
	c := wire.Client(&http.Client{Transport: trip(func(*http.Request) (*http.Response, error) { return &http.Response{Body: body}, nil })})
	res, err := c.Get("http://example.com")
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, res.Body)
	if n != 64<<20 || !errors.Is(err, wire.ErrTooLarge) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestCauseWins(t *testing.T) {
	t.Parallel()
	because := errors.New("because")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(because)
	if err := (wire.Caller{}).Failure(ctx, nil, errors.New("x"), nil, nil); err != because {
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
