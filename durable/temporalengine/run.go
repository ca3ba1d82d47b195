package temporalengine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/mcpagent/mcpagent/durable"
)

// drive executes a run: it is the function behind each of our workflow types.
// The run itself is a durable.Hosted; what is done here is to bring it what
// Temporal has for it, in order, and to turn its calls into commands.
type drive struct {
	h      *shared
	root   workflow.Context // the run's own, whose cancel reaches it
	ctx    workflow.Context // for commands: not cancelled with it
	in     *inbound
	run    *durable.Hosted
	open   []*call // in the order in which they were made
	byID   map[string]*call
	id     string
	cancel bool // was handed on
	begun  bool
	tree   []*durable.Request
	shown  published
	fresh  []string // updates that the code takes since this turn
}

// published is what of the run the memo has.
type published struct{ status, paused, asks string }

// call is a call whose outcome Temporal will bring.
type call struct {
	*durable.HostedCall
	ctx     workflow.Context
	cancel  workflow.CancelFunc
	future  workflow.Future
	child   workflow.ChildWorkflowFuture
	started bool // child: it is told
	stop    bool
	looks   bool // message: its future looks whether the run is there
	queued  bool // an item says that there is something
	sent    int  // not started before, for want of a worker that has it
	done    int  // attempts made before that
	delay   workflow.Future
}

// item is something for the run, in the order in which it came: one of these.
type item struct {
	call    *call // Temporal has something for it
	event   *durable.StoredEvent
	request *durable.Request
	cancel  bool
	expired string // question
	asked   *asked
}

// asked is an update that waits for its answer: the workflow's own, or an
// operation.
type asked struct {
	event   *durable.StoredEvent
	request *durable.Request
	reply   *durable.Reply
}

// inbound takes what comes for a run before the SDK sorts it: signals of all
// names, in their order, as they are.
type inbound struct {
	interceptor.WorkflowInboundInterceptorBase
	h     *shared
	d     *drive
	items []item
}

type inboundKey struct{}

func (i *inbound) ExecuteWorkflow(ctx workflow.Context, in *interceptor.ExecuteWorkflowInput) (any, error) {
	return i.Next.ExecuteWorkflow(workflow.WithValue(ctx, inboundKey{}, i), in)
}

func (i *inbound) HandleSignal(_ workflow.Context, in *interceptor.HandleSignalInput) error {
	if i.d != nil {
		i.d.collect() // what came before it
	}
	p := first(in.Arg)
	if in.SignalName == doName {
		req := &durable.Request{}
		if err := unmarshal(p, req); err == nil {
			i.items = append(i.items, item{request: req})
		}
		return nil
	}
	var m signalMeta
	metaOf(p, &m)
	stored, err := i.h.stored(p)
	if err != nil {
		// It is consumed, and whoever receives it is told what is wrong.
		stored, _ = i.h.host.Seal(jsonOf(err.Error()))
	}
	i.items = append(i.items, item{event: &durable.StoredEvent{Kind: "signaled", ID: m.ID, Name: in.SignalName, By: m.By, Trace: m.Trace, Payload: stored}})
	return nil
}

// execute is the workflow function of every type that we register.
func (h *shared) execute(ctx workflow.Context, input, carry converter.RawValue) (converter.RawValue, error) {
	none := converter.RawValue{}
	in, _ := ctx.Value(inboundKey{}).(*inbound)
	if in == nil {
		return none, errors.New("the worker lacks the interceptor of temporalengine: its options need what temporalengine.NewPlugin makes")
	}
	info := workflow.GetInfo(ctx)
	d := &drive{h: h, id: info.WorkflowExecution.ID, root: ctx, in: in, byID: map[string]*call{}}
	d.ctx, _ = workflow.NewDisconnectedContext(ctx)
	start, err := h.startOf(input.Payload(), carry.Payload(), &durable.HostedStart{
		WorkflowID: info.WorkflowExecution.ID, RunID: info.OriginalRunID, Chain: info.FirstRunID, Workflow: info.WorkflowType.Name,
		Created: info.WorkflowStartTime.UnixMicro(),
	})
	if err != nil {
		return none, temporal.NewApplicationErrorWithOptions("the input of the run: "+err.Error(), "bad_input", temporal.ApplicationErrorOptions{NonRetryable: true})
	}
	if d.run, err = h.host.Begin(d, start); err != nil {
		panic(problem(&durable.Problem{Kind: "payload", Text: err.Error()}))
	}
	defer d.run.Close()
	in.d = d
	if err := d.queries(); err != nil {
		return none, err
	}
	return d.loop()
}

// startOf completes what a run begins with from its input.
func (h *shared) startOf(input, carry *commonpb.Payload, s *durable.HostedStart) (*durable.HostedStart, error) {
	if !metaOf(input, &s.Meta) {
		s.Meta.Digest = "foreign" // started by somebody else
	}
	// The runs of a schedule, and those started by somebody else, share one.
	s.Meta.Secret = durable.BlobDigest([]byte(s.Meta.Secret + "\x00" + s.RunID))
	s.Scope, s.Carry = s.Meta.Scope, carry.GetData()
	stored, err := h.stored(input)
	if err == nil && stored == nil {
		stored, err = h.host.Seal([]byte("null"))
	}
	s.Input = stored
	return s, err
}

func (d *drive) loop() (converter.RawValue, error) {
	// What came with the start is one turn with it, as on every engine.
	d.run.Start()
	for {
		d.work()
		if p := d.run.Problem(); p != nil {
			panic(problem(p))
		}
		if !d.begun {
			d.begun = true
			if err := d.updates(); err != nil {
				return converter.RawValue{}, err
			}
		}
		for _, name := range d.fresh {
			d.handle(name)
		}
		d.fresh = nil
		d.publish()
		if row := d.run.Row(); durable.State(row.State).Done() {
			if err := d.farewell(row); err != nil {
				return converter.RawValue{}, err
			}
			return d.end(row)
		}
		if err := workflow.Await(d.ctx, d.ready); err != nil {
			return converter.RawValue{}, err
		}
		if d.h.closed.Load() {
			panic(evicted)
		}
	}
}

// evicted is the panic of a run that the SDK kept in memory beyond the life of
// its engine: the cache is the process's, and another engine that was opened
// in it must not go on with this one's code. The task is tried again at once,
// from a replay.
const evicted = "durable: the engine that had the run in memory was closed; it is taken up again"

// problem is the panic that fails the workflow task. Temporal tries it again,
// and shows it; a client reads it as a durable.Problem.
func problem(p *durable.Problem) string { return problemMark + string(jsonOf(p)) }

const problemMark = "durable.Problem "

// ready reports whether there is something for the run.
func (d *drive) ready() bool {
	if len(d.in.items) > 0 || !d.cancel && d.root.Err() != nil {
		return true
	}
	for _, c := range d.open {
		if !c.queued && c.is() {
			return true
		}
	}
	return false
}

// is reports whether Temporal has something for the call.
func (c *call) is() bool {
	return c.future != nil && c.future.IsReady() || c.child != nil && !c.started && c.child.GetChildWorkflowExecution().IsReady() || c.delay != nil && c.delay.IsReady()
}

// collect notes which calls have their outcomes, and a cancel. It only looks:
// it is also called while the SDK sorts a signal, which comes after them.
func (d *drive) collect() {
	if !d.begun {
		return
	}
	if !d.cancel && d.root.Err() != nil {
		d.cancel = true
		d.in.items = append(d.in.items, item{cancel: true})
	}
	for _, c := range d.open {
		if !c.queued && c.is() {
			c.queued = true
			d.in.items = append(d.in.items, item{call: c})
		}
	}
}

// work gives the run all that is there, and carries its calls out.
func (d *drive) work() {
	watch := time.AfterFunc(d.h.watchdog(), func() {
		// The SDK fails the task, with the stack of its own goroutine. This
		// is the one to look at.
		d.h.log.Error("the code of a run does not come back from outside of durable", "workflow_id", d.id, "stack", durable.StuckStacks())
	})
	defer watch.Stop()
	for {
		d.collect()
		items := d.in.items
		if len(items) == 0 || d.stands() {
			return
		}
		d.in.items = nil
		var evs []*durable.StoredEvent
		flush := func() {
			if len(evs) > 0 {
				d.run.Deliver(evs)
				evs = nil
			}
		}
		for i := 0; i < len(items); i++ {
			it := items[i]
			if it.call != nil {
				items = slices.Insert(items, i+1, d.take(it.call)...)
				continue
			}
			if it.event != nil {
				evs = append(evs, it.event)
				continue
			}
			flush()
			switch {
			case it.request != nil:
				d.run.Do(it.request)
			case it.cancel:
				d.run.Cancel("", "")
			case it.expired != "":
				d.run.Expire(it.expired)
			case it.asked != nil && it.asked.request != nil:
				it.asked.reply = d.run.Do(it.asked.request)
			case it.asked != nil:
				d.run.Update(it.asked.event, func(rep *durable.Reply) { it.asked.reply = rep })
			}
		}
		flush()
	}
}

// stands reports whether the run takes nothing more.
func (d *drive) stands() bool {
	return d.run.Problem() != nil || durable.State(d.run.Row().State).Done()
}

// farewell answers those who wait for an answer of a run that has ended:
// Temporal would fail them in its own words.
func (d *drive) farewell(row *durable.StoredRun) error {
	for _, it := range d.in.items {
		if it.asked != nil && it.asked.reply == nil {
			ref := durable.Ref{WorkflowID: row.WorkflowID, RunID: row.RunID}
			it.asked.reply = durable.Refuse(durable.ErrFinished, ref, "run %v has ended (%s); start a new one", ref, row.State)
		}
	}
	return workflow.Await(d.ctx, func() bool { return workflow.AllHandlersFinished(d.ctx) })
}

// end is what the workflow function returns for a run that has ended.
func (d *drive) end(row *durable.StoredRun) (converter.RawValue, error) {
	none := converter.RawValue{}
	switch durable.State(row.State) {
	case durable.Completed:
		return d.h.raw(row.Result, nil), nil
	case durable.Continued:
		input, carry, err := d.run.Carry()
		if err != nil {
			return none, err
		}
		return none, workflow.NewContinueAsNewError(d.ctx, row.Name, d.h.raw(input, nil), converter.NewRawValue(rawJSON(carry)))
	case durable.Cancelled:
		return none, temporal.NewCanceledError(converter.NewRawValue(plainJSON(row.Failure)))
	}
	return none, failureError(row.Failure, temporal.ApplicationErrorOptions{NonRetryable: true})
}

// queries sets the handlers of what the workflow may be asked.
func (d *drive) queries() error {
	do := func(in converter.RawValue) (converter.RawValue, error) {
		if d.h.closed.Load() {
			return converter.RawValue{}, errors.New(evicted)
		}
		req := &durable.Request{}
		if err := unmarshal(in.Payload(), req); err != nil {
			return converter.RawValue{}, err
		}
		return converter.NewRawValue(plainJSON(d.run.Do(req))), nil
	}
	if err := workflow.SetQueryHandler(d.ctx, doName, do); err != nil {
		return err
	}
	for _, name := range d.h.host.Queries(d.run.Row().Name) {
		if err := workflow.SetQueryHandler(d.ctx, name, func(in converter.RawValue) (converter.RawValue, error) {
			stored, err := d.h.stored(in.Payload())
			if err != nil {
				return converter.RawValue{}, err
			}
			plain, err := d.h.host.Unseal(stored)
			if err != nil {
				return converter.RawValue{}, err
			}
			rep := d.run.Do(&durable.Request{Op: durable.OpQuery, Name: name, Payload: plain})
			if rep.Err != nil {
				return converter.RawValue{}, errors.New(rep.Err.Message)
			}
			out, err := d.h.host.Seal(rep.Payload)
			if err != nil {
				return converter.RawValue{}, err
			}
			return d.h.raw(out, nil), nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// updates sets the handler of our own update. It comes after the first turn:
// as long as no handler is set the SDK keeps updates that came with the start.
func (d *drive) updates() error {
	return workflow.SetUpdateHandlerWithOptions(d.ctx, doName, func(ctx workflow.Context, in converter.RawValue) (converter.RawValue, error) {
		req := &durable.Request{}
		if err := unmarshal(in.Payload(), req); err != nil {
			return converter.RawValue{}, err
		}
		rep, err := d.ask(ctx, &asked{request: req})
		if err != nil {
			return converter.RawValue{}, err
		}
		return converter.NewRawValue(plainJSON(rep)), nil
	}, workflow.UpdateHandlerOptions{})
}

// ask gives the run something that it answers, and waits for that.
func (d *drive) ask(ctx workflow.Context, a *asked) (*durable.Reply, error) {
	d.in.items = append(d.in.items, item{asked: a})
	ctx, _ = workflow.NewDisconnectedContext(ctx) // the run's cancel is the run's affair
	err := workflow.Await(ctx, func() bool { return a.reply != nil })
	return a.reply, err
}

// replyError carries a Reply's error over the wire.
func replyError(rep *durable.Reply) error {
	return temporal.NewApplicationErrorWithOptions(rep.Err.Message, replyType, temporal.ApplicationErrorOptions{
		NonRetryable: true, Details: []any{converter.NewRawValue(plainJSON(rep))},
	})
}

const replyType = "durable.Reply"

// --- durable.Cluster

// Now implements [durable.Cluster].
func (d *drive) Now() int64 { return workflow.Now(d.ctx).UnixMicro() }

// Replaying implements [durable.Cluster].
func (d *drive) Replaying() bool { return workflow.IsReplaying(d.ctx) }

// Handles implements [durable.Cluster]. The handler is set after the turn: the
// SDK runs updates that wait for it while it is set, and the run's code, in the
// middle of its turn, would be asked about them.
func (d *drive) Handles(name string) { d.fresh = append(d.fresh, name) }

// handle sets the handler of one of the workflow's updates.
func (d *drive) handle(name string) {
	err := workflow.SetUpdateHandlerWithOptions(d.ctx, name, func(ctx workflow.Context, in converter.RawValue) (converter.RawValue, error) {
		ev, err := d.updateEvent(ctx, name, in)
		if err != nil {
			return converter.RawValue{}, err
		}
		rep, err := d.ask(ctx, &asked{event: ev})
		if err != nil {
			return converter.RawValue{}, err
		}
		if rep.Err != nil {
			return converter.RawValue{}, replyError(rep)
		}
		out, err := d.h.host.Seal(rep.Payload)
		if err != nil {
			return converter.RawValue{}, err
		}
		return d.h.raw(out, nil), nil
	}, workflow.UpdateHandlerOptions{
		UnfinishedPolicy: workflow.HandlerUnfinishedPolicyAbandon, // the run sees to it
		Validator: func(ctx workflow.Context, in converter.RawValue) error {
			ev, err := d.updateEvent(ctx, name, in)
			if err != nil {
				return err
			}
			if no := d.run.MayUpdate(ev.ID, name, ev.Payload); no != nil {
				return replyError(no)
			}
			return nil
		},
	})
	if err != nil {
		panic(problem(&durable.Problem{Kind: "panic", Text: fmt.Sprintf("set the handler of update %q: %v", name, err)}))
	}
}

func (d *drive) updateEvent(ctx workflow.Context, name string, in converter.RawValue) (*durable.StoredEvent, error) {
	stored, err := d.h.stored(in.Payload())
	if err != nil {
		return nil, err
	}
	var m signalMeta
	metaOf(in.Payload(), &m)
	return &durable.StoredEvent{Kind: "asked", ID: workflow.GetCurrentUpdateInfo(ctx).ID, Name: name, By: m.By, Trace: m.Trace, Payload: stored}, nil
}

// Record implements [durable.Cluster].
func (d *drive) Record(fn func() []byte) []byte {
	var raw converter.RawValue
	err := workflow.SideEffect(d.ctx, func(workflow.Context) any { return converter.NewRawValue(rawJSON(fn())) }).Get(&raw)
	if err != nil {
		panic(problem(&durable.Problem{Kind: "payload", Text: fmt.Sprintf("read a side effect: %v", err)}))
	}
	return raw.Payload().GetData()
}

// Version implements [durable.Cluster].
func (d *drive) Version(change string, max int) int {
	return int(workflow.GetVersion(d.ctx, change, workflow.DefaultVersion, workflow.Version(max)))
}

// Seed implements [durable.Cluster].
func (d *drive) Seed(name string, b []byte) {
	_, _ = workflow.GetRandomStream(d.ctx, "durable/"+name).Read(b)
}

// Tree implements [durable.Cluster].
func (d *drive) Tree(req *durable.Request) {
	for _, c := range d.open {
		if c.child == nil || !c.started {
			continue
		}
		r := *req
		r.Ref = durable.Ref{}
		workflow.SignalExternalWorkflow(d.ctx, c.Child.ID, "", doName, converter.NewRawValue(plainJSON(&r)))
	}
}

// PutBlob implements [durable.Cluster].
func (d *drive) PutBlob(digest string, stored []byte) error { return d.h.PutBlob(digest, stored) }

// GetBlob implements [durable.Cluster].
func (d *drive) GetBlob(digest string) ([]byte, error) { return d.h.GetBlob(digest) }

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
	switch hc.Kind {
	case "timer":
		c.future = workflow.NewTimerWithOptions(c.ctx, d.until(hc.Due), workflow.TimerOptions{Summary: hc.Call.ID + " " + hc.Name})
	case "question":
		if hc.Due > 0 {
			c.future = workflow.NewTimerWithOptions(c.ctx, d.until(hc.Due), workflow.TimerOptions{Summary: hc.Call.ID + " question " + hc.Name + " expires"})
		}
	case "step":
		d.sendStep(c)
	case "child":
		d.startChild(c)
	case "message":
		ref := hc.To
		if row := d.run.Row(); ref.WorkflowID == row.WorkflowID && (ref.RunID == "" || ref.RunID == row.RunID) {
			d.toSelf(c)
			break
		}
		c.future = workflow.SignalExternalWorkflow(d.ctx, ref.WorkflowID, ref.RunID, hc.Name, d.h.raw(hc.Payload, signalMeta{ID: hc.ID, By: "workflow " + d.run.Row().WorkflowID, Trace: hc.Trace}))
	case "stop":
		d.look(c) // Temporal says yes also where it is too late
	case "callback":
	}
	d.open = append(d.open, c)
	d.byID[hc.Call.ID] = c
}

// toSelf delivers a signal that a run sends to itself, which Temporal refuses.
func (d *drive) toSelf(c *call) {
	row := d.run.Row()
	ev := &durable.StoredEvent{Kind: "done", Call: c.Call.ID}
	ref := durable.Ref{WorkflowID: row.WorkflowID, RunID: row.RunID}
	if no := d.h.host.Accepts(row.Name, durable.KindSignal, c.Name, ref); no != nil {
		ev.Failure = durable.FailureOf(durable.ReplyErr(no))
	} else {
		d.in.items = append(d.in.items, item{event: &durable.StoredEvent{Kind: "signaled", ID: c.ID, Name: c.Name, By: "workflow " + row.WorkflowID, Payload: c.Payload}})
	}
	d.in.items = append(d.in.items, item{event: ev})
}

// until is the time that is left, never less than a moment: a timer that is
// due fires at once.
func (d *drive) until(due int64) time.Duration {
	return max(time.Duration(due-d.Now())*time.Microsecond, time.Millisecond)
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
	meta := stepMeta{Key: c.Key, Options: c.Options, Workflow: row.Name, Owner: row.Owner, Trace: d.run.Trace(), Headers: c.Headers, Called: c.At, Done: c.done}
	if row.Chain != row.RunID {
		meta.Chain = row.Chain
	}
	c.future = workflow.ExecuteActivity(workflow.WithActivityOptions(c.ctx, o), c.Name, d.h.raw(c.Payload, meta))
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
	row := d.run.Row()
	parent := durable.Ref{WorkflowID: row.WorkflowID, RunID: row.RunID}
	meta := d.run.ChildMeta(c.HostedCall, parent)
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
	c.child = workflow.ExecuteChildWorkflow(workflow.WithChildOptions(c.ctx, o), c.Name, d.h.raw(c.Payload, meta))
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
			d.sendStep(c)
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
			ev.Payload, err = d.h.stored(raw.Payload())
		}
		if err != nil {
			ev.Failure = d.childFailure(c, err)
		}
	case "message", "stop":
		if c.looks {
			if ev.Failure = d.unheard(c); ev.Failure == nil && c.Kind == "stop" {
				c.looks = false
				c.future = workflow.RequestCancelExternalWorkflow(d.ctx, c.To.WorkflowID, c.To.RunID)
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
		if ev.Payload, err = d.h.stored(raw.Payload()); err != nil {
			ev.Failure = durable.FailureOf(err)
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
			d.sendStep(c)
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

// unheard says why a message did not arrive.
func (d *drive) unheard(c *call) *durable.StoredFailure {
	var f found
	if err := c.future.Get(d.ctx, &f); err != nil {
		return durable.FailureOf(fmt.Errorf("%s run %v: %w", verb(c), c.To, failureText(err)))
	}
	switch {
	case f.Had, c.Kind == "stop" && f.State != "" && !f.State.Done():
		return nil
	case f.State == "":
		return durable.FailureOf(fmt.Errorf("%s run %v: %w", verb(c), c.To, durable.ErrNotFound))
	}
	return durable.FailureOf(fmt.Errorf("%s run %v (%s): %w", verb(c), c.To, f.State, durable.ErrFinished))
}

func failureText(err error) error { return durable.ErrorOf(failureOf(err)) }

func verb(c *call) string {
	if c.Kind == "stop" {
		return "cancel"
	}
	return "signal"
}

// publish keeps the memo as the run is: its status, its pause, its questions.
func (d *drive) publish() {
	row := d.run.Row()
	now := published{status: string(row.Status), paused: string(row.Paused)}
	asks := d.run.Asks()
	if len(asks) > 0 {
		now.asks = string(jsonOf(asks))
	}
	if now == d.shown {
		return
	}
	memo := map[string]any{}
	put := func(key, was, is string) {
		if was != is {
			memo[key] = converter.NewRawValue(rawJSON([]byte(cmp.Or(is, "null"))))
		}
	}
	put(memoStatus, d.shown.status, now.status)
	put(memoPaused, d.shown.paused, now.paused)
	if d.shown.asks != now.asks {
		// Texts and contexts are as the codec wants them.
		stored, err := d.h.host.Seal([]byte(cmp.Or(now.asks, "null")))
		if err != nil {
			panic(problem(&durable.Problem{Kind: "payload", Text: fmt.Sprintf("the codec cannot encode a question: %v", err)}))
		}
		memo[memoAsks] = d.h.raw(stored, nil)
	}
	d.shown = now
	if err := workflow.UpsertMemo(d.ctx, memo); err != nil {
		panic(problem(&durable.Problem{Kind: "payload", Text: fmt.Sprintf("publish: %v", err)}))
	}
}
