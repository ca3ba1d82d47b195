package temporalengine

import (
	"context"
	"errors"
	"strings"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/mcpagent/mcpagent/durable"
)

// fork starts a run that is answered from another one's record: the record
// travels with the start.
func (h *shared) fork(ctx context.Context, req *durable.Request) (*durable.Reply, error) {
	info, no, err := h.visible(ctx, req.Ref, req.Actor)
	if err != nil || no != nil {
		return no, err
	}
	rep, err := h.ask(ctx, info, req)
	if err != nil || rep.Err != nil {
		return rep, err
	}
	var f durable.Forked
	if err := unmarshal(rawJSON(rep.Data), &f); err != nil {
		return nil, err
	}
	in, err := h.out(h.payload(f.Input, f.Meta))
	if err != nil {
		return nil, err
	}
	record, err := h.out(rawJSON(f.Carry))
	if err != nil {
		return nil, err
	}
	if err := h.tooLarge("the record that is forked of workflow", f.Workflow, refOf(info), in, record); err != nil {
		return nil, err
	}
	r := h.startRequest(req, f.WorkflowID, f.Workflow, f.Meta, in, record)
	started, err := h.client.WorkflowService().StartWorkflowExecution(ctx, r)
	var there *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &there) {
		ref := durable.Ref{WorkflowID: f.WorkflowID, RunID: there.RunId}
		if had, err := h.look(ctx, ref); err == nil && startOf(had.GetWorkflowExecutionInfo().GetMemo()).Key == f.Meta.Key {
			return &durable.Reply{Ref: ref, Existing: true}, nil
		}
		return durable.Refuse(durable.ErrIDTaken, ref, "workflow id %q is taken by another run", f.WorkflowID), nil
	}
	if err != nil {
		return nil, err
	}
	return &durable.Reply{Ref: durable.Ref{WorkflowID: f.WorkflowID, RunID: started.RunId}}, nil
}

// reset is Temporal's own: the history up to a workflow task, and on from
// there with today's code.
func (h *shared) reset(ctx context.Context, req *durable.Request) (*durable.Reply, error) {
	o := req.Reset
	if o == nil {
		o = &durable.ResetOptions{}
	}
	info, no, err := h.visible(ctx, req.Ref, req.Actor)
	if err != nil || no != nil {
		return no, err
	}
	ref := refOf(info)
	if o.Turn != 0 {
		return durable.Refuse(durable.ErrUnsupported, ref, "reset run %v: option Turn: the engine on Temporal finds the point by a call: use Before", ref), nil
	}
	if newest, err := h.look(ctx, durable.Ref{WorkflowID: ref.WorkflowID}); err == nil && refOf(newest) != ref {
		if again, err := h.wasReset(ctx, refOf(newest), req.ID); err != nil {
			return nil, err
		} else if again {
			return &durable.Reply{Ref: refOf(newest), Existing: true}, nil
		}
		return durable.Refuse(durable.ErrFinished, ref, "reset run %v: run %s came after it: reset that one", ref, refOf(newest).RunID), nil
	}
	point, no, err := h.point(ctx, info, o)
	if err != nil || no != nil {
		return no, err
	}
	rep, err := h.client.WorkflowService().ResetWorkflowExecution(ctx, &workflowservice.ResetWorkflowExecutionRequest{
		Namespace: h.space, WorkflowExecution: execution(ref), Reason: reasonOf(req), WorkflowTaskFinishEventId: point, RequestId: req.ID,
		ResetReapplyExcludeTypes: []enumspb.ResetReapplyExcludeType{enumspb.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE},
		Identity:                 h.identity(req),
	})
	if err != nil {
		return nil, err
	}
	next := durable.Ref{WorkflowID: ref.WorkflowID, RunID: rep.GetRunId()}
	// A pause does not outlive a reset.
	r := &durable.Request{Op: durable.OpResume, ID: req.ID + "/resume", Ref: next, Reason: "reset"}
	p, err := h.request(r)
	if err == nil {
		err = h.send(ctx, next, r, doName, p)
	}
	if err != nil {
		h.log.Warn("a reset run could not be told to go on", "run_id", next.RunID, "error", err)
	}
	return &durable.Reply{Ref: next}, nil
}

func reasonOf(req *durable.Request) string {
	if req.Reset == nil || req.Reset.Reason == "" {
		return resetMark + req.ID
	}
	return req.Reset.Reason + " " + resetMark + req.ID
}

// resetMark keeps the id of a reset in its reason.
const resetMark = "mcp-agent reset "

// wasReset reports whether a run was made by a reset of that id.
func (h *shared) wasReset(ctx context.Context, ref durable.Ref, id string) (bool, error) {
	events, err := h.events(ctx, ref)
	for _, ev := range events {
		a := ev.GetWorkflowTaskFailedEventAttributes()
		if a.GetCause() == enumspb.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW && strings.HasSuffix(a.GetFailure().GetMessage(), resetMark+id) {
			return true, nil
		}
	}
	return false, err
}

// events reads a whole history.
func (h *shared) events(ctx context.Context, ref durable.Ref) (events []*historypb.HistoryEvent, err error) {
	var token []byte
	for {
		rep, err := h.client.WorkflowService().GetWorkflowExecutionHistory(ctx, &workflowservice.GetWorkflowExecutionHistoryRequest{
			Namespace: h.space, Execution: execution(ref), NextPageToken: token, SkipArchival: true,
		})
		if err != nil {
			return nil, err
		}
		events = append(events, rep.GetHistory().GetEvents()...)
		if token = rep.GetNextPageToken(); len(token) == 0 {
			return events, nil
		}
	}
}

// point is the workflow task at which a run is reset: the one that made a
// call, or the first.
func (h *shared) point(ctx context.Context, info *described, o *durable.ResetOptions) (int64, *durable.Reply, error) {
	ref := refOf(info)
	events, err := h.events(ctx, ref)
	if err != nil {
		return 0, nil, err
	}
	at := int64(0)
	for _, ev := range events {
		if o.Before == "" {
			if ev.GetEventType() == enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED {
				at = ev.GetEventId()
				break
			}
			continue
		}
		if id, task := madeBy(ev); id == o.Before {
			at = task
			break
		}
	}
	if at == 0 {
		if o.Before == "" {
			return 0, durable.Refuse(durable.ErrBadInput, ref, "reset run %v: it has made no turn yet", ref), nil
		}
		return 0, durable.Refuse(durable.ErrBadInput, ref, "reset run %v: its history has no step, timer or child with the call id %q", ref, o.Before), nil
	}
	if o.AllowRepeat {
		return at, nil, nil
	}
	for _, ev := range events {
		a := ev.GetActivityTaskScheduledEventAttributes()
		if a == nil || ev.GetEventId() < at {
			continue
		}
		var m stepMeta
		metaOf(first(a.GetInput()), &m)
		if durable.AtMostOnce(m.Options) && (started(events, ev.GetEventId()) || atWork(info, a.GetActivityId())) {
			return 0, durable.Refuse(durable.ErrRepeat, ref,
				"reset run %v: the at-most-once step %s (call %s) was sent after the point and would be sent again: verify what it did, then allow it with AllowRepeat", ref, a.GetActivityType().GetName(), a.GetActivityId()), nil
		}
	}
	return at, nil, nil
}

// madeBy is the call that an event records, and the workflow task that made it.
func madeBy(ev *historypb.HistoryEvent) (call string, task int64) {
	switch {
	case ev.GetActivityTaskScheduledEventAttributes() != nil:
		a := ev.GetActivityTaskScheduledEventAttributes()
		return callOf(a.GetActivityId()), a.GetWorkflowTaskCompletedEventId()
	case ev.GetTimerStartedEventAttributes() != nil:
		return callIn(ev), ev.GetTimerStartedEventAttributes().GetWorkflowTaskCompletedEventId()
	case ev.GetStartChildWorkflowExecutionInitiatedEventAttributes() != nil:
		return callIn(ev), ev.GetStartChildWorkflowExecutionInitiatedEventAttributes().GetWorkflowTaskCompletedEventId()
	}
	return "", 0
}

// callIn reads the call id in an event's summary.
func callIn(ev *historypb.HistoryEvent) string {
	var s string
	if unmarshal(ev.GetUserMetadata().GetSummary(), &s) != nil {
		return ""
	}
	for i := range len(s) {
		if s[i] == ' ' {
			return s[:i]
		}
	}
	return s
}

// atWork reports whether an attempt of an activity is at work: its start is
// not in the history yet.
func atWork(info *described, activityID string) bool {
	for _, a := range info.GetPendingActivities() {
		if a.GetActivityId() == activityID && a.GetLastStartedTime() != nil {
			return true
		}
	}
	return false
}

func started(events []*historypb.HistoryEvent, scheduled int64) bool {
	for _, ev := range events {
		if ev.GetActivityTaskStartedEventAttributes().GetScheduledEventId() == scheduled {
			return true
		}
	}
	return false
}
