package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// Config is the section otel of the configuration, with the keys of the Python
// project. The zero value is off.
type Config struct {
	Enabled bool `yaml:"enabled" json:"enabled,omitempty"`
	// Exporters is where it goes; without one, nowhere.
	Exporters []Exporter `yaml:"exporters" json:"exporters,omitempty"`
	// ServiceName is what the program is called there. Empty: mcp-agent.
	ServiceName       string `yaml:"service_name" json:"service_name,omitempty"`
	ServiceInstanceID string `yaml:"service_instance_id" json:"service_instance_id,omitempty"`
	ServiceVersion    string `yaml:"service_version" json:"service_version,omitempty"`
	// SampleRate is the share of traces that are kept, from 0 to 1. Traces
	// that a caller has begun are kept or not as the caller says. Nil: all.
	// Metrics and logs are not sampled.
	SampleRate *float64 `yaml:"sample_rate" json:"sample_rate,omitempty"`

	// CaptureContent adds inputs and results to the spans, up to 4 KiB of
	// each. They may hold anything, secrets too.
	CaptureContent bool `yaml:"capture_content" json:"capture_content,omitempty"`
	// MetricInterval is after how many seconds metrics are sent. 0: 60.
	MetricInterval float64 `yaml:"metric_interval" json:"metric_interval,omitempty"`
	// QueueSize is how many spans, and how many log lines, wait at most for
	// each exporter; more are dropped and counted. 0: 8,192.
	QueueSize int `yaml:"queue_size" json:"queue_size,omitempty"`

	// What older files have beside exporters that are given by name only.
	Path         string        `yaml:"path" json:"path,omitempty"`
	PathSettings *PathSettings `yaml:"path_settings" json:"path_settings,omitempty"`
	OTLPSettings *OTLP         `yaml:"otlp_settings" json:"otlp_settings,omitempty"`

	// Logger is told, once, when something can't be delivered. Nil:
	// slog.Default.
	Logger *slog.Logger `yaml:"-" json:"-"`
}

// Exporter is one place that telemetry goes to: one of its fields is set. In
// a file it is a name (otlp), a map with one key (otlp: {endpoint: …}), or a
// map with a type ({type: otlp, endpoint: …}).
type Exporter struct {
	Console *Console `yaml:"console" json:"console,omitempty"`
	File    *File    `yaml:"file" json:"file,omitempty"`
	OTLP    *OTLP    `yaml:"otlp" json:"otlp,omitempty"`
}

// Console writes spans to standard error, a line of JSON each.
type Console struct{}

// File writes spans to a file, a line of JSON each.
type File struct {
	Path         string        `yaml:"path" json:"path,omitempty"` // appended to
	PathSettings *PathSettings `yaml:"path_settings" json:"path_settings,omitempty"`
}

// PathSettings make the name of a file that is new in each process.
type PathSettings struct {
	// PathPattern has {unique_id} where that goes. Empty:
	// traces/mcp-agent-trace-{unique_id}.jsonl.
	PathPattern string `yaml:"path_pattern" json:"path_pattern,omitempty"`
	// UniqueID is timestamp or session_id, which is the instance id. Empty:
	// timestamp.
	UniqueID string `yaml:"unique_id" json:"unique_id,omitempty"`
	// TimestampFormat is of the kind of strftime. Empty: %Y%m%d_%H%M%S.
	TimestampFormat string `yaml:"timestamp_format" json:"timestamp_format,omitempty"`
}

// OTLP sends spans, metrics and logs over HTTP, as protobuf.
type OTLP struct {
	// Endpoint is a URL. One that ends in /v1/traces, /v1/metrics or /v1/logs
	// takes that alone; else these are appended. Empty: what the variables
	// OTEL_EXPORTER_OTLP_… say, or http://localhost:4318.
	Endpoint string            `yaml:"endpoint" json:"endpoint,omitempty"`
	Headers  map[string]string `yaml:"headers" json:"headers,omitempty"`
}

// LogValue keeps the values of headers out of logs.
func (o *OTLP) LogValue() slog.Value {
	names := make([]string, 0, len(o.Headers))
	for k := range o.Headers {
		names = append(names, k)
	}
	slices.Sort(names)
	return slog.GroupValue(slog.String("endpoint", redacted(o.Endpoint)), slog.Any("headers", names))
}

// redacted is a URL without its password, and without what stands before the @ if
// it is none.
func redacted(s string) string {
	u, err := url.Parse(s)
	if err == nil && u.User != nil {
		return u.Redacted()
	}
	if i := strings.LastIndex(s, "@"); i >= 0 {
		return "(secret)" + s[i:]
	}
	return s
}

// UnmarshalJSON reads the three ways to write an exporter.
func (e *Exporter) UnmarshalJSON(b []byte) error {
	*e = Exporter{}
	var name string
	if json.Unmarshal(b, &name) == nil {
		return e.set(name, nil)
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil {
		return fmt.Errorf("exporter %s: write a name, or a map with one key", b)
	}
	if t, ok := m["type"]; ok {
		delete(m, "type")
		if err := json.Unmarshal(t, &name); err != nil {
			return fmt.Errorf("exporter: type %s is no name", t)
		}
		rest, err := json.Marshal(m)
		if err != nil {
			return err
		}
		return e.set(name, rest)
	}
	if len(m) != 1 {
		return fmt.Errorf("exporter %s: the map has %d keys, not one, and no type", b, len(m))
	}
	for name, rest := range m {
		return e.set(name, rest)
	}
	return nil
}

// UnmarshalYAML reads the same from YAML.
func (e *Exporter) UnmarshalYAML(unmarshal func(any) error) error {
	var v any
	if err := unmarshal(&v); err != nil {
		return err
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("exporter: %w", err)
	}
	return e.UnmarshalJSON(b)
}

func (e *Exporter) set(name string, settings json.RawMessage) error {
	var into any
	switch name {
	case "console":
		e.Console = &Console{}
		into = e.Console
	case "file":
		e.File = &File{}
		into = e.File
	case "otlp":
		e.OTLP = &OTLP{}
		into = e.OTLP
	default:
		return fmt.Errorf("exporter %q is not known: there are console, file and otlp", name)
	}
	if len(settings) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(settings))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("exporter %s: %w", name, err)
	}
	return nil
}

// Check reports everything that is wrong, each with its key.
func (c *Config) Check() error {
	var all []error
	bad := func(key, format string, args ...any) {
		all = append(all, fmt.Errorf("otel.%s: %s", key, fmt.Sprintf(format, args...)))
	}
	if r := c.SampleRate; r != nil && !(*r >= 0 && *r <= 1) {
		bad("sample_rate", "%v is not between 0 and 1", *r)
	}
	if !(c.MetricInterval >= 0 && c.MetricInterval < 1e9) {
		bad("metric_interval", "%v is no number of seconds", c.MetricInterval)
	}
	if c.QueueSize < 0 {
		bad("queue_size", "%d is negative", c.QueueSize)
	}
	c.PathSettings.check("path_settings", bad)
	c.OTLPSettings.check("otlp_settings", bad)
	for i, e := range c.Exporters {
		key := fmt.Sprintf("exporters[%d]", i)
		n := 0
		if e.Console != nil {
			n++
		}
		if e.File != nil {
			n++
			e.File.PathSettings.check(key+".file.path_settings", bad)
		}
		if e.OTLP != nil {
			n++
			e.OTLP.check(key+".otlp", bad)
		}
		if n != 1 {
			bad(key, "%d of console, file and otlp are set, not one", n)
		}
	}
	return errors.Join(all...)
}

func (o *OTLP) check(key string, bad func(key, format string, args ...any)) {
	if o == nil {
		return
	}
	if o.Endpoint != "" {
		u, err := url.Parse(o.Endpoint)
		switch {
		case err != nil:
			bad(key+".endpoint", "%q is no URL", redacted(o.Endpoint))
		case u.Scheme != "http" && u.Scheme != "https":
			bad(key+".endpoint", "%q does not begin with http:// or https://; gRPC is not spoken, use the HTTP port (4318)", redacted(o.Endpoint))
		case u.Host == "":
			bad(key+".endpoint", "%q names no host", redacted(o.Endpoint))
		}
	}
	for k, v := range o.Headers {
		if k == "" || strings.ContainsFunc(k, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }) {
			bad(key+".headers", "%q is no name of a header", k)
		}
		if strings.ContainsAny(v, "\r\n\x00") {
			bad(key+".headers", "the value of %s has a line break or a zero byte", k)
		}
	}
}

func (p *PathSettings) check(key string, bad func(key, format string, args ...any)) {
	if p == nil {
		return
	}
	if rest := strings.ReplaceAll(p.PathPattern, "{unique_id}", ""); strings.ContainsAny(rest, "{}") {
		bad(key+".path_pattern", "%q: {unique_id} is the only placeholder", p.PathPattern)
	}
	if !slices.Contains([]string{"", "timestamp", "session_id"}, p.UniqueID) {
		bad(key+".unique_id", "%q is neither timestamp nor session_id", p.UniqueID)
	}
	if _, err := strftime(time.Time{}, p.TimestampFormat); err != nil {
		bad(key+".timestamp_format", "%q: %v", p.TimestampFormat, err)
	}
}

// name gives the path of a file of this process.
func (p *PathSettings) name(now time.Time, instance string) string {
	if p == nil {
		p = &PathSettings{}
	}
	pattern, format := p.PathPattern, p.TimestampFormat
	if pattern == "" {
		pattern = "traces/mcp-agent-trace-{unique_id}.jsonl"
	}
	if format == "" {
		format = "%Y%m%d_%H%M%S"
	}
	id := instance
	if p.UniqueID != "session_id" {
		id, _ = strftime(now, format) // it was checked
	}
	return strings.ReplaceAll(pattern, "{unique_id}", id)
}

// strftime formats a time as Python's does, as far as names of files need it.
func strftime(t time.Time, format string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			b.WriteByte(format[i])
			continue
		}
		i++
		if i == len(format) {
			return "", errors.New("it ends in %")
		}
		layout, ok := map[byte]string{'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'H': "15", 'I': "03", 'M': "04", 'S': "05",
			'p': "PM", 'j': "002", 'b': "Jan", 'B': "January", 'a': "Mon", 'A': "Monday", 'z': "-0700", 'Z': "MST"}[format[i]]
		switch {
		case ok:
			b.WriteString(t.Format(layout))
		case format[i] == 'f':
			fmt.Fprintf(&b, "%06d", t.Nanosecond()/1000)
		case format[i] == 's':
			fmt.Fprint(&b, t.Unix())
		case format[i] == '%':
			b.WriteByte('%')
		default:
			return "", fmt.Errorf("%%%c is not known", format[i])
		}
	}
	return b.String(), nil
}

// signals are the things that are sent by OTLP, and the ends of their paths.
var signals = []string{"traces", "metrics", "logs"}

// urls gives the address of each signal that an endpoint takes; an empty one
// is the exporter's own.
func (o *OTLP) urls() map[string]string {
	out := map[string]string{}
	if o.Endpoint == "" {
		for _, s := range signals {
			out[s] = ""
		}
		return out
	}
	u, err := url.Parse(o.Endpoint)
	if err != nil {
		return out // it was checked
	}
	for _, s := range signals {
		if strings.HasSuffix(strings.TrimSuffix(u.Path, "/"), "/v1/"+s) {
			out[s] = o.Endpoint
			return out
		}
	}
	for _, s := range signals {
		v := *u
		v.Path = path.Join("/", u.Path, "v1", s)
		v.RawPath = ""
		out[s] = v.String()
	}
	return out
}

// create opens a file to append to, with its directory.
func create(name string) (*os.File, error) {
	if dir := path.Dir(name); dir != "." {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
}
