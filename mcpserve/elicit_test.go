package mcpserve_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/mcpserve"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// asking is a workflow that asks one question of a type.
func asking[T any](o *durable.AskOptions) (*durable.Workflow[string, string], *durable.Question[T]) {
	q := durable.NewQuestion[T]("ask")
	w := durable.NewWorkflow("asker", func(ctx context.Context, what string) (string, error) {
		a, err := q.Ask(ctx, what, o)
		if err != nil {
			return "", err
		}
		raw, err := json.Marshal(a.Value)
		return fmt.Sprintf("%s by %s", raw, a.By), err
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{q}})
	return w, q
}

// person answers forms in turn.
func person(answers ...*mcp.ElicitResult) (func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error), *atomic.Int32, *atomic.Pointer[mcp.ElicitParams]) {
	var n atomic.Int32
	var seen atomic.Pointer[mcp.ElicitParams]
	return func(_ context.Context, req *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
		seen.Store(req.Params)
		i := int(n.Add(1)) - 1
		if i >= len(answers) {
			return nil, errors.New("no more answers")
		}
		return answers[i], nil
	}, &n, &seen
}

func accept(content object) *mcp.ElicitResult {
	return &mcp.ElicitResult{Action: "accept", Content: content}
}

func TestElicitation(t *testing.T) {
	t.Parallel()
	every(t, func(t *testing.T, p peer) {
		w, _ := asking[Decision](&durable.AskOptions{Context: json.RawMessage(`{"total":12}`)})
		srv := mcpserve.New("s", engine(t, w), nil)
		srv.Add(w, nil)
		elicit, n, seen := person(accept(object{"approved": true, "reason": "fine"}))
		p.elicit = elicit
		cs := connect(t, srv, p)
		res := call(t, cs, "asker", object{"input": "Pay?"})
		if got, want := text(res), `{"approved":true,"reason":"fine"} by mcp:tester`; got != want || res.IsError {
			t.Errorf("asker = %s, want %s", got, want)
		}
		if n.Load() != 1 {
			t.Errorf("%d forms were shown, want 1", n.Load())
		}
		form := seen.Load()
		if !strings.HasPrefix(form.Message, "Pay?\n\n{") || !strings.Contains(form.Message, `"total": 12`) {
			t.Errorf("message = %q", form.Message)
		}
		raw, _ := json.Marshal(form.RequestedSchema)
		if want := `{"properties":{"approved":{"type":"boolean"},"reason":{"type":"string"}},"required":["approved"],"type":"object"}`; !sameJSON(string(raw), want) {
			t.Errorf("schema = %s, want %s", raw, want)
		}
	})
}

func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && fmt.Sprint(x) == fmt.Sprint(y)
}

func TestElicitationOfOtherTypes(t *testing.T) {
	t.Parallel()
	every(t, func(t *testing.T, p peer) {
		text := ask[string](t, p, nil, accept(object{"value": "blue"}))
		if want := `"blue" by mcp:tester`; text != want {
			t.Errorf("a string = %s, want %s", text, want)
		}
		if got, want := ask[int](t, p, nil, accept(object{"value": 3})), "3 by mcp:tester"; got != want {
			t.Errorf("an int = %s, want %s", got, want)
		}
		// What no form can hold is asked for as JSON; what is not JSON, or does
		// not fit, is asked for again.
		got := ask[[]Line](t, p, nil, accept(object{"value": "[oops"}), accept(object{"value": `{"sku":1}`}), accept(object{"value": `[{"sku":"a","amount":1}]`}))
		if want := `[{"sku":"a","amount":1}] by mcp:tester`; got != want {
			t.Errorf("a list = %s, want %s", got, want)
		}
		// A schema given with the question wins over the type's.
		o := &durable.AskOptions{Schema: json.RawMessage(`{"type":"string","enum":["red","green"]}`)}
		if got, want := ask[string](t, p, o, accept(object{"value": "green"})), `"green" by mcp:tester`; got != want {
			t.Errorf("one of two = %s, want %s", got, want)
		}
	})
}

func ask[T any](t *testing.T, p peer, o *durable.AskOptions, answers ...*mcp.ElicitResult) string {
	t.Helper()
	w, _ := asking[T](o)
	srv := mcpserve.New("s", engine(t, w), nil)
	srv.Add(w, nil)
	elicit, n, _ := person(answers...)
	p.elicit = elicit
	res := call(t, connect(t, srv, p), "asker", object{"input": "?"})
	if int(n.Load()) != len(answers) {
		t.Errorf("%d forms were shown, want %d", n.Load(), len(answers))
	}
	return text(res)
}

func TestElicitationDeclined(t *testing.T) {
	t.Parallel()
	every(t, func(t *testing.T, p peer) {
		for _, action := range []string{"decline", "cancel"} {
			w, q := asking[Decision](nil)
			srv := mcpserve.New("s", engine(t, w), nil)
			srv.Add(w, nil)
			srv.Add(q, &mcpserve.Tool{Name: "decide"})
			p := p
			p.elicit, _, _ = person(&mcp.ElicitResult{Action: action})
			cs := connect(t, srv, p)
			got := ok(t, cs, "asker", object{"input": "Pay?"})
			if got["reason"] != "declined" || got["status"] != "running" || !strings.Contains(got["message"].(string), "stays open") {
				t.Errorf("after %s = %v", action, got)
			}
			open := got["questions"].([]any)
			if len(open) != 1 || fmt.Sprint(open[0].(object)["answer_with"]) != "[decide workflows-answer]" {
				t.Errorf("questions after %s = %v", action, open)
			}
			ok(t, cs, "decide", object{"approved": false, "reason": "no"})
			until(t, "the run ends", func() bool {
				return ok(t, cs, "workflows-get_status", object{"run_id": got["run_id"]})["completed"] == true
			})
		}
	})
}

func TestNoElicitation(t *testing.T) {
	t.Parallel()
	every(t, func(t *testing.T, p peer) {
		w, _ := asking[Decision](nil)
		srv := mcpserve.New("s", engine(t, w), nil)
		srv.Add(w, nil)
		cs := connect(t, srv, p)
		got := ok(t, cs, "asker", object{"input": "Pay?"})
		if got["reason"] != "question" || got["poll"].(object)["tool"] != "workflows-get_status" {
			t.Errorf("asker = %v", got)
		}
		asked := ok(t, cs, "workflows-questions", nil)["questions"].([]any)
		if len(asked) != 1 || asked[0].(object)["text"] != "Pay?" {
			t.Fatalf("workflows-questions = %v", asked)
		}
		refused(t, cs, "workflows-answer", object{"question_id": "nope", "value": 1}, "not_found")
		refused(t, cs, "workflows-answer", object{"value": object{"approved": "maybe"}}, "bad_arguments")
		ok(t, cs, "workflows-answer", object{"question_id": asked[0].(object)["id"], "value": object{"approved": true}})
		until(t, "the run ends", func() bool {
			return ok(t, cs, "workflows-get_status", nil)["result"] == `{"approved":true} by mcp:tester`
		})
	})
}

// A question that is settled elsewhere takes the form back, and the call goes
// on to the result.
func TestElicitationAnsweredElsewhere(t *testing.T) {
	t.Parallel()
	for _, revision := range []string{"2025-06-18", "2025-11-25"} {
		for _, transport := range []string{"memory", "http"} {
			w, _ := asking[Decision](nil)
			eng := engine(t, w)
			srv := mcpserve.New("s", eng, nil)
			srv.Add(w, nil)
			shown, gone, over := make(chan struct{}), make(chan struct{}), make(chan struct{})
			p := peer{revision: revision, transport: transport, elicit: func(ctx context.Context, _ *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
				close(shown)
				select {
				case <-ctx.Done():
					close(gone)
				case <-over: // over HTTP word of it may be lost
				}
				return nil, errors.New("taken back")
			}}
			cs := connect(t, srv, p)
			go func() {
				<-shown
				qs, _ := eng.Questions(context.Background(), nil)
				eng.Answer(context.Background(), qs[0].ID, json.RawMessage(`{"approved":true}`), nil)
			}()
			if got, want := text(call(t, cs, "asker", object{"input": "Pay?"})), `{"approved":true} by `; got != want {
				t.Errorf("asker = %s, want %s", got, want)
			}
			if transport == "memory" {
				select {
				case <-gone:
				case <-time.After(patience):
					t.Error("the form was not taken back")
				}
			}
			close(over)
		}
	}
}

// The state of an input_required answer is good on any server before the
// engine, and on no other call.
func TestInputRequired(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"memory", "http"} {
		w, _ := asking[Decision](nil)
		other := durable.NewWorkflow("other", func(context.Context, string) (string, error) { return "", nil }, nil)
		eng := engine(t, w, other)
		server := func() *mcpserve.Server {
			srv := mcpserve.New("s", eng, nil)
			srv.Add(w, nil)
			srv.Add(other, nil)
			return srv
		}
		elicit, _, _ := person()
		p := peer{revision: "2026-07-28", transport: transport, elicit: elicit, manual: true}
		cs := connect(t, server(), p)
		first := call(t, cs, "asker", object{"input": "Pay?"})
		if !first.NeedsInput() || first.RequestState == "" || len(first.InputRequests) != 1 || first.StructuredContent != nil {
			t.Fatalf("asker = %+v, want input_required", first)
		}
		answer := mcp.InputResponseMap{"answer": accept(object{"approved": true})}
		for name, c := range map[string]*mcp.CallToolParams{
			"garbage":         {Name: "asker", Arguments: object{"input": "Pay?"}, RequestState: "garbage"},
			"cut":             {Name: "asker", Arguments: object{"input": "Pay?"}, RequestState: first.RequestState[:20]},
			"other arguments": {Name: "asker", Arguments: object{"input": "Pay twice?"}, RequestState: first.RequestState},
			"other tool":      {Name: "other", Arguments: object{"input": "Pay?"}, RequestState: first.RequestState},
		} {
			c.InputResponses = answer
			res, err := cs.CallTool(t.Context(), c)
			if err != nil || !res.IsError || content(t, res)["type"] != "bad_request_state" {
				t.Errorf("%s: %v, %v", name, res, err)
			}
		}
		// A retry without an answer is asked again, for the same run.
		again, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "asker", Arguments: object{"input": "Pay?"}, RequestState: first.RequestState})
		if err != nil || !again.NeedsInput() {
			t.Fatalf("again = %+v, %v", again, err)
		}
		// The process was restarted meanwhile.
		cs2 := connect(t, server(), p)
		res, err := cs2.CallTool(t.Context(), &mcp.CallToolParams{Name: "asker", Arguments: object{"input": "Pay?"}, RequestState: again.RequestState, InputResponses: answer})
		if err != nil || text(res) != `{"approved":true} by mcp:tester` {
			t.Fatalf("answered = %+v, %v", res, err)
		}
		// An answer that comes late finds the result.
		late, err := cs2.CallTool(t.Context(), &mcp.CallToolParams{Name: "asker", Arguments: object{"input": "Pay?"}, RequestState: first.RequestState, InputResponses: mcp.InputResponseMap{"answer": accept(object{"approved": false})}})
		if err != nil || text(late) != `{"approved":true} by mcp:tester` {
			t.Errorf("late = %+v, %v", late, err)
		}
		page, err := eng.List(t.Context(), nil)
		if err != nil || len(page.Runs) != 1 {
			t.Errorf("%d runs, %v; want 1", len(page.Runs), err)
		}
	}
}

// Questions that a child run asks reach the caller of the parent.
func TestElicitationOfChild(t *testing.T) {
	t.Parallel()
	every(t, func(t *testing.T, p peer) {
		child, _ := asking[Decision](nil)
		parent := durable.NewWorkflow("parent", child.Run, nil)
		srv := mcpserve.New("s", engine(t, parent, child), nil)
		srv.Add(parent, nil)
		p.elicit, _, _ = person(accept(object{"approved": true}))
		cs := connect(t, srv, p)
		if got, want := text(call(t, cs, "parent", object{"input": "Pay?"})), `{"approved":true} by mcp:tester`; got != want {
			t.Errorf("parent = %s, want %s", got, want)
		}
		refused(t, cs, "workflows-run", object{"workflow_name": "asker", "run_parameters": object{"input": "x"}}, "unknown_workflow")
	})
}

// A form is not put before somebody whom the question is not meant for.
func TestElicitationOfOtherAudience(t *testing.T) {
	t.Parallel()
	w, _ := asking[Decision](&durable.AskOptions{Audience: "finance"})
	srv := mcpserve.New("s", engine(t, w), nil)
	srv.Add(w, nil)
	elicit, n, _ := person(accept(object{"approved": true}))
	got := ok(t, connect(t, srv, peer{elicit: elicit}), "asker", object{"input": "Pay?"})
	if got["reason"] != "question" || n.Load() != 0 {
		t.Errorf("asker = %v after %d forms", got, n.Load())
	}
}

// More questions than the rounds of one call hand over, and lose nothing.
func TestManyQuestions(t *testing.T) {
	t.Parallel()
	every(t, func(t *testing.T, p peer) {
		q := durable.NewQuestion[string]("ask")
		const n = 12
		w := durable.NewWorkflow("asker", func(ctx context.Context, _ struct{}) (int, error) {
			for i := range n {
				if _, err := q.Ask(ctx, fmt.Sprint(i), nil); err != nil {
					return i, err
				}
			}
			return n, nil
		}, &durable.WorkflowOptions{Accepts: []durable.Accepted{q}})
		srv := mcpserve.New("s", engine(t, w), nil)
		srv.Add(w, nil)
		answers := make([]*mcp.ElicitResult, n)
		for i := range answers {
			answers[i] = accept(object{"value": "yes"})
		}
		elicit, shown, _ := person(answers...)
		p.elicit = elicit
		got := ok(t, connect(t, srv, p), "asker", nil)
		if p.revision < "2026" {
			if got["result"] != float64(n) {
				t.Errorf("asker = %v", got)
			}
			return
		}
		if got["reason"] != "rounds" || shown.Load() != 8 || len(got["questions"].([]any)) != 1 {
			t.Errorf("asker = %v after %d forms", got, shown.Load())
		}
	})
}
