package telemetry_test

import (
	"cmp"
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// receiver is an OTLP collector: it takes what the protocol's own types can
// read, and keeps it.
type receiver struct {
	*httptest.Server

	mu       sync.Mutex
	spans    []*trace.Span
	logs     []*logs.LogRecord
	metrics  map[string][]*metrics.Metric // the newest, by service instance
	services map[string]bool              // name, version
	headers  http.Header                  // of the last request
	refuse   int                          // status to answer with
	named    bool                         // links are drawn with names, not ids
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{metrics: map[string][]*metrics.Metric{}, services: map[string]bool{}}
	r.Server = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) serve(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.headers = req.Header.Clone()
	body, err := payload(req)
	if err == nil && r.refuse != 0 {
		w.WriteHeader(r.refuse)
		return
	}
	var reply proto.Message
	switch {
	case err != nil:
	case req.URL.Path == "/v1/traces":
		var m coltrace.ExportTraceServiceRequest
		err, reply = proto.Unmarshal(body, &m), &coltrace.ExportTraceServiceResponse{}
		for _, rs := range m.ResourceSpans {
			r.service(rs.Resource)
			for _, ss := range rs.ScopeSpans {
				r.spans = append(r.spans, ss.Spans...)
			}
		}
	case req.URL.Path == "/v1/logs":
		var m collogs.ExportLogsServiceRequest
		err, reply = proto.Unmarshal(body, &m), &collogs.ExportLogsServiceResponse{}
		for _, rl := range m.ResourceLogs {
			r.service(rl.Resource)
			for _, sl := range rl.ScopeLogs {
				r.logs = append(r.logs, sl.LogRecords...)
			}
		}
	case req.URL.Path == "/v1/metrics":
		var m colmetrics.ExportMetricsServiceRequest
		err, reply = proto.Unmarshal(body, &m), &colmetrics.ExportMetricsServiceResponse{}
		for _, rm := range m.ResourceMetrics {
			id := r.service(rm.Resource)
			r.metrics[id] = nil
			for _, sm := range rm.ScopeMetrics {
				r.metrics[id] = append(r.metrics[id], sm.Metrics...)
			}
		}
	default:
		err = fmt.Errorf("no such path: %s", req.URL.Path)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	b, _ := proto.Marshal(reply)
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(b)
}

func payload(req *http.Request) ([]byte, error) {
	if ct := req.Header.Get("Content-Type"); ct != "application/x-protobuf" {
		return nil, fmt.Errorf("content type %q", ct)
	}
	var from io.Reader = req.Body
	if req.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(req.Body)
		if err != nil {
			return nil, err
		}
		from = z
	}
	return io.ReadAll(from)
}

// service notes who sends, and gives its instance id.
func (r *receiver) service(res *resource.Resource) string {
	m := attrs(res.Attributes)
	r.services[m["service.name"]+" "+m["service.version"]] = true
	return m["service.instance.id"]
}

func attrs(kvs []*common.KeyValue) map[string]string {
	m := map[string]string{}
	for _, kv := range kvs {
		switch v := kv.Value.Value.(type) {
		case *common.AnyValue_StringValue:
			m[kv.Key] = v.StringValue
		case *common.AnyValue_IntValue:
			m[kv.Key] = fmt.Sprint(v.IntValue)
		case *common.AnyValue_BoolValue:
			m[kv.Key] = fmt.Sprint(v.BoolValue)
		default:
			m[kv.Key] = fmt.Sprint(kv.Value)
		}
	}
	return m
}

// tree draws the spans of a trace: children below their parents, in the order
// of their texts. What it says of a span does not differ from run to run.
func (r *receiver) tree(t *testing.T, traceID string) string {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	below := map[string][]*trace.Span{}
	known := map[string]bool{}
	for _, s := range r.spans {
		if hex.EncodeToString(s.TraceId) != traceID {
			continue
		}
		id := hex.EncodeToString(s.SpanId)
		if known[id] {
			t.Errorf("two spans have the id %s: %s", id, s.Name)
		}
		known[id] = true
		below[hex.EncodeToString(s.ParentSpanId)] = append(below[hex.EncodeToString(s.ParentSpanId)], s)
		if s.EndTimeUnixNano < s.StartTimeUnixNano {
			t.Errorf("span %s ends before it starts", s.Name)
		}
	}
	var draw func(id, indent string) string
	draw = func(id, indent string) string {
		var texts []string
		for _, s := range below[id] {
			texts = append(texts, indent+r.spanText(s)+"\n"+draw(hex.EncodeToString(s.SpanId), indent+"  "))
		}
		slices.Sort(texts)
		return strings.Join(texts, "")
	}
	var roots []string
	for id := range below {
		if !known[id] {
			roots = append(roots, "("+cmp.Or(id, "no parent")+")\n"+draw(id, "  "))
		}
	}
	slices.Sort(roots)
	return strings.Join(roots, "")
}

func (r *receiver) spanText(s *trace.Span) string {
	text := s.Name
	m := attrs(s.Attributes)
	for _, k := range []string{"mcpagent.run.state", "mcpagent.attempt", "mcpagent.attempts", "error.type", "mcpagent.dropped", "mcpagent.input", "mcpagent.output"} {
		if v, ok := m[k]; ok {
			text += fmt.Sprintf(" %s=%s", strings.TrimPrefix(k, "mcpagent."), v)
		}
	}
	if s.Status.GetCode() == trace.Status_STATUS_CODE_ERROR {
		text += " ERROR"
	}
	for _, l := range s.Links {
		to := hex.EncodeToString(l.SpanId)
		if i := slices.IndexFunc(r.spans, func(s *trace.Span) bool { return string(s.SpanId) == string(l.SpanId) }); r.named && i >= 0 {
			to = r.spans[i].Name
		}
		text += " ~ " + to
	}
	return text
}

// totals adds up the counters and the counts of histograms of all instances.
func (r *receiver) totals(but ...string) map[string]float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	sums := map[string]float64{}
	for _, ms := range r.metrics {
		for _, m := range ms {
			if slices.ContainsFunc(but, func(p string) bool { return strings.HasPrefix(m.Name+" ", p) }) {
				continue
			}
			add := func(kvs []*common.KeyValue, v float64) { sums[m.Name+" "+labelText(kvs)] += v }
			switch d := m.Data.(type) {
			case *metrics.Metric_Sum:
				for _, p := range d.Sum.DataPoints {
					add(p.Attributes, float64(p.GetAsInt()))
				}
			case *metrics.Metric_Gauge:
				for _, p := range d.Gauge.DataPoints {
					add(p.Attributes, float64(p.GetAsInt()))
				}
			case *metrics.Metric_Histogram:
				for _, p := range d.Histogram.DataPoints {
					add(p.Attributes, float64(p.Count))
				}
			}
		}
	}
	return sums
}

func labelText(kvs []*common.KeyValue) string {
	m := attrs(kvs)
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, strings.TrimPrefix(k, "mcpagent.")+"="+m[k])
	}
	return strings.Join(out, " ")
}

// lines lists the log lines that have a span, with its name.
func (r *receiver) lines(t *testing.T) string {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	names := map[string]string{}
	for _, s := range r.spans {
		names[string(s.TraceId)+string(s.SpanId)] = s.Name
	}
	var out []string
	for _, l := range r.logs {
		if len(l.TraceId) == 0 {
			continue
		}
		name := names[string(l.TraceId)+string(l.SpanId)]
		out = append(out, fmt.Sprintf("%s < %s\n", l.Body.GetStringValue(), name))
		if m := attrs(l.Attributes); m["run_id"] == "" || m["workflow_id"] == "" || l.TimeUnixNano == 0 || l.SeverityNumber != logs.SeverityNumber_SEVERITY_NUMBER_INFO {
			t.Errorf("log line %v", l)
		}
	}
	slices.Sort(out)
	return strings.Join(out, "")
}
