package telemetry

import (
	"context"
	"time"
	"unicode/utf8"

	"github.com/mcpagent/mcpagent/durable"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// spans makes a span of everything that has ended. Nothing is kept between
// two observations: an observation of an end says when it began.
type spans struct {
	tracer  trace.Tracer
	sampler sdktrace.Sampler
	content bool
}

// chosen reports whether a trace that nobody else has decided about is kept.
func (s *spans) chosen(id trace.TraceID) bool {
	return s.sampler.ShouldSample(sdktrace.SamplingParameters{TraceID: id}).Decision == sdktrace.RecordAndSample
}

// place is the span that an observation belongs to.
func (s *spans) place(o *durable.Observation) trace.SpanContext {
	_, id, sampled := s.root(o)
	switch {
	case o.Call == "":
		return within(id, runSpan(o), sampled)
	case o.Attempt == 0:
		return within(id, callSpan(o), sampled)
	}
	return within(id, attemptSpan(o), sampled)
}

func (s *spans) observe(o *durable.Observation) {
	switch o.Kind {
	case "run.started", "run.ended", "wait.ended", "step.ended", "message":
	case "problem":
		if o.Attempt > 1 {
			return // it was tried again
		}
	default:
		return
	}
	caller, id, sampled := s.root(o)
	if !sampled {
		return
	}
	run := within(id, runSpan(o), true)
	switch o.Kind {
	case "run.started":
		// The run's own span comes at its end, maybe in days. This one is
		// there at once, so that the trace has it and what is known of it.
		s.end(o, run, spanID("started", o.RunID), "started "+o.Workflow, o.At)
	case "run.ended":
		s.end(o, caller, run.SpanID(), "run "+o.Workflow, o.Since, keyState.String(string(o.State)))
	case "wait.ended":
		if o.Since.IsZero() {
			return
		}
		span := callSpan(o)
		if o.Call == "" {
			span = momentSpan(o, o.Since)
		}
		name := o.Wait
		if o.Name != "" && o.Wait != "timer" {
			name += " " + o.Name
		}
		attrs := []attribute.KeyValue{keyWait.String(o.Wait), keyName.String(o.Name)}
		if o.Wait == "step" {
			attrs = []attribute.KeyValue{keyStep.String(o.Name), keyAttempts.Int(o.Attempt)}
		}
		s.end(o, run, span, name, o.Since, attrs...)
	case "step.ended":
		s.end(o, within(id, callSpan(o), true), attemptSpan(o), "attempt "+o.Name, o.Since, keyStep.String(o.Name), keyAttempt.Int(o.Attempt))
	case "message":
		name := "received " + o.Wait
		if o.Name != "" {
			name += " " + o.Name
		}
		s.end(o, run, momentSpan(o, o.At), name, o.At, keyMessage.String(o.Wait), keyName.String(o.Name))
	case "problem":
		kind := ""
		if o.Err != nil {
			kind = o.Err.Type
		}
		s.end(o, run, momentSpan(o, o.At), "problem "+kind, o.At, keyProblem.String(kind))
	}
}

// end makes a span that ends with the observation.
func (s *spans) end(o *durable.Observation, parent trace.SpanContext, span trace.SpanID, name string, since time.Time, attrs ...attribute.KeyValue) {
	ctx := context.Background()
	id := parent.TraceID()
	opts := make([]trace.SpanStartOption, 0, 4)
	if parent.IsValid() {
		ctx = trace.ContextWithSpanContext(ctx, parent)
	} else {
		_, id, _ = s.root(o)
	}
	ctx = context.WithValue(ctx, idKey{}, given{id, span})
	all := append(make([]attribute.KeyValue, 0, 12), keyWorkflow.String(o.Workflow), keyWorkflowID.String(o.WorkflowID), keyRunID.String(o.RunID))
	all = append(all, attrs...)
	if o.Chain != "" && o.Chain != o.RunID {
		all = append(all, keyChain.String(o.Chain))
	}
	if o.Owner != "" {
		all = append(all, keyOwner.String(o.Owner))
	}
	if o.Call != "" && o.Kind != "message" {
		all = append(all, keyCall.String(o.Call))
	}
	if o.Dropped {
		all = append(all, keyDropped.Bool(true))
	}
	if o.Err != nil {
		all = append(all, keyError.String(o.Err.Type))
	}
	if s.content {
		if o.Input != nil {
			all = append(all, keyInput.String(cut(string(o.Input), maxContent)))
		}
		if o.Output != nil {
			all = append(all, keyOutput.String(cut(string(o.Output), maxContent)))
		}
	}
	opts = append(opts, trace.WithTimestamp(since), trace.WithAttributes(all...))
	if link, ok := parse(o.Link); ok {
		opts = append(opts, trace.WithLinks(trace.Link{SpanContext: link}))
	}
	if o.Kind == "message" {
		opts = append(opts, trace.WithSpanKind(trace.SpanKindConsumer))
	}
	_, sp := s.tracer.Start(ctx, name, opts...)
	if o.Err != nil && o.State != durable.Cancelled && o.State != durable.Terminated {
		sp.SetStatus(codes.Error, cut(o.Err.Message, maxMessage))
	}
	at := o.At
	if o.Kind == "step.ended" {
		at = since.Add(o.Took)
	}
	if at.Before(since) {
		at = since // the clock was set back meanwhile
	}
	sp.End(trace.WithTimestamp(at))
}

const (
	maxMessage = 256
	maxContent = 4 << 10
)

// cut shortens a text at a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
