package mcphost_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/localengine"
	"github.com/mcpagent/mcpagent/mcphost"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

var guestSchema = json.RawMessage(`{"type":"object","properties":{"guest":{"type":"string","minLength":2}},"required":["guest"]}`)

// desk is a server with a tool that asks for a name, in the way of the
// client's revision. calls counts how often it was called for the first time.
func desk(calls *atomic.Int64) *mcp.Server {
	srv := mcp.NewServer(&mcp.Implementation{Name: "desk", Version: "1"}, nil)
	form := &mcp.ElicitParams{Mode: "form", Message: "Who comes?", RequestedSchema: guestSchema}
	booked := func(r *mcp.ElicitResult) (*mcp.CallToolResult, error) {
		if r.Action != "accept" {
			return text("nobody: " + r.Action), nil
		}
		return text(fmt.Sprintf("booked for %v", r.Content["guest"])), nil
	}
	addTool(srv, "book", func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		if modern, _ := req.Params.Meta["io.modelcontextprotocol/protocolVersion"].(string); modern == "" {
			calls.Add(1)
			r, err := req.Session.Elicit(ctx, form)
			if err != nil {
				return nil, err
			}
			return booked(r)
		}
		if r, ok := req.Params.InputResponses["who"].(*mcp.ElicitResult); ok {
			if req.Params.RequestState != "table 5" {
				return nil, fmt.Errorf("the state is %q", req.Params.RequestState)
			}
			return booked(r)
		}
		calls.Add(1)
		return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"who": form}, RequestState: "table 5"}, nil
	})
	return srv
}

// reach gives a server over a transport, pinned to a revision.
func reach(t *testing.T, srv *mcp.Server, transport, revision string) mcphost.Server {
	t.Helper()
	var s mcphost.Server
	switch transport {
	case "inside":
		s = inside(srv)
	case "http":
		web := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*httpRequest) *mcp.Server { return srv }, &mcp.StreamableHTTPOptions{Stateless: revision >= "2026"}))
		t.Cleanup(web.Close)
		s.URL = web.URL
	case "sse":
		web := httptest.NewServer(mcp.NewSSEHandler(func(*httpRequest) *mcp.Server { return srv }, nil))
		t.Cleanup(web.Close)
		s.URL, s.SSE = web.URL, true
	}
	s.Pin = revision
	return s
}

// question waits for the open question of an engine.
func question(t *testing.T, eng *durable.Engine) *durable.QuestionInfo {
	t.Helper()
	var found *durable.QuestionInfo
	poll(t, "a question", func() bool {
		all, err := eng.Questions(context.Background(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(all) > 0 {
			found = all[0]
		}
		return found != nil
	})
	return found
}

func answer(t *testing.T, eng *durable.Engine, q *durable.QuestionInfo, with string) {
	t.Helper()
	if err := eng.Answer(context.Background(), q.ID, json.RawMessage(with), &durable.AnswerOptions{Digest: q.Digest}); err != nil {
		t.Fatal(err)
	}
}

// booking is a workflow that calls the desk.
func booking(o *mcphost.CallOptions) *durable.Workflow[struct{}, string] {
	return durable.NewWorkflow("booking", func(ctx context.Context, _ struct{}) (string, error) {
		res, err := mcphost.CallTool(ctx, "desk", "book", map[string]int{"seats": 2}, o)
		if err != nil {
			return "", err
		}
		return res.Text(), nil
	}, nil)
}

func TestElicitation(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"inside", "http", "sse"} {
		for _, revision := range []string{"2025-06-18", "2025-11-25", "2026-07-28"} {
			if transport == "sse" && revision >= "2026" {
				continue // it ended with the older revisions
			}
			t.Run(transport+"/"+revision, func(t *testing.T) {
				t.Parallel()
				for given, want := range map[string]string{
					`{"guest":"Ann"}`: "booked for Ann",
					`{"action":"accept","content":{"guest":"Bob"}}`: "booked for Bob",
					`{"action":"decline"}`:                          "nobody: decline",
				} {
					var calls atomic.Int64
					h := open(t, map[string]mcphost.Server{"desk": reach(t, desk(&calls), transport, revision)})
					wf := booking(nil)
					eng := engine(t, h, wf)
					run, err := wf.Start(t.Context(), eng, struct{}{}, nil)
					if err != nil {
						t.Fatal(err)
					}
					q := question(t, eng)
					if q.Text != "Who comes?" || q.Kind != "elicitation" || q.Digest == "" || !jsonEqual(q.Schema, guestSchema) || !strings.Contains(string(q.Context), `"tool":"book"`) {
						t.Errorf("%+v", q)
					}
					answer(t, eng, q, given)
					got, err := wf.Result(t.Context(), run)
					if err != nil || got != want {
						t.Errorf("%s: %q, %v", given, got, err)
					}
					if n := calls.Load(); n != 1 {
						t.Errorf("%d calls", n)
					}
				}
			})
		}
	}
}

// TestElicitationThatDoesNotFit is asked again, with the reason.
func TestElicitationThatDoesNotFit(t *testing.T) {
	t.Parallel()
	for _, revision := range []string{"2025-11-25", "2026-07-28"} {
		t.Run(revision, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int64
			h := open(t, map[string]mcphost.Server{"desk": reach(t, desk(&calls), "inside", revision)})
			wf := booking(nil)
			eng := engine(t, h, wf)
			run, err := wf.Start(t.Context(), eng, struct{}{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			q := question(t, eng)
			answer(t, eng, q, `{"guest":"A"}`)
			var again *durable.QuestionInfo
			poll(t, "the question again", func() bool { again = question(t, eng); return again.ID != q.ID })
			if !strings.Contains(again.Text, "not accepted") || !strings.Contains(again.Text, "Who comes?") {
				t.Errorf("%q", again.Text)
			}
			answer(t, eng, again, `{"guest":"Ann"}`)
			if got, err := wf.Result(t.Context(), run); err != nil || got != "booked for Ann" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// TestElicitationThatNobodyAnswers tells the server so.
func TestElicitationThatNobodyAnswers(t *testing.T) {
	t.Parallel()
	for _, revision := range []string{"2025-11-25", "2026-07-28"} {
		t.Run(revision, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int64
			h := open(t, map[string]mcphost.Server{"desk": reach(t, desk(&calls), "inside", revision)})
			wf := booking(&mcphost.CallOptions{Wait: time.Millisecond})
			eng := engine(t, h, wf)
			run, err := wf.Start(t.Context(), eng, struct{}{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := wf.Result(t.Context(), run); err != nil || got != "nobody: cancel" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// TestElicitationOfACancelledRun is taken back, and the server goes on.
func TestElicitationOfACancelledRun(t *testing.T) {
	t.Parallel()
	ended := make(chan string, 1)
	srv := mcp.NewServer(&mcp.Implementation{Name: "desk", Version: "1"}, nil)
	addTool(srv, "book", func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		r, err := req.Session.Elicit(ctx, &mcp.ElicitParams{Mode: "form", Message: "Who comes?", RequestedSchema: guestSchema})
		if err != nil {
			ended <- err.Error()
			return nil, err
		}
		ended <- r.Action
		return text(r.Action), nil
	})
	h := open(t, map[string]mcphost.Server{"desk": reach(t, srv, "inside", "2025-11-25")})
	wf := booking(nil)
	eng := engine(t, h, wf)
	run, err := wf.Start(t.Context(), eng, struct{}{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	question(t, eng)
	if err := run.Cancel(t.Context(), "changed my mind"); err != nil {
		t.Fatal(err)
	}
	if got := <-ended; got != "cancel" {
		t.Errorf("the server heard %q", got)
	}
	if _, err := wf.Result(t.Context(), run); err == nil {
		t.Error("the run was not cancelled")
	}
}

// TestElicitationAcrossARestart answers a server's question in another life of
// the program, with another host, from a program that executes nothing.
func TestElicitationAcrossARestart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, revision  string
		restart, repeat bool
		want            string
		calls           int64
	}{
		{"modern", "2026-07-28", true, false, "booked for Ann", 1},
		{"legacy", "2025-11-25", true, false, "outcome unknown", 1},
		{"legacy, repeatable", "2025-11-25", true, true, "booked for Ann", 2},
		{"legacy, without a restart", "2025-11-25", false, false, "booked for Ann", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			onStores(t, func(t *testing.T, s *store) {
				var calls atomic.Int64
				wf := booking(&mcphost.CallOptions{Repeat: c.repeat})
				start := func() (*durable.Engine, func()) {
					h := mcphost.New(&mcphost.Options{Servers: map[string]mcphost.Server{"desk": reach(t, desk(&calls), "inside", c.revision)}, Logger: slog.New(slog.DiscardHandler)})
					eng := s.open(t, false, h, wf)
					return eng, func() {
						if err := errors.Join(eng.Close(context.Background()), h.Close(context.Background())); err != nil {
							t.Error(err)
						}
					}
				}
				eng, stop := start()
				run, err := wf.Start(t.Context(), eng, struct{}{}, nil)
				if err != nil {
					t.Fatal(err)
				}
				q := question(t, eng)
				if c.restart {
					stop()
					eng, stop = start()
				}
				defer stop()
				person := eng
				if s.kind != "memory" { // which no other program sees
					person = s.open(t, true)
					defer func() {
						if err := person.Close(context.Background()); err != nil {
							t.Error(err)
						}
					}()
				}
				again := question(t, person)
				if again.ID != q.ID {
					t.Errorf("question %s became %s", q.ID, again.ID)
				}
				answer(t, person, again, `{"guest":"Ann"}`)
				got, err := wf.Result(t.Context(), eng.Run(run.WorkflowID, run.RunID))
				if err != nil || !strings.Contains(got, c.want) {
					t.Errorf("%q, %v", got, err)
				}
				if n := calls.Load(); n != c.calls {
					t.Errorf("%d calls, not %d", n, c.calls)
				}
			})
		})
	}
}

// TestElicitationAfterALongTime answers a question in a program that is started
// 54 minutes after the one that asked has ended, in virtual time.
func TestElicitationAfterALongTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		file := filepath.Join(t.TempDir(), "runs.db")
		wf := booking(nil)
		open := func() (*durable.Engine, *mcphost.Host) {
			h := mcphost.New(&mcphost.Options{Servers: map[string]mcphost.Server{"desk": reach(t, desk(&calls), "inside", "2026-07-28")}, Logger: slog.New(slog.DiscardHandler)})
			eng, err := localengine.Open(t.Context(), file, &localengine.Options{Engine: durable.Options{Logger: slog.New(slog.DiscardHandler)}}, h, wf)
			if err != nil {
				t.Fatal(err)
			}
			return eng, h
		}
		closeBoth := func(eng *durable.Engine, h *mcphost.Host) {
			if err := errors.Join(eng.Close(context.Background()), h.Close(context.Background())); err != nil {
				t.Error(err)
			}
		}
		eng, h := open()
		run, err := wf.Start(t.Context(), eng, struct{}{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		question(t, eng)
		closeBoth(eng, h)
		time.Sleep(54 * time.Minute)
		eng, h = open()
		defer func() { closeBoth(eng, h) }()
		answer(t, eng, question(t, eng), `{"guest":"Ann"}`)
		if got, err := wf.Result(t.Context(), eng.Run(run.WorkflowID, run.RunID)); err != nil || got != "booked for Ann" || calls.Load() != 1 {
			t.Errorf("%q, %v, %d calls", got, err, calls.Load())
		}
	})
}

// TestElicitationsOfSeveralCalls come from calls that are under way at once:
// each goes to the run whose call it is.
func TestElicitationsOfSeveralCalls(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	srv := mcp.NewServer(&mcp.Implementation{Name: "desk", Version: "1"}, nil)
	addTool(srv, "quick", func(ctx context.Context, _ *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		select {
		case <-release:
		case <-ctx.Done():
		}
		return text("done"), nil
	})
	asking := make(chan struct{}, 1)
	addTool(srv, "book", func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		asking <- struct{}{}
		r, err := req.Session.Elicit(ctx, &mcp.ElicitParams{Mode: "form", Message: "Who comes?", RequestedSchema: guestSchema})
		if err != nil {
			return nil, err
		}
		return text(fmt.Sprint(r.Content["guest"])), nil
	})
	h := open(t, map[string]mcphost.Server{"desk": reach(t, srv, "inside", "2025-11-25")})
	wf := durable.NewWorkflow("call", func(ctx context.Context, tool string) (string, error) {
		res, err := mcphost.CallTool(ctx, "desk", tool, nil, nil)
		if err != nil {
			return "", err
		}
		return res.Text(), nil
	}, nil)
	eng := engine(t, h, wf)
	quick, err := wf.Start(t.Context(), eng, "quick", nil)
	if err != nil {
		t.Fatal(err)
	}
	book, err := wf.Start(t.Context(), eng, "book", nil)
	if err != nil {
		t.Fatal(err)
	}
	<-asking
	close(release) // while both are under way, nobody knows who asks
	q := question(t, eng)
	if q.WorkflowID != book.WorkflowID {
		t.Errorf("it was asked by %s", q.WorkflowID)
	}
	answer(t, eng, q, `{"guest":"Ann"}`)
	if got, err := wf.Result(t.Context(), book); err != nil || got != "Ann" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := wf.Result(t.Context(), quick); err != nil || got != "done" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestPages sends a person to a page, in each of the ways that servers have.
func TestPages(t *testing.T) {
	t.Parallel()
	const url = "https://example.com/consent?c=1"
	page := &mcp.ElicitParams{Mode: "url", Message: "Please log in.", URL: url, ElicitationID: "e1"}
	ways := map[string]func(ctx context.Context, req *mcp.CallToolRequest, n int64) (*mcp.CallToolResult, error){
		"asked": func(ctx context.Context, req *mcp.CallToolRequest, _ int64) (*mcp.CallToolResult, error) {
			r, err := req.Session.Elicit(ctx, page)
			if err != nil {
				return nil, err
			}
			return text(r.Action), nil
		},
		"refused": func(_ context.Context, _ *mcp.CallToolRequest, n int64) (*mcp.CallToolResult, error) {
			if n == 1 {
				return nil, mcp.URLElicitationRequiredError([]*mcp.ElicitParams{page})
			}
			return text("accept"), nil
		},
		"modern": func(_ context.Context, req *mcp.CallToolRequest, n int64) (*mcp.CallToolResult, error) {
			if r, ok := req.Params.InputResponses["p"].(*mcp.ElicitResult); ok {
				return text(r.Action), nil
			}
			return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"p": page}}, nil
		},
	}
	for way, do := range ways {
		for given, want := range map[string]string{`{"action":"accept"}`: "accept", `{"action":"decline"}`: "decline"} {
			t.Run(way+"/"+want, func(t *testing.T) {
				t.Parallel()
				var n atomic.Int64
				srv := mcp.NewServer(&mcp.Implementation{Name: "desk", Version: "1"}, nil)
				addTool(srv, "book", func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
					return do(ctx, req, n.Add(1))
				})
				revision := "2025-11-25"
				if way == "modern" {
					revision = "2026-07-28"
				}
				h := open(t, map[string]mcphost.Server{"desk": reach(t, srv, "inside", revision)})
				wf := booking(nil)
				eng := engine(t, h, wf)
				run, err := wf.Start(t.Context(), eng, struct{}{}, nil)
				if err != nil {
					t.Fatal(err)
				}
				q := question(t, eng)
				var about struct{ URL, Server, Tool string }
				if err := json.Unmarshal(q.Context, &about); err != nil || about.URL != url || about.Server != "desk" || q.Text != "Please log in." {
					t.Errorf("%+v, %s", q, q.Context)
				}
				answer(t, eng, q, given)
				if got, err := wf.Result(t.Context(), run); err != nil || !strings.Contains(got, want) {
					t.Errorf("%q, %v", got, err)
				}
			})
		}
	}
}

// TestQuestionsOfOtherRuns refuses a question that may belong to several runs:
// nobody else's person is asked.
func TestQuestionsOfOtherRuns(t *testing.T) {
	t.Parallel()
	refused := make(chan error, 2)
	release := make(chan struct{})
	began := make(chan struct{}, 2)
	srv := mcp.NewServer(&mcp.Implementation{Name: "desk", Version: "1"}, nil)
	addTool(srv, "book", func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		began <- struct{}{}
		<-release
		_, err := req.Session.Elicit(ctx, &mcp.ElicitParams{Mode: "form", Message: "Who comes?", RequestedSchema: guestSchema})
		refused <- err
		<-ctx.Done() // neither ends while the other asks
		return nil, ctx.Err()
	})
	s := reach(t, srv, "inside", "2025-11-25")
	s.Timeouts = mcphost.Timeouts{Idle: 12 * time.Second}
	h := open(t, map[string]mcphost.Server{"desk": s})
	wf := booking(nil)
	eng := engine(t, h, wf)
	for range 2 {
		if _, err := wf.Start(t.Context(), eng, struct{}{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	<-began
	<-began
	close(release)
	for range 2 {
		if err := <-refused; err == nil || !strings.Contains(err.Error(), "several runs") {
			t.Errorf("the server heard %v", err)
		}
	}
	if all, err := eng.Questions(t.Context(), nil); err != nil || len(all) > 0 {
		t.Errorf("%d questions, %v", len(all), err)
	}
}
