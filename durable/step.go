package durable

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Step is a function registered by name that does I/O. It runs on a worker;
// its result is recorded once. By default it runs at least once: an attempt
// that was cut off by a crash is made again, so the effect should be
// idempotent or carry [StepInfo.Key].
type Step[In, Out any] struct {
	def  *stepIdentity
	fn   func(context.Context, In) (Out, error)
	opts StepOptions
	// varied is set by With: the options are not the declared ones.
	varied bool
}

// stepIdentity is shared by a step, its bindings and its variants.
type stepIdentity struct {
	name string
	opts StepOptions // as declared
}

// StepOptions says how a step is run. The zero value is fine.
type StepOptions struct {
	Title, Description string // for people

	Timeout      time.Duration // of one attempt; 0: 10 minutes
	TotalTimeout time.Duration // of all attempts with the waits between; 0: none
	QueueTimeout time.Duration // from the call to the start of the first attempt; 0: none
	// Heartbeat demands that the step calls [Heartbeat] at least this often;
	// otherwise the attempt is given up. 0: the engine's own signs of life
	// are enough.
	Heartbeat time.Duration
	Retry     *Retry // nil: the engine's default policy
	// AtMostOnce promises that no second attempt is ever sent. Where the
	// outcome of the one attempt can't be known, the caller gets
	// [ErrOutcomeUnknown].
	AtMostOnce bool
	// Abandon makes a cancelled caller go on at once; the default is to ask
	// the step to stop and to wait for its real outcome.
	Abandon bool
	// Queue names the workers that the step is sent to. Such a step may be
	// declared without a function: they have it, as one of theirs or as
	// anything else that has its name on that queue. Affinity routes to one of
	// them. Engines that run everything in one process refuse both.
	Queue, Affinity string
}

// NewStep defines a step. fn may be nil: then the step is only declared, and
// [Step.Bind] says in main what it does, or StepOptions.Queue where it is
// done.
func NewStep[In, Out any](name string, fn func(context.Context, In) (Out, error), o *StepOptions) *Step[In, Out] {
	s := &Step[In, Out]{def: &stepIdentity{name: name}, fn: fn}
	if o != nil {
		s.def.opts, s.opts = *o, *o
	}
	return s
}

// Name is the step's name, which retry policies and histories use.
func (s *Step[In, Out]) Name() string { return s.def.name }

// Info implements [Definition].
func (s *Step[In, Out]) Info() Info {
	return Info{Kind: KindStep, Name: s.def.name, Title: s.def.opts.Title, Description: s.def.opts.Description, In: typeOf[In](), Out: typeOf[Out]()}
}

// Define implements [Definer].
func (s *Step[In, Out]) Define(d *Definitions) { s.define(d, s.fn, false) }

// binding is a step with its behaviour.
type binding[In, Out any] struct {
	s  *Step[In, Out]
	fn func(context.Context, In) (Out, error)
}

// Bind gives a declared step its behaviour: a real gateway in main, a fake in
// a test. The result is the definition to give to Open.
func (s *Step[In, Out]) Bind(fn func(context.Context, In) (Out, error)) Definer {
	return &binding[In, Out]{s, fn}
}

// Define implements [Definer].
func (b *binding[In, Out]) Define(d *Definitions) { b.s.define(d, b.fn, true) }

func (s *Step[In, Out]) define(d *Definitions, fn func(context.Context, In) (Out, error), bound bool) {
	name := s.def.name
	if had := d.steps[name]; had != nil {
		switch {
		case had.owner != s.def:
			d.errs = append(d.errs, fmt.Errorf("step %q: %w: two values have this name", name, ErrDefinedTwice))
			return
		case !bound:
			return // the step itself, again or beside its binding
		case had.bound:
			d.errs = append(d.errs, fmt.Errorf("step %q: %w: bound to two functions", name, ErrDefinedTwice))
			return
		}
	} else {
		if err := checkName(name); err != nil {
			d.errs = append(d.errs, fmt.Errorf("step %q: %w", name, err))
			return
		}
		if err := s.def.opts.check(); err != nil {
			d.errs = append(d.errs, fmt.Errorf("step %q: %w", name, err))
			return
		}
	}
	def := &stepDef{name: name, opts: s.def.opts, bound: bound, owner: s.def}
	if fn != nil {
		def.fn = stepFunc(name, fn)
	}
	d.steps[name] = def
	d.infos[defKey{KindStep, name}] = s.Info()
}

func stepFunc[In, Out any](name string, fn func(context.Context, In) (Out, error)) func(context.Context, json.RawMessage) (json.RawMessage, error) {
	return func(ctx context.Context, raw json.RawMessage) (json.RawMessage, error) {
		in, err := decode[In](raw)
		if err != nil {
			return nil, Permanent(fmt.Errorf("input of step %q: %w", name, err))
		}
		out, err := fn(ctx, in)
		if err != nil {
			return nil, err
		}
		b, err := encode(out)
		if err != nil {
			return nil, unencodable{fmt.Errorf("result of step %q: %w", name, err)}
		}
		return b, nil
	}
}

// unencodable marks a result that is there but can't be recorded.
type unencodable struct{ error }

func (e unencodable) Unwrap() error { return e.error }

func (o *StepOptions) check() error {
	switch {
	case o.Timeout < 0, o.TotalTimeout < 0, o.QueueTimeout < 0, o.Heartbeat < 0:
		return fmt.Errorf("a timeout is negative")
	case o.AtMostOnce && o.Retry != nil && o.Retry.MaxAttempts > 1:
		return fmt.Errorf("AtMostOnce and Retry.MaxAttempts %d contradict each other", o.Retry.MaxAttempts)
	}
	return o.Retry.check()
}

// With is the same step with other options for the calls made through it. An
// empty Retry, Title or Description keeps the declared one.
func (s *Step[In, Out]) With(o *StepOptions) *Step[In, Out] {
	v := *s
	v.varied = true
	if o != nil {
		declared := s.opts
		v.opts = *o
		if v.opts.Retry == nil {
			v.opts.Retry = declared.Retry
		}
	}
	return &v
}

// Do runs the step and waits for its outcome, also when ctx is cancelled: then
// the step is asked to stop. The error is a [*StepError]. Inside another step
// it runs inline, as part of that attempt; without an engine it runs at once,
// with its retries. Runs in the workflow.
func (s *Step[In, Out]) Do(ctx context.Context, in In) (Out, error) {
	return s.start(ctx, in, "Step.Do").Get(ctx)
}

// Start starts the step and returns at once. Runs in the workflow.
func (s *Step[In, Out]) Start(ctx context.Context, in In) *Future[Out] {
	return s.start(ctx, in, "Step.Start")
}

func (s *Step[In, Out]) start(ctx context.Context, in In, call string) *Future[Out] {
	fail := func(err error) *Future[Out] { return &Future[Out]{err: err} }
	e, err := enter(ctx, call)
	if err != nil {
		return fail(err)
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	raw, err := encode(in)
	if err != nil {
		return fail(fmt.Errorf("step %q: %w", s.def.name, err))
	}
	if e.attempt != nil {
		if s.opts.AtMostOnce {
			return fail(fmt.Errorf("at-most-once step %q: %w", s.def.name, ErrInStep))
		}
		fn := s.function(ctx, e.attempt.ent)
		if fn == nil {
			return fail(fmt.Errorf("step %q: %w", s.def.name, ErrNotDefined))
		}
		out, err := fn(ctx, raw)
		return &Future[Out]{plain: finished(out, err)}
	}
	if e.run == nil {
		fn, err := s.plainFunction(ctx)
		if err != nil {
			return fail(fmt.Errorf("step %q: %w", s.def.name, err))
		}
		return &Future[Out]{plain: startPlain(func() (json.RawMessage, error) {
			return runPlainStep(ctx, s.def.name, fn, s.opts, raw)
		})}
	}
	r := e.run
	spec := callSpec{kind: kindStep, name: s.def.name, input: raw}
	var no error
	if !r.recorded(kindStep, s.def.name) {
		spec.step, no = s.allowed(r, raw)
		spec.headers = r.ex.headers(ctx, &r.cfg)
	}
	f, err := r.offer(ctx, spec, no)
	if err != nil {
		return fail(err)
	}
	if s.opts.Abandon {
		f.cancel = cancelDrops
	}
	return &Future[Out]{f: f}
}

// allowed reports why a call of the step is refused now, or how it is made.
func (s *Step[In, Out]) allowed(r *run, raw json.RawMessage) (*resolved, error) {
	if !s.callable(r.ent) {
		return nil, fmt.Errorf("step %q: %w (a declared step needs Bind, or the Queue of those who have it)", s.def.name, ErrNotDefined)
	}
	if err := r.ex.checkSize(len(raw), "the input of step", s.def.name); err != nil {
		return nil, err
	}
	if err := r.room(); err != nil {
		return nil, fmt.Errorf("step %q: %w", s.def.name, err)
	}
	p, err := r.ex.policy(s.def, &s.opts, s.varied)
	if err != nil {
		return nil, fmt.Errorf("step %q: %w", s.def.name, err)
	}
	return p, nil
}

// callable reports whether a run may call the step: this program says what it
// does, or who does it.
func (s *Step[In, Out]) callable(e *entry) bool {
	if d := e.ex.defs.steps[s.def.name]; d == nil || d.owner != s.def {
		return false
	}
	return s.opts.Queue != "" && e.ex.queues || s.function(context.Background(), e) != nil
}

// function is what the step does on the engine of a run, or without one where
// ctx is; nil means nothing.
func (s *Step[In, Out]) function(ctx context.Context, e *entry) stepFn {
	if e == nil {
		fn, _ := s.plainFunction(ctx) // why there is none is ErrNotDefined
		return fn
	}
	if d := e.ex.defs.steps[s.def.name]; d != nil && d.owner == s.def {
		return d.fn
	}
	return nil
}
