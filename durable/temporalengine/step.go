package temporalengine

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/mcpagent/mcpagent/durable"
)

// notRegisteredWait is how long a step waits that came to a worker which lacks
// it.
const notRegisteredWait = 5 * time.Second

// perform executes one attempt: it is the function behind each of our activity
// types.
func (h *shared) perform(ctx context.Context, input converter.RawValue) (converter.RawValue, error) {
	none := converter.RawValue{}
	h.steps.Add(1)
	defer h.steps.Add(-1)
	info := activity.GetInfo(ctx)
	meta := stepMeta{}
	if metaOf(input.Payload(), &meta) && meta.Options == nil {
		meta.Options = h.host.UsualTerms()
	}
	if meta.Key == "" { // called by somebody else's workflow
		meta.Key = info.WorkflowExecution.ID + "/" + info.WorkflowExecution.RunID + "/" + info.ActivityID
	}
	workflow := ""
	if info.WorkflowType != nil {
		workflow = info.WorkflowType.Name
	}
	stored, err := h.stored(input.Payload())
	var away *storageError
	if errors.As(err, &away) {
		return none, temporal.NewApplicationError(err.Error(), "storage")
	}
	if err != nil {
		return none, temporal.NewNonRetryableApplicationError(err.Error(), "bad_input", nil)
	}
	called := info.ScheduledTime
	if meta.Called > 0 {
		called = time.UnixMicro(meta.Called)
	}
	ctx, stop := untilAsked(ctx)
	defer stop()
	signs := signsOfLife(ctx, h.beat(), h.alive)
	defer signs.end()
	s := &durable.HostedStep{
		StepInfo: durable.StepInfo{
			Step: info.ActivityType.Name, Call: callOf(info.ActivityID), Key: meta.Key, Attempt: int(info.Attempt) + meta.Done,
			WorkflowID: info.WorkflowExecution.ID, RunID: info.WorkflowExecution.RunID, Workflow: workflow,
			Owner: meta.Owner, Trace: meta.Trace, Started: time.Now(),
		},
		Chain: meta.Chain, Called: called, Options: meta.Options, Input: stored, Headers: meta.Headers,
		Stop: activity.GetWorkerStopChannel(ctx),
		Cancelled: func() bool {
			select {
			case <-activity.GetWorkerStopChannel(ctx):
				return false
			default:
				var canceled *temporal.CanceledError
				return errors.As(context.Cause(ctx), &canceled)
			}
		},
		Blobs: &stepBlobs{h: h, ctx: ctx, info: &info},
		Beat:  signs.give,
	}
	if activity.HasHeartbeatDetails(ctx) {
		var last converter.RawValue
		if activity.GetHeartbeatDetails(ctx, &last) == nil {
			if b, err := h.plain(last.Payload()); err == nil && string(b) != "null" {
				s.Last = b
			}
		}
	}
	v := h.host.RunStep(ctx, s)
	if v.Failure == nil {
		var out converter.RawValue
		if out, v = h.resultOf(s, v); v.Failure == nil {
			return out, nil
		}
	}
	if v.Lost {
		// The attempt does not count: the run schedules the step anew.
		return none, temporal.NewApplicationErrorWithOptions(v.Failure.Message, lostType,
			temporal.ApplicationErrorOptions{NonRetryable: true, Details: []any{meta.Done + int(info.Attempt) - 1}})
	}
	return none, failureError(v.Failure, temporal.ApplicationErrorOptions{NonRetryable: !v.Retry, NextRetryDelay: v.Delay})
}

// untilAsked is the context of an attempt: the SDK's, which also ends where a sign
// of life did not get through. A step at work is not stopped by that.
func untilAsked(ctx context.Context) (context.Context, func()) {
	own, end := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		cause := context.Cause(ctx)
		var away *serviceerror.Unavailable
		var late *serviceerror.DeadlineExceeded
		if !errors.As(cause, &away) && !errors.As(cause, &late) {
			end(cause)
		}
	})
	return own, func() {
		stop()
		end(nil)
	}
}

// resultOf is the wire form of a step's result. One that is too large is the
// step's failure: it has taken effect, and another attempt would not help.
func (h *shared) resultOf(s *durable.HostedStep, v durable.Verdict) (converter.RawValue, durable.Verdict) {
	var meta any
	if s.Attempt > 1 {
		meta = resultMeta{s.Attempt}
	}
	out, err := h.raw(v.Result, meta)
	if err == nil {
		err = h.tooLarge("the result of step", s.Step, durable.Ref{WorkflowID: s.WorkflowID, RunID: s.RunID}, out.Payload())
	}
	if err != nil {
		var away *storageError
		v = h.host.Unsent(s, err, errors.As(err, &away))
	}
	return out, v
}

// alive tells the server that an attempt is at work, with what the step says of
// it, and learns whether it is to be cancelled.
func (h *shared) alive(ctx context.Context, details json.RawMessage) {
	if details == nil {
		activity.RecordHeartbeat(ctx)
		return
	}
	if stored, err := h.host.Seal(details); err == nil {
		if p, err := h.raw(stored, nil); err == nil {
			activity.RecordHeartbeat(ctx, p)
		}
	}
}

// lacks is performed for steps that this worker does not define: nothing has
// begun, and the run schedules the step anew.
func (h *shared) lacks(ctx context.Context, in converter.EncodedValues) (converter.RawValue, error) {
	info := activity.GetInfo(ctx)
	var raw converter.RawValue
	var meta stepMeta
	if in.HasValues() && in.Get(&raw) == nil {
		metaOf(raw.Payload(), &meta)
	}
	h.log.Warn("a step waits: this worker does not define it", "step", info.ActivityType.Name, "workflow_id", info.WorkflowExecution.ID)
	return converter.RawValue{}, temporal.NewApplicationErrorWithOptions("this worker does not define step "+info.ActivityType.Name, notRegistered,
		temporal.ApplicationErrorOptions{NonRetryable: true, Details: []any{meta.Done + int(info.Attempt) - 1}})
}

// lookName is the activity that tells a run that has ended from one that never
// was: to a workflow, Temporal says the same of both.
const lookName = "mcp-agent:look"

func (h *shared) lookup(ctx context.Context, q lookFor) (found, error) {
	info, err := h.look(ctx, q.Ref)
	if missing(err) {
		return found{}, nil
	}
	if err != nil {
		return found{}, err
	}
	f := found{State: stateIn(info)}
	if q.Signal != "" {
		if no := h.host.Accepts(workflowOf(info), durable.KindSignal, q.Signal, refOf(info)); no != nil {
			f.No = durable.FailureOf(durable.ReplyErr(no))
			return f, nil
		}
	}
	if q.Signal != "" && f.State.Done() {
		// It may have had the same signal while it could take it.
		rep, err := h.Do(ctx, &durable.Request{Op: durable.OpSignal, ID: q.ID, Ref: refOf(info), Name: q.Signal})
		f.Had = err == nil && rep.Err == nil
	}
	return f, nil
}

// lookFor is what lookup looks for, and found what it finds. An empty state is
// that of no run.
type lookFor struct {
	Ref    durable.Ref `json:"ref"`
	Signal string      `json:"signal,omitempty"`
	ID     string      `json:"id,omitempty"`
}

type found struct {
	State durable.State          `json:"state"`
	Had   bool                   `json:"had,omitempty"`
	No    *durable.StoredFailure `json:"no,omitempty"` // it does not take the signal
}

// callOf is the call id in an activity id, which has the step's name after it.
func callOf(activityID string) string {
	id, _, _ := strings.Cut(activityID, " ")
	return id
}

// stepBlobs is the content that a step stores and asks for.
type stepBlobs struct {
	h    *shared
	ctx  context.Context
	info *activity.Info
}

func (b *stepBlobs) PutBlob(digest string, stored []byte) error { return b.h.PutBlob(digest, stored) }

// GetBlob asks the store, and then the run itself: it has what its own code has
// put where there is no store, and what it has lent. A run that this process
// holds is asked without the server.
func (b *stepBlobs) GetBlob(digest string) ([]byte, error) {
	ref := durable.Ref{WorkflowID: b.info.WorkflowExecution.ID, RunID: b.info.WorkflowExecution.RunID}
	if run, ok := b.h.lenders.Load(ref); ok {
		if data := run.(*durable.Hosted).Lent(digest); data != nil {
			return b.h.host.Seal(data)
		}
	}
	if b.h.blobs != nil {
		if data, err := b.h.GetBlob(digest); !errors.Is(err, durable.ErrNotFound) {
			return data, err
		}
	}
	rep, err := b.h.read(b.ctx, &durable.Request{Op: durable.OpGetBlob, Name: digest, Ref: ref})
	if err != nil {
		return nil, err
	}
	if rep.Err != nil {
		return nil, durable.ReplyErr(rep)
	}
	return b.h.host.Seal(rep.Data)
}
