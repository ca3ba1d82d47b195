package temporalengine

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	commonpb "go.temporal.io/api/common/v1"
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
	shown  published
	fresh  []string // updates that the code takes since this turn
	untold []func()
	live   bool      // it is where the cluster has it
	replay time.Time // when one began that nobody was told of
	task   int       // the workflow task, by the length of the history
	spent  int       // bytes of values that it sends
	held   []*call   // until the next one
	breath workflow.Future
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
	more    bool // the timer is not the last one
	queued  bool // an item says that there is something
	sent    int  // not started before, for want of a worker that has it
	done    int  // attempts made before that
	delay   workflow.Future
}

// item is something for the run, in the order in which it came: one of these.
type item struct {
	call    *call // Temporal has something for it
	event   *durable.StoredEvent
	signal  *commonpb.Payload // of event; it is read when its turn comes
	request *durable.Request
	release bool // of held calls
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
	held  bool // somebody else closes the run
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
	if p == nil {
		p = &commonpb.Payload{Metadata: map[string][]byte{metaEncoding: []byte(null)}}
	}
	var m signalMeta
	metaOf(p, &m)
	i.items = append(i.items, item{signal: p, event: &durable.StoredEvent{Kind: "signaled", ID: m.ID, Name: in.SignalName, By: m.By, Trace: m.Trace}})
	return nil
}

// read reads a signal. False: it was no event, but one of our operations.
func (d *drive) read(it *item) bool {
	if it.signal == nil {
		return true
	}
	p := it.signal
	it.signal = nil
	if it.event.Name == doName {
		it.request, it.event = &durable.Request{}, nil
		if err := d.opened(p, it.request); err != nil {
			it.request = nil
			d.h.log.Warn("an operation on a run could not be read", "workflow_id", d.id, "error", err)
		}
		return false
	}
	var err error
	if it.event.Payload, err = d.stored(p); err != nil {
		// It is consumed, and whoever receives it is told what is wrong.
		it.event.Payload, _ = d.h.host.Seal(jsonOf(err.Error()))
	}
	return true
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
	if d.Replaying() {
		d.replay = time.Now()
	}
	var start *durable.HostedStart
	var err error
	apart(ctx, func() {
		start, err = h.startOf(input.Payload(), carry.Payload(), &durable.HostedStart{
			WorkflowID: info.WorkflowExecution.ID, RunID: info.OriginalRunID, Chain: info.FirstRunID, Workflow: info.WorkflowType.Name,
			Created: info.WorkflowStartTime.UnixMicro(),
		})
	})
	var away *storageError
	if errors.As(err, &away) {
		panic(problem(&durable.Problem{Kind: "payload", Text: "the input of the run: " + err.Error()}))
	}
	if err != nil {
		return none, temporal.NewApplicationErrorWithOptions("the input of the run: "+err.Error(), "bad_input", temporal.ApplicationErrorOptions{NonRetryable: true})
	}
	if d.run, err = h.host.Begin(d, start); err != nil {
		panic(problem(&durable.Problem{Kind: "payload", Text: err.Error()}))
	}
	if !in.held {
		defer d.run.Close()
		// Steps in this process read here what the run lends.
		ref, run := durable.Ref{WorkflowID: info.WorkflowExecution.ID, RunID: info.WorkflowExecution.RunID}, d.run
		h.awake.Store(ref, run)
		defer h.awake.CompareAndDelete(ref, run)
	}
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
	carry, err := h.in(carry)
	if err != nil {
		return nil, err
	}
	s.Scope, s.Carry = s.Meta.Scope, carry.GetData()
	stored, err := h.stored(input)
	if err == nil && stored == nil {
		stored, err = h.host.Seal([]byte("null"))
	}
	s.Input = stored
	return s, err
}

func (d *drive) loop() (converter.RawValue, error) {
	d.awake()
	d.hold()
	d.run.Start()
	for {
		d.work()
		if p := d.run.Problem(); p != nil {
			d.stuck(p)
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
		d.tell()
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
		d.awake()
	}
}

// hold carries out pauses that came before the first turn: they keep the code
// from it.
func (d *drive) hold() {
	d.in.items = slices.DeleteFunc(d.in.items, func(it item) bool {
		if it.signal == nil || it.event.Name != doName {
			return false
		}
		if d.read(&it); it.request != nil {
			d.run.Do(it.request)
		}
		return true
	})
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
	if len(d.in.items) > 0 || !d.cancel && d.root.Err() != nil || d.breath != nil && d.breath.IsReady() {
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
	if d.breath != nil && d.breath.IsReady() {
		d.breath = nil
		d.in.items = append(d.in.items, item{release: true})
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
			if it.event != nil && d.read(&it) {
				evs = append(evs, it.event)
				continue
			}
			flush()
			switch {
			case it.request != nil:
				d.run.Do(it.request)
			case it.release:
				d.release()
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

// stands reports whether the run takes nothing more. One that was continued
// does: it is for the next.
func (d *drive) stands() bool {
	s := durable.State(d.run.Row().State)
	return d.run.Problem() != nil || s.Done() && s != durable.Continued
}

// farewell answers those who wait for an answer of a run that has ended:
// Temporal would fail them in its own words.
func (d *drive) farewell(row *durable.StoredRun) error {
	for _, it := range d.in.items {
		if it.asked != nil && it.asked.reply == nil {
			ref := durable.Ref{WorkflowID: row.WorkflowID, RunID: row.RunID}
			it.asked.reply = durable.Refuse(durable.ErrFinished, ref, "run %v has ended (%s); start a new one", ref, row.State)
			it.asked.reply.Err.State = durable.State(row.State)
		}
	}
	return workflow.Await(d.ctx, func() bool { return workflow.AllHandlersFinished(d.ctx) })
}

// end is what the workflow function returns for a run that has ended.
func (d *drive) end(row *durable.StoredRun) (converter.RawValue, error) {
	none := converter.RawValue{}
	switch durable.State(row.State) {
	case durable.Completed:
		if err := d.room(len(row.Result)); err != nil {
			return none, err
		}
		out := d.raw(row.Result, nil)
		if no := d.large("result", "the result of workflow", row.Name, out.Payload()); no != nil {
			return none, failureError(durable.FailureOf(no), temporal.ApplicationErrorOptions{NonRetryable: true})
		}
		return out, nil
	case durable.Continued:
		d.work() // what came meanwhile is the next one's
		input, carry, err := d.run.Carry()
		if err != nil {
			return none, err
		}
		in, more := d.raw(input, nil), converter.NewRawValue(d.away(rawJSON(carry)))
		if no := d.large("continue", "what continues workflow", row.Name, in.Payload(), more.Payload()); no != nil {
			return none, failureError(durable.FailureOf(no), temporal.ApplicationErrorOptions{NonRetryable: true})
		}
		return none, workflow.NewContinueAsNewError(d.ctx, row.Name, in, more)
	case durable.Cancelled:
		return none, temporal.NewCanceledError(converter.NewRawValue(plainJSON(brief(row.Failure))))
	}
	return none, failureError(row.Failure, temporal.ApplicationErrorOptions{NonRetryable: true})
}

// queries sets the handlers of what the workflow may be asked.
func (d *drive) queries() error {
	do := func(in converter.RawValue) (converter.RawValue, error) {
		if d.h.closed.Load() {
			return converter.RawValue{}, errors.New(evicted)
		}
		d.replayed()
		req := &durable.Request{}
		if err := d.h.open(in.Payload(), req); err != nil {
			return converter.RawValue{}, err
		}
		return d.answer(req.Op, req.Name, d.run.Do(req))
	}
	if err := workflow.SetQueryHandler(d.ctx, doName, do); err != nil {
		return err
	}
	for _, name := range d.h.host.Queries(d.run.Row().Name) {
		if err := workflow.SetQueryHandler(d.ctx, name, func(in converter.RawValue) (converter.RawValue, error) {
			plain, err := d.h.plain(in.Payload())
			if err != nil {
				return converter.RawValue{}, err
			}
			rep := d.run.Do(&durable.Request{Op: durable.OpQuery, Name: name, Payload: plain})
			if rep.Err != nil {
				return converter.RawValue{}, errors.New(rep.Err.Message)
			}
			out, err := d.h.sealed(rep.Payload)
			if err == nil {
				err = d.h.tooLarge("the answer of query", name, d.ref(), out.Payload())
			}
			return out, err
		}); err != nil {
			return err
		}
	}
	return nil
}

// answer is a reply on the wire, or the refusal of one that is too large.
func (d *drive) answer(op durable.Op, name string, rep *durable.Reply) (converter.RawValue, error) {
	if rep.Run != nil {
		d.queues(rep.Run.Waiting)
	}
	p, err := d.h.ours(rep)
	if err == nil {
		if no := d.h.tooLarge("the answer of "+string(op), name, d.ref(), p); no != nil {
			p, err = d.h.ours(durable.ErrorReply(d.ref(), no))
		}
	}
	return converter.NewRawValue(p), err
}

// queues says of steps that the run waits for where they are to be executed.
func (d *drive) queues(waits []durable.Wait) {
	for i := range waits {
		w := &waits[i]
		c := d.byID[w.Call]
		switch {
		case c == nil || w.Kind != "step":
		case c.delay != nil:
			w.Text = fmt.Sprintf("for a worker on task queue %q that defines step %s: the one that took it does not", cmp.Or(c.Step.Queue, d.h.queue), w.Name)
		case c.Step.Queue != "":
			w.Text = fmt.Sprintf("for step %s to end, on task queue %q", w.Name, c.Step.Queue)
		}
	}
}

func (d *drive) ref() durable.Ref {
	row := d.run.Row()
	return durable.Ref{WorkflowID: row.WorkflowID, RunID: row.RunID}
}

// updates sets the handler of our own update. It comes after the first turn:
// as long as no handler is set the SDK keeps updates that came with the start.
func (d *drive) updates() error {
	return workflow.SetUpdateHandlerWithOptions(d.ctx, doName, func(ctx workflow.Context, in converter.RawValue) (converter.RawValue, error) {
		req := &durable.Request{}
		if err := d.opened(in.Payload(), req); err != nil {
			return converter.RawValue{}, err
		}
		rep, err := d.ask(ctx, &asked{request: req})
		if err != nil {
			return converter.RawValue{}, err
		}
		stored, err := d.h.host.Seal(jsonOf(rep))
		return d.raw(stored, nil), err
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
		stored, err := d.h.host.Seal(rep.Payload)
		if err != nil {
			return converter.RawValue{}, err
		}
		if err := d.room(len(stored)); err != nil {
			return converter.RawValue{}, err
		}
		out := d.raw(stored, nil)
		if no := d.large("answer/"+ev.ID, "the answer of update", name, out.Payload()); no != nil {
			return converter.RawValue{}, replyError(durable.ErrorReply(d.ref(), no))
		}
		return out, nil
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
	stored, err := d.stored(in.Payload())
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
		stored, err := d.h.host.Seal(jsonOf(&r))
		if err != nil {
			panic(problem(&durable.Problem{Kind: "payload", Text: fmt.Sprintf("the codec cannot encode a %s: %v", r.Op, err)}))
		}
		workflow.SignalExternalWorkflow(d.ctx, c.Child.ID, "", doName, d.raw(stored, nil))
	}
}

// PutBlob implements [durable.Cluster].
func (d *drive) PutBlob(digest string, stored []byte) error { return d.h.PutBlob(digest, stored) }

// GetBlob implements [durable.Cluster].
func (d *drive) GetBlob(digest string) ([]byte, error) { return d.h.GetBlob(digest) }

// publish keeps the memo as the run is: its status, its pause, its questions;
// and the details.
func (d *drive) publish() {
	row := d.run.Row()
	now := published{status: string(row.Status), paused: string(row.Paused)}
	asks := d.run.Asks()
	if len(asks) > 0 {
		now.asks = string(jsonOf(asks))
	}
	d.detail(asks)
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
		memo[memoAsks] = d.raw(stored, nil)
	}
	d.shown = now
	if err := workflow.UpsertMemo(d.ctx, memo); err != nil {
		panic(problem(&durable.Problem{Kind: "payload", Text: fmt.Sprintf("publish: %v", err)}))
	}
}
