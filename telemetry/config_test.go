package telemetry_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/mcpagent/mcpagent/telemetry"
)

type lockedBuffer struct {
	mu sync.Mutex
	b  *bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func TestExportersAreWrittenInThreeWays(t *testing.T) {
	t.Parallel()
	rate := .25
	want := telemetry.Config{
		Enabled: true, ServiceName: "finder", SampleRate: &rate, Path: "old.jsonl",
		Exporters: []telemetry.Exporter{
			{Console: &telemetry.Console{}},
			{File: &telemetry.File{PathSettings: &telemetry.PathSettings{PathPattern: "t/{unique_id}.jsonl", UniqueID: "session_id"}}},
			{OTLP: &telemetry.OTLP{Endpoint: "http://localhost:4318/v1/traces", Headers: map[string]string{"Authorization": "Bearer x"}}},
			{OTLP: &telemetry.OTLP{}},
			{OTLP: &telemetry.OTLP{Endpoint: "https://two"}},
		},
	}
	const file = `
enabled: true
service_name: finder
sample_rate: 0.25
path: old.jsonl
exporters:
  - console
  - file: {path_settings: {path_pattern: "t/{unique_id}.jsonl", unique_id: session_id}}
  - type: otlp
    endpoint: http://localhost:4318/v1/traces
    headers: {Authorization: Bearer x}
  - otlp:
  - otlp:
      endpoint: https://two
`
	var fromYAML telemetry.Config
	if err := yaml.UnmarshalWithOptions([]byte(file), &fromYAML, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, fromYAML); d != "" {
		t.Errorf("YAML (-want +got):\n%s", d)
	}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var fromJSON telemetry.Config
	if err := json.Unmarshal(b, &fromJSON); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, fromJSON); d != "" {
		t.Errorf("JSON (-want +got):\n%s", d)
	}
	if err := want.Check(); err != nil {
		t.Error(err)
	}
}

func TestExportersThatMakeNoSense(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`"zipkin"`:                    `exporter "zipkin" is not known: there are console, file and otlp`,
		`{}`:                          "0 keys",
		`{"otlp": {}, "file": {}}`:    "2 keys",
		`{"otlp": {"end_point": ""}}`: `unknown field "end_point"`,
		`{"type": 1}`:                 "no name",
		`{"type": "otlp", "path": 1}`: `unknown field "path"`,
		`7`:                           "write a name",
		`null`:                        "exporter \"\" is not known",
		`{"file": {"path": 7}}`:       "exporter file",
	} {
		var e telemetry.Exporter
		if err := e.UnmarshalJSON([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	rate := 1.5
	c := &telemetry.Config{
		Enabled: true, SampleRate: &rate, MetricInterval: -1, QueueSize: -1,
		PathSettings: &telemetry.PathSettings{PathPattern: "{timestamp}.jsonl", UniqueID: "host", TimestampFormat: "%Q"},
		OTLPSettings: &telemetry.OTLP{Endpoint: "localhost:4317"},
		Exporters: []telemetry.Exporter{
			{},
			{Console: &telemetry.Console{}, File: &telemetry.File{}},
			{OTLP: &telemetry.OTLP{Endpoint: "grpc://u:secret@x:4317", Headers: map[string]string{"a b": "", "ok": "x\ny"}}},
			{OTLP: &telemetry.OTLP{Endpoint: "http://"}},
			{OTLP: &telemetry.OTLP{Endpoint: "http://%zz"}},
		},
	}
	_, err := telemetry.Open(t.Context(), c)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"otel.sample_rate: 1.5 is not between 0 and 1",
		"otel.metric_interval: -1",
		"otel.queue_size: -1",
		`otel.path_settings.path_pattern: "{timestamp}.jsonl": {unique_id} is the only placeholder`,
		`otel.path_settings.unique_id: "host"`,
		`otel.path_settings.timestamp_format: "%Q": %Q is not known`,
		`otel.otlp_settings.endpoint: "localhost:4317" does not begin with http://`,
		"otel.exporters[0]: 0 of console, file and otlp are set",
		"otel.exporters[1]: 2 of console",
		"otel.exporters[2].otlp.endpoint: \"grpc://u:xxxxx@x:4317\"",
		`otel.exporters[2].otlp.headers: "a b" is no name`,
		"otel.exporters[2].otlp.headers: the value of ok has a line break",
		`otel.exporters[3].otlp.endpoint: "http://" names no host`,
		`otel.exporters[4].otlp.endpoint: "http://%zz" is no URL`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the problem %q is missing in:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("a password was told: %v", err)
	}
	if n := strings.Count(err.Error(), "\n") + 1; n != 14 {
		t.Errorf("%d problems, want 14:\n%v", n, err)
	}
}

func TestHeadersStayOutOfLogs(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	slog.New(slog.NewTextHandler(&buf, nil)).Info("x", "otlp", &telemetry.OTLP{Endpoint: "http://u:secret@h", Headers: map[string]string{"key": "secret"}})
	if s := buf.String(); strings.Contains(s, "secret") || !strings.Contains(s, "key") {
		t.Error(s)
	}
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[string]string{
		"":                                    "traces= metrics= logs=",
		"http://h:4318":                       "traces=http://h:4318/v1/traces metrics=http://h:4318/v1/metrics logs=http://h:4318/v1/logs",
		"http://h/":                           "traces=http://h/v1/traces metrics=http://h/v1/metrics logs=http://h/v1/logs",
		"https://h/api/otel?x=1":              "traces=https://h/api/otel/v1/traces?x=1 metrics=https://h/api/otel/v1/metrics?x=1 logs=https://h/api/otel/v1/logs?x=1",
		"https://h/api/public/otel/v1/traces": "traces=https://h/api/public/otel/v1/traces",
		"http://h/v1/logs/":                   "logs=http://h/v1/logs/",
	} {
		urls := telemetry.URLs(&telemetry.OTLP{Endpoint: endpoint})
		var got []string
		for _, s := range []string{"traces", "metrics", "logs"} {
			if u, ok := urls[s]; ok {
				got = append(got, s+"="+u)
			}
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%q\n got %s\nwant %s", endpoint, s, want)
		}
	}
}
