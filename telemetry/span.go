package telemetry

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"go.opentelemetry.io/otel/trace"
)

// Ids of spans are made from what they stand for. A run lives longer than a
// process: its span is made at its end, where the spans of its steps have long
// been sent from elsewhere, and all must agree on who is whose parent.

// derive makes the first bytes of a digest of the parts.
func derive(into []byte, parts ...string) {
	var buf [256]byte
	b := buf[:0]
	for _, p := range parts {
		b = append(append(b, p...), 0)
	}
	sum := sha256.Sum256(b)
	copy(into, sum[:])
}

func spanID(parts ...string) (id trace.SpanID) {
	derive(id[:], parts...)
	return id
}

func runSpan(o *durable.Observation) trace.SpanID { return spanID("run", o.RunID) }

func callSpan(o *durable.Observation) trace.SpanID { return spanID("call", o.RunID, o.Call) }

// attemptSpan has the time in it: an attempt that was cut off by the end of
// its process does not count, and the next one has the same number.
func attemptSpan(o *durable.Observation) trace.SpanID {
	return spanID("attempt", o.RunID, o.Call, stamp(o.Since))
}

// momentSpan is the span of what has no call.
func momentSpan(o *durable.Observation, at time.Time) trace.SpanID {
	return spanID(o.Kind, o.RunID, o.Wait, o.Name, o.Call, stamp(at))
}

func stamp(t time.Time) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(t.UnixNano()))
	return string(b[:])
}

// root is the trace of a run: the one of its caller, or one of its own that
// its whole chain shares. caller is not valid in a trace of its own.
func (s *spans) root(o *durable.Observation) (caller trace.SpanContext, id trace.TraceID, sampled bool) {
	if sc, ok := parse(o.Trace); ok {
		return sc, sc.TraceID(), sc.IsSampled()
	}
	chain := o.Chain
	if chain == "" {
		chain = o.RunID
	}
	derive(id[:], "trace", chain)
	return trace.SpanContext{}, id, s.chosen(id)
}

// parse reads a W3C traceparent.
func parse(s string) (sc trace.SpanContext, ok bool) {
	// 00-<32>-<16>-<2>; later versions may have more after a dash.
	if len(s) < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' || s[:2] == "ff" || len(s) > 55 && (s[:2] == "00" || s[55] != '-') {
		return sc, false
	}
	var version, flags [1]byte
	var tid trace.TraceID
	var sid trace.SpanID
	for _, f := range []struct {
		into []byte
		text string
	}{{version[:], s[:2]}, {tid[:], s[3:35]}, {sid[:], s[36:52]}, {flags[:], s[53:55]}} {
		for i := range len(f.text) {
			if c := f.text[i]; c >= 'A' && c <= 'F' {
				return sc, false
			}
		}
		if _, err := hex.Decode(f.into, []byte(f.text)); err != nil {
			return sc, false
		}
	}
	sc = trace.NewSpanContext(trace.SpanContextConfig{TraceID: tid, SpanID: sid, TraceFlags: trace.TraceFlags(flags[0]) & trace.FlagsSampled, Remote: true})
	return sc, sc.IsValid()
}

// format writes a W3C traceparent.
func format(sc trace.SpanContext) string {
	if !sc.IsValid() {
		return ""
	}
	tid, sid := sc.TraceID(), sc.SpanID()
	b := make([]byte, 0, 55)
	b = append(b, "00-"...)
	b = hex.AppendEncode(b, tid[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, sid[:])
	if sc.IsSampled() {
		return string(append(b, "-01"...))
	}
	return string(append(b, "-00"...))
}

// within is the context of a span in a trace.
func within(id trace.TraceID, span trace.SpanID, sampled bool) trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: span, TraceFlags: trace.TraceFlags(0).WithSampled(sampled)})
}

type idKey struct{}

// given are ids that a span gets instead of random ones.
type given struct {
	trace trace.TraceID
	span  trace.SpanID
}

// idSource gives spans the ids that were derived for them, and random ones to
// the spans of others.
type idSource struct{}

func (idSource) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if g, ok := ctx.Value(idKey{}).(given); ok {
		return g.trace, g.span
	}
	var g given
	_, _ = rand.Read(g.trace[:])
	_, _ = rand.Read(g.span[:])
	return g.trace, g.span
}

func (idSource) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	if g, ok := ctx.Value(idKey{}).(given); ok {
		return g.span
	}
	var id trace.SpanID
	_, _ = rand.Read(id[:])
	return id
}
