package toolset_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/internal/toolset"
	"github.com/mcpagent/mcpagent/llm"
)

// invoke makes a call whose step is fn, on an engine in memory, answers
// questions with answers in order, and gives the result and the questions.
func invoke(t *testing.T, l toolset.Listed, o *toolset.Options, answers []string, fn func(n int, in toolset.CallIn) (toolset.CallOut, error)) (res *llm.ToolResult, asked []*durable.QuestionInfo, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := 0
		wf := durable.NewWorkflow("call", func(ctx context.Context, _ struct{}) (*llm.ToolResult, error) {
			return toolset.Invoke(ctx, l, llm.ToolCall{ID: "1", Name: l.Name, Args: json.RawMessage(`{}`)}, o)
		}, nil)
		eng, e := durable.NewMemory(t.Context(), &durable.Options{Logger: slog.New(slog.DiscardHandler)}, wf, toolset.Elicitation,
			toolset.Call.Bind(func(_ context.Context, in toolset.CallIn) (toolset.CallOut, error) { n++; return fn(n, in) }))
		if e != nil {
			t.Fatal(e)
		}
		defer eng.Close(context.Background())
		run, e := wf.Start(t.Context(), eng, struct{}{}, nil)
		if e != nil {
			t.Fatal(e)
		}
		for _, a := range answers {
			synctest.Wait()
			open, e := eng.Questions(t.Context(), nil)
			if e != nil || len(open) == 0 {
				t.Fatalf("%d questions, %v", len(open), e)
			}
			asked = append(asked, open[0])
			if e := eng.Answer(t.Context(), open[0].ID, json.RawMessage(a), &durable.AnswerOptions{Digest: open[0].Digest}); e != nil {
				t.Fatal(e)
			}
		}
		res, err = wf.Result(t.Context(), run)
	})
	return res, asked, err
}

func tool(hints llm.Hints) toolset.Listed {
	l := toolset.Listed{Server: "s", Original: "t"}
	l.Name, l.Hints = "s_t", hints
	return l
}

func done(s string) toolset.CallOut {
	return toolset.CallOut{Result: &llm.ToolResult{ID: "1", Name: "s_t", Parts: []llm.Part{{Text: s}}}}
}

// TestAttempts repeats what the hints allow, and nothing else.
func TestAttempts(t *testing.T) {
	for _, c := range []struct {
		name  string
		hints llm.Hints
		err   error
		calls int
		says  string
	}{
		{"not said", llm.Hints{}, durable.OutcomeUnknown(errors.New("lost")), 1, `outcome unknown: the call of "s_t" was sent and no result came back (lost). It may have taken effect: verify before repeating it.`},
		{"not said, not sent", llm.Hints{}, errors.New("refused"), 1, `the call of "s_t" failed: refused`},
		{"reads", llm.Hints{ReadOnly: true}, durable.OutcomeUnknown(errors.New("lost")), 5, `the call of "s_t" failed: lost`},
		{"idempotent", llm.Hints{Idempotent: true}, errors.New("lost"), 5, `the call of "s_t" failed: lost`},
		{"reads, for good", llm.Hints{ReadOnly: true}, durable.Permanent(errors.New("no such tool")), 1, `the call of "s_t" failed: no such tool`},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls := 0
			res, _, err := invoke(t, tool(c.hints), nil, nil, func(n int, in toolset.CallIn) (toolset.CallOut, error) {
				calls = n
				if in.Repeat != (c.hints != llm.Hints{}) {
					t.Errorf("repeat: %v", in.Repeat)
				}
				return toolset.CallOut{}, c.err
			})
			if err != nil || !res.Error || res.ID != "1" || res.Name != "s_t" || res.Text() != c.says || calls != c.calls {
				t.Errorf("%d calls: %+v, %v", calls, res, err)
			}
		})
	}
}

// TestAnswers reads what a person answers as the form asked for it.
func TestAnswers(t *testing.T) {
	form := json.RawMessage(`{"type":"object","properties":{"name":{"type":"string"}}}`)
	taken := json.RawMessage(`{"type":"object","properties":{"action":{"type":"string"}}}`)
	for _, c := range []struct {
		name   string
		need   toolset.InputRequest
		answer string
		want   toolset.InputResponse
		schema string // contains
	}{
		{"content", toolset.InputRequest{Kind: toolset.Form, Schema: form}, `{"name":"Ann"}`, toolset.InputResponse{Action: "accept", Content: json.RawMessage(`{"name":"Ann"}`)}, `"name"`},
		{"explicit", toolset.InputRequest{Kind: toolset.Form, Schema: form}, `{"action":"accept","content":{"name":"Ann"}}`, toolset.InputResponse{Action: "accept", Content: json.RawMessage(`{"name":"Ann"}`)}, `"name"`},
		{"decline", toolset.InputRequest{Kind: toolset.Form, Schema: form}, `{"action":"decline"}`, toolset.InputResponse{Action: "decline"}, `"name"`},
		{"a field called action", toolset.InputRequest{Kind: toolset.Form, Schema: taken}, `{"action":"accept","content":{"action":"cancel"}}`, toolset.InputResponse{Action: "accept", Content: json.RawMessage(`{"action":"cancel"}`)}, `"content"`},
		{"consent", toolset.InputRequest{Kind: toolset.Form, Schema: json.RawMessage(`{"type":"object"}`)}, `{"action":"cancel"}`, toolset.InputResponse{Action: "cancel"}, `"enum"`},
		{"page", toolset.InputRequest{Kind: toolset.URL, URL: "https://x/"}, `{"action":"accept"}`, toolset.InputResponse{Action: "accept"}, `"enum"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.need.Key, c.need.Message = "k", "Who?"
			res, asked, err := invoke(t, tool(llm.Hints{}), &toolset.Options{Audience: "ann"}, []string{c.answer}, func(n int, in toolset.CallIn) (toolset.CallOut, error) {
				if n == 1 {
					return toolset.CallOut{Needs: []toolset.InputRequest{c.need}, State: json.RawMessage(`"s"`)}, nil
				}
				if string(in.State) != `"s"` {
					t.Errorf("state %s", in.State)
				}
				if diff := cmp.Diff(c.want, in.Responses["k"]); diff != "" {
					t.Error(diff)
				}
				return done("ok"), nil
			})
			if err != nil || res.Text() != "ok" {
				t.Errorf("%+v, %v", res, err)
			}
			q := asked[0]
			if q.Name != "mcp.elicitation" || q.Kind != "elicitation" || q.Audience != "ann" || q.Text != "Who?" || !strings.Contains(string(q.Schema), c.schema) || q.Expires.Sub(q.Created) != 7*24*time.Hour {
				t.Errorf("%+v", q)
			}
			if c.need.URL != "" && !strings.Contains(string(q.Context), c.need.URL) {
				t.Errorf("context %s", q.Context)
			}
		})
	}
}

// TestExpired tells the server that nobody answered.
func TestExpired(t *testing.T) {
	res, _, err := invoke(t, tool(llm.Hints{}), &toolset.Options{Wait: 54 * time.Minute}, nil, func(n int, in toolset.CallIn) (toolset.CallOut, error) {
		if n == 1 {
			return toolset.CallOut{Needs: []toolset.InputRequest{{Key: "a", Kind: toolset.Form}, {Key: "b", Kind: toolset.URL}}, Held: true}, nil
		}
		return done(in.Responses["a"].Action + " " + in.Responses["b"].Action), nil
	})
	if err != nil || res.Text() != "cancel cancel" {
		t.Errorf("%+v, %v", res, err)
	}
}

// TestBusy waits longer and longer, or as long as the server says, and gives
// up in the end.
func TestBusy(t *testing.T) {
	for _, c := range []struct {
		after time.Duration
		until int
		says  string
		least time.Duration
	}{{0, 4, "ok", 7 * time.Second}, {time.Minute, 3, "ok", 2 * time.Minute}, {0, 100, "busy", time.Minute}, {24 * time.Hour, 2, "busy", 0}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			var first, last time.Time
			res, _, err := invoke(t, tool(llm.Hints{}), nil, nil, func(n int, _ toolset.CallIn) (toolset.CallOut, error) {
				if last = time.Now(); n == 1 {
					first = last
				}
				if n == c.until {
					return done("ok"), nil
				}
				return toolset.CallOut{After: c.after}, nil
			})
			if err != nil || !strings.Contains(res.Text(), c.says) || last.Sub(first) < c.least || last.Sub(first) > 2*c.least+time.Second {
				t.Errorf("%+v, %v, after %v", res, err, last.Sub(first))
			}
		})
	}
}

// TestEndless ends with a server that asks for ever.
func TestEndless(t *testing.T) {
	var answers []string
	for range 25 {
		answers = append(answers, `{"action":"accept"}`)
	}
	drops := 0
	res, _, err := invoke(t, tool(llm.Hints{}), nil, answers, func(n int, in toolset.CallIn) (toolset.CallOut, error) {
		if in.Responses["k"].Action == toolset.Cancel {
			drops++
		}
		return toolset.CallOut{Needs: []toolset.InputRequest{{Key: "k", Kind: toolset.URL}}, Held: true}, nil
	})
	if err != nil || !res.Error || !strings.Contains(res.Text(), "25 times") || drops != 1 {
		t.Errorf("%+v, %v, %d drops", res, err, drops)
	}
}

// TestBadArguments are no call.
func TestBadArguments(t *testing.T) {
	res, err := toolset.Invoke(t.Context(), tool(llm.Hints{}), llm.ToolCall{ID: "1", Name: "s_t", Bad: "unexpected end"}, nil)
	if err != nil || !res.Error || !strings.Contains(res.Text(), "unexpected end") {
		t.Errorf("%+v, %v", res, err)
	}
}

// A run that was cancelled while a call's outcome got lost was one that failed.
func TestLostAndCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wf := durable.NewWorkflow("call", func(ctx context.Context, _ struct{}) (*llm.ToolResult, error) {
			return toolset.Invoke(ctx, tool(llm.Hints{}), llm.ToolCall{ID: "1", Name: "s_t", Args: json.RawMessage(`{}`)}, nil)
		}, nil)
		eng, err := durable.NewMemory(t.Context(), &durable.Options{Logger: slog.New(slog.DiscardHandler)}, wf,
			toolset.Call.Bind(func(ctx context.Context, _ toolset.CallIn) (toolset.CallOut, error) {
				<-ctx.Done()
				return toolset.CallOut{}, durable.OutcomeUnknown(errors.New("lost"))
			}))
		if err != nil {
			t.Fatal(err)
		}
		defer eng.Close(context.Background())
		run, err := wf.Start(t.Context(), eng, struct{}{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := run.Cancel(t.Context(), "enough"); err != nil {
			t.Fatal(err)
		}
		_, err = wf.Result(t.Context(), run)
		if d, derr := run.Describe(t.Context()); derr != nil || d.State != durable.Cancelled || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "lost") {
			t.Errorf("the run is %s: %v, %v", d.State, err, derr)
		}
	})
}
