package temporalengine

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
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
	memo   []byte // see lighten
	ref    durable.Ref
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
	idle   idle
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
	held  bool   // somebody else closes the run
	late  func() // is told when its code does not come back; nil: the SDK looks itself
}

type inboundKey struct{}

func (i *inbound) ExecuteWorkflow(ctx workflow.Context, in *interceptor.ExecuteWorkflowInput) (any, error) {
	if i.last() && len(in.Args) == 2 {
		// All that Next does is to call execute, by reflection: while the run is
		// in memory that takes the larger half of its stack.
		input, ok := in.Args[0].(converter.RawValue)
		carry, fine := in.Args[1].(converter.RawValue)
		if ok && fine {
			return i.h.carryOut(ctx, i, input, carry)
		}
	}
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

// last reports whether nobody but the SDK comes after this interceptor.
func (i *inbound) last() bool {
	t := reflect.TypeOf(i.Next)
	return t.Kind() == reflect.Pointer && t.Elem().PkgPath() == "go.temporal.io/sdk/internal" && t.Elem().Name() == "workflowEnvironmentInterceptor"
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
			d.h.log.Warn("an operation on a run could not be read", "workflow_id", d.ref.WorkflowID, "error", err)
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
	in, _ := ctx.Value(inboundKey{}).(*inbound)
	if in == nil {
		return converter.RawValue{}, errors.New("the worker lacks the interceptor of temporalengine: its options need what temporalengine.NewPlugin makes")
	}
	return h.carryOut(ctx, in, input, carry)
}

// carryOut executes a run on the SDK's goroutine.
func (h *shared) carryOut(ctx workflow.Context, in *inbound, input, carry converter.RawValue) (converter.RawValue, error) {
	none := converter.RawValue{}
	info := workflow.GetInfo(ctx)
	d := &drive{h: h, ref: durable.Ref{WorkflowID: info.WorkflowExecution.ID, RunID: info.OriginalRunID}, root: ctx, ctx: lasting{ctx}, in: in}
	var err error
	h.asides.run(func() { err = d.begin(input.Payload(), carry.Payload()) })
	if err != nil {
		return none, err
	}
	if !in.held {
		defer d.close()
	}
	in.d = d
	return d.loop()
}

// lasting is a context that is not cancelled with the one that it is made of:
// the run's cancel is the run's affair.
type lasting struct{ workflow.Context }

// Done implements [workflow.Context].
func (lasting) Done() workflow.Channel { return nil }

// Err implements [workflow.Context].
func (lasting) Err() error { return nil }

// begin makes the run, and sets the handlers of its queries.
func (d *drive) begin(input, carry *commonpb.Payload) error {
	d.lighten()
	if d.Replaying() {
		d.replay = time.Now()
	}
	info := workflow.GetInfo(d.ctx)
	var start *durable.HostedStart
	var err error
	apart(d.ctx, func() {
		start, err = d.h.startOf(input, carry, &durable.HostedStart{
			WorkflowID: d.ref.WorkflowID, RunID: d.ref.RunID, Chain: info.FirstRunID, Workflow: info.WorkflowType.Name,
			Created: info.WorkflowStartTime.UnixMicro(),
		})
	})
	var away *storageError
	if errors.As(err, &away) {
		panic(problem(&durable.Problem{Kind: "payload", Text: "the input of the run: " + err.Error()}))
	}
	if err != nil {
		return temporal.NewApplicationErrorWithOptions("the input of the run: "+err.Error(), "bad_input", temporal.ApplicationErrorOptions{NonRetryable: true})
	}
	if d.run, err = d.h.host.Begin(d, start); err != nil {
		panic(problem(&durable.Problem{Kind: "payload", Text: err.Error()}))
	}
	return d.queries()
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
	for {
		d.enter()
		if d.h.asides.run(d.advance); !d.begun || len(d.fresh) > 0 {
			if err := d.listen(); err != nil {
				return converter.RawValue{}, err
			}
			d.h.asides.run(d.settle)
		}
		if row := d.run.Row(); durable.State(row.State).Done() {
			if err := d.farewell(row); err != nil {
				return converter.RawValue{}, err
			}
			return d.end(row)
		}
		d.leave()
		if err := workflow.Await(d.ctx, d.ready); err != nil {
			return converter.RawValue{}, err
		}
		if d.h.closed.Load() {
			panic(evicted)
		}
	}
}

// advance gives the run what there is for it. What came with the start is one
// turn with it, as on every engine.
func (d *drive) advance() {
	defer d.watch()()
	d.awake()
	if !d.begun {
		d.hold()
		d.run.Start()
	}
	d.work()
	if p := d.run.Problem(); p != nil {
		d.stuck(p)
		panic(problem(p))
	}
	if d.begun && len(d.fresh) == 0 {
		d.settle()
	}
}

// watch tells of code that does not come back, until it is stopped.
func (d *drive) watch() (stop func() bool) {
	limit, late := d.h.watchdog(), d.in.late
	if late != nil {
		limit *= stuckAfter
	} else {
		late = func() {
			// The SDK fails the task, with the stack of its own goroutine. This
			// is the one to look at.
			d.h.log.Error("the code of a run does not come back from outside of durable", "workflow_id", d.ref.WorkflowID, "stack", durable.StuckStacks())
		}
	}
	return time.AfterFunc(limit, late).Stop
}

// listen sets the handlers of updates that are missing. The SDK goes on with
// updates that wait for them meanwhile.
func (d *drive) listen() error {
	if !d.begun {
		d.begun = true
		if err := d.updates(); err != nil {
			return err
		}
	}
	for _, name := range d.fresh {
		d.handle(name)
	}
	d.fresh = nil
	return nil
}

// settle lets out what has become of the run.
func (d *drive) settle() {
	d.publish()
	d.tell()
	if !d.in.held && d.run.Lends() {
		d.h.lenders.Store(d.execution(), d.run)
	}
}

// execution is the run as its steps know it: ref is of the one that it was
// reset from, if it was.
func (d *drive) execution() durable.Ref {
	x := workflow.GetInfo(d.ctx).WorkflowExecution
	return durable.Ref{WorkflowID: x.ID, RunID: x.RunID}
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
			it.asked.reply = durable.Refuse(durable.ErrFinished, d.ref, "run %v has ended (%s); start a new one", d.ref, row.State)
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
		d.weigh()
		return none, workflow.NewContinueAsNewError(d.ctx, row.Name, in, more)
	case durable.Cancelled:
		return none, temporal.NewCanceledError(converter.NewRawValue(plainJSON(brief(row.Failure))))
	}
	return none, failureError(row.Failure, temporal.ApplicationErrorOptions{NonRetryable: true})
}

// --- durable.Cluster

// Now implements [durable.Cluster].
func (d *drive) Now() int64 { return workflow.Now(d.ctx).UnixMicro() }

// Replaying implements [durable.Cluster].
func (d *drive) Replaying() bool { return workflow.IsReplaying(d.ctx) }

// Handles implements [durable.Cluster]. The handler is set after the turn: the
// SDK runs updates that wait for it while it is set, and the run's code, in the
// middle of its turn, would be asked about them.
func (d *drive) Handles(name string) { d.fresh = append(d.fresh, name) }

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
