package temporalengine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/mcpagent/mcpagent/durable"
)

// Drop implements [durable.Cluster].
func (d *drive) Drop(id string) {
	c := d.byID[id]
	if c == nil {
		return
	}
	d.over(c)
	if c.cancel != nil {
		c.cancel()
	}
}

// Stop implements [durable.Cluster].
func (d *drive) Stop(id string) {
	c := d.byID[id]
	if c == nil {
		return
	}
	c.stop = true
	if c.cancel != nil {
		c.cancel()
	}
}

// Launch implements [durable.Cluster].
func (d *drive) Launch(hc *durable.HostedCall) {
	c := &call{HostedCall: hc}
	c.ctx, c.cancel = workflow.WithCancel(d.ctx)
	if d.byID == nil {
		d.byID = map[string]*call{}
	}
	switch hc.Kind {
	case "timer":
		d.alarm(c)
	case "question":
		if hc.Due > 0 {
			d.alarm(c)
		}
	case "step", "child", "message":
		d.byID[hc.Call.ID] = c
		d.send(c)
	case "stop":
		d.look(c) // Temporal says yes also where it is too late
	case "callback":
	}
	d.open = append(d.open, c)
	d.byID[hc.Call.ID] = c
}

// send carries out a call that has a value with it, when there is room for
// that.
func (d *drive) send(c *call) {
	if !d.spend(len(c.Payload)) {
		d.held = append(d.held, c)
		if d.breath == nil {
			d.breath = workflow.NewTimerWithOptions(d.ctx, time.Millisecond, workflow.TimerOptions{Summary: "more than one message takes"})
		}
		return
	}
	switch c.Kind {
	case "step":
		d.sendStep(c)
	case "child":
		d.startChild(c)
	case "message":
		ref := c.To
		if ref.WorkflowID == d.ref.WorkflowID && (ref.RunID == "" || ref.RunID == d.ref.RunID) {
			d.toSelf(c)
			return
		}
		d.look(c) // whether it is there, and takes the signal: Temporal sends it anything
	}
}

// signal sends a run's signal to a run that takes it.
func (d *drive) signal(c *call) {
	p := d.raw(c.Payload, signalMeta{ID: c.ID, By: "workflow " + d.ref.WorkflowID, Trace: c.Trace})
	if d.fits(c, "the payload of signal", p) {
		c.future = workflow.SignalExternalWorkflow(d.ctx, c.To.WorkflowID, c.To.RunID, c.Name, p)
	}
}

// release sends what was held up.
func (d *drive) release() {
	held := d.held
	d.held = nil
	for _, c := range held {
		if d.byID[c.Call.ID] == c {
			d.send(c)
		}
	}
}

// taskBytes is how much the values together may have that one workflow task
// sends, unless it is a single one: they are one message, of which the server
// takes 4 MB, and it terminates the run otherwise.
const taskBytes = 3 << 19

// spend reports whether the workflow task has room for a value, and takes it.
// It goes by the stored form of values, in a replay as well, and so must not
// depend on options.
func (d *drive) spend(n int) bool {
	if at := workflow.GetInfo(d.ctx).GetCurrentHistoryLength(); at != d.task {
		d.task, d.spent = at, 0
	}
	if d.spent > 0 && d.spent+n > taskBytes {
		return false
	}
	d.spent += n
	return true
}

// room waits until there is room for a value.
func (d *drive) room(n int) error {
	for !d.spend(n) {
		if err := workflow.Sleep(d.ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// toSelf delivers a signal that a run sends to itself, which Temporal refuses.
func (d *drive) toSelf(c *call) {
	ev := &durable.StoredEvent{Kind: "done", Call: c.Call.ID}
	if no := d.h.host.Accepts(d.run.Row().Name, durable.KindSignal, c.Name, d.ref); no != nil {
		ev.Failure = durable.FailureOf(durable.ReplyErr(no))
	} else {
		d.in.items = append(d.in.items, item{event: &durable.StoredEvent{Kind: "signaled", ID: c.ID, Name: c.Name, By: "workflow " + d.ref.WorkflowID, Trace: c.Trace, Payload: c.Payload}})
	}
	d.in.items = append(d.in.items, item{event: ev})
}

// longest is the longest timer that the cluster is asked for: its times end in
// the year 2262, and a duration in 292 years.
const longest = 100 * 365 * 24 * time.Hour

// alarm starts the timer of a call that is due at some time: for what is left
// of it, never less than a moment, for one that is due fires at once. Where
// more is left than a timer takes, another one follows.
func (d *drive) alarm(c *call) {
	summary := c.Call.ID + " " + c.Name
	if c.Kind == "question" {
		summary = c.Call.ID + " question " + c.Name + " expires"
	}
	left := c.Due - d.Now()
	c.more = left > longest.Microseconds()
	wait := time.Duration(min(left, longest.Microseconds())) * time.Microsecond
	c.future = workflow.NewTimerWithOptions(c.ctx, max(wait, time.Millisecond), workflow.TimerOptions{Summary: summary})
}

func (d *drive) sendStep(c *call) {
	row := d.run.Row()
	s := c.Step
	o := workflow.ActivityOptions{
		ActivityID: activityID(c), TaskQueue: s.Queue, WaitForCancellation: true,
		StartToCloseTimeout: s.Timeout, ScheduleToCloseTimeout: s.TotalTimeout, ScheduleToStartTimeout: s.QueueTimeout,
		HeartbeatTimeout: d.h.silence(),
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: s.Initial, BackoffCoefficient: s.Backoff, MaximumInterval: s.Max,
			NonRetryableErrorTypes: s.NonRetryable},
	}
	if o.StartToCloseTimeout <= 0 {
		o.StartToCloseTimeout = durable.DefaultStepTimeout
	}
	// The worker ends an attempt in time, and says what it knows of it. The
	// server only steps in where it does not.
	o.StartToCloseTimeout += timeoutGrace
	if s.MaxAttempts > 0 {
		o.RetryPolicy.MaximumAttempts = int32(max(1, s.MaxAttempts-c.done))
	}
	if s.AtMostOnce {
		o.RetryPolicy.MaximumAttempts = 1
	}
	if s.Queue != "" && !d.h.host.Defines(durable.KindStep, c.Name) {
		o.HeartbeatTimeout = s.Heartbeat // others may give no signs of life
	}
	if i, ok := d.h.defs.Info(durable.KindStep, c.Name); ok {
		o.Summary = i.Title
	}
	meta := stepMeta{Key: c.Key, Owner: row.Owner, Trace: d.run.Trace(), Headers: c.Headers, Done: c.done}
	if !bytes.Equal(c.Options, d.h.host.UsualTerms()) {
		meta.Options = c.Options
	}
	if c.sent > 0 || c.At != d.Now() {
		meta.Called = c.At
	}
	if row.Chain != row.RunID {
		meta.Chain = row.Chain
	}
	p := d.raw(c.Payload, meta)
	if d.fits(c, "the input of step", p) {
		c.future = workflow.ExecuteActivity(workflow.WithActivityOptions(c.ctx, o), c.Name, p)
	}
}

// fits reports whether the cluster takes what a call sends. If not, that is
// the call's outcome: a command that is too large would fail the workflow task
// again and again.
func (d *drive) fits(c *call, what string, p converter.RawValue) bool {
	no := d.large(c.Call.ID, what, c.Name, p.Payload())
	if no == nil {
		return true
	}
	d.in.items = append(d.in.items, item{event: &durable.StoredEvent{Kind: "done", Call: c.Call.ID, Failure: durable.FailureOf(no)}})
	return false
}

// activityID has the name in it, for the SDK does not look at it where a run
// ends in the task that it checks: code that calls another step must be found
// out.
func activityID(c *call) string {
	id := c.Call.ID + " " + c.Name
	if c.sent > 0 {
		id += fmt.Sprintf("~%d", c.sent)
	}
	return id
}

func (d *drive) startChild(c *call) {
	meta := d.run.ChildMeta(c.HostedCall, d.ref)
	o := workflow.ChildWorkflowOptions{
		WorkflowID: c.Child.ID, WaitForCancellation: true, StaticSummary: c.Call.ID + " " + c.Name, WorkflowExecutionTimeout: c.Child.Timeout,
		WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		ParentClosePolicy:     enumspb.PARENT_CLOSE_POLICY_REQUEST_CANCEL,
		Memo:                  map[string]any{memoStart: converter.NewRawValue(plainJSON(inMemo(meta)))},
	}
	o.TaskQueue = c.Child.Queue
	switch c.Child.ParentClose {
	case durable.ParentCloseTerminate:
		o.ParentClosePolicy = enumspb.PARENT_CLOSE_POLICY_TERMINATE
	case durable.ParentCloseAbandon:
		o.ParentClosePolicy = enumspb.PARENT_CLOSE_POLICY_ABANDON
	}
	p := d.raw(c.Payload, meta)
	if !d.fits(c, "the input of workflow", p) {
		return
	}
	c.child = workflow.ExecuteChildWorkflow(workflow.WithChildOptions(c.ctx, o), c.Name, p)
	c.future = c.child
}

// timeoutGrace is how long the server waits beyond an attempt's timeout.
const timeoutGrace = 5 * time.Second

// inMemo is what of a start everybody may read.
func inMemo(m durable.StartMeta) durable.StartMeta {
	m.Headers, m.Secret, m.Trace, m.Scope = nil, "", "", ""
	return m
}

// take makes items of what Temporal has for a call.
func (d *drive) take(c *call) (out []item) {
	id := c.Call.ID
	c.queued = false
	if d.byID[id] != c {
		return nil // given up meanwhile
	}
	if c.delay != nil {
		if c.delay.IsReady() {
			c.delay = nil
			if c.stop {
				d.over(c)
				return []item{{event: &durable.StoredEvent{Kind: "done", Call: id, Failure: durable.FailureOf(fmt.Errorf("cancelled before it started: %w", context.Canceled))}}}
			}
			d.send(c)
		}
		return nil
	}
	if c.child != nil && !c.started && c.child.GetChildWorkflowExecution().IsReady() {
		c.started = true
		var x workflow.Execution
		if err := c.child.GetChildWorkflowExecution().Get(d.ctx, &x); err == nil {
			addr, err := d.h.host.Seal(jsonOf(durable.Ref{WorkflowID: x.ID, RunID: x.RunID}))
			if err == nil {
				out = append(out, item{event: &durable.StoredEvent{Kind: "running", Call: id, Payload: addr}})
			}
		}
	}
	if c.future == nil || !c.future.IsReady() {
		return out
	}
	if c.more && !c.stop {
		d.alarm(c)
		return out
	}
	ev := &durable.StoredEvent{Kind: "done", Call: id}
	var raw converter.RawValue
	switch c.Kind {
	case "timer":
		_ = c.future.Get(d.ctx, nil)
		ev.Kind = "fired"
	case "question":
		d.over(c)
		return append(out, item{expired: id})
	case "step":
		if !d.stepOver(c, c.future.Get(d.ctx, &raw), &raw, ev) {
			return out
		}
	case "child":
		err := c.future.Get(d.ctx, &raw)
		if err == nil {
			ev.Payload, err = d.stored(raw.Payload())
		}
		if err != nil {
			ev.Failure = d.childFailure(c, err)
		}
	case "message", "stop":
		if c.looks {
			f, no := d.unheard(c)
			if ev.Failure = no; no == nil && !f.Had {
				c.looks, c.future = false, nil
				if c.Kind == "stop" {
					c.future = workflow.RequestCancelExternalWorkflow(d.ctx, c.To.WorkflowID, c.To.RunID)
				} else {
					d.signal(c)
				}
				return out
			}
			break
		}
		err := c.future.Get(d.ctx, nil)
		var unknown *temporal.UnknownExternalWorkflowExecutionError
		if errors.As(err, &unknown) {
			d.look(c)
			return out
		}
		if err != nil {
			ev.Failure = durable.FailureOf(fmt.Errorf("%s run %v: %w", verb(c), c.To, err))
		}
	}
	d.over(c)
	return append(out, item{event: ev})
}

// over forgets a call that has its outcome.
func (d *drive) over(c *call) {
	delete(d.byID, c.Call.ID)
	if i := slices.Index(d.open, c); i >= 0 {
		d.open = slices.Delete(d.open, i, i+1)
	}
}

// lostType is the type of the failure of an attempt whose worker ended.
const lostType = "durable.lost"

// notRegistered is the type of the failure of a worker that lacks an activity.
const notRegistered = "ActivityNotRegisteredError"

// stepOver reads the outcome of a step; false if it has none yet.
func (d *drive) stepOver(c *call, err error, raw *converter.RawValue, ev *durable.StoredEvent) bool {
	var app *temporal.ApplicationError
	var timeout *temporal.TimeoutError
	var canceled *temporal.CanceledError
	switch {
	case err == nil:
		if ev.Payload, err = d.stored(raw.Payload()); err != nil {
			ev.Failure = durable.FailureOf(err)
		}
		m := resultMeta{}
		if metaOf(raw.Payload(), &m) || c.Step.Queue == "" {
			ev.Attempt = max(m.Attempt, 1)
		}
	case errors.As(err, &timeout):
		why := "the step's " + timeoutName(timeout.TimeoutType()) + " ran out"
		switch timeout.TimeoutType() {
		case enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START:
			ev.Failure = durable.NotStarted(why)
		default:
			if cause := errors.Unwrap(timeout); cause != nil && errors.As(cause, &app) {
				ev.Failure = failureOf(app)
			} else {
				ev.Failure = c.Lost(why, max(1, c.Step.MaxAttempts))
			}
		}
	case errors.As(err, &app):
		switch app.Type() {
		case lostType:
			// Its worker ended in good order: the attempt does not count.
			c.sent++
			_ = app.Details(&c.done)
			if c.stop {
				ev.Failure = durable.FailureOf(context.Canceled)
				return true
			}
			c.future = nil
			d.send(c)
			return false
		case notRegistered:
			// A worker that lacks the step took it: nothing has begun.
			c.sent++
			_ = app.Details(&c.done)
			c.future = nil
			c.delay = workflow.NewTimerWithOptions(c.ctx, notRegisteredWait, workflow.TimerOptions{Summary: "a worker lacks step " + c.Name})
			d.run.Note(&durable.StoredNote{Kind: "not_defined", Call: c.Call.ID})
			return false
		}
		ev.Failure = failureOf(app)
	case errors.As(err, &canceled):
		ev.Failure = durable.FailureOf(fmt.Errorf("cancelled before it started: %w", context.Canceled))
	default:
		ev.Failure = failureOf(err)
	}
	if ev.Failure != nil {
		var spent *temporal.ActivityError
		if ev.Failure.Attempts == 0 && errors.As(err, &spent) && spent.RetryState() == enumspb.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED {
			ev.Failure.Attempts = c.Step.MaxAttempts // somebody else's: they did not count
		}
		ev.Attempt = ev.Failure.Attempts
	}
	return true
}

func timeoutName(t enumspb.TimeoutType) string {
	switch t {
	case enumspb.TIMEOUT_TYPE_START_TO_CLOSE:
		return "timeout"
	case enumspb.TIMEOUT_TYPE_HEARTBEAT:
		return "time for a sign of life of its worker"
	case enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START:
		return "QueueTimeout"
	}
	return "total timeout"
}

// childFailure tells how a child ended.
func (d *drive) childFailure(c *call, err error) *durable.StoredFailure {
	ref := durable.Ref{WorkflowID: c.Child.ID}
	var taken *temporal.ChildWorkflowExecutionAlreadyStartedError
	if errors.As(err, &taken) {
		return durable.FailureOf(fmt.Errorf("start child workflow %q: %w", c.Name, &durable.TakenError{
			WorkflowID: c.Child.ID, Text: fmt.Sprintf("workflow id %q is taken by another run", c.Child.ID)}))
	}
	var x workflow.Execution
	if c.child.GetChildWorkflowExecution().IsReady() && c.child.GetChildWorkflowExecution().Get(d.ctx, &x) == nil {
		ref.RunID = x.RunID
	}
	var app *temporal.ApplicationError
	var canceled *temporal.CanceledError
	var timeout *temporal.TimeoutError
	var terminated *temporal.TerminatedError
	switch {
	case errors.As(err, &canceled):
		return durable.ChildFailure(ref, durable.Cancelled, canceledFailure(canceled))
	case errors.As(err, &app):
		return durable.ChildFailure(ref, durable.Failed, failureOf(app))
	case errors.As(err, &timeout):
		return durable.ChildFailure(ref, durable.TimedOut, runTimedOut())
	case errors.As(err, &terminated):
		return durable.ChildFailure(ref, durable.Terminated, nil)
	}
	return durable.FailureOf(err)
}

func runTimedOut() *durable.StoredFailure {
	return &durable.StoredFailure{Type: "timeout", Kind: "timeout", Message: "the run's timeout ran out"}
}

func canceledFailure(c *temporal.CanceledError) *durable.StoredFailure {
	var raw converter.RawValue
	if c.HasDetails() && c.Details(&raw) == nil {
		f := &durable.StoredFailure{}
		if unmarshal(raw.Payload(), f) == nil && f.Type != "" {
			return f
		}
	}
	return durable.FailureOf(context.Canceled)
}

// look asks the cluster, by an activity, whether a run is there.
func (d *drive) look(c *call) {
	c.looks = true
	q := lookFor{Ref: c.To}
	if c.Kind == "message" {
		q.Signal, q.ID = c.Name, c.ID
	}
	o := workflow.ActivityOptions{ActivityID: c.Call.ID + "~look", StartToCloseTimeout: time.Minute, Summary: "is it there"}
	c.future = workflow.ExecuteActivity(workflow.WithActivityOptions(d.ctx, o), lookName, q)
}

// unheard says why a message can't arrive; nil if it can, or has.
func (d *drive) unheard(c *call) (f found, no *durable.StoredFailure) {
	if err := c.future.Get(d.ctx, &f); err != nil {
		return f, durable.FailureOf(fmt.Errorf("%s run %v: %w", verb(c), c.To, failureText(err)))
	}
	switch {
	case f.No != nil:
		return f, f.No
	case f.Had, f.State != "" && !f.State.Done():
		return f, nil
	case f.State == "":
		return f, durable.FailureOf(fmt.Errorf("%s run %v: %w", verb(c), c.To, durable.ErrNotFound))
	}
	return f, durable.FailureOf(fmt.Errorf("%s run %v (%s): %w", verb(c), c.To, f.State, durable.ErrFinished))
}

func failureText(err error) error { return durable.ErrorOf(failureOf(err)) }

func verb(c *call) string {
	if c.Kind == "stop" {
		return "cancel"
	}
	return "signal"
}
