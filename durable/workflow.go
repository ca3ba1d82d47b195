package durable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
	"github.com/mcpagent/mcpagent/internal/plainjson"
)

// Workflow is a function registered by name whose progress is durable. Make
// it with [NewWorkflow]; it is safe for concurrent use.
type Workflow[In, Out any] struct {
	name string
	fn   func(context.Context, In) (Out, error)
	opts WorkflowOptions
}

// WorkflowOptions says more about a workflow. The zero value is fine.
type WorkflowOptions struct {
	Title, Description string // for people
	// Accepts lists the messages that the workflow takes and the values that
	// it publishes. A signal, query or update that is not listed is refused
	// with [ErrNotAccepted]; tools are generated from the list.
	Accepts []Accepted
	// Timeout bounds the run, over its whole chain; time passes while it is
	// paused and while nobody executes it. At its end the run is TimedOut at
	// once; no code runs. 0: none.
	Timeout time.Duration
	// Queue names the workers that execute the workflow; empty: the engine's
	// own. A workflow that others execute needs no function here. Engines that
	// run everything in one process refuse it.
	Queue string
	// FailOnProblem makes a panic of the code fail the run. The default is a
	// [Problem]: the run waits for a fixed deploy.
	FailOnProblem bool
}

// NewWorkflow defines a workflow. fn must be deterministic: time, random
// numbers, concurrency and I/O come from this package only. Its input and
// result are JSON on every engine. fn may be nil for a workflow that others
// execute: see WorkflowOptions.Queue.
func NewWorkflow[In, Out any](name string, fn func(context.Context, In) (Out, error), o *WorkflowOptions) *Workflow[In, Out] {
	w := &Workflow[In, Out]{name: name, fn: fn}
	if o != nil {
		w.opts = *o
	}
	return w
}

// Name is the name that the workflow is started by.
func (w *Workflow[In, Out]) Name() string { return w.name }

// Info implements [Definition].
func (w *Workflow[In, Out]) Info() Info {
	i := Info{Kind: KindWorkflow, Name: w.name, Title: w.opts.Title, Description: w.opts.Description, In: typeOf[In](), Out: typeOf[Out]()}
	for _, a := range w.opts.Accepts {
		i.Accepts = append(i.Accepts, a.Info())
	}
	return i
}

// Define implements [Definer].
func (w *Workflow[In, Out]) Define(d *Definitions) {
	if !d.claim(w, w.Info()) {
		return
	}
	if w.fn == nil && w.opts.Queue == "" {
		d.errs = append(d.errs, fmt.Errorf("workflow %q has no function, nor the Queue of those who have it", w.name))
		return
	}
	def := &workflowDef{name: w.name, opts: w.opts, in: typeOf[In](), accepts: map[defKey]Accepted{}}
	def.check = func(in json.RawMessage) error { _, err := decode[In](in); return err }
	if w.fn != nil {
		def.fn = w.call
	}
	for _, a := range w.opts.Accepts {
		i := a.Info()
		def.accepts[defKey{i.Kind, i.Name}] = a
		d.Add(a)
	}
	d.wfs[w.name] = def
}

// call is the function as engines call it.
func (w *Workflow[In, Out]) call(ctx context.Context, raw json.RawMessage) (json.RawMessage, error) {
	in, err := decode[In](raw)
	if err != nil {
		return nil, fmt.Errorf("input of workflow %q: %w", w.name, err)
	}
	out, err := w.fn(ctx, in)
	if err != nil {
		return nil, err
	}
	return encode(out)
}

// Start starts a run on an engine and returns when that is durable. A run of
// the same id with the same input is that run ([Run.Existing]).
func (w *Workflow[In, Out]) Start(ctx context.Context, e *Engine, in In, o *StartOptions) (*Run, error) {
	raw, err := encode(in)
	if err != nil {
		return nil, fmt.Errorf("start workflow %q: %w", w.name, err)
	}
	return e.Start(ctx, w.name, raw, o)
}

// Result waits for a run's result, over its whole chain.
func (w *Workflow[In, Out]) Result(ctx context.Context, r *Run) (Out, error) {
	return result[Out](r.Result(ctx))
}

// Run calls the workflow from another one as a child run, and waits for its
// real outcome, also when ctx is cancelled: then the child is asked to cancel.
// Without an engine it calls the function. Runs in the workflow.
func (w *Workflow[In, Out]) Run(ctx context.Context, in In) (Out, error) {
	c, err := w.child(ctx, in, nil, "Workflow.Run")
	if err != nil {
		var zero Out
		return zero, err
	}
	return c.Get(ctx)
}

// ParentClose is what becomes of a child when its parent ends.
type ParentClose string

// The policies. The zero value asks the child to cancel.
const (
	ParentCloseCancel    ParentClose = ""
	ParentCloseTerminate ParentClose = "terminate"
	ParentCloseAbandon   ParentClose = "abandon"
)

// ChildOptions says how a child run is started. The zero value is fine.
type ChildOptions struct {
	ID          string // workflow id; empty: the parent's with the call id added
	ParentClose ParentClose
	Timeout     time.Duration     // of the run; 0: the workflow's own
	Tags        map[string]string // to find it by
}

// Child is a child run.
type Child[Out any] struct {
	Future[Out]
	// WorkflowID and RunID address the child.
	WorkflowID, RunID string
}

// Child starts a child run and returns when it has started. Without an engine
// it calls the function. Runs in the workflow.
func (w *Workflow[In, Out]) Child(ctx context.Context, in In, o *ChildOptions) (*Child[Out], error) {
	c, err := w.child(ctx, in, o, "Workflow.Child")
	if err != nil || c.f == nil {
		return c, err
	}
	r, f := c.f.run, c.f
	r.park(func() bool { return f.began || f.done })
	if f.done && !f.began && f.fail != nil {
		return nil, childError(f)
	}
	c.WorkflowID, c.RunID = f.addr.WorkflowID, f.addr.RunID
	return c, nil
}

func (w *Workflow[In, Out]) child(ctx context.Context, in In, o *ChildOptions, call string) (*Child[Out], error) {
	e, err := enter(ctx, call)
	if err != nil {
		return nil, err
	}
	if e.attempt != nil {
		return nil, fmt.Errorf("durable.%s %q: %w", call, w.name, ErrInStep)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	raw, err := encode(in)
	if err != nil {
		return nil, fmt.Errorf("child workflow %q: %w", w.name, err)
	}
	if e.run == nil {
		if w.fn == nil {
			return nil, fmt.Errorf("workflow %q is declared without a function: %w: it needs an engine", w.name, ErrNotDefined)
		}
		// Plain Go: the value still makes the round trip that it would make.
		call := func() (json.RawMessage, error) {
			for raw := raw; ; {
				in, err := decode[In](raw)
				if err != nil {
					return nil, err
				}
				out, err := w.fn(ctx, in)
				var again *continueError
				switch {
				case errors.As(err, &again):
					raw = again.in
				case err != nil:
					return nil, &RunError{WorkflowID: w.name, State: Failed, Err: toError(err)}
				default:
					return encode(out)
				}
			}
		}
		return &Child[Out]{Future: Future[Out]{plain: finished(call())}}, nil
	}
	if o != nil {
		switch o.ParentClose {
		case ParentCloseCancel, ParentCloseTerminate, ParentCloseAbandon:
		default:
			return nil, fmt.Errorf("child workflow %q: parent close policy %q is not known: %w", w.name, o.ParentClose, ErrBadInput)
		}
	}
	r := e.run
	def := r.ex.defs.wfs[w.name]
	opts := childSpec{}
	var no error
	var headers json.RawMessage
	if !r.recorded(kindChild, w.name) {
		if def == nil {
			no = fmt.Errorf("child workflow %q: %w", w.name, ErrNotDefined)
		} else {
			opts.Timeout, opts.Queue = def.opts.Timeout.Microseconds(), def.opts.Queue
			if no = r.ex.checkSize(len(raw), "the input of workflow", w.name); no == nil {
				if no = r.room(); no != nil {
					no = fmt.Errorf("child workflow %q: %w", w.name, no)
				}
			}
		}
		headers = r.ex.headers(ctx, &r.cfg)
	}
	if o != nil {
		opts.ID, opts.ParentClose, opts.Tags = o.ID, o.ParentClose, o.Tags
		if o.Timeout > 0 {
			opts.Timeout = o.Timeout.Microseconds()
		}
	}
	f, err := r.offer(ctx, callSpec{kind: kindChild, name: w.name, input: raw, opts: opts, headers: headers}, no)
	if err != nil {
		return nil, err
	}
	return &Child[Out]{Future: Future[Out]{f: f}}, nil
}

// childSpec is the recorded form of ChildOptions.
type childSpec struct {
	ID          string            `json:"id,omitempty"`
	ParentClose ParentClose       `json:"parent_close,omitempty"`
	Timeout     int64             `json:"timeout,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	Queue       string            `json:"queue,omitempty"`
}

func childError(f *future) error {
	if f.fail.Type == childFailure {
		e := &RunError{}
		if json.Unmarshal(f.fail.Details, e) == nil {
			return e
		}
	}
	return fromFailure(f.fail)
}

// childFailure is the type of a failure that carries a RunError.
const childFailure = "durable.RunError"

// runFailure records how a child ended.
func runFailure(row *journal.Run) *journal.Failure {
	e := &RunError{WorkflowID: row.WorkflowID, RunID: row.RunID, State: State(row.State), Err: fromFailure(row.Failure)}
	b, _ := plainjson.Marshal(e)
	return &journal.Failure{Type: childFailure, Message: e.Error(), Details: b}
}

// continueError is what ContinueAsNew returns.
type continueError struct {
	in json.RawMessage
}

func (*continueError) Error() string {
	return "continue as new: return this error from the workflow function"
}

// ContinueAsNew, returned as the error of a workflow's function, ends the run
// and starts another one of the same workflow in its place, with a fresh
// history: same workflow id, unread signals and their ids carried over, the
// chain's result is the last run's. It is how a run lives for ever.
//
// In a workflow the call itself looks whether that will be possible: where the
// input does not fit the workflow's type, or is with the unread signals over
// the size limit, it returns [ErrBadInput] or [ErrTooLarge] instead, and the
// code may do something about it and go on. Whoever just returns the error
// fails the run with it. Signals that come later are carried in any case.
func ContinueAsNew(in any) error {
	raw, err := encode(in)
	if err != nil {
		return fmt.Errorf("continue as new: %w", err)
	}
	if c, ok := coroutines.Load(getg()); ok {
		if r := c.(*coroutine).run; r.holder.Load() == getg() && !r.unwinding.Load() && !r.reading && !panicking() {
			if err := r.allow(r.ctx, journal.Continue, r.def.name, func() error { return r.mayContinue(raw) }); err != nil {
				return err
			}
		}
	}
	return &continueError{raw}
}

// --- JSON at the edge

// encode makes the JSON of a value; without escapes for HTML, so that JSON
// inside of it comes back as it was, and readers see what was meant.
func encode(v any) (json.RawMessage, error) {
	if raw, ok := v.(json.RawMessage); ok {
		if len(raw) == 0 {
			return json.RawMessage("null"), nil
		}
		if !json.Valid(raw) {
			return nil, fmt.Errorf("%w: not valid JSON", ErrBadInput)
		}
		return raw, nil
	}
	b, err := plainjson.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%w: %T cannot be encoded as JSON: %v", ErrBadInput, v, err)
	}
	return b, nil
}

func decode[T any](raw json.RawMessage) (T, error) {
	var v T
	if len(raw) == 0 {
		return v, nil
	}
	if p, ok := any(&v).(*json.RawMessage); ok {
		*p = append(json.RawMessage(nil), raw...)
		return v, nil
	}
	if err := plainjson.Unmarshal(raw, &v); err != nil {
		return v, fmt.Errorf("%w: %v", ErrBadInput, err)
	}
	return v, nil
}

func result[T any](raw json.RawMessage, err error) (T, error) {
	if err != nil {
		var zero T
		return zero, err
	}
	return decode[T](raw)
}
