package temporalengine

import (
	"context"
	"errors"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	schedulepb "go.temporal.io/api/schedule/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/mcpagent/mcpagent/durable"
)

// Schedules are Temporal's own. Their runs have the schedule's id, "-" and the
// nominal time as their workflow id, there as on every engine.

// memoSchedule is where a schedule's definition is, in the memo of its runs.
const memoSchedule = "mcp-agent-schedule"

func (h *shared) schedule(ctx context.Context, req *durable.Request) (*durable.Reply, error) {
	unknown := durable.Refuse(durable.ErrNotFound, durable.Ref{}, "schedule %q: not found; list the schedules to see which there are", req.Name)
	handle := h.client.ScheduleClient().GetHandle(ctx, req.Name)
	if req.Op != durable.OpSchedule || req.Reason != "create" {
		info, err := h.scheduleInfo(ctx, req.Name)
		if missing(err) || err == nil && req.Actor.Owner != "" && info.Owner != req.Actor.Owner {
			return unknown, nil
		}
		if err != nil {
			return nil, err
		}
	}
	switch req.Op {
	case durable.OpUnschedule:
		return &durable.Reply{Name: req.Name}, handle.Delete(ctx)
	case durable.OpHoldSchedule:
		if req.Tree {
			return &durable.Reply{Name: req.Name}, handle.Pause(ctx, client.SchedulePauseOptions{Note: req.Reason})
		}
		return &durable.Reply{Name: req.Name}, handle.Unpause(ctx, client.ScheduleUnpauseOptions{Note: req.Reason})
	case durable.OpTrigger:
		return h.trigger(ctx, req)
	}
	if no := h.host.CheckSchedule(req); no != nil {
		return no, nil
	}
	s := *req.Schedule
	s.ID = req.Name
	action, err := h.action(req, &s)
	if err != nil {
		return nil, err
	}
	if req.Reason == "create" {
		_, err := h.client.ScheduleClient().Create(ctx, client.ScheduleOptions{
			ID: s.ID, Spec: specOf(&s), Action: action, Overlap: overlapOf(s.Overlap), CatchupWindow: catchUpOf(&s),
		})
		var there *serviceerror.WorkflowExecutionAlreadyStarted
		var exists *serviceerror.AlreadyExists
		if errors.Is(err, temporal.ErrScheduleAlreadyRunning) || errors.As(err, &there) || errors.As(err, &exists) {
			return durable.Refuse(durable.ErrIDTaken, durable.Ref{}, "schedule %q exists: update it, or choose another id", req.Name), nil
		}
		return &durable.Reply{Name: req.Name}, err
	}
	return &durable.Reply{Name: req.Name}, handle.Update(ctx, client.ScheduleUpdateOptions{
		DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
			now := in.Description.Schedule
			spec := specOf(&s)
			now.Spec, now.Action = &spec, action
			now.Policy.Overlap, now.Policy.CatchupWindow = overlapOf(s.Overlap), catchUpOf(&s)
			return &client.ScheduleUpdate{Schedule: &now}, nil
		},
	})
}

func specOf(s *durable.Schedule) client.ScheduleSpec {
	spec := client.ScheduleSpec{Jitter: s.Jitter, TimeZoneName: s.Zone}
	if s.Cron != "" {
		spec.CronExpressions = []string{s.Cron}
	}
	if s.Every > 0 {
		spec.Intervals = []client.ScheduleIntervalSpec{{Every: s.Every, Offset: s.Offset}}
	}
	return spec
}

func overlapOf(o durable.Overlap) enumspb.ScheduleOverlapPolicy {
	switch o {
	case durable.OverlapAllow:
		return enumspb.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL
	case durable.OverlapBufferOne:
		return enumspb.SCHEDULE_OVERLAP_POLICY_BUFFER_ONE
	}
	return enumspb.SCHEDULE_OVERLAP_POLICY_SKIP
}

func catchUpOf(s *durable.Schedule) time.Duration {
	if s.CatchUp > 0 {
		return s.CatchUp
	}
	return time.Minute
}

// action is the start that a schedule makes.
func (h *shared) action(req *durable.Request, s *durable.Schedule) (*client.ScheduleWorkflowAction, error) {
	start, no := h.host.CheckStart(&durable.Request{Op: durable.OpStart, ID: req.ID, Name: s.Workflow, Payload: s.Input, Actor: req.Actor, Trace: req.Trace,
		Start: &durable.StartOptions{ID: s.ID, Timeout: s.Timeout, Tags: s.Tags}})
	if no != nil {
		return nil, durable.ReplyErr(no)
	}
	stored, err := h.host.Seal(start.Input)
	if err != nil {
		return nil, err
	}
	in, err := h.raw(stored, start.Meta)
	if err != nil {
		return nil, err
	}
	kept := *s
	if kept.Input, err = durable.SealJSON(h.opts.Engine.Codec, s.Input); err != nil {
		return nil, err
	}
	keeps, err := h.out(plainJSON(kept))
	if err != nil {
		return nil, err
	}
	if err := h.tooLarge("the definition of schedule", s.ID, durable.Ref{}, in.Payload(), keeps); err != nil {
		return nil, err
	}
	return &client.ScheduleWorkflowAction{
		ID: s.ID, Workflow: s.Workflow, Args: []any{in}, TaskQueue: h.queue, WorkflowExecutionTimeout: start.Meta.Timeout,
		Memo: map[string]any{memoStart: converter.NewRawValue(plainJSON(inMemo(start.Meta))), memoSchedule: converter.NewRawValue(keeps)},
	}, nil
}

// scheduleInfo tells about a schedule.
func (h *shared) scheduleInfo(ctx context.Context, id string) (*durable.ScheduleInfo, error) {
	d, err := h.client.WorkflowService().DescribeSchedule(ctx, &workflowservice.DescribeScheduleRequest{Namespace: h.space, ScheduleId: id})
	if err != nil {
		return nil, err
	}
	x := d.GetInfo()
	info := &durable.ScheduleInfo{Created: timeOf(x.GetCreateTime()), Changed: timeOf(x.GetUpdateTime())}
	if info.Changed.IsZero() {
		info.Changed = info.Created
	}
	memo := d.GetSchedule().GetAction().GetStartWorkflow().GetMemo()
	if p := memo.GetFields()[memoSchedule]; p == nil || unmarshal(p, &info.Schedule) != nil {
		info.ID, info.Workflow = id, d.GetSchedule().GetAction().GetStartWorkflow().GetWorkflowType().GetName()
		info.Problem = "it was not made by this engine"
	} else if info.Input, err = durable.OpenJSON(h.opts.Engine.Codec, info.Input); err != nil {
		info.Problem = err.Error()
	}
	info.Owner = startOf(memo).Owner
	if s := d.GetSchedule().GetState(); s.GetPaused() {
		info.Paused = &durable.Pause{Reason: s.GetNotes(), Since: info.Changed}
	} else {
		for _, t := range x.GetFutureActionTimes() {
			if len(info.Next) < 5 {
				info.Next = append(info.Next, timeOf(t))
			}
		}
	}
	if n := len(x.GetRecentActions()); n > 0 {
		last := x.GetRecentActions()[n-1]
		info.Last = timeOf(last.GetScheduleTime())
		info.LastRun = refIn(last)
	}
	return info, nil
}

func refIn(a *schedulepb.ScheduleActionResult) durable.Ref {
	return durable.Ref{WorkflowID: a.GetStartWorkflowResult().GetWorkflowId(), RunID: a.GetStartWorkflowResult().GetRunId()}
}

func (h *shared) schedules(ctx context.Context, req *durable.Request) (*durable.Reply, error) {
	rep := &durable.Reply{Schedules: []*durable.ScheduleInfo{}}
	add := func(id string) error {
		info, err := h.scheduleInfo(ctx, id)
		switch {
		case missing(err):
			return nil
		case err != nil:
			return err
		case req.Actor.Owner == "" || info.Owner == req.Actor.Owner:
			rep.Schedules = append(rep.Schedules, info)
		}
		return nil
	}
	if req.Name != "" {
		if err := add(req.Name); err != nil {
			return nil, err
		}
		if len(rep.Schedules) == 0 {
			return durable.Refuse(durable.ErrNotFound, durable.Ref{}, "schedule %q: not found; list the schedules to see which there are", req.Name), nil
		}
		return rep, nil
	}
	var token []byte
	for {
		out, err := h.client.WorkflowService().ListSchedules(ctx, &workflowservice.ListSchedulesRequest{Namespace: h.space, MaximumPageSize: 100, NextPageToken: token})
		if err != nil {
			return nil, err
		}
		for _, s := range out.GetSchedules() {
			if err := add(s.GetScheduleId()); err != nil {
				return nil, err
			}
		}
		if token = out.GetNextPageToken(); len(token) == 0 {
			durable.SortSchedules(rep.Schedules)
			return rep, nil
		}
	}
}

// trigger starts a run now. Temporal does not say which: it is the next one
// that the schedule tells of.
func (h *shared) trigger(ctx context.Context, req *durable.Request) (*durable.Reply, error) {
	svc := h.client.WorkflowService()
	look := func() (*schedulepb.ScheduleInfo, error) {
		d, err := svc.DescribeSchedule(ctx, &workflowservice.DescribeScheduleRequest{Namespace: h.space, ScheduleId: req.Name})
		return d.GetInfo(), err
	}
	before, err := look()
	if err != nil {
		return nil, err
	}
	known := map[durable.Ref]bool{}
	for _, a := range before.GetRecentActions() {
		known[refIn(a)] = true
	}
	if _, err := svc.PatchSchedule(ctx, &workflowservice.PatchScheduleRequest{
		Namespace: h.space, ScheduleId: req.Name, RequestId: req.ID, Identity: h.identity(req),
		Patch: &schedulepb.SchedulePatch{TriggerImmediately: &schedulepb.TriggerImmediatelyRequest{OverlapPolicy: enumspb.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL}},
	}); err != nil {
		return nil, err
	}
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		if err := sleep(ctx, wait); err != nil {
			return nil, err
		}
		now, err := look()
		if err != nil {
			return nil, err
		}
		for _, a := range now.GetRecentActions() {
			if ref := refIn(a); ref.RunID != "" && !known[ref] {
				return &durable.Reply{Ref: ref}, nil
			}
		}
	}
}
