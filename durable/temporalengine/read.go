package temporalengine

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mcpagent/mcpagent/durable"
)

// result waits for the end of a run's chain, or for a problem.
func (h *shared) result(ctx context.Context, req *durable.Request) (*durable.Reply, error) {
	var info *described
	ref, patience := req.Ref, soon
	if _, ok := h.known(req); !ok {
		var no *durable.Reply
		var err error
		if info, no, err = h.visible(ctx, req.Ref, req.Actor); err != nil || no != nil {
			return no, err
		}
		ref, patience = refOf(info), blockedAfter
	}
	for {
		if p := h.problem(ctx, info); p != nil {
			return blockedReply(ref, p), nil
		}
		ev, err := h.closing(ctx, ref, patience)
		if err != nil {
			return nil, err
		}
		patience = blockedAfter
		if ev == nil { // not yet: look whether it is blocked
			if info, err = h.look(ctx, ref); err != nil {
				return nil, err
			}
			continue
		}
		if next := nextRun(ev); next != "" {
			ref.RunID = next
			if info, err = h.look(ctx, ref); err != nil {
				return nil, err
			}
			continue
		}
		state, payload, f := ending(ev)
		if state != durable.Completed {
			return durable.EndedReply(ref, state, f), nil
		}
		plain, err := h.plain(payload)
		return &durable.Reply{Ref: ref, Payload: plain}, err
	}
}

// soon is how long the wait for a run goes on that was not looked at before.
// Most runs are over by then: a look takes the run's lock on the server.
const soon = time.Second

// blockedAfter is how long a wait for a result goes on before it looks whether
// the run is blocked.
const blockedAfter = 2 * time.Second

// closing waits for the event that ends a run; nil if it has not come after a
// while.
func (h *shared) closing(ctx context.Context, ref durable.Ref, patience time.Duration) (*historypb.HistoryEvent, error) {
	// The server answers a second before the call's deadline. A deadline that
	// is nearer than that gets an empty answer at once, again and again.
	wait, cancel := context.WithTimeout(ctx, patience+time.Second)
	defer cancel()
	rep, err := h.client.WorkflowService().GetWorkflowExecutionHistory(wait, &workflowservice.GetWorkflowExecutionHistoryRequest{
		Namespace: h.space, Execution: execution(ref), WaitNewEvent: true,
		HistoryEventFilterType: enumspb.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT, SkipArchival: true,
	})
	if err != nil && (ctx.Err() != nil || wait.Err() == nil && !passing(err)) {
		return nil, err
	}
	if evs := rep.GetHistory().GetEvents(); len(evs) > 0 {
		return evs[len(evs)-1], nil
	}
	return nil, sleep(ctx, 20*time.Millisecond)
}

// nextRun is the run that goes on where an event ends one.
func nextRun(ev *historypb.HistoryEvent) string {
	switch {
	case ev.GetWorkflowExecutionContinuedAsNewEventAttributes() != nil:
		return ev.GetWorkflowExecutionContinuedAsNewEventAttributes().GetNewExecutionRunId()
	case ev.GetWorkflowExecutionFailedEventAttributes() != nil:
		return ev.GetWorkflowExecutionFailedEventAttributes().GetNewExecutionRunId()
	case ev.GetWorkflowExecutionCompletedEventAttributes() != nil:
		return ev.GetWorkflowExecutionCompletedEventAttributes().GetNewExecutionRunId()
	}
	return ""
}

// ending reads how an event ends a run.
func ending(ev *historypb.HistoryEvent) (durable.State, *commonpb.Payload, *durable.StoredFailure) {
	switch {
	case ev.GetWorkflowExecutionCompletedEventAttributes() != nil:
		return durable.Completed, first(ev.GetWorkflowExecutionCompletedEventAttributes().GetResult()), nil
	case ev.GetWorkflowExecutionFailedEventAttributes() != nil:
		return durable.Failed, nil, failureFromProto(ev.GetWorkflowExecutionFailedEventAttributes().GetFailure())
	case ev.GetWorkflowExecutionCanceledEventAttributes() != nil:
		f := durable.FailureOf(context.Canceled)
		if p := first(ev.GetWorkflowExecutionCanceledEventAttributes().GetDetails()); p != nil {
			_ = unmarshal(p, f)
		}
		return durable.Cancelled, nil, f
	case ev.GetWorkflowExecutionTerminatedEventAttributes() != nil:
		return durable.Terminated, nil, durable.TerminatedFailure(ev.GetWorkflowExecutionTerminatedEventAttributes().GetReason())
	case ev.GetWorkflowExecutionTimedOutEventAttributes() != nil:
		return durable.TimedOut, nil, runTimedOut()
	case ev.GetWorkflowExecutionContinuedAsNewEventAttributes() != nil:
		return durable.Continued, nil, nil
	}
	return durable.Running, nil, nil
}

// describe puts together what the cluster and the code say of a run. The code
// is asked later: if it has come to its end meanwhile, the cluster is asked
// again.
func (h *shared) describe(ctx context.Context, req *durable.Request) (*durable.Reply, error) {
	for try := 1; ; try++ {
		rep, ended, err := h.describeOnce(ctx, req)
		if !ended || try == 5 {
			return rep, err
		}
		if err := sleep(ctx, time.Duration(try)*10*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// describeOnce reports also whether the code has ended a run that the cluster
// had as open.
func (h *shared) describeOnce(ctx context.Context, req *durable.Request) (_ *durable.Reply, ended bool, _ error) {
	info, no, err := h.visible(ctx, req.Ref, req.Actor)
	if err != nil || no != nil {
		return no, false, err
	}
	ref := refOf(info)
	d := h.description(info.GetWorkflowExecutionInfo())
	d.Problem = h.problem(ctx, info)
	if x := info.GetWorkflowExtendedInfo().GetExecutionExpirationTime(); x != nil {
		d.Deadline = timeOf(x)
	}
	if d.State.Done() {
		ev, err := h.closing(ctx, ref, 5*time.Second)
		if err == nil && ev == nil {
			err = serviceerror.NewDeadlineExceeded("the cluster did not tell how the run ended") // it is asked again
		}
		if err != nil {
			return nil, false, err
		}
		_, payload, f := ending(ev)
		d.Next = cmp.Or(nextRun(ev), info.GetWorkflowExtendedInfo().GetResetRunId())
		d.Failure = durable.ErrorOf(f)
		if plain, err := h.plain(payload); err == nil {
			d.Result = plain
		}
	}
	if d.Problem == nil {
		// What only its code knows, if a worker is there to tell.
		rep, err := h.ask(ctx, info, &durable.Request{Op: durable.OpDescribe})
		if err == nil && rep.Err == nil && rep.Run != nil {
			d.Turns, d.Status = rep.Run.Turns, rep.Run.Status
			ended = rep.Run.State.Done() && !d.State.Done()
			if !d.State.Done() {
				d.Waiting, d.Questions, d.Changed = rep.Run.Waiting, rep.Run.Questions, rep.Run.Changed
				if d.Paused = rep.Run.Paused; d.Paused != nil {
					d.State = durable.Paused
				}
			}
			h.attempts(d, info)
		} else if !d.State.Done() {
			text := "for a worker that can tell what the run waits for"
			switch {
			case err != nil:
				text += ": " + err.Error()
			case rep.Err != nil && rep.Err.Code == codeUnsupported:
				text = fmt.Sprintf("the plain workflow %q is not one of this engine's: only its code knows what it waits for", d.Workflow)
				d.Waiting = pendingOf(info)
			}
			d.Waiting = append(d.Waiting, durable.Wait{Kind: "turn", Text: text, Since: d.Changed})
		}
	}
	return &durable.Reply{Ref: ref, Run: d}, ended, nil
}

var codeUnsupported = durable.Refuse(durable.ErrUnsupported, durable.Ref{}, "").Err.Code

// pendingOf is what the cluster knows of what a plain workflow waits for.
func pendingOf(info *described) (out []durable.Wait) {
	for _, a := range info.GetPendingActivities() {
		w := durable.Wait{Call: a.GetActivityId(), Kind: "step", Name: a.GetActivityType().GetName(), Attempt: int(a.GetAttempt()), Since: timeOf(a.GetScheduledTime())}
		w.Text = fmt.Sprintf("for activity %s, attempt %d", w.Name, w.Attempt)
		if f := a.GetLastFailure(); f != nil {
			w.Failure = durable.ErrorOf(failureFromProto(f))
		}
		out = append(out, w)
	}
	for _, c := range info.GetPendingChildren() {
		out = append(out, durable.Wait{Call: c.GetWorkflowId(), Kind: "child", Name: c.GetWorkflowTypeName(), Text: "for child workflow " + c.GetWorkflowId()})
	}
	return out
}

// attempts adds what the cluster knows of steps at work.
func (h *shared) attempts(d *durable.Description, info *described) {
	for _, a := range info.GetPendingActivities() {
		for i := range d.Waiting {
			w := &d.Waiting[i]
			if w.Kind != "step" || w.Call != callOf(a.GetActivityId()) {
				continue
			}
			w.Attempt = int(a.GetAttempt())
			if f := a.GetLastFailure(); f != nil {
				w.Failure = durable.ErrorOf(failureFromProto(f))
			}
			if next := a.GetNextAttemptScheduleTime(); next != nil && a.GetState() == enumspb.PENDING_ACTIVITY_STATE_SCHEDULED && a.GetAttempt() > 1 {
				w.Attempt--
				w.Due = timeOf(next)
				w.Text = fmt.Sprintf("for attempt %d of step %s at %s", w.Attempt+1, w.Name, w.Due.Format(time.RFC3339))
			}
		}
	}
}

func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// description is what lists show of a run.
func (h *shared) description(w *workflowpb.WorkflowExecutionInfo) *durable.Description {
	s := startOf(w.GetMemo())
	d := &durable.Description{
		WorkflowID: w.GetExecution().GetWorkflowId(), RunID: w.GetExecution().GetRunId(), Workflow: w.GetType().GetName(),
		State: stateOf(w.GetStatus()), Owner: s.Owner, Tags: s.Tags, Created: timeOf(w.GetStartTime()), Closed: timeOf(w.GetCloseTime()),
		Chain: w.GetFirstRunId(), Parent: s.Parent,
	}
	if d.Chain == "" {
		d.Chain = d.RunID
	}
	d.Changed = d.Created
	if !d.Closed.IsZero() {
		d.Changed = d.Closed
	}
	if p := w.GetParentExecution(); d.Parent == nil && p != nil {
		d.Parent = &durable.Ref{WorkflowID: p.GetWorkflowId(), RunID: p.GetRunId()}
	}
	memo, err := durable.OpenJSON(h.opts.Engine.Codec, s.Memo)
	if err == nil {
		d.Memo = memo
	}
	fields := w.GetMemo().GetFields()
	if p := fields[memoStatus]; p != nil {
		var stored map[string]json.RawMessage
		if unmarshal(p, &stored) == nil && stored != nil {
			d.Status = map[string]json.RawMessage{}
			for k, v := range stored {
				if plain, err := durable.OpenJSON(h.opts.Engine.Codec, v); err == nil {
					d.Status[k] = plain
				}
			}
		}
	}
	if p := fields[memoPaused]; p != nil && d.State == durable.Running {
		var paused *durable.Pause
		if unmarshal(p, &paused) == nil && paused != nil {
			d.State, d.Paused = durable.Paused, paused
		}
	}
	return d
}

// list lists runs of this engine's task queue, newest first.
func (h *shared) list(ctx context.Context, req *durable.Request) (*durable.Reply, error) {
	f := req.Filter
	want := f.Limit
	if want <= 0 {
		want = 100
	}
	page := &durable.Page{Runs: []*durable.Description{}}
	var cur cursor
	if f.Cursor != "" {
		b, err := base64.RawURLEncoding.DecodeString(f.Cursor)
		if err != nil || json.Unmarshal(b, &cur) != nil {
			return durable.Refuse(durable.ErrBadInput, durable.Ref{}, "list: %q is not a cursor: pass on Page.Next as it came", f.Cursor), nil
		}
	}
	query, err := h.visibility(f)
	if err != nil {
		return nil, err
	}
	for {
		rep, err := h.found(ctx, &workflowservice.ListWorkflowExecutionsRequest{PageSize: int32(min(max(want, 20), 1000)), NextPageToken: cur.Token, Query: query})
		if err != nil {
			return nil, err
		}
		for i, w := range rep.GetExecutions() {
			if i < cur.Skip {
				continue
			}
			d := h.description(w)
			if !matches(d, f, req.Actor) {
				continue
			}
			if len(page.Runs) == want {
				page.Next = base64.RawURLEncoding.EncodeToString(jsonOf(cursor{Token: cur.Token, Skip: i}))
				return &durable.Reply{Page: page}, nil
			}
			page.Runs = append(page.Runs, d)
		}
		if len(rep.GetNextPageToken()) == 0 {
			return &durable.Reply{Page: page}, nil
		}
		cur = cursor{Token: rep.GetNextPageToken()}
	}
}

type cursor struct {
	Token []byte `json:"t,omitempty"`
	Skip  int    `json:"s,omitempty"`
}

// visibility is the part of a filter that the cluster evaluates.
func (h *shared) visibility(f *durable.Filter) (string, error) {
	q := []string{"TaskQueue = " + quoted(h.queue)}
	if f.Workflow != "" {
		q = append(q, "WorkflowType = "+quoted(f.Workflow))
	}
	if f.WorkflowID != "" {
		q = append(q, "WorkflowId = "+quoted(f.WorkflowID))
	}
	var states []string
	for _, s := range f.States {
		switch s {
		case durable.Running, durable.Paused:
			states = append(states, "'Running'")
		case durable.Completed:
			states = append(states, "'Completed'")
		case durable.Failed:
			states = append(states, "'Failed'")
		case durable.Cancelled:
			states = append(states, "'Canceled'")
		case durable.Terminated:
			states = append(states, "'Terminated'")
		case durable.TimedOut:
			states = append(states, "'TimedOut'")
		case durable.Continued:
			states = append(states, "'ContinuedAsNew'")
		default:
			return "", fmt.Errorf("list: state %q: %w", s, durable.ErrBadInput)
		}
	}
	if len(states) > 0 {
		q = append(q, "ExecutionStatus IN ("+strings.Join(states, ", ")+")")
	}
	if !f.CreatedAfter.IsZero() {
		q = append(q, "StartTime > "+quoted(f.CreatedAfter.UTC().Format(time.RFC3339Nano)))
	}
	if !f.CreatedBefore.IsZero() {
		q = append(q, "StartTime < "+quoted(f.CreatedBefore.UTC().Format(time.RFC3339Nano)))
	}
	return strings.Join(q, " AND "), nil
}

// matches is the part of a filter that the cluster can't evaluate.
func matches(d *durable.Description, f *durable.Filter, a durable.Actor) bool {
	if a.Owner != "" && d.Owner != a.Owner {
		return false
	}
	for k, v := range f.Tags {
		if d.Tags[k] != v {
			return false
		}
	}
	if len(f.States) == 0 {
		return true
	}
	for _, s := range f.States {
		if s == d.State {
			return true
		}
	}
	return false
}

// questions reads the open questions from the memos of runs; those of one run
// from the run itself.
func (h *shared) questions(ctx context.Context, req *durable.Request) (*durable.Reply, error) {
	f := req.Asks
	if f.WorkflowID != "" || f.RunID != "" {
		r := *req
		r.Ref = durable.Ref{WorkflowID: f.WorkflowID, RunID: f.RunID}
		return h.read(ctx, &r)
	}
	if f.All {
		return durable.Refuse(durable.ErrBadInput, durable.Ref{}, "questions: All needs a WorkflowID"), nil
	}
	rep := &durable.Reply{Questions: []*durable.QuestionInfo{}}
	var token []byte
	for {
		out, err := h.found(ctx, &workflowservice.ListWorkflowExecutionsRequest{
			PageSize: 1000, NextPageToken: token, Query: "TaskQueue = " + quoted(h.queue) + " AND ExecutionStatus = 'Running'",
		})
		if err != nil {
			return nil, err
		}
		for _, w := range out.GetExecutions() {
			p := w.GetMemo().GetFields()[memoAsks]
			if p == nil || req.Actor.Owner != "" && startOf(w.GetMemo()).Owner != req.Actor.Owner {
				continue
			}
			asks, err := h.asksIn(p)
			if err != nil {
				h.log.Warn("the questions of a run cannot be read", "workflow_id", w.GetExecution().GetWorkflowId(), "error", err)
				continue
			}
			for _, a := range asks {
				if f.Name == "" || a.Name == f.Name {
					rep.Questions = append(rep.Questions, a)
				}
			}
		}
		if token = out.GetNextPageToken(); len(token) == 0 {
			durable.SortQuestions(rep.Questions)
			return rep, nil
		}
	}
}

// asksIn reads the questions in a memo.
func (h *shared) asksIn(p *commonpb.Payload) (asks []*durable.QuestionInfo, err error) {
	plain, err := h.plain(p)
	if err == nil && plain != nil {
		err = json.Unmarshal(plain, &asks)
	}
	return asks, err
}

// stream reads what a run has appended, and waits for more.
func (h *shared) stream(ctx context.Context, req *durable.Request) (*durable.Reply, error) {
	info, no, err := h.visible(ctx, req.Ref, req.Actor)
	if err != nil || no != nil {
		return no, err
	}
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		ref := refOf(info)
		over := stateIn(info).Done() // before it is asked: nothing follows then
		rep, err := h.ask(ctx, info, req)
		unbegun := errors.Is(err, errUnbegun) && !over // has said nothing yet
		if !unbegun && (err != nil || rep.Err != nil || len(rep.Entries) > 0) {
			return rep, err
		}
		if over {
			ev, err := h.closing(ctx, ref, 5*time.Second)
			if err != nil {
				return nil, err
			}
			next := ""
			if ev != nil {
				next = nextRun(ev)
			}
			if next == "" {
				rep.End = true
				return rep, nil
			}
			ref = durable.Ref{WorkflowID: ref.WorkflowID, RunID: next}
		} else if err := sleep(ctx, wait); err != nil {
			return nil, err
		}
		if info, err = h.look(ctx, ref); err != nil {
			return nil, err
		}
	}
}

// health has of the task queue what the cluster counts (unfinished runs, of
// these the blocked ones, steps that no worker has taken), and the steps at
// work here.
func (h *shared) health(ctx context.Context) (*durable.Reply, error) {
	out := &durable.Health{OK: true, Role: "executor", Steps: int(h.steps.Load())}
	if h.worker == nil {
		out.Role = "client"
	}
	select {
	case err := <-h.fatal:
		h.fatal <- err
		out.OK, out.Text = false, fmt.Sprintf("the worker has ended: %v: start the program again", err)
	default:
	}
	if err := h.line.explain("health", h.checkNamespace(ctx)); err != nil {
		out.OK, out.Text = false, err.Error()
		return &durable.Reply{Health: out}, nil
	}
	s := h.client.WorkflowService()
	count := func(more string) (int, error) {
		rep, err := s.CountWorkflowExecutions(ctx, &workflowservice.CountWorkflowExecutionsRequest{
			Namespace: h.space, Query: "TaskQueue = " + quoted(h.queue) + " AND ExecutionStatus = 'Running'" + more,
		})
		return int(rep.GetCount()), err
	}
	var err error
	if out.Running, err = count(""); err != nil {
		return nil, err
	}
	// An old cluster does not report them.
	out.Blocked, _ = count(" AND TemporalReportedProblems IS NOT NULL")
	queue, err := s.DescribeTaskQueue(ctx, &workflowservice.DescribeTaskQueueRequest{
		Namespace: h.space, TaskQueue: &taskqueuepb.TaskQueue{Name: h.queue}, TaskQueueType: enumspb.TASK_QUEUE_TYPE_ACTIVITY, ReportStats: true,
	})
	if err != nil {
		return nil, err
	}
	out.Queued = int(queue.GetStats().GetApproximateBacklogCount())
	return &durable.Reply{Health: out}, nil
}

func (h *shared) checkNamespace(ctx context.Context) error {
	_, err := h.client.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: h.space})
	var none *serviceerror.NamespaceNotFound
	if errors.As(err, &none) || missing(err) {
		return fmt.Errorf("namespace %q is not there: create it, or name another one: %w", h.space, err)
	}
	if refused(err) {
		return h.unwelcome(err)
	}
	return err
}

// unknownUpdate reports whether the run has no handler of an update.
func unknownUpdate(err error) bool {
	var app *temporal.ApplicationError
	return errors.As(err, &app) && strings.HasPrefix(app.Message(), "unknown update ")
}
