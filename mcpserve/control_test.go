package mcpserve_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/mcpserve"
)

// machine is a workflow that takes every kind of message.
type machine struct {
	durable.Set
	add      *durable.Signal[int]
	poke     *durable.Signal[struct{}]
	double   *durable.Update[int, int]
	sum      *durable.Query[struct{}, int]
	ask      *durable.Question[bool]
	workflow *durable.Workflow[struct{}, int]
	inner    *durable.Workflow[struct{}, int]
}

func newMachine() *machine {
	m := &machine{
		add: durable.NewSignal[int]("add").Describe("Add", "Adds a number."), poke: durable.NewSignal[struct{}]("poke"),
		double: durable.NewUpdate[int, int]("double"), sum: durable.NewQuery[struct{}, int]("sum"), ask: durable.NewQuestion[bool]("more"),
	}
	m.workflow = durable.NewWorkflow("machine", func(ctx context.Context, _ struct{}) (int, error) {
		total := 0
		m.sum.Handle(ctx, func(struct{}) (int, error) { return total, nil })
		m.double.Handle(ctx, func(_ context.Context, n int) (int, error) { total += 2 * n; return total, nil },
			func(n int) error {
				if n > 100 {
					return fmt.Errorf("%d is too much", n)
				}
				return nil
			})
		for {
			n, err := m.add.Receive(ctx)
			if err != nil {
				return total, err
			}
			if total += n; n == 0 {
				break
			}
		}
		a, err := m.ask.Ask(ctx, "more?", nil)
		if err != nil || !a.Value {
			return total, err
		}
		return total + 1, nil
	}, &durable.WorkflowOptions{Title: "The machine", Description: "Adds up.", Accepts: []durable.Accepted{m.add, m.poke, m.double, m.sum, m.ask}})
	m.inner = durable.NewWorkflow("inner", func(context.Context, struct{}) (int, error) { return 1, nil }, nil)
	m.Set = durable.Set{m.workflow, m.inner}
	return m
}

func TestMessages(t *testing.T) {
	t.Parallel()
	every(t, func(t *testing.T, p peer) {
		m := newMachine()
		srv := mcpserve.New("s", engine(t, m), nil)
		srv.Add(m.workflow, &mcpserve.Tool{Async: true})
		srv.Add(m.add, nil)
		srv.Add(m.double, &mcpserve.Tool{Arg: "number"})
		srv.Add(m.sum, nil)
		cs := connect(t, srv, p)
		if e := refused(t, cs, "add", object{"payload": 1}, "not_found"); !strings.Contains(e["message"].(string), `"machine"`) {
			t.Errorf("add without a run = %v", e)
		}
		one := ok(t, cs, "machine", nil)
		if got := ok(t, cs, "add", object{"payload": 5}); got["run_id"] != one["run_id"] {
			t.Errorf("add = %v", got)
		}
		until(t, "the signal is consumed", func() bool { return ok(t, cs, "sum", nil)["result"] == 5.0 })
		if got := ok(t, cs, "double", object{"number": 3, "workflow_id": one["workflow_id"]}); got["result"] != 11.0 {
			t.Errorf("double = %v", got)
		}
		if e := refused(t, cs, "double", object{"number": 300}, "rejected"); !strings.Contains(e["message"].(string), "too much") {
			t.Errorf("double 300 = %v", e)
		}
		refused(t, cs, "double", object{"number": "x"}, "bad_arguments")
		refused(t, cs, "double", nil, "bad_arguments")

		two := ok(t, cs, "machine", nil)
		e := refused(t, cs, "add", object{"payload": 1}, "ambiguous")
		if len(e["candidates"].([]any)) != 2 || !strings.Contains(e["message"].(string), two["workflow_id"].(string)) {
			t.Errorf("add with two runs = %v", e)
		}
		inner := ok(t, cs, "workflows-run", object{"workflow_name": "machine"})
		ok(t, cs, "workflows-cancel", object{"run_id": inner["run_id"]})
		refused(t, cs, "add", object{"payload": 1, "workflow_id": "nope"}, "not_found")
	})
}

func TestRunControl(t *testing.T) {
	t.Parallel()
	every(t, func(t *testing.T, p peer) {
		m := newMachine()
		eng := engine(t, m)
		srv := mcpserve.New("s", eng, nil)
		srv.Add(m.workflow, nil)
		cs := connect(t, srv, p)

		list := ok(t, cs, "workflows-list", nil)
		w := list["machine"].(object)
		if len(list) != 1 || w["description"] != "Adds up." || fmt.Sprint(w["capabilities"], w["tool_endpoints"]) != "[run] [machine workflows-machine-run]" || w["run_parameters"].(object)["type"] != "object" {
			t.Errorf("workflows-list = %v", list)
		}
		e := refused(t, cs, "workflows-run", object{"workflow_name": "inner"}, "unknown_workflow")
		if !strings.Contains(e["message"].(string), `"machine"`) {
			t.Errorf("workflows-run inner = %v", e)
		}
		refused(t, cs, "workflows-run", object{"workflow_name": "machine", "run_parameters": 7}, "bad_arguments")
		hidden, err := m.inner.Start(t.Context(), eng, struct{}{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, tool := range []string{"workflows-get_status", "workflows-cancel", "workflows-resume", "workflows-pause"} {
			refused(t, cs, tool, object{"run_id": hidden.RunID}, "not_found")
			refused(t, cs, tool, object{"workflow_id": "nope"}, "not_found")
			refused(t, cs, tool, object{"run_id": 1}, "bad_arguments")
		}

		var runs []object
		for range 5 {
			runs = append(runs, ok(t, cs, "workflows-machine-run", object{"run_parameters": object{}, "kwargs": object{}}))
		}
		at := func(i int) object { return object{"run_id": runs[i]["run_id"]} }
		status := func(i int) object { return ok(t, cs, "workflows-get_status", at(i)) }

		// pause, resume
		if got := ok(t, cs, "workflows-pause", at(0)); got["action"] != "paused" || got["result"] != true {
			t.Errorf("pause = %v", got)
		}
		if st := status(0); st["status"] != "paused" || st["running"] != true || st["completed"] != false {
			t.Errorf("paused = %v", st)
		}
		if got := ok(t, cs, "workflows-resume", at(0)); got["action"] != "resumed" {
			t.Errorf("resume = %v", got)
		}
		e = refused(t, cs, "workflows-resume", at(0), "not_paused")
		if !strings.Contains(e["message"].(string), `"add", "poke"`) || e["status"] != "running" {
			t.Errorf("resume of a running run = %v", e)
		}
		// signal, answer
		with := func(i int, more object) object {
			out := at(i)
			for k, v := range more {
				out[k] = v
			}
			return out
		}
		refused(t, cs, "workflows-resume", with(0, object{"signal_name": "add", "payload": "x"}), "bad_arguments")
		refused(t, cs, "workflows-resume", with(0, object{"signal_name": "suspend"}), "not_accepted")
		for _, n := range []int{4, 0} {
			if got := ok(t, cs, "workflows-resume", with(0, object{"signal_name": "add", "payload": n})); got["action"] != "signaled" {
				t.Errorf("signal = %v", got)
			}
		}
		until(t, "the run asks", func() bool { return status(0)["questions"] != nil })
		refused(t, cs, "workflows-resume", with(0, object{"signal_name": "more", "payload": "perhaps"}), "bad_arguments")
		if got := ok(t, cs, "workflows-resume", with(0, object{"signal_name": "more", "payload": true})); got["action"] != "answered" {
			t.Errorf("answer = %v", got)
		}
		until(t, "the run ends", func() bool { return status(0)["result"] == 5.0 })
		for _, tool := range []string{"workflows-resume", "workflows-cancel", "workflows-pause"} {
			refused(t, cs, tool, at(0), "finished")
		}
		// cancel hits one run only
		if got := ok(t, cs, "workflows-cancel", at(1)); got["result"] != true {
			t.Errorf("cancel = %v", got)
		}
		until(t, "the run is cancelled", func() bool { return status(1)["status"] == "cancelled" })
		if st := status(2); st["status"] != "running" {
			t.Errorf("another run after the cancel = %v", st)
		}
		// lists
		var seen []string
		token, pages := "", 0
		for {
			args := object{"page_size": 2}
			if token != "" {
				args["next_page_token"] = token
			}
			got := ok(t, cs, "workflows-runs-list", args)
			for _, r := range got["runs"].([]any) {
				seen = append(seen, r.(object)["run_id"].(string))
			}
			pages++
			if token, _ = got["next_page_token"].(string); token == "" {
				break
			}
		}
		slices.Reverse(seen)
		if len(seen) != 5 || pages != 3 || seen[0] != runs[0]["run_id"] {
			t.Errorf("listed %v on %d pages, want the five runs %v on 3", seen, pages, runs)
		}
		for query, want := range map[string]int{"status=running": 3, "status=CANCELLED": 1, "workflow_name=machine": 5, "limit": 4, "workflow_id=x": 0} {
			args := object{}
			if name, v, ok := strings.Cut(query, "="); ok {
				args[name] = v
			} else {
				args[name] = 4
			}
			if got := ok(t, cs, "workflows-runs-list", args)["runs"].([]any); len(got) != want {
				t.Errorf("%s: %d runs, want %d", query, len(got), want)
			}
		}
		refused(t, cs, "workflows-runs-list", object{"status": "sleeping"}, "bad_arguments")
		refused(t, cs, "workflows-runs-list", object{"next_page_token": "!"}, "bad_arguments")
		refused(t, cs, "workflows-runs-list", object{"workflow_name": "inner"}, "unknown_workflow")
		refused(t, cs, "workflows-get_status", nil, "ambiguous")
		refused(t, cs, "workflows-get_status", object{"run_id": nil, "workflow_id": nil}, "ambiguous")
	})
}

func TestToolList(t *testing.T) {
	t.Parallel()
	every(t, func(t *testing.T, p peer) {
		m := newMachine()
		srv := mcpserve.New("s", engine(t, m), nil)
		srv.Add(m.workflow, &mcpserve.Tool{
			Title: "Run it", Description: "Runs it.", Icons: []mcpserve.Icon{{Source: "https://example.com/i.png", Sizes: []string{"any"}}},
			Hints: &mcpserve.Hints{Idempotent: true, Destructive: new(false)}, Meta: map[string]any{"x": 1},
		})
		srv.Add(m.add, nil)
		srv.Add(m.sum, nil)
		all := tools(t, connect(t, srv, p))
		want := "add machine sum workflows-answer workflows-cancel workflows-get_status workflows-list workflows-machine-run workflows-pause workflows-questions workflows-resume workflows-run workflows-runs-list"
		if got := strings.Join(names(all), " "); got != want {
			t.Errorf("tools = %s, want %s", got, want)
		}
		w := all["machine"]
		if w.Title != "Run it" || w.Description != "Runs it." || len(w.Icons) != 1 || !w.Annotations.IdempotentHint || *w.Annotations.DestructiveHint || w.Meta["x"] == nil {
			t.Errorf("machine = %+v", w)
		}
		if a := all["add"]; a.Title != "Add" || !strings.HasPrefix(a.Description, "Adds a number.") {
			t.Errorf("add = %+v", a)
		}
		for _, name := range []string{"sum", "workflows-list", "workflows-get_status", "workflows-runs-list", "workflows-questions"} {
			if !all[name].Annotations.ReadOnlyHint {
				t.Errorf("%s is not marked read-only", name)
			}
		}
		if !*all["workflows-cancel"].Annotations.DestructiveHint {
			t.Error("workflows-cancel is not marked destructive")
		}
		for _, tool := range all {
			if tool.Description == "" || tool.Title == "" || tool.OutputSchema == nil {
				t.Errorf("%s lacks a title, description or output schema", tool.Name)
			}
			if s := tool.InputSchema.(object); s["type"] != "object" || s["additionalProperties"] != nil {
				t.Errorf("%s: input schema %v", tool.Name, s)
			}
		}
		if s := all["workflows-run"].InputSchema.(object); fmt.Sprint(s["required"]) != "[workflow_name]" {
			t.Errorf("workflows-run requires %v", s["required"])
		}
	})
}

func TestControls(t *testing.T) {
	t.Parallel()
	m := newMachine()
	eng := engine(t, m)
	for _, c := range []struct {
		on   []string
		want string
	}{
		{[]string{}, "machine"},
		{[]string{mcpserve.ControlStatus, mcpserve.ControlStart}, "machine workflows-get_status workflows-machine-run"},
	} {
		srv := mcpserve.New("s", eng, &mcpserve.Options{Controls: c.on})
		srv.Add(m.workflow, nil)
		if got := strings.Join(names(tools(t, connect(t, srv, peer{}))), " "); got != c.want {
			t.Errorf("with %v: tools %s, want %s", c.on, got, c.want)
		}
	}
}

// An owner's runs, and the questions they ask, are nobody else's.
func TestOwners(t *testing.T) {
	t.Parallel()
	w, _ := asking[Decision](nil)
	srv := mcpserve.New("s", engine(t, w), &mcpserve.Options{Authenticate: tokens})
	srv.Add(w, &mcpserve.Tool{Async: true})
	for _, revision := range revisions {
		ann, bob := connectAs(t, srv, "ann", revision), connectAs(t, srv, "bob", revision)
		ids := ok(t, ann, "workflows-run", object{"workflow_name": "asker", "run_parameters": object{"input": "Pay?"}, "idempotency_key": "k" + revision})
		until(t, "the run asks", func() bool {
			return len(ok(t, ann, "workflows-questions", object{"run_id": ids["run_id"]})["questions"].([]any)) == 1
		})
		refused(t, bob, "workflows-get_status", object{"run_id": ids["run_id"]}, "not_found")
		refused(t, bob, "workflows-cancel", object{"run_id": ids["run_id"]}, "not_found")
		refused(t, bob, "workflows-answer", object{"value": object{"approved": true}}, "not_found")
		if got := ok(t, bob, "workflows-runs-list", nil)["runs"].([]any); len(got) != 0 {
			t.Errorf("bob sees %v", got)
		}
		ok(t, ann, "workflows-answer", object{"run_id": ids["run_id"], "value": object{"approved": true}})
		until(t, "the run ends", func() bool {
			return ok(t, ann, "workflows-get_status", object{"run_id": ids["run_id"]})["completed"] == true
		})
	}
}
