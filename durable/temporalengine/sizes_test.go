package temporalengine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/temporalengine"
)

// The cluster of the tests takes 2 MB as one value, as clusters do.
const large = 2<<20 + 1

// patient is how long code may take for megabytes on a busy machine, with the
// race detector.
const patient = 30 * time.Second

// carrier carries a value of any size in the direction that it is told.
type carrier struct {
	Way  string
	Size int
	Fill string // what fills the input
}

var (
	carrySignal = durable.NewSignal[string]("letter")
	carryQuery  = durable.NewQuery[int, string]("size")
	carryUpdate = durable.NewUpdate[string, string]("grow")
	carryStep   = durable.NewStep("carry.step", func(_ context.Context, c carrier) (string, error) { return strings.Repeat("r", c.Size), nil }, nil)
	carryFails  = durable.NewStep("carry.fails", func(_ context.Context, n int) (string, error) {
		return "", durable.Permanent(errors.New(strings.Repeat("f", n)))
	}, nil)
	carryChild = durable.NewWorkflow("carry.child", func(_ context.Context, c carrier) (string, error) { return strings.Repeat("c", c.Size), nil }, nil)
	carry      = durable.NewWorkflow("carry", carryFlow, &durable.WorkflowOptions{Accepts: []durable.Accepted{carrySignal, carryQuery, carryUpdate}})
	carriers   = durable.Set{carry, carryChild, carryStep, carryFails}
)

func carryFlow(ctx context.Context, c carrier) (string, error) {
	fill := strings.Repeat("i", c.Size)
	switch c.Way {
	case "step input":
		return carryStep.Do(ctx, carrier{Fill: fill})
	case "step result":
		s, err := carryStep.Do(ctx, carrier{Size: c.Size})
		return fmt.Sprint(len(s)), err
	case "step failure":
		return carryFails.Do(ctx, c.Size)
	case "child input":
		return carryChild.Run(ctx, carrier{Fill: fill})
	case "child result":
		s, err := carryChild.Run(ctx, carrier{Size: c.Size})
		return fmt.Sprint(len(s)), err
	case "fan-out":
		g, _ := durable.NewGroup(ctx, nil)
		for range 6 {
			g.Go(func(ctx context.Context) error {
				_, err := carryStep.Do(ctx, carrier{Fill: fill})
				return err
			})
		}
		return "done", g.Wait()
	case "signal to another":
		return "", carrySignal.Send(ctx, &durable.Run{WorkflowID: c.Fill}, fill, nil)
	case "result":
		return fill, nil
	case "failure":
		return "", errors.New(fill)
	case "continue as new":
		if len(c.Fill) > 0 {
			return fmt.Sprint(len(c.Fill)), nil
		}
		return "", durable.ContinueAsNew(carrier{Way: c.Way, Fill: fill})
	}
	if err := carryQuery.Handle(ctx, func(n int) (string, error) { return strings.Repeat("q", n), nil }); err != nil {
		return "", err
	}
	if err := carryUpdate.Handle(ctx, func(_ context.Context, s string) (string, error) {
		if s == "large" {
			return strings.Repeat("u", large), nil
		}
		return fmt.Sprint(len(s)), nil
	}, nil); err != nil {
		return "", err
	}
	s, err := carrySignal.Receive(ctx)
	return fmt.Sprint(len(s)), err
}

// ways are the directions that a run sends a value in.
var ways = []string{"step input", "step result", "step failure", "child input", "child result", "result", "failure", "continue as new"}

// TestTooLarge: what the cluster does not take fails once, with a name.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	e := on(t, temporalengine.Options{Engine: durable.Options{Watchdog: patient}}, carriers)
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			ctx := within(t, 30*time.Second)
			run, err := carry.Start(ctx, e, carrier{Way: way, Size: large}, &durable.StartOptions{ID: id(t)})
			if err != nil {
				t.Fatal(err)
			}
			_, err = carry.Result(ctx, run)
			wants(t, err, way, run.WorkflowID)
			if tries := failedTasks(t, run.WorkflowID); tries != 0 {
				t.Errorf("%d workflow tasks failed", tries)
			}
		})
	}
	t.Run("messages", func(t *testing.T) {
		t.Parallel()
		ctx := within(t, 30*time.Second)
		_, err := carry.Start(ctx, e, carrier{Fill: strings.Repeat("s", large)}, &durable.StartOptions{ID: id(t) + "-big"})
		wants(t, err, "start", "carry")
		run, err := carry.Start(ctx, e, carrier{}, &durable.StartOptions{ID: id(t)})
		if err != nil {
			t.Fatal(err)
		}
		wants(t, carrySignal.Send(ctx, run, strings.Repeat("s", large), nil), "signal", "letter")
		teller, err := carry.Start(ctx, e, carrier{Way: "signal to another", Size: large, Fill: run.WorkflowID}, &durable.StartOptions{ID: id(t) + "-teller"})
		if err != nil {
			t.Fatal(err)
		}
		_, err = carry.Result(ctx, teller)
		wants(t, err, "signal to another", "letter")
		_, err = carryUpdate.Send(ctx, run, strings.Repeat("s", large), nil)
		wants(t, err, "update", "grow")
		_, err = carryUpdate.Send(ctx, run, "large", nil)
		wants(t, err, "update answer", "grow")
		// This program has the workflow: it makes the answer by itself.
		if s, err := carryQuery.Ask(ctx, run, large); err != nil || len(s) != large {
			t.Errorf("query: %d bytes, %v", len(s), err)
		}
		// Who has not is told.
		far := on(t, temporalengine.Options{ClientOnly: true}, carryQuery)
		_, err = carryQuery.Ask(ctx, far.Run(run.WorkflowID, ""), large)
		wants(t, err, "query", run.WorkflowID)
		if err := carrySignal.Send(ctx, run, "small", nil); err != nil {
			t.Fatal(err)
		}
		if got, err := carry.Result(ctx, run); err != nil || got != "5" {
			t.Errorf("%s, %v", got, err)
		}
	})
	t.Run("fan-out", func(t *testing.T) {
		t.Parallel()
		// Each is small enough; together they are more than one message.
		ctx := within(t, 30*time.Second)
		run, err := carry.Start(ctx, e, carrier{Way: "fan-out", Size: 1 << 20}, &durable.StartOptions{ID: id(t)})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := carry.Result(ctx, run); err != nil || got != "done" {
			t.Errorf("%s, %v", got, err)
		}
	})
}

// wants holds an error against what it has to say.
func wants(t *testing.T, err error, way, name string) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("%s: no error", way)
		return
	case way == "failure", way == "step failure":
		if n := len(err.Error()); n < 1000 || n > 20_000 {
			t.Errorf("%s: a text of %d bytes", way, n)
		}
		return
	case !errors.Is(err, durable.ErrTooLarge):
		t.Errorf("%s: %.500v", way, err)
		return
	}
	for _, part := range []string{name, " bytes", "limit", "20", "blob", "temporal.external_storage"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %q is not in %v", way, part, err)
		}
	}
}

// failedTasks counts the workflow tasks of a run that failed.
func failedTasks(t *testing.T, id string) (n int) {
	t.Helper()
	for _, ev := range historyOf(t, id) {
		if ev.GetEventType() == enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED || ev.GetEventType() == enumspb.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT {
			n++
		}
	}
	return n
}

func historyOf(t *testing.T, id string) (evs []*historypb.HistoryEvent) {
	t.Helper()
	it := dial(t, anyServer(t)).GetWorkflowHistory(t.Context(), id, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for it.HasNext() {
		ev, err := it.Next()
		if err != nil {
			t.Fatal(err)
		}
		evs = append(evs, ev)
	}
	return evs
}

// TestExternalStorage: with a store for them, large values cross in every
// direction, and what others see of them is a reference.
func TestExternalStorage(t *testing.T) {
	t.Parallel()
	codec, err := durable.NewAESCodec(durable.NewSecret(strings.Repeat("ab", 32)))
	if err != nil {
		t.Fatal(err)
	}
	for name, codec := range map[string]durable.Codec{"plain": nil, "encrypted": codec} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := temporalengine.Options{Engine: durable.Options{Codec: codec, Watchdog: patient}, Blobs: temporalengine.Dir(t.TempDir()), Threshold: 1000}
			e := on(t, o, carriers)
			for _, way := range append(ways, "fan-out") {
				if way == "failure" || way == "step failure" {
					continue // an error's text is no value
				}
				t.Run(way, func(t *testing.T) {
					t.Parallel()
					ctx := within(t, 30*time.Second)
					run, err := carry.Start(ctx, e, carrier{Way: way, Size: large}, &durable.StartOptions{ID: id(t)})
					if err != nil {
						t.Fatal(err)
					}
					if _, err := carry.Result(ctx, run); err != nil {
						t.Errorf("%.500v", err)
					}
					for _, ev := range historyOf(t, run.WorkflowID) {
						if ev.Size() > 20_000 {
							t.Errorf("%v has %d bytes", ev.GetEventType(), ev.Size())
						}
					}
				})
			}
			t.Run("messages", func(t *testing.T) { storedMessages(t, e, o) })
		})
	}
}

// storedMessages sends large messages, reads them as others do, and goes on
// without the store.
func storedMessages(t *testing.T, e *durable.Engine, o temporalengine.Options) {
	t.Parallel()
	ctx := within(t, 60*time.Second)
	run, err := carry.Start(ctx, e, carrier{Fill: strings.Repeat("s", large)}, &durable.StartOptions{ID: id(t)})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := carryUpdate.Send(ctx, run, strings.Repeat("s", large), nil); err != nil || s != fmt.Sprint(large) {
		t.Errorf("update: %s, %v", s, err)
	}
	if s, err := carryUpdate.Send(ctx, run, "large", nil); err != nil || len(s) != large {
		t.Errorf("update answer: %d bytes, %v", len(s), err)
	}
	if s, err := carryQuery.Ask(ctx, run, large); err != nil || len(s) != large {
		t.Errorf("query: %d bytes, %v", len(s), err)
	}
	// Another program, without the store, is told what is missing.
	without := o
	without.Blobs, without.Threshold, without.ClientOnly = nil, 0, true
	blind := on(t, without, carriers)
	if _, err := carryUpdate.Send(ctx, blind.Run(run.WorkflowID, run.RunID), "large", nil); err == nil || !strings.Contains(err.Error(), "external storage") || !strings.Contains(err.Error(), "Options.Blobs") {
		t.Errorf("a client without the store: %v", err)
	}
	if err := carrySignal.Send(ctx, run, strings.Repeat("s", large), nil); err != nil {
		t.Fatal(err)
	}
	if got, err := carry.Result(ctx, run); err != nil || got != fmt.Sprint(large) {
		t.Errorf("%s, %v", got, err)
	}
	var ref struct {
		Blob, In string
		Bytes    int
	}
	in := historyOf(t, run.WorkflowID)[0].GetWorkflowExecutionStartedEventAttributes().GetInput().GetPayloads()[0]
	if err := json.Unmarshal(in.GetData(), &ref); err != nil || ref.Bytes < large || len(ref.Blob) != 64 || ref.In != "external storage" {
		t.Errorf("the web interface shows %s: %v", in.GetData(), err)
	}
	// A fork, a reset and a replay read what was put away.
	fork, err := run.Fork(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := carrySignal.Send(ctx, fork, "ten bytes!", nil); err != nil {
		t.Fatal(err)
	}
	if got, err := carry.Result(ctx, fork); err != nil || got == "" {
		t.Errorf("fork: %s, %v", got, err)
	}
	again, err := run.Reset(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := carry.Result(ctx, again); err != nil || got != fmt.Sprint(large) {
		t.Errorf("reset: %s, %v", got, err)
	}
}
