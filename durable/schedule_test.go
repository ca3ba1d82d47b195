package durable_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/durabletest"
)

// clock is a workflow that takes a while and says when it was started.
func clock(name string, d time.Duration) *durable.Workflow[string, string] {
	return durable.NewWorkflow(name, func(ctx context.Context, s string) (string, error) {
		began := durable.Now(ctx).Format("02T15:04:05")
		return s + " " + began, durable.Sleep(ctx, d)
	}, nil)
}

// startsOf lists the runs of a schedule, oldest first: the time in the id, and
// the moment of the start.
func startsOf(t *testing.T, e *durable.Engine, id string) string {
	t.Helper()
	var out []string
	for cursor := ""; ; {
		page := must[*durable.Page](t)(e.List(t.Context(), &durable.Filter{Cursor: cursor, Limit: 50}))
		for _, r := range page.Runs {
			if at, ok := strings.CutPrefix(r.WorkflowID, id+"-"); ok {
				at = at[len("2000-01-"):]
				if late := r.Created.Format("02T15:04:05Z"); late != at {
					at += ">" + late
				}
				out = append([]string{at}, out...)
			}
		}
		if cursor = page.Next; cursor == "" {
			return strings.ReplaceAll(strings.Join(out, " "), "Z", "")
		}
	}
}

func TestSchedules(t *testing.T) {
	quick, slow := clock("quick", time.Second), clock("slow", 150*time.Minute)
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		e := open(quick, slow)
		in := json.RawMessage(`"x"`)
		for _, s := range []*durable.Schedule{
			{ID: "cron", Workflow: "quick", Input: in, Cron: "30 */2 * * *", Zone: "Asia/Kolkata"},
			{ID: "every", Workflow: "quick", Input: in, Every: 90 * time.Minute, Offset: 10 * time.Minute, Tags: map[string]string{"by": "every"}},
			{ID: "skip", Workflow: "slow", Input: in, Every: time.Hour},
			{ID: "buffer", Workflow: "slow", Input: in, Every: time.Hour, Overlap: durable.OverlapBufferOne},
			{ID: "allow", Workflow: "slow", Input: in, Every: time.Hour, Overlap: durable.OverlapAllow},
			{ID: "jitter", Workflow: "quick", Input: in, Every: 2 * time.Hour, Jitter: time.Hour},
		} {
			if err := e.CreateSchedule(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(6*time.Hour + 10*time.Second)
		synctest.Wait()
		for id, want := range map[string]string{
			"cron":   "01T01:00:00 01T03:00:00 01T05:00:00",
			"every":  "01T00:10:00 01T01:40:00 01T03:10:00 01T04:40:00",
			"skip":   "01T01:00:00 01T04:00:00",
			"buffer": "01T01:00:00 01T02:00:00>01T03:30:00 01T04:00:00>01T06:00:00",
			"allow":  "01T01:00:00 01T02:00:00 01T03:00:00 01T04:00:00 01T05:00:00 01T06:00:00",
		} {
			if got := startsOf(t, e, id); got != want {
				t.Errorf("%s:\n got %s\nwant %s", id, got, want)
			}
		}
		// A jitter moves the start, not the name.
		jit := startsOf(t, e, "jitter")
		if n := strings.Count(jit, ">"); n < 2 || !strings.HasPrefix(jit, "01T02:00:00>01T02:") {
			t.Errorf("jitter: %s", jit)
		}
		page := must[*durable.Page](t)(e.List(t.Context(), &durable.Filter{Tags: map[string]string{"by": "every"}}))
		if len(page.Runs) != 4 || string(page.Runs[0].Result) != `"x 01T04:40:00"` {
			t.Errorf("runs by tag: %d", len(page.Runs))
		}
		i := must[*durable.ScheduleInfo](t)(e.Schedule(t.Context(), "every"))
		if len(i.Next) != 5 || i.Next[0].Format("15:04") != "06:10" || i.Last.Format("15:04") != "04:40" || i.LastRun.WorkflowID != "every-2000-01-01T04:40:00Z" || i.Cron != "" {
			t.Errorf("info %+v", i)
		}
		if all := must[[]*durable.ScheduleInfo](t)(e.Schedules(t.Context())); len(all) != 6 || all[0].ID != "allow" || all[5].ID != "skip" {
			t.Errorf("%d schedules", len(all))
		}
	})
}

func TestScheduleOperations(t *testing.T) {
	quick := clock("quick", time.Second)
	scenarioWith(t, quietly, func(t *testing.T, open func(...durable.Definer) *durable.Engine) {
		e := open(quick)
		ctx := durable.WithActor(t.Context(), durable.Actor{Name: "ann"})
		s := &durable.Schedule{ID: "s", Workflow: "quick", Input: json.RawMessage(`"a"`), Every: time.Hour}
		if err := e.CreateSchedule(ctx, s); err != nil {
			t.Fatal(err)
		}
		if err := e.CreateSchedule(ctx, s); !errors.Is(err, durable.ErrIDTaken) {
			t.Errorf("create again: %v", err)
		}
		time.Sleep(90 * time.Minute) // 01:00
		if err := e.PauseSchedule(ctx, "s", "lunch"); err != nil {
			t.Fatal(err)
		}
		r := must[*durable.Run](t)(e.TriggerSchedule(ctx, "s")) // 01:30
		if got, err := quick.Result(ctx, r); err != nil || got != "a 01T01:30:00" {
			t.Errorf("triggered while paused: %q, %v", got, err)
		}
		time.Sleep(2 * time.Hour) // 03:30
		i := must[*durable.ScheduleInfo](t)(e.Schedule(ctx, "s"))
		if i.Paused == nil || i.Paused.By != "ann" || i.Paused.Reason != "lunch" || len(i.Next) != 0 {
			t.Errorf("paused: %+v", i)
		}
		if err := e.ResumeSchedule(ctx, "s", ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) // 04:00
		s.Every, s.Input = 2*time.Hour, json.RawMessage(`"b"`)
		if err := e.UpdateSchedule(ctx, s); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Hour) // 06:00 and 08:00
		if err := e.DeleteSchedule(ctx, "s"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		if got, want := startsOf(t, e, "s"), "01T01:00:00 01T01:30:00 01T04:00:00 01T06:00:00 01T08:00:00"; !strings.HasPrefix(got, want) || len(got) > len(want)+1 {
			t.Errorf("got %s, want %s", got, want)
		}
		if got, err := quick.Result(ctx, e.Run("s-2000-01-01T06:00:00Z", "")); err != nil || got != "b 01T06:00:00" {
			t.Errorf("after the update: %q, %v", got, err)
		}
		_, err := e.Schedule(ctx, "s")
		_, terr := e.TriggerSchedule(ctx, "s")
		for _, err := range []error{err, terr, e.UpdateSchedule(ctx, s), e.DeleteSchedule(ctx, "s"), e.PauseSchedule(ctx, "s", "")} {
			if !errors.Is(err, durable.ErrNotFound) {
				t.Errorf("of a schedule that was deleted: %v", err)
			}
		}
		for _, bad := range []durable.Schedule{
			{}, {ID: "b"}, {ID: "b", Workflow: "quick"}, {ID: "b", Workflow: "quick", Every: time.Millisecond}, {ID: "b", Workflow: "quick", Every: -time.Hour},
			{ID: "b", Workflow: "quick", Every: 1500 * time.Millisecond}, {ID: "b", Workflow: "quick", Every: time.Hour, Offset: time.Millisecond},
			{ID: "b", Workflow: "quick", Every: time.Hour, Cron: "* * * * *"}, {ID: "b", Workflow: "quick", Cron: "* * * *"}, {ID: "b", Workflow: "quick", Cron: "0 0 30 2 *"},
			{ID: "b", Workflow: "quick", Cron: "* * * * *", Zone: "Mars/Base"}, {ID: "b", Workflow: "quick", Every: time.Hour, Zone: "UTC"},
			{ID: "b", Workflow: "gone", Every: time.Hour}, {ID: "b", Workflow: "quick", Every: time.Hour, Input: json.RawMessage("7")},
			{ID: "b", Workflow: "quick", Every: time.Hour, Overlap: "cancel"}, {ID: "b\n", Workflow: "quick", Every: time.Hour},
			{ID: "b", Workflow: "quick", Every: time.Hour, Jitter: -1}, {ID: "b", Workflow: "quick", Cron: "* * * * *", Offset: time.Hour},
		} {
			if err := e.CreateSchedule(ctx, &bad); !errors.Is(err, durable.ErrBadInput) && !errors.Is(err, durable.ErrNotDefined) {
				t.Errorf("%+v: %v", bad, err)
			}
		}
		// Schedules belong to their owners.
		bob := durable.WithActor(ctx, durable.Actor{Name: "bob", Owner: "bob"})
		if err := e.CreateSchedule(bob, &durable.Schedule{ID: "bob", Workflow: "quick", Input: json.RawMessage(`"b"`), Every: time.Hour}); err != nil {
			t.Fatal(err)
		}
		eve := durable.WithActor(ctx, durable.Actor{Name: "eve", Owner: "eve"})
		if err := e.DeleteSchedule(eve, "bob"); !errors.Is(err, durable.ErrNotFound) {
			t.Errorf("another owner's: %v", err)
		}
		if all := must[[]*durable.ScheduleInfo](t)(e.Schedules(eve)); len(all) != 0 {
			t.Errorf("another owner sees %d", len(all))
		}
		time.Sleep(time.Hour)
		if p := must[*durable.Page](t)(e.List(bob, nil)); len(p.Runs) != 1 || p.Runs[0].Owner != "bob" {
			t.Errorf("bob's runs: %+v", p.Runs)
		}
	})
}

// TestScheduleOverChainsAndStops: a run that was continued as new has not
// ended; what came due while nobody executed is caught up with for a minute.
func TestScheduleOverChainsAndStops(t *testing.T) {
	lives(t, func(t *testing.T, op *opener) {
		op.o.Codec = xorCodec{}
		chain := durable.NewWorkflow("chain", func(ctx context.Context, n int) (int, error) {
			if err := durable.Sleep(ctx, 40*time.Minute); err != nil {
				return 0, err
			}
			if n < 2 {
				return 0, durable.ContinueAsNew(n + 1)
			}
			return n, nil
		}, nil)
		quick := clock("quick", time.Second)
		e := op.open(chain, quick)
		for _, s := range []*durable.Schedule{
			{ID: "chain", Workflow: "chain", Input: json.RawMessage("0"), Every: time.Hour, Overlap: durable.OverlapBufferOne},
			{ID: "minute", Workflow: "quick", Input: json.RawMessage(`""`), Cron: "* * * * *", Overlap: durable.OverlapAllow},
			{ID: "window", Workflow: "quick", Input: json.RawMessage(`""`), Every: 20 * time.Minute, CatchUp: 50 * time.Minute, Overlap: durable.OverlapAllow},
		} {
			if err := e.CreateSchedule(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2*time.Minute + 30*time.Second)
		op.close(e)
		time.Sleep(127 * time.Minute) // 02:09:30
		e = op.open(chain, quick)
		time.Sleep(51 * time.Second) // 02:10:21
		if got, want := startsOf(t, e, "minute"), "01T00:01:00 01T00:02:00 01T02:09:00>01T02:09:30 01T02:10:00"; got != want {
			t.Errorf("minute:\n got %s\nwant %s", got, want)
		}
		if got, want := startsOf(t, e, "window"), "01T01:20:00>01T02:09:30 01T01:40:00>01T02:09:30 01T02:00:00>01T02:09:30"; got != want {
			t.Errorf("window:\n got %s\nwant %s", got, want)
		}
		if err := e.DeleteSchedule(t.Context(), "minute"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Hour) // 06:10: 03:00 runs until 05:00, then the buffered 04:00
		if got, want := startsOf(t, e, "chain"), "01T03:00:00 01T03:00:00>01T03:40:00 01T03:00:00>01T04:20:00 01T04:00:00>01T05:00:00 01T04:00:00>01T05:40:00"; got != want {
			t.Errorf("chain:\n got %s\nwant %s", got, want)
		}
		op.close(e)
		e = op.open(chain, quick) // with a buffered one
		time.Sleep(3 * time.Hour)
		// Whether the place of the buffered one is free at 05:00, when it is
		// taken and another time is due, is open.
		if got := startsOf(t, e, "chain"); !strings.Contains(got, "01T05:00:00>01T07:00:00") && !strings.Contains(got, "01T06:00:00>01T07:00:00") {
			t.Errorf("chain, after a stop with a buffered time: %s", got)
		}
	})
}

// TestSchedulesSurviveDeath: the process dies at every commit; each time has
// one run at most, and none that came due while it lived is left out.
func TestSchedulesSurviveDeath(t *testing.T) {
	t.Parallel()
	rep := durabletest.Sweep(t, func() *durabletest.World {
		var mu sync.Mutex
		ran := map[string]map[string]bool{}
		mark := durable.NewStep("mark", func(ctx context.Context, _ none) (none, error) {
			i, _ := durable.StepInfoOf(ctx)
			mu.Lock()
			defer mu.Unlock()
			if ran[i.WorkflowID] == nil {
				ran[i.WorkflowID] = map[string]bool{}
			}
			ran[i.WorkflowID][i.RunID] = true
			return none{}, nil
		}, nil)
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ none) (none, error) {
			if _, err := mark.Do(ctx, none{}); err != nil {
				return none{}, err
			}
			return none{}, durable.Sleep(ctx, 90*time.Minute)
		}, nil)
		return &durabletest.World{
			Defs: durable.Set{wf, mark},
			Drive: func(ctx context.Context, e *durable.Engine) (string, error) {
				err := e.CreateSchedule(ctx, &durable.Schedule{ID: "s", Workflow: "wf", Every: time.Hour, Overlap: durable.OverlapBufferOne})
				if err != nil && !errors.Is(err, durable.ErrIDTaken) {
					return "", err
				}
				for {
					p, err := e.List(ctx, nil)
					if err != nil {
						return "", err
					}
					if len(p.Runs) >= 3 && p.Runs[len(p.Runs)-3].State.Done() {
						out := ""
						for i := range 3 {
							out += p.Runs[len(p.Runs)-1-i].WorkflowID + " "
						}
						return out, nil
					}
					select {
					case <-time.After(10 * time.Minute):
					case <-ctx.Done():
						return "", ctx.Err()
					}
				}
			},
			Check: func(t *testing.T, out string, died bool) {
				if want := "s-2000-01-01T01:00:00Z s-2000-01-01T02:00:00Z s-2000-01-01T03:00:00Z "; out != want {
					t.Errorf("got  %s\nwant %s", out, want)
				}
				for id, runs := range ran {
					if len(runs) != 1 {
						t.Errorf("%d runs of %s", len(runs), id)
					}
				}
			},
		}
	})
	t.Logf("%d commits, %d lives, %d deaths", rep.Commits, rep.Lives, rep.Deaths)
}

func ExampleEngine_CreateSchedule() {
	report := durable.NewWorkflow("report", func(context.Context, string) (string, error) { return "sent", nil }, nil)
	ctx := context.Background()
	eng, err := durable.NewMemory(ctx, nil, report)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer eng.Close(ctx)
	err = eng.CreateSchedule(ctx, &durable.Schedule{ID: "weekly", Workflow: "report", Input: json.RawMessage(`"sales"`), Cron: "0 8 * * mon"})
	if err != nil {
		fmt.Println(err)
		return
	}
	run, err := eng.TriggerSchedule(ctx, "weekly") // not waiting for Monday
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(report.Result(ctx, run))
	// Output: sent <nil>
}

// A schedule whose input can't be read is listed, and says so.
func TestAScheduleThatCannotBeReadSaysSo(t *testing.T) {
	quick := clock("quick", time.Second)
	lives(t, func(t *testing.T, op *opener) {
		e := op.open(quick)
		if err := e.CreateSchedule(t.Context(), &durable.Schedule{ID: "s", Workflow: "quick", Input: json.RawMessage(`"a"`), Every: time.Hour}); err != nil {
			t.Fatal(err)
		}
		op.close(e)
		op.o.Codec = xorCodec{}
		e = op.open(quick)
		i := must[*durable.ScheduleInfo](t)(e.Schedule(t.Context(), "s"))
		if i.ID != "s" || !strings.Contains(i.Problem, "codec") || len(i.Next) > 0 {
			t.Errorf("it is shown as %+v", i)
		}
	})
}
