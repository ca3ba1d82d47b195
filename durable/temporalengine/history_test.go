package temporalengine_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/temporalengine"
)

// Histories of this and earlier releases are under testdata/histories, and are
// only ever added to: today's code has to replay them.
var update = flag.Bool("update", false, "record testdata/histories anew; it needs a server")

// tale is a workflow that does a bit of everything. With another way its code
// differs from the one that was recorded.
type tale struct {
	ask   *durable.Question[string]
	line  *durable.Signal[string]
	grow  *durable.Update[int, int]
	flow  *durable.Workflow[int, string]
	waits *durable.Workflow[string, string]
	defs  durable.Set
}

func newTale(changed bool) *tale {
	s := &tale{ask: durable.NewQuestion[string]("who"), line: durable.NewSignal[string]("line"), grow: durable.NewUpdate[int, int]("grow")}
	shaky := durable.NewStep("shaky", func(ctx context.Context, in string) (string, error) {
		if i, _ := durable.StepInfoOf(ctx); i.Attempt < 3 {
			return "", errors.New("not yet")
		}
		return in + " at last", nil
	}, &durable.StepOptions{Retry: &durable.Retry{Initial: time.Millisecond}})
	once := durable.NewStep("once", func(_ context.Context, in string) (string, error) { return in + " once", nil }, &durable.StepOptions{AtMostOnce: true})
	other := durable.NewStep("other", func(_ context.Context, in string) (string, error) { return in, nil }, nil)
	child := durable.NewWorkflow("tale.child", func(ctx context.Context, in string) (string, error) { return shaky.Do(ctx, in) }, nil)
	s.flow = durable.NewWorkflow("tale", func(ctx context.Context, n int) (string, error) {
		if n > 0 {
			line, err := s.line.Receive(ctx)
			return "again: " + line, err
		}
		total := 0
		if err := s.grow.Handle(ctx, func(_ context.Context, by int) (int, error) { total += by; return total, nil }, nil); err != nil {
			return "", err
		}
		name := "tale"
		if durable.Version(ctx, "capital", 1) == 1 {
			name = "Tale"
		}
		if _, err := durable.SideEffect(ctx, func() int { return 7 }); err != nil {
			return "", err
		}
		text, err := shaky.Do(ctx, name)
		if err != nil {
			return "", err
		}
		if changed {
			text, err = other.Do(ctx, text)
		} else {
			text, err = once.Do(ctx, text)
		}
		if err != nil {
			return "", err
		}
		if err := durable.Sleep(ctx, 10*time.Millisecond); err != nil {
			return "", err
		}
		if _, err := s.ask.Ask(ctx, "who tells it?", nil); err != nil {
			return "", err
		}
		if _, err := child.Run(ctx, text); err != nil {
			return "", err
		}
		if _, err := s.line.Receive(ctx); err != nil {
			return "", err
		}
		return "", durable.ContinueAsNew(1)
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{s.line, s.grow, s.ask}})
	s.waits = durable.NewWorkflow("waits", func(ctx context.Context, in string) (string, error) {
		defer func() { _, _ = other.Do(context.WithoutCancel(ctx), "cleaned up") }() //durablevet:ignore people write that, and where the run is put away it ends there
		return s.line.Receive(ctx)
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{s.line}})
	s.defs = durable.Set{s.flow, s.waits, child, shaky, once, other}
	return s
}

// record makes the histories.
func (s *tale) record(t *testing.T) map[string]*historypb.History {
	ctx := within(t, 2*time.Minute)
	e := on(t, temporalengine.Options{Identity: "worker"}, s.defs)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	out := map[string]*historypb.History{}
	keep := func(name, id, run string) {
		h := &historypb.History{}
		it := dial(t, anyServer(t)).GetWorkflowHistory(ctx, id, run, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		for it.HasNext() {
			ev, err := it.Next()
			check(err)
			h.Events = append(h.Events, ev)
		}
		out[name] = h
	}
	run, err := s.flow.Start(ctx, e, 0, nil)
	check(err)
	d := describes(t, ctx, run, func(d *durable.Description) bool { return len(d.Questions) == 1 })
	_, err = s.grow.Send(ctx, run, 3, nil)
	check(err)
	check(s.ask.Answer(ctx, e, d.Questions[0].ID, "alex", nil))
	check(s.line.Send(ctx, run, "one", nil))
	check(s.line.Send(ctx, run, "two", nil))
	_, err = s.flow.Result(ctx, run)
	check(err)
	keep("story", run.WorkflowID, run.RunID)
	keep("continued", run.WorkflowID, "")
	fork, err := e.Run(run.WorkflowID, run.RunID).Fork(ctx, nil)
	check(err)
	_, err = s.flow.Result(ctx, fork)
	check(err)
	keep("fork", fork.WorkflowID, fork.RunID)
	held, err := s.waits.Start(ctx, e, "", nil)
	check(err)
	check(held.Pause(ctx, nil))
	check(held.Resume(ctx, nil))
	check(held.Cancel(ctx, "enough"))
	if _, err := held.Result(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	keep("cancelled", held.WorkflowID, held.RunID)
	return out
}

func TestHistories(t *testing.T) {
	t.Parallel()
	dir := filepath.Join("testdata", "histories")
	if *update {
		for name, h := range newTale(false).record(t) {
			b, err := protojson.MarshalOptions{Multiline: true}.Marshal(h)
			if err != nil {
				t.Fatal(err)
			}
			host, _ := os.Hostname()
			b = bytes.ReplaceAll(b, []byte(`"`+host+`:`), []byte(`"host:`))
			if err := os.WriteFile(filepath.Join(dir, name+".json"), append(b, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) < 4 {
		t.Fatalf("%d histories, %v", len(files), err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		out, err := temporalengine.Replay(t.Context(), b, nil, newTale(false).defs)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if !out.State.Done() || out.Turns == 0 || out.WorkflowID == "" {
			t.Errorf("%s: %+v", file, out)
		}
	}
	// Code that was changed under the run is found out.
	b, err := os.ReadFile(filepath.Join(dir, "story.json"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = temporalengine.Replay(t.Context(), b, nil, newTale(true).defs)
	var blocked *durable.BlockedError
	if !errors.As(err, &blocked) || blocked.Problem.Kind != "mismatch" || !strings.Contains(err.Error(), "once") || !strings.Contains(err.Error(), "durable.Version") {
		t.Errorf("changed code: %v", err)
	}
	if _, err := temporalengine.Replay(t.Context(), b, nil); !errors.As(err, &blocked) || blocked.Problem.Kind != "not_defined" {
		t.Errorf("without the workflow: %v", err)
	}
	for _, bad := range []string{"", "{}", `{"events": [{"eventId": "1", "eventType": "EVENT_TYPE_TIMER_STARTED"}]}`} {
		if _, err := temporalengine.Replay(t.Context(), []byte(bad), nil, newTale(false).defs); !errors.Is(err, durable.ErrHistory) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
