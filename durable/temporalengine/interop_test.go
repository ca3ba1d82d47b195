package temporalengine_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/temporalengine"
)

// Others know nothing of this module: they have the names and JSON. Here they
// are the SDK's plain client, worker, workflows and activities.

type order struct {
	Item  string `json:"item"`
	Cents int    `json:"cents"`
}

type approval struct {
	ApprovedBy string `json:"approved_by"`
}

type receipt struct {
	Item, Number, ApprovedBy string
	Cents                    int
}

var (
	orderStatus = durable.NewStatus[string]("status")
	approved    = durable.NewSignal[approval]("approve")
	orderTotal  = durable.NewQuery[struct{}, int]("total")
	discount    = durable.NewUpdate[int, int]("discount")
	charge      = durable.NewStep("order.charge", chargeCard, &durable.StepOptions{Retry: &durable.Retry{MaxAttempts: 2, Initial: time.Millisecond}})
	takeOrder   = durable.NewWorkflow("order", orderFlow, &durable.WorkflowOptions{Accepts: []durable.Accepted{orderStatus, approved, orderTotal, discount}})
)

var declined = durable.NewErrorType("CardDeclined")

func chargeCard(_ context.Context, o order) (string, error) {
	if o.Cents > 1000 {
		return "", durable.Permanent(declined.New("no credit for %s", o.Item))
	}
	return "paid-" + o.Item, nil
}

func orderFlow(ctx context.Context, o order) (receipt, error) {
	if err := orderTotal.Handle(ctx, func(struct{}) (int, error) { return o.Cents, nil }); err != nil {
		return receipt{}, err
	}
	check := func(cents int) error {
		if cents > o.Cents {
			return fmt.Errorf("a discount of %d is more than it costs", cents)
		}
		return nil
	}
	if err := discount.Handle(ctx, func(_ context.Context, cents int) (int, error) { o.Cents -= cents; return o.Cents, nil }, check); err != nil {
		return receipt{}, err
	}
	orderStatus.Set(ctx, "waits for approval")
	a, err := approved.Receive(ctx)
	if err != nil {
		return receipt{}, err
	}
	orderStatus.Set(ctx, "charges")
	number, err := charge.Do(ctx, o)
	if err != nil {
		return receipt{}, err
	}
	return receipt{Item: o.Item, Number: number, ApprovedBy: a.ApprovedBy, Cents: o.Cents}, nil
}

func TestInterop(t *testing.T) {
	t.Parallel()
	addr := anyServer(t)
	for name, test := range map[string]func(*testing.T, client.Client){
		"a plain client drives our run":            plainClient,
		"our engine on the user's client":          ownClient,
		"ours on the user's worker, beside theirs": ownWorker,
		"theirs, called by ours":                   callTheirs,
		"theirs is cancelled with ours":            cancelTheirs,
		"ours, called by theirs":                   theyCall,
		"what a plugin refuses":                    refusals,
		"what the web interface shows of ours":     shown,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			c, err := client.DialContext(ctx, client.Options{HostPort: addr, Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler))})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Close)
			test(t, c)
		})
	}
}

// queue is a task queue that nobody else listens on.
func queue(t *testing.T) string { return "interop/" + id(t) }

// id is a workflow id that nobody else has, also on a server that was here
// before.
func id(t *testing.T) string {
	return strings.NewReplacer("/", "-", ",", "", "'", "").Replace(t.Name()) + "-" + here
}

var here = rand.Text()

// engine opens an engine of the test's own.
func engine(t *testing.T, o *temporalengine.Options, defs ...durable.Definer) *durable.Engine {
	t.Helper()
	o.Engine.Logger = slog.New(slog.DiscardHandler)
	e, err := temporalengine.Open(t.Context(), o, defs...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return e
}

// work starts a worker of the user's own, with what they register.
func work(t *testing.T, c client.Client, queue string, register func(worker.Worker), plugins ...worker.Plugin) {
	t.Helper()
	w := worker.New(c, queue, worker.Options{Plugins: plugins})
	register(w)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
}

func plugin(t *testing.T, c client.Client, defs ...durable.Definer) worker.Plugin {
	t.Helper()
	p, err := temporalengine.NewPlugin(&temporalengine.Options{Client: c, Engine: durable.Options{Logger: slog.New(slog.DiscardHandler)}}, defs...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// plainClient starts, signals, queries and updates a run as the web UI and the
// command line do: with names and JSON.
func plainClient(t *testing.T, c client.Client) {
	ctx := t.Context()
	engine(t, &temporalengine.Options{Client: c, TaskQueue: queue(t)}, takeOrder, charge)
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: id(t), TaskQueue: queue(t)}, "order", map[string]any{"item": "tea", "cents": 500})
	if err != nil {
		t.Fatal(err)
	}
	// An update with the start waits for the first turn, which sets the handlers.
	start := c.NewWithStartWorkflowOperation(client.StartWorkflowOptions{ID: id(t) + "-with", TaskQueue: queue(t), WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL}, "order", order{"tea", 500})
	with, err := c.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{StartWorkflowOperation: start, UpdateOptions: client.UpdateWorkflowOptions{UpdateName: "discount", Args: []any{100}, WaitForStage: client.WorkflowUpdateStageCompleted}})
	if err != nil {
		t.Fatal(err)
	}
	var left int
	if err := with.Get(ctx, &left); err != nil || left != 400 {
		t.Errorf("an update with the start: %d, %v", left, err)
	}
	if err := c.TerminateWorkflow(ctx, id(t)+"-with", "", "seen"); err != nil {
		t.Fatal(err)
	}
	update := func(cents int) (int, error) {
		h, err := c.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{WorkflowID: run.GetID(), UpdateName: "discount", Args: []any{cents}, WaitForStage: client.WorkflowUpdateStageCompleted})
		if err != nil {
			return 0, err
		}
		var now int
		return now, h.Get(ctx, &now)
	}
	if now, err := update(100); err != nil || now != 400 {
		t.Errorf("update: %d, %v", now, err)
	}
	if now, err := update(900); err == nil || !strings.Contains(err.Error(), "a discount of 900 is more than it costs") {
		t.Errorf("an update that the validator refuses: %d, %v", now, err)
	}
	for _, args := range [][]any{nil, {map[string]any{}}} {
		v, err := c.QueryWorkflow(ctx, run.GetID(), "", "total", args...)
		if err != nil {
			t.Fatal(err)
		}
		var total int
		if err := v.Get(&total); err != nil || total != 400 {
			t.Errorf("query with %v: %d, %v", args, total, err)
		}
	}
	if got := status(t, c, run.GetID()); got != `{"status":"waits for approval"}` {
		t.Errorf("status in the memo: %s", got)
	}
	if err := c.SignalWorkflow(ctx, run.GetID(), "", "approve", json.RawMessage(`{"approved_by": "alex"}`)); err != nil {
		t.Fatal(err)
	}
	var got receipt
	if err := run.Get(ctx, &got); err != nil {
		t.Fatal(err)
	}
	if want := (receipt{Item: "tea", Number: "paid-tea", ApprovedBy: "alex", Cents: 400}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := status(t, c, run.GetID()); got != `{"status":"charges"}` {
		t.Errorf("status in the memo at the end: %s", got)
	}

	// Failures have a type and a message that everybody can read.
	run, err = c.SignalWithStartWorkflow(ctx, id(t)+"-2", "approve", approval{"kim"}, client.StartWorkflowOptions{TaskQueue: queue(t)}, "order", order{"gold", 5000})
	if err != nil {
		t.Fatal(err)
	}
	var app *temporal.ApplicationError
	if err := run.Get(ctx, nil); !errors.As(err, &app) || !strings.Contains(app.Error(), "no credit for gold") {
		t.Errorf("a run that fails: %v", err)
	}

	// A run that gets what its type can't be fails, and says why.
	run, err = c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{TaskQueue: queue(t)}, "order", "no order")
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Get(ctx, nil); !errors.As(err, &app) || !strings.Contains(app.Error(), `input of workflow "order"`) {
		t.Errorf("a run with a bad input: %v", err)
	}

	// A cancel from there reaches the code, and the state is Temporal's.
	run, err = c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{TaskQueue: queue(t)}, "order", order{"milk", 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.CancelWorkflow(ctx, run.GetID(), ""); err != nil {
		t.Fatal(err)
	}
	var canceled *temporal.CanceledError
	if err := run.Get(ctx, nil); !errors.As(err, &canceled) {
		t.Errorf("a run that was cancelled: %v", err)
	}
}

// status reads what a run publishes, without its code.
func status(t *testing.T, c client.Client, id string) string {
	t.Helper()
	d, err := c.DescribeWorkflowExecution(t.Context(), id, "")
	if err != nil {
		t.Fatal(err)
	}
	return string(d.GetWorkflowExecutionInfo().GetMemo().GetFields()["status"].GetData())
}

// ownClient is left open when the engine closes, and says which namespace is
// meant.
func ownClient(t *testing.T, c client.Client) {
	ctx := t.Context()
	e, err := temporalengine.Open(ctx, &temporalengine.Options{Client: c, TaskQueue: queue(t)}, takeOrder, charge)
	if err != nil {
		t.Fatal(err)
	}
	run, err := takeOrder.Start(ctx, e, order{"tea", 5}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := approved.Send(ctx, run, approval{"alex"}, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := takeOrder.Result(ctx, run); err != nil || got.ApprovedBy != "alex" {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := e.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DescribeWorkflowExecution(ctx, run.WorkflowID, ""); err != nil {
		t.Errorf("the user's client after the engine was closed: %v", err)
	}
	if _, err := temporalengine.Open(ctx, &temporalengine.Options{Client: c, Namespace: "elsewhere"}); err == nil || !strings.Contains(err.Error(), `option Namespace is "elsewhere", and that of Client is "default"`) {
		t.Errorf("with another namespace than the client's: %v", err)
	}
}

// ownWorker has our workflow and step beside a plain workflow and a plain
// activity.
func ownWorker(t *testing.T, c client.Client) {
	ctx := t.Context()
	work(t, c, queue(t), func(w worker.Worker) {
		w.RegisterDynamicActivity(func(context.Context, converter.EncodedValues) (string, error) { return "whatever", nil }, activity.DynamicRegisterOptions{})
		w.RegisterActivityWithOptions(func(_ context.Context, name string) (string, error) { return "hello " + name, nil }, activity.RegisterOptions{Name: "greet"})
		w.RegisterWorkflowWithOptions(func(ctx workflow.Context, name string) (out string, err error) {
			ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
			workflow.GetSignalChannel(ctx, "go").Receive(ctx, nil)
			return out, workflow.ExecuteActivity(ctx, "greet", name).Get(ctx, &out)
		}, workflow.RegisterOptions{Name: "plain"})
	}, plugin(t, c, takeOrder, charge))

	plain, err := c.SignalWithStartWorkflow(ctx, id(t)+"/plain", "go", nil, client.StartWorkflowOptions{TaskQueue: queue(t)}, "plain", "sam")
	if err != nil {
		t.Fatal(err)
	}
	e := engine(t, &temporalengine.Options{Client: c, TaskQueue: queue(t), ClientOnly: true}, takeOrder, charge)
	run, err := takeOrder.Start(ctx, e, order{"tea", 5}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := approved.Send(ctx, run, approval{"alex"}, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := takeOrder.Result(ctx, run); err != nil || got.ApprovedBy != "alex" {
		t.Errorf("ours: %+v, %v", got, err)
	}
	var said string
	if err := plain.Get(ctx, &said); err != nil || said != "hello sam" {
		t.Errorf("theirs: %q, %v", said, err)
	}
}

// callTheirs declares what others execute: a step and a workflow without a
// function, with the task queue of those who have it.
func callTheirs(t *testing.T, c client.Client) {
	ctx := t.Context()
	theirs := queue(t) + "-theirs"
	var (
		greet  = durable.NewStep[string, string]("Greet", nil, &durable.StepOptions{Queue: theirs})
		refuse = durable.NewStep[string, string]("Refuse", nil, &durable.StepOptions{Queue: theirs, Retry: &durable.Retry{MaxAttempts: 3, Initial: time.Millisecond}})
		add    = durable.NewWorkflow[[]int, int]("Add", nil, &durable.WorkflowOptions{Queue: theirs})
		fail   = durable.NewWorkflow[string, string]("Fail", nil, &durable.WorkflowOptions{Queue: theirs})
	)
	type outcome struct {
		Greeting          string
		Sum               int
		StepErr, ChildErr string
		Attempts          int
		Closed, FailedRun bool
		Limit             int
	}
	ours := durable.NewWorkflow("ours", func(ctx context.Context, name string) (o outcome, err error) {
		if o.Greeting, err = greet.Do(ctx, name); err != nil {
			return o, err
		}
		if o.Sum, err = add.Run(ctx, []int{1, 2, 3}); err != nil {
			return o, err
		}
		_, err = refuse.Do(ctx, name)
		var se *durable.StepError
		o.Closed = errors.Is(err, durable.NewErrorType("Closed"))
		if errors.As(err, &se) {
			o.StepErr, o.Attempts = se.Error(), se.Attempts
			_ = json.Unmarshal(se.Err.Details, &o.Limit)
		}
		_, err = fail.Run(ctx, name)
		var re *durable.RunError
		if errors.As(err, &re) {
			o.FailedRun, o.ChildErr = re.State == durable.Failed && re.Err.Type == "Broken", re.Err.Message
		}
		return o, nil
	}, nil)
	work(t, c, theirs, func(w worker.Worker) {
		w.RegisterActivityWithOptions(func(_ context.Context, name string) (string, error) { return "hello " + name, nil }, activity.RegisterOptions{Name: "Greet"})
		w.RegisterActivityWithOptions(func(_ context.Context, name string) (string, error) {
			return "", temporal.NewApplicationError("not today, "+name, "Closed", 7)
		}, activity.RegisterOptions{Name: "Refuse"})
		w.RegisterWorkflowWithOptions(func(_ workflow.Context, all []int) (sum int, _ error) {
			for _, n := range all {
				sum += n
			}
			return sum, nil
		}, workflow.RegisterOptions{Name: "Add"})
		w.RegisterWorkflowWithOptions(func(workflow.Context, string) (string, error) {
			return "", temporal.NewNonRetryableApplicationError("it fell", "Broken", nil)
		}, workflow.RegisterOptions{Name: "Fail"})
	})
	e := engine(t, &temporalengine.Options{Client: c, TaskQueue: queue(t)}, ours, greet, refuse, add, fail)
	run, err := ours.Start(ctx, e, "sam", nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ours.Result(ctx, run)
	if err != nil {
		t.Fatal(err)
	}
	want := outcome{Greeting: "hello sam", Sum: 6, StepErr: "step Refuse failed after 3 attempts: Closed: not today, sam", Attempts: 3, Closed: true, Limit: 7, FailedRun: true, ChildErr: "it fell"}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}

	// The engine starts theirs as well.
	direct, err := add.Start(ctx, e, []int{4, 5}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if sum, err := add.Result(ctx, direct); err != nil || sum != 9 {
		t.Errorf("theirs, started by our engine: %d, %v", sum, err)
	}
	// Only where there are task queues can something be elsewhere.
	if _, err := durable.NewMemory(ctx, nil, greet); !errors.Is(err, durable.ErrUnsupported) {
		t.Errorf("a step with a queue in memory: %v", err)
	}
	if _, err := durable.NewMemory(ctx, nil, add); !errors.Is(err, durable.ErrUnsupported) {
		t.Errorf("a workflow with a queue in memory: %v", err)
	}
	if _, err := add.Run(ctx, nil); !errors.Is(err, durable.ErrNotDefined) {
		t.Errorf("a workflow of others without an engine: %v", err)
	}
}

// cancelTheirs hands a cancel of our run on to the child that others execute.
func cancelTheirs(t *testing.T, c client.Client) {
	ctx := t.Context()
	theirs := queue(t) + "-theirs"
	wait := durable.NewWorkflow[string, string]("Wait", nil, &durable.WorkflowOptions{Queue: theirs})
	started := durable.NewStatus[string]("child")
	ours := durable.NewWorkflow("ours", func(ctx context.Context, name string) (string, error) {
		child, err := wait.Child(ctx, name, &durable.ChildOptions{ID: name})
		if err != nil {
			return "", err
		}
		started.Set(ctx, child.WorkflowID)
		return child.Get(ctx)
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{started}})
	waiting := make(chan bool, 1)
	work(t, c, theirs, func(w worker.Worker) {
		w.RegisterWorkflowWithOptions(func(ctx workflow.Context, _ string) (string, error) {
			if !workflow.IsReplaying(ctx) {
				waiting <- true
			}
			return "", workflow.Sleep(ctx, time.Hour)
		}, workflow.RegisterOptions{Name: "Wait"})
	})
	e := engine(t, &temporalengine.Options{Client: c, TaskQueue: queue(t)}, ours, wait)
	run, err := ours.Start(ctx, e, id(t)+"-child", nil)
	if err != nil {
		t.Fatal(err)
	}
	<-waiting
	if err := run.Cancel(ctx, "enough"); err != nil {
		t.Fatal(err)
	}
	if _, err := ours.Result(ctx, run); !errors.Is(err, context.Canceled) {
		t.Errorf("ours: %v", err)
	}
	var canceled *temporal.CanceledError
	if err := c.GetWorkflow(ctx, id(t)+"-child", "").Get(ctx, nil); !errors.As(err, &canceled) {
		t.Errorf("theirs: %v", err)
	}
}

// theyCall calls our step and our workflow from a plain workflow, by name.
func theyCall(t *testing.T, c client.Client) {
	ctx := t.Context()
	ours := queue(t) + "-ours"
	engine(t, &temporalengine.Options{Client: c, TaskQueue: ours}, takeOrder, charge)
	type outcome struct {
		Number, StepType, ChildType string
		Receipt                     receipt
	}
	work(t, c, queue(t), func(w worker.Worker) {
		w.RegisterWorkflowWithOptions(func(ctx workflow.Context, id string) (o outcome, err error) {
			ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{TaskQueue: ours, StartToCloseTimeout: time.Minute})
			if err := workflow.ExecuteActivity(ctx, "order.charge", order{"tea", 5}).Get(ctx, &o.Number); err != nil {
				return o, err
			}
			var app *temporal.ApplicationError
			if err := workflow.ExecuteActivity(ctx, "order.charge", order{"gold", 5000}).Get(ctx, nil); errors.As(err, &app) {
				o.StepType = app.Type()
			}
			child := func(o order) workflow.ChildWorkflowFuture {
				cctx := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: id + "-" + o.Item, TaskQueue: ours})
				f := workflow.ExecuteChildWorkflow(cctx, "order", o)
				f.SignalChildWorkflow(cctx, "approve", approval{"plain"})
				return f
			}
			if err := child(order{"tea", 5}).Get(ctx, &o.Receipt); err != nil {
				return o, err
			}
			if err := child(order{"gold", 5000}).Get(ctx, nil); errors.As(err, &app) {
				o.ChildType = app.Type()
			}
			return o, nil
		}, workflow.RegisterOptions{Name: "plain"})
	})
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: id(t), TaskQueue: queue(t)}, "plain", id(t))
	if err != nil {
		t.Fatal(err)
	}
	var got outcome
	if err := run.Get(ctx, &got); err != nil {
		t.Fatal(err)
	}
	want := outcome{Number: "paid-tea", StepType: "CardDeclined", ChildType: "CardDeclined", Receipt: receipt{Item: "tea", Number: "paid-tea", ApprovedBy: "plain", Cents: 5}}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// refusals name what is missing, and the way.
func refusals(t *testing.T, c client.Client) {
	if _, err := temporalengine.NewPlugin(nil, takeOrder); err == nil || !strings.Contains(err.Error(), "option Client is missing") {
		t.Errorf("without a client: %v", err)
	}
	if _, err := temporalengine.NewPlugin(&temporalengine.Options{Client: c, Namespace: "elsewhere"}, takeOrder); err == nil || !strings.Contains(err.Error(), `"elsewhere"`) {
		t.Errorf("with another namespace: %v", err)
	}
	if _, err := temporalengine.NewPlugin(&temporalengine.Options{Client: c}, durable.NewWorkflow[int, int]("none", nil, nil)); err == nil || !strings.Contains(err.Error(), `workflow "none" has no function`) {
		t.Errorf("with a workflow without a function: %v", err)
	}
	defer func() {
		if err, _ := recover().(error); err == nil || !strings.Contains(err.Error(), "WorkflowPanicPolicy") {
			t.Errorf("a worker that fails runs whose code is stuck: %v", err)
		}
	}()
	worker.New(c, queue(t), worker.Options{Plugins: []worker.Plugin{plugin(t, c, takeOrder)}, WorkflowPanicPolicy: worker.FailWorkflow})
}
