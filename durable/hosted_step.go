package durable

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// HostedStep is one attempt of a step that a cluster sends to a worker. For
// the engines of this module.
type HostedStep struct {
	StepInfo
	Chain     string // run id of the first run of the chain; empty: this one
	Called    time.Time
	Options   json.RawMessage // of [HostedCall]; empty: the step's own
	Input     journal.Payload
	Headers   map[string]string
	Last      json.RawMessage       // details of the last heartbeat
	Beat      func(json.RawMessage) // passes details on
	Stop      <-chan struct{}       // closed when the worker ends
	Cancelled func() bool           // whether the run asked the step to stop
	Blobs     HostedBlobs           // content beyond the run
}

// Verdict is what became of an attempt.
type Verdict struct {
	Result  journal.Payload
	Failure *journal.Failure // nil: it succeeded
	Retry   bool             // another attempt may follow
	Delay   time.Duration    // before it
	Unknown bool             // nobody knows whether it took effect
	Lost    bool             // the worker ended: it does not count
}

// Defines reports whether a workflow or a step has a function in this program.
func (h *Host) Defines(kind Kind, name string) bool {
	switch kind {
	case KindWorkflow:
		d := h.proto.defs.wfs[name]
		return d != nil && d.fn != nil
	case KindStep:
		d := h.proto.defs.steps[name]
		return d != nil && d.fn != nil
	}
	return false
}

// RunStep makes one attempt. The end of ctx asks the step to stop.
func (h *Host) RunStep(ctx context.Context, s *HostedStep) Verdict {
	def := h.proto.defs.steps[s.Step]
	if def == nil || def.fn == nil {
		return Verdict{Failure: failed(ErrNotDefined, "step %q: this worker does not define it: deploy one that does", s.Step)}
	}
	spec := h.terms(s.Options, h.proto.policies[def.owner])
	ex := &executor{defs: h.proto.defs, opts: h.proto.opts, log: h.proto.log, tracer: h.proto.tracer, content: h.proto.content, limit: h.proto.limit, remedy: h.proto.remedy, st: &stepStore{info: &s.StepInfo, blobs: s.Blobs}, remote: true}
	ex.reader = &reader{st: ex.st, defs: ex.defs, codec: ex.opts.Codec}
	in, err := ex.unseal(s.Input)
	if err != nil {
		return Verdict{Failure: &journal.Failure{Type: "payload", Message: fmt.Sprintf("the codec cannot decode the input of step %q: %v; start the worker with the key it was written with", s.Step, err)}, Retry: true, Delay: spec.delay(s.Attempt)}
	}
	row := &journal.Run{WorkflowID: s.WorkflowID, RunID: s.RunID, Chain: cmp.Or(s.Chain, s.RunID), Name: s.Workflow, Owner: s.Owner}
	e := &entry{ex: ex, row: row, cfg: &runConfig{Trace: s.Trace, Headers: s.Headers}}
	oc := &openCall{call: &journal.Call{ID: s.Call, Kind: kindStep, Name: s.Step}, spec: spec}
	a := &attempt{ent: e, oc: oc, info: s.StepInfo, last: s.Last, tell: s.Beat}
	begins := Observation{Kind: "step.started", At: s.Started, Name: s.Step, Call: s.Call, Attempt: s.Attempt}
	if s.Attempt == 1 {
		begins.Took = max(s.Started.Sub(s.Called), 0)
	}
	e.observe(row, begins)
	over := func(f *journal.Failure) {
		e.observe(row, Observation{Kind: "step.ended", At: time.Now(), Name: s.Step, Call: s.Call, Attempt: s.Attempt,
			Since: s.Started, Took: time.Since(s.Started), Err: fromFailure(f)})
	}
	type outcome struct {
		out json.RawMessage
		err error
	}
	done := make(chan outcome, 1)
	go a.run(a.place(ex.propagate(ctx, e.cfg, s.Headers)), def.fn, in, spec.within(s.Called, s.Started), func(out json.RawMessage, err error) task {
		done <- outcome{out, err}
		return nil
	})
	var o outcome
	select {
	case o = <-done:
	case <-s.Stop:
		a.end(ErrShutdown)
		o = <-done
		if errors.Is(o.err, ErrShutdown) && !spec.AtMostOnce {
			v := Verdict{Lost: true, Retry: true, Failure: toFailure(toError(o.err))}
			over(v.Failure)
			return v
		}
	}
	v := ex.verdictOf(s, spec, o.out, o.err, s.Cancelled())
	over(v.Failure)
	return v
}

// UsualTerms are the options of a call of a step that declares none, where no
// policy says otherwise.
func (h *Host) UsualTerms() json.RawMessage { return h.usual.json }

// terms are the options that a call was made with; own are the step's, for a
// call that has none.
func (h *Host) terms(options json.RawMessage, own *resolved) *stepSpec {
	switch {
	case len(options) == 0, bytes.Equal(options, own.json):
		return own.spec
	case bytes.Equal(options, h.usual.json):
		return h.usual.spec
	}
	spec := &stepSpec{}
	_ = json.Unmarshal(options, spec)
	return spec
}

func (ex *executor) verdictOf(s *HostedStep, spec *stepSpec, out json.RawMessage, err error, cancelled bool) Verdict {
	if err == nil {
		err = ex.checkSize(len(out), "the result of step", s.Step)
		if err != nil {
			err = unencodable{err}
		}
	}
	if err == nil {
		p, serr := ex.seal(out)
		if serr == nil {
			return Verdict{Result: p}
		}
		err = unencodable{fmt.Errorf("the codec cannot encode the result: %w", serr)}
	}
	j := spec.judge(err, s.Attempt, s.Called, time.Now(), cancelled)
	j.failure.Attempts = s.Attempt
	return Verdict{Failure: j.failure, Retry: j.retry, Delay: j.delay, Unknown: j.failure.Kind == "unknown"}
}

// Unsent is the verdict on a step whose result can't be brought to its run;
// passing means that it may be later. Of an at-most-once step nobody knows the
// outcome then.
func (h *Host) Unsent(s *HostedStep, err error, passing bool) Verdict {
	spec := &stepSpec{}
	if len(s.Options) > 0 {
		_ = json.Unmarshal(s.Options, spec)
	}
	if spec.AtMostOnce || !passing {
		err = unencodable{err}
	}
	j := spec.judge(err, s.Attempt, s.Called, time.Now(), s.Cancelled())
	j.failure.Attempts = s.Attempt
	return Verdict{Failure: j.failure, Retry: j.retry, Delay: j.delay, Unknown: j.failure.Kind == "unknown"}
}

// Lost is the failure of an attempt whose worker is gone, or that took too
// long: a known one, or for an at-most-once step an unknown outcome.
func (c *HostedCall) Lost(why string, attempts int) *journal.Failure {
	f := &journal.Failure{Type: "timeout", Kind: "timeout", Message: why, Attempts: attempts}
	if c.Step.AtMostOnce {
		return &journal.Failure{Type: "unknown", Kind: "unknown", Permanent: true, Attempts: attempts, Cause: f, Message: fmt.Sprintf("%v (%s)", ErrOutcomeUnknown, why)}
	}
	return f
}

// NotStarted is the failure of a step whose time in the queue ran out.
func NotStarted(why string) *journal.Failure {
	return &journal.Failure{Type: "not_started", Kind: "not_started", Message: why, Permanent: true}
}

// stepStore is all that a step has of a store: the content that it stores and
// asks for.
type stepStore struct {
	journal.Store // nil: nothing else is asked of it
	info          *StepInfo
	blobs         HostedBlobs
}

func (s *stepStore) Find(string, string) (*journal.Run, error) {
	return &journal.Run{WorkflowID: s.info.WorkflowID, RunID: s.info.RunID, Chain: s.info.RunID, State: string(Running)}, nil
}

func (s *stepStore) Commit(_ context.Context, tx *journal.Tx) error {
	for _, b := range tx.Blobs {
		if err := s.blobs.PutBlob(b.Digest, b.Data); err != nil {
			return err
		}
	}
	return nil
}

func (s *stepStore) Blob(digest string) (*journal.Blob, error) {
	b, err := s.blobs.GetBlob(digest)
	if errors.Is(err, ErrNotFound) {
		return nil, journal.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return &journal.Blob{Digest: digest, Data: b}, nil
}
