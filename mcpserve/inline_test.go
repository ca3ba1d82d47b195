package mcpserve_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/mcpserve"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// gated is a workflow that waits for its gate, and publishes how it is.
type gated struct {
	durable.Set
	open     chan struct{}
	shut     func()
	began    chan struct{}
	status   *durable.Status[string]
	workflow *durable.Workflow[string, string]
}

func newGated(t *testing.T) *gated {
	g := &gated{open: make(chan struct{}), began: make(chan struct{}, 100), status: durable.NewStatus[string]("status")}
	g.shut = sync.OnceFunc(func() { close(g.open) })
	t.Cleanup(g.shut)
	step := durable.NewStep("gate", func(ctx context.Context, s string) (string, error) {
		g.began <- struct{}{}
		select {
		case <-g.open:
			return "done " + s, nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}, nil)
	g.workflow = durable.NewWorkflow("gated", func(ctx context.Context, s string) (string, error) {
		g.status.Set(ctx, "WORKING")
		return step.Do(ctx, s)
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{g.status}})
	g.Set = durable.Set{g.workflow, step}
	return g
}

var errNo = durable.NewErrorType("INSUFFICIENT_FUNDS")

func TestInlineResults(t *testing.T) {
	t.Parallel()
	every(t, func(t *testing.T, p peer) {
		type Out struct {
			Sum int `json:"sum"`
		}
		object1 := durable.NewWorkflow("sum", func(_ context.Context, in struct{ A, B int }) (Out, error) { return Out{in.A + in.B}, nil }, nil)
		list := durable.NewWorkflow("ns/list.all", func(context.Context, struct{}) ([]int, error) { return []int{1, 2}, nil }, nil)
		nothing := durable.NewWorkflow("nothing", func(context.Context, struct{}) (*Out, error) { return nil, nil }, nil)
		broken := durable.NewWorkflow("broken", func(context.Context, struct{}) (string, error) { return "", errNo.New("4 short") }, nil)
		panics := durable.NewWorkflow("panics", func(context.Context, struct{}) (string, error) { panic("oops") }, nil)
		srv := mcpserve.New("s", engine(t, object1, list, nothing, broken, panics), nil)
		for _, w := range []durable.Definition{object1, list, nothing, broken, panics} {
			srv.Add(w, nil)
		}
		cs := connect(t, srv, p)
		if got := ok(t, cs, "sum", object{"A": 1, "B": 2}); got["sum"] != 3.0 {
			t.Errorf("sum = %v", got)
		}
		if got := text(call(t, cs, "sum", object{"A": 1, "B": 2})); got != "{\n  \"sum\": 3\n}" {
			t.Errorf("sum as text = %s", got)
		}
		if got := ok(t, cs, "ns_list_all", nil); len(got["result"].([]any)) != 2 {
			t.Errorf("ns_list_all = %v", got)
		}
		if got := ok(t, cs, "nothing", nil); got["result"] != nil {
			t.Errorf("nothing = %v", got)
		}
		e := refused(t, cs, "broken", nil, "INSUFFICIENT_FUNDS")
		if e["status"] != "failed" || e["workflow_id"] == "" || e["run_id"] == "" || !strings.Contains(e["message"].(string), "4 short") {
			t.Errorf("broken = %v", e)
		}
		e = refused(t, cs, "panics", nil, "blocked")
		if e["status"] != "running" || !strings.Contains(e["message"].(string), "oops") {
			t.Errorf("panics = %v", e)
		}
		e = refused(t, cs, "sum", object{"A": "one", "B": 2}, "bad_arguments")
		if !strings.Contains(e["message"].(string), "A") {
			t.Errorf("a string for A = %v", e)
		}
		if _, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "none"}); err == nil || !strings.Contains(err.Error(), "unknown tool") {
			t.Errorf("an unknown tool: %v", err)
		}
	})
}

func TestWaitLimit(t *testing.T) {
	t.Parallel()
	every(t, func(t *testing.T, p peer) {
		g := newGated(t)
		srv := mcpserve.New("s", engine(t, g), nil)
		srv.Add(g.workflow, &mcpserve.Tool{Wait: 30 * time.Millisecond})
		cs := connect(t, srv, p)
		got := ok(t, cs, "gated", object{"input": "x"})
		if got["reason"] != "wait_limit" || got["status"] != "running" || got["run_id"] == "" || !strings.Contains(got["message"].(string), "workflows-get_status") {
			t.Errorf("at the limit = %v", got)
		}
		g.shut()
		until(t, "the run ends", func() bool {
			return ok(t, cs, "workflows-get_status", object{"run_id": got["run_id"]})["result"] == "done x"
		})
	})
}

func TestClientCancels(t *testing.T) {
	t.Parallel()
	every(t, func(t *testing.T, p peer) {
		for _, cancels := range []bool{false, true} {
			g := newGated(t)
			eng := engine(t, g)
			srv := mcpserve.New("s", eng, nil)
			srv.Add(g.workflow, &mcpserve.Tool{CancelRun: cancels})
			cs := connect(t, srv, p)
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-g.began
				cancel()
			}()
			if _, err := cs.CallTool(ctx, &mcp.CallToolParams{Name: "gated", Arguments: object{"input": "x"}}); !errors.Is(err, context.Canceled) {
				t.Errorf("the cancelled call: %v", err)
			}
			want := durable.Completed
			if cancels {
				want = durable.Cancelled
			} else {
				g.shut()
			}
			until(t, "the run is "+string(want), func() bool {
				page, err := eng.List(t.Context(), nil)
				return err == nil && len(page.Runs) == 1 && page.Runs[0].State == want
			})
		}
	})
}

func TestProgress(t *testing.T) {
	t.Parallel()
	every(t, func(t *testing.T, p peer) {
		g := newGated(t)
		srv := mcpserve.New("s", engine(t, g), nil)
		srv.Add(g.workflow, nil)
		var once sync.Once
		p.progress = func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
			if r.Params.ProgressToken == "tok" && strings.HasPrefix(r.Params.Message, "WORKING, waiting for step gate") {
				once.Do(g.shut)
			}
		}
		cs := connect(t, srv, p)
		params := &mcp.CallToolParams{Name: "gated", Arguments: object{"input": "x"}}
		params.SetProgressToken("tok")
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		res, err := cs.CallTool(ctx, params)
		if err != nil || text(res) != "done x" {
			t.Errorf("gated = %v, %v", res, err)
		}
	})
}

func TestRepeatedCalls(t *testing.T) {
	t.Parallel()
	every(t, func(t *testing.T, p peer) {
		var n sync.Map
		w := durable.NewWorkflow("w", func(_ context.Context, in Invoice) (string, error) {
			n.Store(in.ID, true)
			return in.ID, nil
		}, nil)
		eng := engine(t, w)
		srv := mcpserve.New("s", eng, nil)
		srv.Add(w, &mcpserve.Tool{ID: "w-{invoice_id}"})
		cs := connect(t, srv, p)
		for range 3 {
			if got := ok(t, cs, "w", object{"invoice_id": "1"}); got["result"] != "1" {
				t.Errorf("w = %v", got)
			}
		}
		refused(t, cs, "w", object{"invoice_id": "1", "lines": []any{}}, "id_taken")
		for range 2 {
			params := &mcp.CallToolParams{Name: "workflows-w-run", Arguments: object{"run_parameters": object{"invoice_id": "1"}, "workflow_id": "mine"}}
			params.Meta = mcp.Meta{mcpserve.IdempotencyKey: "k"}
			res, err := cs.CallTool(t.Context(), params)
			if err != nil || res.IsError || content(t, res)["workflow_id"] != "mine" {
				t.Errorf("workflows-w-run = %v, %v", res, err)
			}
		}
		page, err := eng.List(t.Context(), nil)
		if err != nil || len(page.Runs) != 2 {
			t.Errorf("%d runs, %v; want 2", len(page.Runs), err)
		}
	})
}

// Many calls at once, given up at any moment, leave nothing behind.
func TestManyCalls(t *testing.T) {
	t.Parallel()
	w, _ := asking[string](nil)
	eng := engine(t, w)
	srv := mcpserve.New("s", eng, nil)
	srv.Add(w, nil)
	over := make(chan struct{})
	for _, p := range []peer{{revision: "2025-11-25", transport: "http"}, {revision: "2026-07-28", transport: "http"}, {revision: "2025-11-25"}} {
		p.elicit = func(ctx context.Context, req *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			if strings.HasSuffix(req.Params.Message, "7") {
				select {
				case <-ctx.Done():
				case <-over:
				}
			}
			return accept(object{"value": "v"}), nil
		}
		cs := connect(t, srv, p)
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				if i%10 == 7 {
					ctx, cancel = context.WithTimeout(ctx, time.Duration(i)*time.Millisecond)
					defer cancel()
				}
				res, err := cs.CallTool(ctx, &mcp.CallToolParams{Name: "asker", Arguments: object{"input": "q" + string(rune('0'+i%10))}})
				if i%10 != 7 && (err != nil || res.IsError) {
					t.Errorf("call %d: %v, %v", i, res, err)
				}
			})
		}
		wg.Wait()
	}
	close(over)
}

// An engine that closes under a waiting call does not leave it hanging.
func TestEngineCloses(t *testing.T) {
	t.Parallel()
	w, _ := asking[string](&durable.AskOptions{Audience: "nobody here"})
	sleeper := durable.NewWorkflow("sleeper", func(ctx context.Context, _ struct{}) (string, error) {
		return "", durable.Sleep(ctx, time.Hour)
	}, nil)
	eng := engine(t, w, sleeper)
	srv := mcpserve.New("s", eng, nil)
	srv.Add(sleeper, nil)
	var once sync.Once
	cs := connect(t, srv, peer{progress: func(context.Context, *mcp.ProgressNotificationClientRequest) {
		once.Do(func() { go eng.Close(context.Background()) })
	}})
	params := &mcp.CallToolParams{Name: "sleeper"}
	params.SetProgressToken(1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	res, err := cs.CallTool(ctx, params)
	if err != nil || res.IsError || content(t, res)["reason"] != "shutdown" {
		t.Errorf("sleeper = %v, %v", res, err)
	}
	if e := refused(t, cs, "workflows-run", object{"workflow_name": "sleeper"}, "unavailable"); e["message"] == "" {
		t.Errorf("a start on a closed engine = %v", e)
	}
}
