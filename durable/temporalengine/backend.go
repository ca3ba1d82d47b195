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
	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mcpagent/mcpagent/durable"
)

// Do implements [durable.Backend].
func (h *shared) Do(ctx context.Context, req *durable.Request) (*durable.Reply, error) {
	if err := h.host.CheckRequest(req); err != nil {
		return durable.ErrorReply(req.Ref, err), nil
	}
	var p patient
	if req.Op != durable.OpResult && req.Op != durable.OpStream { // which wait for as long as they may
		p.until = time.Now().Add(absence)
		ctx = context.WithValue(ctx, patientKey{}, &p)
	}
	rep, err := h.do(ctx, req)
	// Requests carry their ids, so that they may be sent again.
	for wait, end := 20*time.Millisecond, time.Now().Add(patience); err != nil && passing(err) && ctx.Err() == nil && time.Now().Before(end); wait = min(2*wait, time.Second) {
		if sleep(ctx, wait) == nil {
			rep, err = h.do(ctx, req)
		}
	}
	for i := 0; i < 50 && missing(err) && ctx.Err() == nil; i++ {
		// It may have been continued as new while the request was on its way.
		if info, lerr := h.look(ctx, req.Ref); lerr != nil || stateIn(info) != durable.Continued {
			break
		}
		rep, err = h.do(ctx, req)
	}
	if s := p.lost.Load(); s != nil && err != nil {
		return nil, fmt.Errorf("%s: %w", req.Op, s)
	}
	if err != nil {
		return h.explain(ctx, req, err)
	}
	return rep, nil
}

// patience is how long a request is tried again while the cluster is busy or
// slow.
const patience = 30 * time.Second

// passing reports whether an error of the cluster may pass by itself.
func passing(err error) bool {
	var busy *serviceerror.ResourceExhausted
	var away *serviceerror.Unavailable
	var unclear *serviceerror.DeadlineExceeded
	return errors.As(err, &busy) && !overLimit(err) || errors.As(err, &away) || errors.As(err, &unclear) && !strings.Contains(err.Error(), "worker")
}

// overLimit reports whether the cluster found a request too large.
func overLimit(err error) bool {
	var bad *serviceerror.InvalidArgument
	var busy *serviceerror.ResourceExhausted
	return errors.As(err, &bad) && strings.Contains(err.Error(), "exceeds") && strings.Contains(err.Error(), "limit") ||
		errors.As(err, &busy) && strings.Contains(err.Error(), "larger than max")
}

func (h *shared) do(ctx context.Context, req *durable.Request) (*durable.Reply, error) {
	switch req.Op {
	case durable.OpStart:
		return h.start(ctx, req)
	case durable.OpSignal:
		return h.signal(ctx, req)
	case durable.OpCancel:
		return h.cancel(ctx, req)
	case durable.OpTerminate:
		return h.terminate(ctx, req)
	case durable.OpPause, durable.OpResume:
		return h.hold(ctx, req)
	case durable.OpUpdate:
		return h.update(ctx, req)
	case durable.OpQuery:
		return h.query(ctx, req)
	case durable.OpAnswer, durable.OpComplete:
		return h.settle(ctx, req)
	case durable.OpResult:
		return h.result(ctx, req)
	case durable.OpDescribe:
		return h.describe(ctx, req)
	case durable.OpList:
		return h.list(ctx, req)
	case durable.OpQuestions:
		return h.questions(ctx, req)
	case durable.OpHistory, durable.OpExport:
		return h.read(ctx, req)
	case durable.OpStream:
		return h.stream(ctx, req)
	case durable.OpPutBlob:
		digest := durable.BlobDigest(req.Data)
		stored, err := h.host.Seal(req.Data)
		if err == nil {
			err = h.PutBlob(digest, stored)
		}
		return &durable.Reply{Ref: req.Ref, Name: digest}, err
	case durable.OpGetBlob:
		stored, err := h.GetBlob(req.Name)
		if err != nil {
			return nil, err
		}
		plain, err := h.host.Unseal(stored)
		return &durable.Reply{Name: req.Name, Data: plain}, err
	case durable.OpSchedule, durable.OpUnschedule, durable.OpTrigger, durable.OpHoldSchedule:
		return h.schedule(ctx, req)
	case durable.OpSchedules:
		return h.schedules(ctx, req)
	case durable.OpFork:
		return h.fork(ctx, req)
	case durable.OpReset:
		return h.reset(ctx, req)
	case durable.OpHealth:
		return h.health(ctx)
	}
	return durable.Refuse(durable.ErrUnsupported, req.Ref, "%s: the engine on Temporal cannot do that yet", req.Op), nil
}

// explain turns the cluster's errors into ours.
func (h *shared) explain(ctx context.Context, req *durable.Request, err error) (*durable.Reply, error) {
	if errors.Is(err, durable.ErrNoWorker) {
		return durable.ErrorReply(req.Ref, err), nil
	}
	if ctx.Err() != nil {
		return nil, h.line.explain(string(req.Op), ctx.Err())
	}
	var space *serviceerror.NamespaceNotFound
	var bad *serviceerror.InvalidArgument
	switch {
	case overLimit(err):
		return durable.Refuse(durable.ErrTooLarge, req.Ref, "%s %s: too large for the cluster: %v: put large values into blobs and pass on their digests%s", req.Op, req.Name, err, storageRemedy), nil
	case errors.As(err, &bad) && strings.Contains(err.Error(), "Invalid RunId"):
		return notFound(req.Ref), nil
	case errors.As(err, &space):
		return nil, fmt.Errorf("%s: namespace %q is not on this cluster: %w", req.Op, h.space, err)
	case refused(err):
		return nil, fmt.Errorf("%s: %w", req.Op, h.unwelcome(err))
	case missing(err) && req.Op != durable.OpList && req.Op != durable.OpQuestions:
		return h.gone(ctx, req), nil
	case errors.Is(err, durable.ErrNotFound), errors.Is(err, durable.ErrUnsupported), errors.Is(err, durable.ErrTooLarge):
		return durable.ErrorReply(req.Ref, err), nil
	}
	return nil, fmt.Errorf("%s: %w", req.Op, err)
}

// gone tells a run that has ended from one that never was.
func (h *shared) gone(ctx context.Context, req *durable.Request) *durable.Reply {
	info, no, err := h.visible(ctx, req.Ref, req.Actor)
	switch {
	case err != nil:
		return notFound(req.Ref)
	case no != nil:
		return no
	}
	return finished(info)
}

func finished(info *described) *durable.Reply {
	ref, s := refOf(info), stateIn(info)
	no := durable.Refuse(durable.ErrFinished, ref, "run %v has ended (%s); start a new one", ref, s)
	no.Err.State = s
	return no
}

// start starts a run, or finds the one that is meant.
func (h *shared) start(ctx context.Context, req *durable.Request) (*durable.Reply, error) {
	s, no := h.host.CheckStart(req)
	if no != nil {
		return no, nil
	}
	o := req.Start
	if o == nil {
		o = &durable.StartOptions{}
	}
	if o.ID == "" && o.Key != "" {
		// The key is the id: that is what Temporal keeps apart.
		d := durable.BlobDigest([]byte(s.Meta.Key))
		s.ID = fmt.Sprintf("%s-%s-%s-%s-%s-%s", req.Name, d[:8], d[8:12], d[12:16], d[16:20], d[20:32])
	}
	if i := strings.IndexFunc(s.ID, func(c rune) bool { return c < ' ' || c > '~' }); i >= 0 {
		return durable.Refuse(durable.ErrBadInput, durable.Ref{}, "start workflow %q: the id %q has characters beyond ASCII, which Temporal's clients cannot send", req.Name, s.ID), nil
	}
	stored, err := h.host.Seal(s.Input)
	if err != nil {
		return nil, fmt.Errorf("encode the input: %w", err)
	}
	in, err := h.out(h.payload(stored, s.Meta))
	if err != nil {
		return nil, err
	}
	if err := h.tooLarge("the input of workflow", req.Name, durable.Ref{WorkflowID: s.ID}, in); err != nil {
		return nil, err
	}
	r := h.startRequest(req, s.ID, req.Name, s.Meta, in)
	switch o.Reuse {
	case durable.ReuseAllow:
		r.WorkflowIdReusePolicy = enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE
	case durable.ReuseFailed:
		r.WorkflowIdReusePolicy = enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY
	}
	if o.Delay > 0 {
		r.WorkflowStartDelay = durationpb.New(o.Delay)
		if s.Meta.Timeout > 0 {
			r.WorkflowExecutionTimeout = durationpb.New(s.Meta.Timeout + o.Delay)
		}
	}
	if s.Signal != nil {
		return h.signalWithStart(ctx, req, s, r)
	}
	rep, err := h.client.WorkflowService().StartWorkflowExecution(ctx, r)
	var there *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &there) {
		return h.existing(ctx, req, s, durable.Ref{WorkflowID: s.ID, RunID: there.RunId})
	}
	if err != nil {
		return nil, err
	}
	h.know(rep.RunId, req.Name)
	return &durable.Reply{Ref: durable.Ref{WorkflowID: s.ID, RunID: rep.RunId}}, nil
}

// startRequest is what every start has, of whatever the run begins with. An id
// that was ever taken is refused.
func (h *shared) startRequest(req *durable.Request, id, workflow string, m durable.StartMeta, input ...*commonpb.Payload) *workflowservice.StartWorkflowExecutionRequest {
	r := &workflowservice.StartWorkflowExecutionRequest{
		Namespace: h.space, WorkflowId: id, WorkflowType: &commonpb.WorkflowType{Name: workflow},
		TaskQueue: &taskqueuepb.TaskQueue{Name: cmp.Or(h.host.Queue(workflow), h.queue), Kind: enumspb.TASK_QUEUE_KIND_NORMAL},
		Input:     payloads(input...), Identity: h.identity(req), RequestId: req.ID,
		WorkflowIdReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
		WorkflowIdConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		Memo:                     &commonpb.Memo{Fields: map[string]*commonpb.Payload{memoStart: plainJSON(inMemo(m))}},
	}
	if m.Timeout > 0 {
		r.WorkflowExecutionTimeout = durationpb.New(m.Timeout)
	}
	if i, ok := h.defs.Info(durable.KindWorkflow, workflow); ok && i.Title != "" {
		r.UserMetadata = &sdkpb.UserMetadata{Summary: plainJSON(i.Title)}
	}
	return r
}

// manyTypes is how many runs' types are kept in mind.
const manyTypes = 10_000

// know keeps in mind which workflow a run is of. That never changes, and spares
// a look at the run with each message to it.
func (h *shared) know(runID, workflow string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.types == nil || len(h.types) >= manyTypes {
		h.types = map[string]string{}
	}
	h.types[runID] = workflow
}

// known is the workflow of a request's run, if it is known and anybody may ask
// who asks.
func (h *shared) known(req *durable.Request) (string, bool) {
	if req.Actor.Owner != "" || req.Ref.WorkflowID == "" || req.Ref.RunID == "" {
		return "", false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	name, ok := h.types[req.Ref.RunID]
	return name, ok
}

// existing looks whether the run that has an id is the one that is meant.
func (h *shared) existing(ctx context.Context, req *durable.Request, s *durable.Starting, ref durable.Ref) (*durable.Reply, error) {
	info, err := h.look(ctx, ref)
	if err != nil {
		return nil, err
	}
	m := startOf(info.GetWorkflowExecutionInfo().GetMemo())
	w := info.GetWorkflowExecutionInfo()
	taken := func(text string) (*durable.Reply, error) {
		return &durable.Reply{Err: &durable.ReplyError{Code: "id_taken", Message: text, Ref: ref}}, nil
	}
	if req.Actor.Owner != "" && m.Owner != req.Actor.Owner {
		ref = durable.Ref{}
		return taken(fmt.Sprintf("workflow id %q or its key is taken by a run of another owner: choose another one", s.ID))
	}
	if m.Digest != s.Meta.Digest || w.GetType().GetName() != req.Name {
		remedy := "choose another id, or end that run"
		if stateIn(info).Done() {
			remedy = "choose another id, or start with a reuse policy"
		}
		return taken(fmt.Sprintf("workflow id %q is taken by run %s of workflow %q (%s), which was started with another workflow or input: %s",
			s.ID, ref.RunID, w.GetType().GetName(), stateIn(info), remedy))
	}
	return &durable.Reply{Ref: ref, Existing: true}, nil
}

// signalWithStart is one request on Temporal. Where a run is there, it gets
// the signal only if it is the one that is meant.
func (h *shared) signalWithStart(ctx context.Context, req *durable.Request, s *durable.Starting, r *workflowservice.StartWorkflowExecutionRequest) (*durable.Reply, error) {
	sig, err := h.signalPayload(s.Signal.Payload, signalMeta{ID: s.Signal.ID, By: req.Actor.Name, Trace: req.Trace})
	if err != nil {
		return nil, err
	}
	if info, err := h.look(ctx, durable.Ref{WorkflowID: s.ID}); err == nil {
		state := stateIn(info)
		if !state.Done() || req.Start.Reuse == durable.ReuseReject || req.Start.Reuse == durable.ReuseFailed && state == durable.Completed {
			rep, err := h.existing(ctx, req, s, refOf(info))
			if err != nil || rep.Err != nil {
				return rep, err
			}
			r := &durable.Request{Op: durable.OpSignal, ID: s.Signal.ID, Ref: rep.Ref, Name: s.Signal.Name, Payload: s.Signal.Payload, Actor: req.Actor, Trace: req.Trace}
			sent, err := h.Do(ctx, r)
			if err != nil || sent.Err != nil {
				return sent, err
			}
			return rep, nil
		}
	}
	rep, err := h.client.WorkflowService().SignalWithStartWorkflowExecution(ctx, &workflowservice.SignalWithStartWorkflowExecutionRequest{
		Namespace: r.Namespace, WorkflowId: r.WorkflowId, WorkflowType: r.WorkflowType, TaskQueue: r.TaskQueue, Input: r.Input,
		WorkflowExecutionTimeout: r.WorkflowExecutionTimeout, Identity: r.Identity, RequestId: r.RequestId,
		WorkflowIdReusePolicy: r.WorkflowIdReusePolicy, Memo: r.Memo, WorkflowStartDelay: r.WorkflowStartDelay, UserMetadata: r.UserMetadata,
		SignalName: s.Signal.Name, SignalInput: payloads(sig),
	})
	if err != nil {
		return nil, err
	}
	return &durable.Reply{Ref: durable.Ref{WorkflowID: s.ID, RunID: rep.RunId}, Existing: !rep.Started}, nil
}

func (h *shared) signalPayload(plain json.RawMessage, m signalMeta) (*commonpb.Payload, error) {
	stored, err := h.host.Seal(plain)
	if err != nil {
		return nil, fmt.Errorf("encode the payload: %w", err)
	}
	return h.out(h.payload(stored, m))
}

// aim finds the run that a message is for: a run id follows the chain to its
// end, and an owner's messages reach only the owner's runs.
func (h *shared) aim(ctx context.Context, req *durable.Request) (*described, *durable.Reply, error) {
	info, no, err := h.visible(ctx, req.Ref, req.Actor)
	if err != nil || no != nil {
		return nil, no, err
	}
	h.know(refOf(info).RunID, workflowOf(info))
	switch s := stateIn(info); {
	case s == durable.Continued:
		if newest, err := h.look(ctx, durable.Ref{WorkflowID: req.Ref.WorkflowID}); err == nil && sameChain(newest, info) {
			return newest, nil, nil
		}
	case !s.Done() || req.Op == durable.OpQuery:
	case s != durable.Terminated && s != durable.TimedOut && req.ID != "" && (req.Op == durable.OpSignal || req.Op == durable.OpUpdate):
		// It may have had the same before: then the answer is the same.
		rep, err := h.ask(ctx, info, req)
		return nil, rep, err
	default:
		return nil, finished(info), nil
	}
	return info, nil, nil
}

func workflowOf(d *described) string { return d.GetWorkflowExecutionInfo().GetType().GetName() }

// sameChain reports whether two runs are of one chain of continue-as-new and
// resets.
func sameChain(a, b *described) bool {
	return a.GetWorkflowExecutionInfo().GetFirstRunId() == b.GetWorkflowExecutionInfo().GetFirstRunId()
}

func (h *shared) signal(ctx context.Context, req *durable.Request) (*durable.Reply, error) {
	return h.message(ctx, req, h.signalTo)
}

// message sends to a run whose workflow is known, without a look at it, and to
// any other where it is found.
func (h *shared) message(ctx context.Context, req *durable.Request, send func(context.Context, *durable.Request, durable.Ref, string) (*durable.Reply, error)) (*durable.Reply, error) {
	if name, ok := h.known(req); ok {
		if rep, err := send(ctx, req, req.Ref, name); !moved(rep, err) {
			return rep, err
		}
	}
	return h.reach(ctx, req, func(info *described) (*durable.Reply, error) { return send(ctx, req, refOf(info), workflowOf(info)) })
}

// moved reports that a run was not there any more, or was just continued.
func moved(rep *durable.Reply, err error) bool {
	return missing(err) || err == nil && rep.Err != nil && rep.Err.State == durable.Continued
}

// reach sends a message to the run that it is for, and again if that one was
// continued in between.
func (h *shared) reach(ctx context.Context, req *durable.Request, send func(*described) (*durable.Reply, error)) (*durable.Reply, error) {
	var last durable.Ref
	for {
		info, no, err := h.aim(ctx, req)
		if err != nil || no != nil {
			return no, err
		}
		rep, err := send(info)
		if !moved(rep, err) || refOf(info) == last {
			return rep, err
		}
		last = refOf(info)
	}
}

func (h *shared) signalTo(ctx context.Context, req *durable.Request, ref durable.Ref, name string) (*durable.Reply, error) {
	if no := h.host.Accepts(name, durable.KindSignal, req.Name, ref); no != nil {
		return no, nil
	}
	p, err := h.signalPayload(req.Payload, signalMeta{ID: req.ID, By: req.Actor.Name, Trace: req.Trace})
	if err != nil {
		return nil, err
	}
	return &durable.Reply{Ref: ref}, h.send(ctx, ref, req, req.Name, p)
}

func (h *shared) send(ctx context.Context, ref durable.Ref, req *durable.Request, name string, p *commonpb.Payload) error {
	if err := h.tooLarge("the payload of signal", name, ref, p); err != nil {
		return err
	}
	if req.Ref.RunID == "" {
		ref.RunID = "" // the current run, also if it moved on meanwhile
	}
	_, err := h.client.WorkflowService().SignalWorkflowExecution(ctx, &workflowservice.SignalWorkflowExecutionRequest{
		Namespace: h.space, WorkflowExecution: execution(ref), SignalName: name, Input: payloads(p), Identity: h.identity(req), RequestId: req.ID,
	})
	return err
}

// hold pauses and resumes: by a signal of ours, which the run's code never
// sees.
func (h *shared) hold(ctx context.Context, req *durable.Request) (*durable.Reply, error) {
	return h.reach(ctx, req, func(info *described) (*durable.Reply, error) {
		if no := h.heeds(ctx, info, req.Op); no != nil {
			return no, nil
		}
		ref := refOf(info)
		p, err := h.request(req)
		if err != nil {
			return nil, err
		}
		return &durable.Reply{Ref: ref}, h.send(ctx, ref, req, doName, p)
	})
}

func (h *shared) cancel(ctx context.Context, req *durable.Request) (*durable.Reply, error) {
	return h.reach(ctx, req, func(info *described) (*durable.Reply, error) {
		ref := refOf(info)
		_, err := h.client.WorkflowService().RequestCancelWorkflowExecution(ctx, &workflowservice.RequestCancelWorkflowExecutionRequest{
			Namespace: h.space, WorkflowExecution: execution(ref), Identity: h.identity(req), RequestId: req.ID, Reason: req.Reason,
		})
		return &durable.Reply{Ref: ref}, err
	})
}

func (h *shared) terminate(ctx context.Context, req *durable.Request) (*durable.Reply, error) {
	return h.reach(ctx, req, func(info *described) (*durable.Reply, error) {
		ref := refOf(info)
		_, err := h.client.WorkflowService().TerminateWorkflowExecution(ctx, &workflowservice.TerminateWorkflowExecutionRequest{
			Namespace: h.space, WorkflowExecution: execution(ref), Identity: h.identity(req), Reason: req.Reason,
		})
		return &durable.Reply{Ref: ref}, err
	})
}

func (h *shared) update(ctx context.Context, req *durable.Request) (*durable.Reply, error) {
	return h.message(ctx, req, h.updateOf)
}

func (h *shared) updateOf(ctx context.Context, req *durable.Request, ref durable.Ref, name string) (*durable.Reply, error) {
	if no := h.host.Accepts(name, durable.KindUpdate, req.Name, ref); no != nil {
		return no, nil
	}
	p, err := h.signalPayload(req.Payload, signalMeta{By: req.Actor.Name, Trace: req.Trace})
	if err != nil {
		return nil, err
	}
	if err := h.tooLarge("the argument of update", req.Name, ref, p); err != nil {
		return nil, err
	}
	out, err := h.ask1(ctx, ref, req.ID, req.Name, p)
	if rep := replyOf(err); rep != nil {
		return rep, nil
	}
	if unknownUpdate(err) {
		return durable.Refuse(durable.ErrNoHandler, ref, "run %v has no handler for the update %q: its workflow sets one with Update.Handle before it first blocks", ref, req.Name), nil
	}
	if err != nil {
		return h.blocked(ctx, ref, err)
	}
	plain, err := h.plain(out)
	return &durable.Reply{Ref: ref, Payload: plain}, err
}

// ask1 sends an update and waits for its answer.
func (h *shared) ask1(ctx context.Context, ref durable.Ref, id, name string, p *commonpb.Payload) (*commonpb.Payload, error) {
	u, err := h.client.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		UpdateID: id, WorkflowID: ref.WorkflowID, RunID: ref.RunID, UpdateName: name,
		Args: []any{converter.NewRawValue(p)}, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err != nil {
		return nil, h.worked(ctx, err)
	}
	var raw converter.RawValue
	if err := u.Get(ctx, &raw); err != nil {
		return nil, h.worked(ctx, err)
	}
	return raw.Payload(), nil
}

// worked names the worker that is missing where somebody waited for one.
func (h *shared) worked(ctx context.Context, err error) error {
	var late *client.WorkflowUpdateServiceTimeoutOrCanceledError
	var deadline *serviceerror.DeadlineExceeded
	if ctx.Err() == nil && !errors.As(err, &late) && !errors.As(err, &deadline) {
		return err
	}
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	rep, derr := h.client.DescribeTaskQueue(look, h.queue, enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	if derr == nil && len(rep.GetPollers()) == 0 {
		return fmt.Errorf("%w on task queue %q: start one", durable.ErrNoWorker, h.queue)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// replyOf is the Reply in an error that the run's side made.
func replyOf(err error) *durable.Reply {
	var app *temporal.ApplicationError
	if !errors.As(err, &app) || app.Type() != replyType {
		return nil
	}
	var raw converter.RawValue
	rep := &durable.Reply{}
	if app.Details(&raw) != nil || unmarshal(raw.Payload(), rep) != nil {
		return nil
	}
	return rep
}

// settle answers a question, or completes a callback: by an update, since it
// is done once and the second one is told so.
func (h *shared) settle(ctx context.Context, req *durable.Request) (*durable.Reply, error) {
	runID, ok := durable.RunOf(req.Name)
	if !ok {
		return durable.Refuse(durable.ErrNotFound, req.Ref, "%s %q: not found", req.Op, req.Name), nil
	}
	ref, err := h.findRun(ctx, runID)
	if err != nil {
		return nil, err
	}
	if ref.WorkflowID == "" {
		return durable.Refuse(durable.ErrNotFound, req.Ref, "%s %q: not found; list the open questions to see which there are", req.Op, req.Name), nil
	}
	info, err := h.look(ctx, ref)
	if err != nil {
		return nil, err
	}
	if !mine(info, req.Actor) {
		return durable.Refuse(durable.ErrNotFound, req.Ref, "%s %q: not found", req.Op, req.Name), nil
	}
	if newest, err := h.look(ctx, durable.Ref{WorkflowID: ref.WorkflowID}); err == nil && sameChain(newest, info) {
		// The id has the run that the question was first asked in; the run may
		// have been reset, or continued.
		info, ref = newest, refOf(newest)
	}
	switch s := stateIn(info); {
	case s == durable.Terminated, s == durable.TimedOut:
		return durable.Refuse(durable.ErrFinished, ref, "%q is no longer open: run %v has ended (%s)", req.Name, ref, s), nil
	case s.Done():
		// It says how the question stood at the end.
		return h.ask(ctx, info, req)
	}
	p, err := h.request(req)
	if err != nil {
		return nil, err
	}
	if p, err = h.ask1(ctx, ref, req.ID, doName, p); err != nil {
		return h.blocked(ctx, ref, err)
	}
	rep := &durable.Reply{}
	return rep, h.open(p, rep)
}

func (h *shared) query(ctx context.Context, req *durable.Request) (*durable.Reply, error) {
	if name, ok := h.known(req); ok && h.host.Accepts(name, durable.KindQuery, req.Name, req.Ref) == nil {
		if rep := h.askAwake(ctx, req); rep != nil {
			return rep, nil
		}
	}
	info, no, err := h.aim(ctx, req)
	if err != nil || no != nil {
		return no, err
	}
	if no := h.host.Accepts(workflowOf(info), durable.KindQuery, req.Name, refOf(info)); no != nil {
		return no, nil
	}
	return h.ask(ctx, info, req)
}

func (h *shared) identity(req *durable.Request) string {
	if req.Actor.Name != "" {
		return req.Actor.Name
	}
	return h.opts.Identity
}

func execution(ref durable.Ref) *commonpb.WorkflowExecution {
	return &commonpb.WorkflowExecution{WorkflowId: ref.WorkflowID, RunId: ref.RunID}
}
