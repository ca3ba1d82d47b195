package durabletest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/mcpagent/mcpagent/durable"
)

// every is how often the schedules of the scenarios start a run, in hours: whole
// seconds, also where an hour is a fifth of one.
const every = 5

// started are the runs of a schedule, oldest first.
func started(t *T, id string) []*durable.Description {
	all := try(t.Engine.List(t.Context(), nil)).or(t, "list").Runs
	all = slices.DeleteFunc(all, func(d *durable.Description) bool { return !strings.HasPrefix(d.WorkflowID, id+"-") })
	slices.Reverse(all)
	return all
}

// overlap makes a scenario of what a schedule does when its last run has not
// ended.
func overlap(name, rule string, policy durable.Overlap, overlaps bool) Scenario {
	return Scenario{Name: "schedules/" + name, Row: "Schedules", Rule: rule, New: func(env *Env) *Play {
		wf := durable.NewWorkflow("wf", func(ctx context.Context, _ string) (string, error) {
			return "slow", durable.Sleep(ctx, env.Hours(every*1.5))
		}, nil)
		return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
			t.OK("create", t.Engine.CreateSchedule(t.Context(), &durable.Schedule{ID: "s", Workflow: "wf", Input: []byte(`"x"`), Every: env.Hours(every), Overlap: policy}))
			t.Until("two runs have begun", func() bool { return len(started(t, "s")) == 2 })
			t.OK("pause", t.Engine.PauseSchedule(t.Context(), "s", ""))
			runs := started(t, "s")
			for _, d := range runs {
				result(t, wf, t.Engine.Run(d.WorkflowID, d.RunID), "slow")
			}
			first := t.Describe(t.Engine.Run(runs[0].WorkflowID, runs[0].RunID))
			t.Equal("the second began before the first ended", runs[1].Created.Before(first.Closed), overlaps)
		}}
	}}
}

var schedules = []Scenario{
	{
		Name: "schedules/once-at-each-time",
		Row:  "Schedules",
		Rule: "A schedule starts one run at each of its times, named after that, over restarts too; paused, it starts none.",
		New: func(env *Env) *Play {
			wf := durable.NewWorkflow("wf", func(_ context.Context, s string) (string, error) { return s, nil }, nil)
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				t.OK("create", t.Engine.CreateSchedule(t.Context(), &durable.Schedule{ID: "s", Workflow: "wf", Input: []byte(`"x"`), Every: env.Hours(every), Tags: map[string]string{"by": "s"}}))
				t.Until("two runs have begun", func() bool { return len(started(t, "s")) == 2 })
				t.Restart()
				t.Until("three runs have begun", func() bool { return len(started(t, "s")) == 3 })
				t.OK("pause", t.Engine.PauseSchedule(t.Context(), "s", "lunch"))
				t.Pass(2 * every)
				runs := started(t, "s")
				ids := map[string]bool{}
				for _, d := range runs {
					ids[d.WorkflowID] = true
					result(t, wf, t.Engine.Run(d.WorkflowID, d.RunID), "x")
				}
				t.Equal("runs, ids, tag", fmt.Sprint(len(runs), len(ids), runs[0].Tags["by"]), "3 3s")
				i := try(t.Engine.Schedule(t.Context(), "s")).or(t, "describe the schedule")
				t.Equal("the last run", i.LastRun.WorkflowID, runs[2].WorkflowID)
				t.Equal("why it is paused", i.Paused != nil && i.Paused.Reason == "lunch", true)
			}}
		},
	},
	overlap("skip", "A time that comes while the last run is unfinished is left out.", "", false),
	overlap("allow", "With OverlapAllow it starts a run all the same.", durable.OverlapAllow, true),
	overlap("buffer-one", "With OverlapBufferOne it starts one when that has ended.", durable.OverlapBufferOne, false),
	{
		Name: "schedules/operations",
		Row:  "Schedules",
		Rule: "A trigger starts a run now; what is deleted is not found; an id that is taken and a time that is none are refused.",
		New: func(env *Env) *Play {
			wf := durable.NewWorkflow("wf", func(_ context.Context, s string) (string, error) { return s, nil }, nil)
			return &Play{Defs: durable.Set{wf}, Drive: func(t *T) {
				s := &durable.Schedule{ID: "s", Workflow: "wf", Input: []byte(`"x"`), Cron: "0 0 1 1 *"}
				t.OK("create", t.Engine.CreateSchedule(t.Context(), s))
				t.Is("create again", t.Engine.CreateSchedule(t.Context(), s), durable.ErrIDTaken)
				t.Is("a cron that is none", t.Engine.CreateSchedule(t.Context(), &durable.Schedule{ID: "b", Workflow: "wf", Cron: "61 * * * *"}), durable.ErrBadInput)
				t.Is("a workflow that is not defined", t.Engine.CreateSchedule(t.Context(), &durable.Schedule{ID: "c", Workflow: "nowhere", Cron: "* * * * *"}), durable.ErrNotDefined)
				r := try(t.Engine.TriggerSchedule(t.Context(), "s")).or(t, "trigger")
				result(t, wf, r, "x")
				t.Equal("schedules", len(try(t.Engine.Schedules(t.Context())).or(t, "list")), 1)
				t.OK("delete", t.Engine.DeleteSchedule(t.Context(), "s"))
				_, err := t.Engine.Schedule(t.Context(), "s")
				t.Is("describe what is deleted", err, durable.ErrNotFound)
				_, err = t.Engine.TriggerSchedule(t.Context(), "s")
				t.Is("trigger what is deleted", err, durable.ErrNotFound)
			}}
		},
	},
}
