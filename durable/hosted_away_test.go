package durable_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpagent/mcpagent/durable"
)

// ground is a cluster that writes down all that a run asks of it.
type ground struct {
	now   int64
	log   []string
	calls []*durable.HostedCall
}

func (g *ground) note(format string, args ...any) {
	g.log = append(g.log, fmt.Sprintf(format, args...))
}

func (g *ground) Now() int64      { g.now += 1000; return g.now }
func (g *ground) Replaying() bool { return false }
func (g *ground) Tell(fn func())  { fn() }
func (g *ground) Launch(c *durable.HostedCall) {
	g.note("launch %s %s %s %s", c.Call.ID, c.Kind, c.Name, c.Payload)
	g.calls = append(g.calls, c)
}
func (g *ground) Drop(id string) { g.note("drop %s", id) }
func (g *ground) Stop(id string) { g.note("stop %s", id) }
func (g *ground) Record(fn func() []byte) []byte {
	b := fn()
	g.note("record %s", b)
	return b
}
func (g *ground) Version(change string, most int) int {
	g.note("version %s", change)
	switch change {
	case "older": // recorded by a worker that knew no later one
		return 1
	case "passed": // before there was one
		return -1
	}
	return most
}
func (g *ground) Seed(name string, b []byte) {
	g.note("seed %s", name)
	copy(b, name+fmt.Sprint(len(g.log))) // asked twice, it is another one
}
func (g *ground) Handles(update string)          { g.note("handles %s", update) }
func (g *ground) Tree(req *durable.Request)      { g.note("tree %s", req.Op) }
func (g *ground) PutBlob(string, []byte) error   { return durable.ErrUnsupported }
func (g *ground) GetBlob(string) ([]byte, error) { return nil, durable.ErrNotFound }

// awayCode is a workflow with a bit of everything.
type awayCode struct {
	work  *durable.Step[string, string]
	line  *durable.Signal[string]
	raise *durable.Update[int, int]
	seen  *durable.Query[string, string]
	stage *durable.Status[string]
	who   *durable.Question[string]
}

func (x *awayCode) tale(ctx context.Context, in string) (string, error) {
	sum, said := 0, in
	if err := x.raise.Handle(ctx, func(ctx context.Context, by int) (int, error) {
		if _, err := x.work.Do(ctx, fmt.Sprint("raise ", by)); err != nil {
			return 0, err
		}
		sum += by
		return sum, nil
	}, func(by int) error {
		if by > 10 {
			return errors.New("too much")
		}
		return nil
	}); err != nil {
		return "", err
	}
	if err := x.seen.Handle(ctx, func(by string) (string, error) { return said + by, nil }); err != nil {
		return "", err
	}
	add := func(s any) { said += fmt.Sprint(" ", s) }
	lent, err := durable.LendBlob(ctx, []byte("what "+in+" lends"))
	if err != nil {
		return "", err
	}
	add(lent[:4])
	for _, change := range []string{"change", "older", "passed"} {
		add(durable.Version(ctx, change, 2))
	}
	add(durable.Rand(ctx, "dice").IntN(1000))
	x.stage.Set(ctx, "begins")
	n, err := durable.SideEffect(ctx, func() int { return 7 })
	if err != nil {
		return "", err
	}
	add(n)
	one, two := x.work.Start(ctx, "one"), x.work.Start(ctx, "two")
	first, err := x.line.Receive(ctx)
	if err != nil {
		return "", err
	}
	add(first)
	add(durable.Rand(ctx, "dice").IntN(1000))
	for _, f := range []*durable.Future[string]{two, one} {
		v, err := f.Get(ctx)
		if err != nil {
			return "", err
		}
		add(v)
	}
	if err := durable.Sleep(ctx, time.Hour); err != nil {
		return "", err
	}
	x.stage.Set(ctx, "asks")
	a, err := x.who.Ask(ctx, "Who?", nil)
	if err != nil {
		return "", err
	}
	add(a.Value)
	if _, err := x.line.ReceiveTimeout(ctx, time.Minute); err != nil {
		add("late")
	}
	add(durable.Rand(ctx, "dice").IntN(1000))
	if err := durable.Await(ctx, func() bool { return sum > 4 }); err != nil {
		return "", err
	}
	return said, nil
}

// awayStory is the life of a run of it, on a cluster; after is called whenever
// something was asked of it.
func awayStory(t *testing.T, after func(*durable.Hosted)) (log []string) {
	x := &awayCode{
		work: durable.NewStep("work", func(context.Context, string) (string, error) { return "", errors.New("elsewhere") }, nil),
		line: durable.NewSignal[string]("line"), raise: durable.NewUpdate[int, int]("raise"), seen: durable.NewQuery[string, string]("seen"),
		stage: durable.NewStatus[string]("stage"), who: durable.NewQuestion[string]("who"),
	}
	flow := durable.NewWorkflow("away.story", x.tale, &durable.WorkflowOptions{Accepts: []durable.Accepted{x.line, x.raise, x.seen, x.stage, x.who}})
	defs, err := durable.NewDefinitions(flow, x.work)
	if err != nil {
		t.Fatal(err)
	}
	host, err := durable.NewHost(defs, &durable.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	g := &ground{now: 1_800_000_000_000_000}
	run, err := host.Begin(g, &durable.HostedStart{WorkflowID: "wf", RunID: "0123456789abcdef", Chain: "0123456789abcdef", Workflow: "away.story", Created: g.now, Input: []byte(`"in"`)})
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	do := func(op durable.Op, name, payload string) {
		t.Helper()
		rep := run.Do(&durable.Request{Op: op, Name: name, Payload: json.RawMessage(payload)})
		after(run)
		b, err := json.Marshal(rep)
		if err != nil {
			t.Fatal(err)
		}
		g.note("%s %s: %s", op, name, b)
	}
	look := func() {
		t.Helper()
		do(durable.OpDescribe, "", "")
		do(durable.OpQuery, "seen", `"?"`)
		do(durable.OpHistory, "", "")
	}
	deliver := func(evs ...*durable.StoredEvent) {
		t.Helper()
		run.Deliver(evs)
		if p := run.Problem(); p != nil {
			t.Fatalf("after %d lines: %v", len(g.log), p.Text)
		}
		after(run)
		look()
	}
	done := func(name, out string) *durable.StoredEvent {
		t.Helper()
		i := slices.IndexFunc(g.calls, func(c *durable.HostedCall) bool { return c.Name == name || strings.Contains(string(c.Payload), name) })
		if i < 0 {
			t.Fatalf("no call %q was launched: %q", name, g.log)
		}
		c := g.calls[i]
		g.calls = slices.Delete(g.calls, i, i+1)
		if c.Kind == "timer" {
			return &durable.StoredEvent{Kind: "fired", Call: c.Call.ID}
		}
		return &durable.StoredEvent{Kind: "done", Call: c.Call.ID, Attempt: 1, Payload: []byte(out)}
	}
	update := func(id string, by int) {
		t.Helper()
		in := []byte(fmt.Sprint(by))
		no := run.MayUpdate(id, "raise", in)
		after(run)
		if no != nil {
			g.note("no: %s", no.Err.Message)
			return
		}
		run.Update(&durable.StoredEvent{Kind: "asked", ID: id, Name: "raise", Payload: in}, func(rep *durable.Reply) { g.note("raised %s: %s", id, rep.Payload) })
		after(run)
		look()
	}
	run.Start()
	after(run)
	look()
	do(durable.OpGetBlob, durable.BlobDigest([]byte("what in lends")), "")
	update("u1", 2)
	update("u1", 2)
	update("u2", 11)
	deliver(&durable.StoredEvent{Kind: "signaled", ID: "s1", Name: "line", Payload: []byte(`"hello"`)})
	deliver(done("two", `"2"`))
	do(durable.OpPause, "", "")
	deliver(&durable.StoredEvent{Kind: "signaled", ID: "s2", Name: "line", Payload: []byte(`"again"`)}, done("one", `"1"`))
	do(durable.OpResume, "", "")
	look()
	deliver(done("raise 2", `""`))
	deliver(done("sleep", ""))
	qs := run.Asks()
	after(run)
	if len(qs) != 1 {
		t.Fatalf("open questions: %v", qs)
	}
	rep := run.Do(&durable.Request{Op: durable.OpAnswer, Name: qs[0].ID, Payload: json.RawMessage(`"me"`), Ref: durable.Ref{WorkflowID: "wf"}})
	after(run)
	if rep.Err != nil {
		t.Fatal(rep.Err.Message)
	}
	look()
	update("u3", 3)
	deliver(done("raise 3", `""`))
	if s := durable.State(run.Row().State); s != durable.Completed {
		t.Fatalf("the run is %s: %q", s, g.log)
	}
	g.note("result %s", run.Row().Result)
	return g.log
}

// TestPutAwayOnACluster: a run that is put away whenever that is possible asks
// its cluster for the same, and says the same of itself, as one that never is.
// Nothing is left of its code meanwhile.
func TestPutAwayOnACluster(t *testing.T) {
	t.Parallel()
	times := 0
	awake := awayStory(t, func(*durable.Hosted) {})
	away := awayStory(t, func(r *durable.Hosted) {
		if r.PutAway(); !r.Away() {
			if !durable.State(r.Row().State).Done() {
				t.Fatal("the run is not put away")
			}
			return
		}
		times++
		var b bytes.Buffer
		if err := pprof.Lookup("goroutine").WriteTo(&b, 1); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), "(*awayCode).tale") {
			t.Fatalf("code of the run is still there:\n%s", b.String())
		}
	})
	if times < 50 {
		t.Errorf("it was put away %d times", times)
	}
	if d := cmp.Diff(awake, away); d != "" {
		t.Errorf("awake (-), put away (+): %s", d)
	}
}
