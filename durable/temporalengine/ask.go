package temporalengine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	querypb "go.temporal.io/api/query/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/mcpagent/mcpagent/durable"
)

type described = workflowservice.DescribeWorkflowExecutionResponse

// look asks the cluster about a run.
func (h *shared) look(ctx context.Context, ref durable.Ref) (*described, error) {
	if ref.WorkflowID == "" && ref.RunID != "" {
		found, err := h.findRun(ctx, ref.RunID)
		if err != nil {
			return nil, err
		}
		if ref = found; ref.WorkflowID == "" {
			return nil, serviceerror.NewNotFound("no run of that id")
		}
	}
	return h.client.WorkflowService().DescribeWorkflowExecution(ctx, &workflowservice.DescribeWorkflowExecutionRequest{Namespace: h.space, Execution: execution(ref)})
}

// findRun finds the workflow id of a run id; it is empty if there is none.
func (h *shared) findRun(ctx context.Context, runID string) (durable.Ref, error) {
	for range 20 {
		rep, err := h.found(ctx, &workflowservice.ListWorkflowExecutionsRequest{PageSize: 1, Query: "RunId = " + quoted(runID)})
		if err != nil {
			return durable.Ref{}, err
		}
		if len(rep.GetExecutions()) > 0 {
			x := rep.GetExecutions()[0].GetExecution()
			return durable.Ref{WorkflowID: x.GetWorkflowId(), RunID: x.GetRunId()}, nil
		}
		// The list may lag behind.
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return durable.Ref{}, err
		}
	}
	return durable.Ref{}, nil
}

// found is a page of runs. A server that cannot find what one of them was a
// moment ago is asked again.
func (h *shared) found(ctx context.Context, r *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	r.Namespace = h.space
	for try := 1; ; try++ {
		rep, err := h.client.WorkflowService().ListWorkflowExecutions(ctx, r)
		if !missing(err) || try == 5 {
			return rep, err
		}
		if err := sleep(ctx, time.Duration(try)*20*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// sleep is an ordinary wait, whatever the context is one of.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func refOf(d *described) durable.Ref {
	x := d.GetWorkflowExecutionInfo().GetExecution()
	return durable.Ref{WorkflowID: x.GetWorkflowId(), RunID: x.GetRunId()}
}

// startOf is what the memo says of a run's start.
func startOf(m *commonpb.Memo) (s durable.StartMeta) {
	if p := m.GetFields()[memoStart]; p != nil {
		_ = unmarshal(p, &s)
	}
	return s
}

// stateIn is the state that the cluster has of a run.
func stateIn(d *described) durable.State { return stateOf(d.GetWorkflowExecutionInfo().GetStatus()) }

// visible is look for an actor, who may see their own runs.
func (h *shared) visible(ctx context.Context, ref durable.Ref, a durable.Actor) (*described, *durable.Reply, error) {
	info, err := h.look(ctx, ref)
	if err != nil {
		return nil, nil, err
	}
	if !mine(info, a) {
		return nil, notFound(ref), nil
	}
	return info, nil, nil
}

func notFound(ref durable.Ref) *durable.Reply {
	return durable.Refuse(durable.ErrNotFound, ref, "run %v: not found; list the runs to see which there are", ref)
}

// missing reports whether the cluster has no such run, or has one that has
// ended: it has one error for both.
func missing(err error) bool {
	var none *serviceerror.NotFound
	return errors.As(err, &none)
}

// mine reports whether an actor may see a run.
func mine(d *described, a durable.Actor) bool {
	return a.Owner == "" || startOf(d.GetWorkflowExecutionInfo().GetMemo()).Owner == a.Owner
}

// askAwake asks a run that is at work and answers at once; nil if it is
// anything else, and where it refuses: [shared.ask] knows why.
func (h *shared) askAwake(ctx context.Context, req *durable.Request) *durable.Reply {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	rep, err := h.queryByName(ctx, req.Ref, req, enumspb.QUERY_REJECT_CONDITION_NOT_OPEN)
	if err != nil {
		return nil
	}
	return rep
}

// queryByName asks a run one of its workflow's own queries, as anybody's
// client does. The reply is nil where the run is in an unwanted state.
func (h *shared) queryByName(ctx context.Context, ref durable.Ref, req *durable.Request, unwanted enumspb.QueryRejectCondition) (*durable.Reply, error) {
	in, err := h.sealed(req.Payload)
	if err == nil {
		err = h.tooLarge("the value of", string(req.Op), ref, in.Payload())
	}
	if err != nil {
		return nil, err
	}
	out, err := h.client.WorkflowService().QueryWorkflow(ctx, &workflowservice.QueryWorkflowRequest{
		Namespace: h.space, Execution: execution(ref), QueryRejectCondition: unwanted,
		Query: &querypb.WorkflowQuery{QueryType: req.Name, QueryArgs: payloads(in.Payload())},
	})
	if err != nil || out.GetQueryRejected() != nil {
		return nil, err
	}
	plain, err := h.plain(first(out.GetQueryResult()))
	return &durable.Reply{Ref: ref, Payload: plain}, err
}

// queryRun sends an operation to a run as a query.
func (h *shared) queryRun(ctx context.Context, ref durable.Ref, req *durable.Request) (*durable.Reply, error) {
	p, err := h.request(req)
	if err != nil {
		return nil, err
	}
	out, err := h.client.WorkflowService().QueryWorkflow(ctx, &workflowservice.QueryWorkflowRequest{
		Namespace: h.space, Execution: execution(ref), Query: &querypb.WorkflowQuery{QueryType: doName, QueryArgs: payloads(p)},
	})
	if err != nil {
		return nil, err
	}
	rep := &durable.Reply{}
	return rep, h.open(first(out.GetQueryResult()), rep)
}

// read asks the run for what only it knows.
func (h *shared) read(ctx context.Context, req *durable.Request) (*durable.Reply, error) {
	info, no, err := h.visible(ctx, req.Ref, req.Actor)
	if err != nil || no != nil {
		return no, err
	}
	return h.ask(ctx, info, req)
}

// ask asks the run: by a query, which its code answers on a worker, from a
// replay if it is not awake. Where no worker can, this process looks itself.
func (h *shared) ask(ctx context.Context, info *described, req *durable.Request) (*durable.Reply, error) {
	ref, p := refOf(info), h.problem(ctx, info)
	if p == nil {
		rep, err := h.askWorker(ctx, info, req)
		switch {
		case err == nil && rep.Err != nil && rep.Err.Code == codeTooLarge && h.host.Defines(durable.KindWorkflow, workflowOf(info)):
			// It does not come across: this process makes it from a replay.
			if here, err := h.askHere(ctx, info, req); err == nil {
				return here, nil
			}
			return rep, nil
		case err == nil || ctx.Err() != nil:
			return rep, err
		case strings.Contains(err.Error(), "closed before"):
			return h.askUnbegun(ctx, ref, req)
		}
		if errors.Is(err, errForeign) {
			return h.foreign(ctx, info, req)
		}
		if now, lerr := h.look(ctx, ref); lerr == nil {
			p = h.problem(ctx, now)
		}
		if p == nil && !errors.Is(err, durable.ErrNoWorker) {
			return nil, err
		}
	}
	rep, err := h.askHere(ctx, info, req)
	if p != nil && errors.Is(err, errUnbegun) {
		rep, err = h.askUnbegun(ctx, ref, req)
	}
	if p != nil && err != nil {
		return blockedReply(ref, p), nil
	}
	return rep, err
}

// codeTooLarge is how a reply says [durable.ErrTooLarge].
var codeTooLarge = durable.Refuse(durable.ErrTooLarge, durable.Ref{}, "").Err.Code

// workerPatience is how long a query waits for a worker before this process
// looks whether there is one.
const workerPatience = 5 * time.Second

func (h *shared) askWorker(ctx context.Context, info *described, req *durable.Request) (*durable.Reply, error) {
	ref := refOf(info)
	ctx, cancel := context.WithTimeout(ctx, workerPatience)
	defer cancel()
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		rep, err := h.queryRun(ctx, ref, req)
		if err == nil {
			return rep, nil
		}
		var failed *serviceerror.QueryFailed
		if errors.As(err, &failed) && !h.host.Defines(durable.KindWorkflow, workflowOf(info)) && !strings.Contains(err.Error(), evicted) {
			if now, err := h.look(ctx, ref); err == nil && hasTurned(now) {
				return nil, errForeign
			}
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%w on task queue %q that answers within %v: %w", durable.ErrNoWorker, queueOf(info, h.queue), workerPatience, err)
		}
		// Before its first turn is recorded a run has no handlers.
		if !passing(err) && !strings.Contains(err.Error(), "unknown queryType") && !strings.Contains(err.Error(), "before a worker could process") {
			return nil, err
		}
		_ = sleep(ctx, wait)
	}
}

// errForeign says that a run's code is not one of this engine's: it does not
// know our query.
var errForeign = errors.New("the run is of a plain workflow")

// hasTurned reports whether a run's code has been at work: it has its handlers
// then.
func hasTurned(info *described) bool { return info.GetWorkflowExecutionInfo().GetHistoryLength() > 3 }

func queueOf(info *described, other string) string {
	return cmp.Or(info.GetExecutionConfig().GetTaskQueue().GetName(), other)
}

// foreign answers for a plain workflow: it can be asked what it declares, and
// what only our code knows is refused.
func (h *shared) foreign(ctx context.Context, info *described, req *durable.Request) (*durable.Reply, error) {
	ref := refOf(info)
	if req.Op != durable.OpQuery {
		return durable.Refuse(durable.ErrUnsupported, ref, "%s: run %v is of the plain workflow %q, not one of this engine's: it can be described, signalled, queried, updated, cancelled, terminated and waited for", req.Op, ref, workflowOf(info)), nil
	}
	return h.queryByName(ctx, ref, req, enumspb.QUERY_REJECT_CONDITION_NONE)
}

// heeds refuses what only our code understands, where the run's is a plain
// workflow: nil, it may be sent.
func (h *shared) heeds(ctx context.Context, info *described, op durable.Op) *durable.Reply {
	if h.host.Defines(durable.KindWorkflow, workflowOf(info)) || info.GetWorkflowExecutionInfo().GetMemo().GetFields()[memoStart] != nil && h.host.Queue(workflowOf(info)) == "" {
		return nil
	}
	if _, err := h.askWorker(ctx, info, &durable.Request{Op: durable.OpDescribe}); !errors.Is(err, errForeign) {
		return nil
	}
	no, _ := h.foreign(ctx, info, &durable.Request{Op: op})
	return no
}

// blocked tells of a problem of the run, if that is why it could not be asked.
func (h *shared) blocked(ctx context.Context, ref durable.Ref, err error) (*durable.Reply, error) {
	info, lerr := h.look(ctx, ref)
	if lerr != nil {
		return nil, err
	}
	if p := h.problem(ctx, info); p != nil {
		return blockedReply(ref, p), nil
	}
	return nil, err
}

func blockedReply(ref durable.Ref, p *durable.Problem) *durable.Reply {
	b := &durable.BlockedError{WorkflowID: ref.WorkflowID, RunID: ref.RunID, Problem: *p}
	return &durable.Reply{Err: &durable.ReplyError{Code: "blocked", Message: b.Error(), Ref: ref, State: durable.Running, Problem: p}}
}

// lateTasks is at how many attempts it is a problem that no worker answered in
// time.
const lateTasks = 4

// problem reads what keeps a run's code from going on: its workflow task is
// tried again and again.
func (h *shared) problem(ctx context.Context, d *described) *durable.Problem {
	t := d.GetPendingWorkflowTask()
	if t == nil || t.GetAttempt() < 2 {
		return nil
	}
	ref := refOf(d)
	rep, err := h.client.WorkflowService().GetWorkflowExecutionHistoryReverse(ctx, &workflowservice.GetWorkflowExecutionHistoryReverseRequest{
		Namespace: h.space, Execution: execution(ref), MaximumPageSize: 20,
	})
	if err != nil {
		return nil
	}
	var late bool
	p := &durable.Problem{Kind: "deadlock", Tries: int(t.GetAttempt()) - 1, Since: t.GetOriginalScheduledTime().AsTime()}
	for _, ev := range rep.GetHistory().GetEvents() {
		if a := ev.GetWorkflowTaskFailedEventAttributes(); a != nil {
			if strings.Contains(a.GetFailure().GetMessage(), evicted) && t.GetAttempt() < lateTasks {
				return nil
			}
			return taskProblem(a, p)
		}
		if ev.GetWorkflowTaskCompletedEventAttributes() != nil {
			break
		}
		late = late || ev.GetWorkflowTaskTimedOutEventAttributes() != nil
	}
	if !late || t.GetAttempt() < lateTasks {
		return nil // a worker that was killed does that once
	}
	p.Text = "the worker that had the run's code did not answer in time; it may be gone, or the code waits outside of durable"
	return p
}

func taskProblem(a *historypb.WorkflowTaskFailedEventAttributes, p *durable.Problem) *durable.Problem {
	msg := a.GetFailure().GetMessage()
	p.Text = msg
	if i := strings.Index(msg, problemMark); i >= 0 {
		var ours durable.Problem
		if json.NewDecoder(strings.NewReader(msg[i+len(problemMark):])).Decode(&ours) == nil {
			ours.Since, ours.Tries = p.Since, p.Tries
			return &ours
		}
	}
	switch {
	case a.GetCause() == enumspb.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR, strings.Contains(msg, "TMPRL1100"):
		p.Kind = "mismatch"
		p.Text = "the code does something else than the history has: the workflow was changed under a running run; deploy code that fits, or use durable.Version (" + msg + ")"
	case strings.Contains(msg, "TMPRL1101"), strings.Contains(msg, "deadlock"):
		p.Kind = "deadlock"
	case strings.Contains(msg, "unable to find workflow type"):
		p.Kind = "not_defined"
		p.Text = "the workflow is not defined in the workers: deploy one that has it (" + msg + ")"
	default:
		p.Kind = "panic"
	}
	return p
}
