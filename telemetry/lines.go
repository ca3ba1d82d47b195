package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// lines writes spans as the Python project does: a line of JSON each, in the
// form that OpenTelemetry for Python gives a span.
type lines struct {
	w io.Writer
	c io.Closer // nil: not ours
}

type lineContext struct {
	TraceID    string `json:"trace_id"`
	SpanID     string `json:"span_id"`
	TraceState string `json:"trace_state"`
}

type lineLink struct {
	Context    lineContext    `json:"context"`
	Attributes map[string]any `json:"attributes"`
}

type lineEvent struct {
	Name       string         `json:"name"`
	Timestamp  time.Time      `json:"timestamp"`
	Attributes map[string]any `json:"attributes"`
}

type line struct {
	Name       string         `json:"name"`
	Context    lineContext    `json:"context"`
	Kind       string         `json:"kind"`
	ParentID   *string        `json:"parent_id"`
	Start      time.Time      `json:"start_time"`
	End        time.Time      `json:"end_time"`
	Status     lineStatus     `json:"status"`
	Attributes map[string]any `json:"attributes"`
	Events     []lineEvent    `json:"events"`
	Links      []lineLink     `json:"links"`
	Resource   struct {
		Attributes map[string]any `json:"attributes"`
		SchemaURL  string         `json:"schema_url"`
	} `json:"resource"`
}

type lineStatus struct {
	Code        string `json:"status_code"`
	Description string `json:"description,omitempty"`
}

func contextLine(sc trace.SpanContext) lineContext {
	return lineContext{"0x" + sc.TraceID().String(), "0x" + sc.SpanID().String(), "[]"}
}

func mapOf(kvs []attribute.KeyValue) map[string]any {
	m := make(map[string]any, len(kvs))
	for _, kv := range kvs {
		m[string(kv.Key)] = kv.Value.AsInterface()
	}
	return m
}

var (
	kinds = map[trace.SpanKind]string{trace.SpanKindInternal: "INTERNAL", trace.SpanKindServer: "SERVER", trace.SpanKindClient: "CLIENT",
		trace.SpanKindProducer: "PRODUCER", trace.SpanKindConsumer: "CONSUMER"}
	statuses = map[codes.Code]string{codes.Unset: "UNSET", codes.Ok: "OK", codes.Error: "ERROR"}
)

func (l *lines) ExportSpans(_ context.Context, spans []sdktrace.ReadOnlySpan) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	for _, s := range spans {
		out := line{
			Name: s.Name(), Context: contextLine(s.SpanContext()), Kind: "SpanKind." + kinds[s.SpanKind()],
			Start: s.StartTime().UTC(), End: s.EndTime().UTC(), Status: lineStatus{statuses[s.Status().Code], s.Status().Description},
			Attributes: mapOf(s.Attributes()), Events: []lineEvent{}, Links: []lineLink{},
		}
		if p := s.Parent(); p.IsValid() {
			id := "0x" + p.SpanID().String()
			out.ParentID = &id
		}
		for _, e := range s.Events() {
			out.Events = append(out.Events, lineEvent{e.Name, e.Time.UTC(), mapOf(e.Attributes)})
		}
		for _, k := range s.Links() {
			out.Links = append(out.Links, lineLink{contextLine(k.SpanContext), mapOf(k.Attributes)})
		}
		out.Resource.Attributes, out.Resource.SchemaURL = mapOf(s.Resource().Attributes()), s.Resource().SchemaURL()
		if err := enc.Encode(out); err != nil {
			return err
		}
	}
	_, err := l.w.Write(buf.Bytes())
	return err
}

func (l *lines) Shutdown(context.Context) error {
	if l.c == nil {
		return nil
	}
	return l.c.Close()
}
