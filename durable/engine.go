package durable

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"time"
)

// Engine starts runs and talks to them. All engines have this one front; make
// one with [NewMemory] or the Open of an engine's package. It is safe for
// concurrent use. Its operations do I/O: in a workflow they are refused with
// [ErrInWorkflow] (except [Run.Signal] and [Run.Cancel], which are durable
// calls there).
type Engine struct {
	b    Backend
	defs *Definitions
	prop []Propagator
	// reuse is the policy of starts that name none.
	reuse  ReusePolicy
	tracer Tracer
}

// NewEngine makes the front of a backend. For the engines of this module.
func NewEngine(b Backend, defs *Definitions, o *Options) *Engine {
	e := &Engine{b: b, defs: defs}
	if o != nil {
		e.prop, e.reuse = o.Propagators, o.Reuse
		e.tracer, _ = o.Observer.(Tracer)
	}
	return e
}

// Definitions is what the engine was opened with.
func (e *Engine) Definitions() *Definitions { return e.defs }

// Backend is what is behind the engine. For the engines of this module.
func (e *Engine) Backend() Backend { return e.b }

// Close ends execution. Steps at work are asked to stop and get until ctx ends
// (at most ten seconds if it has no end); what was not finished goes on when
// the engine is opened again.
func (e *Engine) Close(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
	}
	return e.b.Close(ctx)
}

// do carries out an operation in the name of the context's actor.
func (e *Engine) do(ctx context.Context, req *Request) (*Reply, error) {
	switch x := ctx.Value(envKey{}).(type) {
	case *scope:
		if x.run.holder.Load() == getg() {
			return nil, fmt.Errorf("%s: %w", req.Op, ErrInWorkflow)
		}
	default:
		if _, ok := coroutines.Load(getg()); ok {
			return nil, fmt.Errorf("%s: %w", req.Op, ErrInWorkflow)
		}
	}
	if e == nil || e.b == nil {
		return nil, fmt.Errorf("%s: %w", req.Op, ErrNoEngine)
	}
	req.Actor, req.Trace = ActorOf(ctx), TraceOf(ctx)
	if e.tracer != nil {
		req.Trace = cmp.Or(e.tracer.Caller(ctx), req.Trace)
	}
	if req.ID == "" && !req.Reads() && req.Op != opQuery && req.Op != OpHealth {
		req.ID = newUUID()
	}
	rep, err := e.b.Do(ctx, req)
	if err != nil {
		return nil, err
	}
	return rep, rep.err()
}

// Start starts a run of a workflow by name and returns when that is durable.
func (e *Engine) Start(ctx context.Context, workflow string, input json.RawMessage, o *StartOptions) (*Run, error) {
	var opts StartOptions
	if o != nil {
		opts = *o
	}
	if len(input) > 0 && !json.Valid(input) {
		return nil, fmt.Errorf("start workflow %q: %w: the input is not valid JSON", workflow, ErrBadInput)
	}
	if opts.ID == "" && opts.Key == "" {
		opts.ID = workflow + "-" + newUUID()
	}
	if opts.Headers == nil {
		opts.Headers = e.headers(ctx)
	}
	if opts.Reuse == "" {
		opts.Reuse = e.reuse
	}
	rep, err := e.do(ctx, &Request{Op: opStart, Name: workflow, Payload: input, Start: &opts})
	if err != nil {
		return nil, err
	}
	return &Run{WorkflowID: rep.Ref.WorkflowID, RunID: rep.Ref.RunID, Existing: rep.Existing, e: e}, nil
}

// headers collects what the propagators find in a caller's context.
func (e *Engine) headers(ctx context.Context) map[string]string {
	var h map[string]string
	for _, p := range e.prop {
		if v := p.Extract(ctx); v != "" {
			if h == nil {
				h = map[string]string{}
			}
			h[p.Key()] = v
		}
	}
	return h
}

// Run is a handle for a run, without asking whether there is one. An empty
// run id means the newest run of that workflow id.
func (e *Engine) Run(workflowID, runID string) *Run {
	return &Run{WorkflowID: workflowID, RunID: runID, e: e}
}

// List lists runs, newest first. It may lag behind by a moment.
func (e *Engine) List(ctx context.Context, f *Filter) (*Page, error) {
	if f == nil {
		f = &Filter{}
	}
	rep, err := e.do(ctx, &Request{Op: opList, Filter: f})
	if err != nil {
		return nil, err
	}
	return rep.Page, nil
}

// Questions is the inbox: the open questions, oldest first.
func (e *Engine) Questions(ctx context.Context, f *QuestionFilter) ([]*QuestionInfo, error) {
	if f == nil {
		f = &QuestionFilter{}
	}
	rep, err := e.do(ctx, &Request{Op: opQuestions, Asks: f})
	if err != nil {
		return nil, err
	}
	return rep.Questions, nil
}

// AnswerOptions say more about an answer. The zero value is fine.
type AnswerOptions struct {
	ID     string // the same one again is a success; empty: a new one
	Note   string // for the record
	Digest string // what the answer is bound to; must be the question's own if that has one
}

// Answer answers an open question. A value that does not fit is refused and
// the question stays open; one that was answered gives [ErrAnswered].
func (e *Engine) Answer(ctx context.Context, id string, value json.RawMessage, o *AnswerOptions) error {
	req := &Request{Op: opAnswer, Name: id, Payload: value}
	if o != nil {
		req.ID, req.Reason, req.Digest = o.ID, o.Note, o.Digest
	}
	if !json.Valid(value) {
		return fmt.Errorf("answer %q: %w: not valid JSON", id, ErrBadInput)
	}
	_, err := e.do(ctx, req)
	return err
}

// Complete keeps a callback's promise with a value. The first completion
// stands; another one gives [ErrAnswered].
func (e *Engine) Complete(ctx context.Context, token string, value json.RawMessage) error {
	if !json.Valid(value) {
		return fmt.Errorf("complete a callback: %w: not valid JSON", ErrBadInput)
	}
	_, err := e.do(ctx, &Request{Op: opComplete, Name: token, Payload: value})
	return err
}

// Fail ends a callback with an error.
func (e *Engine) Fail(ctx context.Context, token string, cause error) error {
	if cause == nil {
		cause = fmt.Errorf("failed")
	}
	_, err := e.do(ctx, &Request{Op: opComplete, Name: token, Failure: toError(cause)})
	return err
}

// PutBlob stores content under its digest, for a run and those that continue
// it.
func (e *Engine) PutBlob(ctx context.Context, owner *Run, data []byte) (string, error) {
	rep, err := e.do(ctx, &Request{Op: opPutBlob, Ref: owner.ref(), Data: data})
	if err != nil {
		return "", err
	}
	return rep.Name, nil
}

// GetBlob reads content by its digest. Whoever has the digest may read it,
// whatever run it belongs to: it is made from the content.
func (e *Engine) GetBlob(ctx context.Context, digest string) ([]byte, error) {
	rep, err := e.do(ctx, &Request{Op: opGetBlob, Name: digest})
	if err != nil {
		return nil, err
	}
	return rep.Data, nil
}

// Health says how the engine is.
func (e *Engine) Health(ctx context.Context) (*Health, error) {
	rep, err := e.do(ctx, &Request{Op: OpHealth})
	if err != nil {
		return nil, err
	}
	return rep.Health, nil
}

// Health is the state of an engine.
type Health struct {
	OK      bool   `json:"ok"`
	Text    string `json:"text,omitempty"` // what is wrong, and what to do
	Role    string `json:"role"`           // executor, or client of another process
	Running int    `json:"running"`        // unfinished runs
	Awake   int    `json:"awake"`          // of these, in memory
	Paused  int    `json:"paused"`         // of these, by somebody
	Blocked int    `json:"blocked"`        // of these, with a problem
	Steps   int    `json:"steps"`          // at work
	Queued  int    `json:"queued"`         // steps that wait for a place
}

// ReusePolicy says what a start does when a finished run has its id.
type ReusePolicy string

// The policies. The zero value takes the finished run for the answer.
const (
	ReuseReject ReusePolicy = ""       // it is the run that was asked for
	ReuseAllow  ReusePolicy = "allow"  // start a new one
	ReuseFailed ReusePolicy = "failed" // start a new one unless it completed
)

// StartOptions say how a run is started. The zero value is fine.
type StartOptions struct {
	// ID is the workflow id: one unfinished run has it at a time. A start with
	// the same id, workflow and input is the run that is there; with another
	// input it is refused ([ErrIDTaken]). Empty: the workflow's name and a
	// UUID.
	ID string `json:"id,omitempty"`
	// Key makes the start itself repeatable: the same key is the same run,
	// for as long as the run is kept.
	Key     string            `json:"key,omitempty"`
	Timeout time.Duration     `json:"timeout,omitempty"` // of the run, over its chain; 0: the workflow's own
	Delay   time.Duration     `json:"delay,omitempty"`   // before the first turn
	Tags    map[string]string `json:"tags,omitempty"`    // to find it by
	Memo    json.RawMessage   `json:"memo,omitempty"`    // any JSON, shown with it
	Signal  *SignalWithStart  `json:"signal,omitempty"`  // sent with the start, in one commit; also to the run that is there
	Reuse   ReusePolicy       `json:"reuse,omitempty"`

	// Headers are the values that propagators carry; set by the engine.
	Headers map[string]string `json:"headers,omitempty"`
}

// SignalWithStart is a signal that is sent with a start.
type SignalWithStart struct {
	Name    string          `json:"name"`
	ID      string          `json:"id,omitempty"`
	Payload json.RawMessage `json:"payload,omitempty"`
}

// SendOptions say more about a signal or update. The zero value is fine.
type SendOptions struct {
	ID string // the same one again is sent once; empty: a new one
}

// PauseOptions say more about a pause or resume. The zero value is fine.
type PauseOptions struct {
	ID     string
	Reason string
	Tree   bool // children too
}

// Ref addresses a run. An empty RunID means the newest of that workflow id.
type Ref struct {
	WorkflowID string `json:"workflow_id"`
	RunID      string `json:"run_id,omitempty"`
}

func (r Ref) String() string {
	if r.RunID == "" {
		return fmt.Sprintf("%q", r.WorkflowID)
	}
	return fmt.Sprintf("%q (run %s)", r.WorkflowID, r.RunID)
}

// Run is a handle for one execution of a workflow. A run id follows the chain
// over continue-as-new to its end.
type Run struct {
	WorkflowID string
	RunID      string
	Existing   bool // Start found it

	e *Engine
}

// Address is a handle without an engine, for [Run.Signal] and [Run.Cancel] in
// workflows.
func Address(workflowID, runID string) *Run { return &Run{WorkflowID: workflowID, RunID: runID} }

func (r *Run) ref() Ref {
	if r == nil {
		return Ref{}
	}
	return Ref{r.WorkflowID, r.RunID}
}

// Result waits for the run's end, over its chain, and gives its result. The
// error is a [*RunError] if it ended otherwise, a [*BlockedError] if it can't
// go on until somebody mends something.
func (r *Run) Result(ctx context.Context) (json.RawMessage, error) {
	rep, err := r.e.do(ctx, &Request{Op: opResult, Ref: r.ref()})
	if err != nil {
		return nil, err
	}
	return rep.Payload, nil
}

// Describe tells how the run is and what it waits for. It never lags.
func (r *Run) Describe(ctx context.Context) (*Description, error) {
	rep, err := r.e.do(ctx, &Request{Op: opDescribe, Ref: r.ref()})
	if err != nil {
		return nil, err
	}
	return rep.Run, nil
}

// Signal sends a signal by name and returns when it is on disk. In a workflow
// it is a durable call.
func (r *Run) Signal(ctx context.Context, name string, payload json.RawMessage, o *SendOptions) error {
	if run, err := inCaller(ctx, "Run.Signal"); err != nil {
		return err
	} else if run != nil {
		return run.message(ctx, r.ref(), name, payload, o)
	}
	req := &Request{Op: opSignal, Ref: r.ref(), Name: name, Payload: payload}
	if o != nil {
		req.ID = o.ID
	}
	if len(payload) > 0 && !json.Valid(payload) {
		return fmt.Errorf("signal %q: %w: not valid JSON", name, ErrBadInput)
	}
	_, err := r.e.do(ctx, req)
	return err
}

// Query asks the run by name. It never changes the run.
func (r *Run) Query(ctx context.Context, name string, in json.RawMessage) (json.RawMessage, error) {
	rep, err := r.e.do(ctx, &Request{Op: opQuery, Ref: r.ref(), Name: name, Payload: in})
	if err != nil {
		return nil, err
	}
	return rep.Payload, nil
}

// Update sends an update by name and waits for its answer.
func (r *Run) Update(ctx context.Context, name string, in json.RawMessage, o *SendOptions) (json.RawMessage, error) {
	req := &Request{Op: opUpdate, Ref: r.ref(), Name: name, Payload: in}
	if o != nil {
		req.ID = o.ID
	}
	rep, err := r.e.do(ctx, req)
	if err != nil {
		return nil, err
	}
	return rep.Payload, nil
}

// Cancel asks the run to stop: its code sees the end of its context and may
// clean up. In a workflow it is a durable call.
func (r *Run) Cancel(ctx context.Context, reason string) error {
	if run, err := inCaller(ctx, "Run.Cancel"); err != nil {
		return err
	} else if run != nil {
		return run.stopOther(ctx, r.ref(), reason)
	}
	_, err := r.e.do(ctx, &Request{Op: opCancel, Ref: r.ref(), Reason: reason})
	return err
}

// Terminate ends the run at once. None of its code runs.
func (r *Run) Terminate(ctx context.Context, reason string) error {
	_, err := r.e.do(ctx, &Request{Op: opTerminate, Ref: r.ref(), Reason: reason})
	return err
}

// Pause keeps the run's code from moving. Steps under way go on and their
// results are recorded; timers keep their time.
func (r *Run) Pause(ctx context.Context, o *PauseOptions) error { return r.hold(ctx, opPause, o) }

// Resume lets a paused run go on, and a blocked one try again.
func (r *Run) Resume(ctx context.Context, o *PauseOptions) error { return r.hold(ctx, opResume, o) }

func (r *Run) hold(ctx context.Context, op Op, o *PauseOptions) error {
	req := &Request{Op: op, Ref: r.ref()}
	if o != nil {
		req.ID, req.Reason, req.Tree = o.ID, o.Reason, o.Tree
	}
	_, err := r.e.do(ctx, req)
	return err
}

// History is the run's record, oldest first.
func (r *Run) History(ctx context.Context) ([]*Record, error) {
	rep, err := r.e.do(ctx, &Request{Op: opHistory, Ref: r.ref()})
	if err != nil {
		return nil, err
	}
	return rep.Records, nil
}

// Stream reads what the run appended to a stream, from an offset, and goes on
// until the run has ended or ctx has.
func (r *Run) Stream(ctx context.Context, name string, from int64) iter.Seq2[Entry[json.RawMessage], error] {
	return func(yield func(Entry[json.RawMessage], error) bool) {
		for {
			rep, err := r.e.do(ctx, &Request{Op: opStream, Ref: r.ref(), Name: name, From: from})
			if err != nil {
				yield(Entry[json.RawMessage]{}, err)
				return
			}
			for _, it := range rep.Entries {
				if !yield(it, nil) {
					return
				}
				from = it.Offset + 1
			}
			if rep.End {
				return
			}
		}
	}
}

// inCaller gives the run that makes a call, nil outside of one.
func inCaller(ctx context.Context, call string) (*run, error) {
	e, err := enter(ctx, call)
	if err != nil {
		return nil, err
	}
	return e.run, nil
}
