package engines_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/engines"
	"github.com/mcpagent/mcpagent/telemetry"
)

var update = flag.Bool("update", false, "rewrite testdata and generated files")

// archive is a txtar file: a comment, and files.
type archive struct {
	comment string
	names   []string
	files   map[string]string
}

func readArchive(t *testing.T, path string) *archive {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	a := &archive{files: map[string]string{}}
	into := &a.comment
	text, name := "", ""
	flush := func() {
		if *into = text; name != "" {
			a.files[name] = text
		}
		text = ""
	}
	for line := range strings.Lines(strings.ReplaceAll(string(b), "\r\n", "\n")) {
		inner, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "-- ")
		inner, is := strings.CutSuffix(inner, " --")
		if !ok || !is {
			text += line
			continue
		}
		flush()
		into, name = new(string), inner
		a.names = append(a.names, name)
	}
	flush()
	return a
}

func (a *archive) write(t *testing.T, path string) {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(a.comment)
	for _, n := range a.names {
		fmt.Fprintf(&b, "-- %s --\n%s", n, a.files[n])
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// own is a section that a program brings.
type own struct {
	Rate  float64        `yaml:"rate"`
	Key   durable.Secret `yaml:"key"`
	File  string         `yaml:"file" as:"path"`
	Limit int            `yaml:"limit" as:"size"`
	Every time.Duration  `yaml:"every"`
	Mode  string         `yaml:"mode" enum:"fast,slow"`
	Free  map[string]any `yaml:"free"`
}

// Check is asked by Load.
func (o *own) Check() error {
	var all []error
	if o.Rate < 0 {
		all = append(all, errors.New("billing.rate: it can't be negative"))
	}
	if o.Mode == "slow" && o.Every == 0 {
		all = append(all, errors.New("slow: how often?"))
	}
	return errors.Join(all...)
}

// part reads a part of otel only.
type part struct {
	Enabled     bool    `yaml:"enabled"`
	ServiceName string  `yaml:"service_name"`
	SampleRate  float64 `yaml:"sample_rate"`
	Exporters   []any   `yaml:"exporters"`
}

// TestLoad runs the stories of testdata/load. Their comment has the
// environment (env NAME=value), the path (path FILE), the directory (dir NAME)
// and sections that the program reads (section NAME).
func TestLoad(t *testing.T) {
	t.Parallel()
	stories, err := filepath.Glob("testdata/load/*.txtar")
	if err != nil || len(stories) < 20 {
		t.Fatalf("%d stories, %v", len(stories), err)
	}
	for _, story := range stories {
		t.Run(strings.TrimSuffix(filepath.Base(story), ".txtar"), func(t *testing.T) {
			t.Parallel()
			a := readArchive(t, story)
			dir := t.TempDir()
			for name, text := range a.files {
				path := filepath.Join(dir, filepath.FromSlash(name))
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			o := &engines.LoadOptions{Dir: dir, Env: []string{"HOME=" + filepath.Join(dir, "home")}, Sections: map[string]any{}}
			path := ""
			for line := range strings.Lines(a.comment) {
				word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
				switch word {
				case "env":
					o.Env = append(o.Env, strings.ReplaceAll(rest, `\n`, "\n"))
				case "path":
					path = filepath.Join(dir, rest)
				case "dir":
					o.Dir = filepath.Join(dir, rest)
				case "section":
					switch rest {
					case "otel":
						o.Sections[rest] = &part{}
					default:
						o.Sections[rest] = &own{}
					}
				}
			}
			got := tell(engines.Load(path, o))
			for _, name := range sortedKeys(o.Sections) {
				if !strings.HasPrefix(got, "error") {
					got += dump(name, reflect.ValueOf(o.Sections[name]).Elem())
				}
			}
			got = strings.ReplaceAll(got, dir, "$DIR")
			if strings.Contains(got, "canary") {
				t.Errorf("a secret is shown:\n%s", got)
			}
			if *update {
				if !slices.Contains(a.names, "want") {
					a.names = append(a.names, "want")
				}
				a.files["want"] = got
				a.write(t, story)
				return
			}
			if d := cmp.Diff(a.files["want"], got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func sortedKeys(m map[string]any) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

// tell writes down what Load gave.
func tell(c *engines.Config, err error) string {
	if err != nil {
		return "error\n" + err.Error() + "\n"
	}
	out := "loaded\n" + dump("", reflect.ValueOf(*c))
	for _, w := range c.Warnings {
		out += "warning " + w.String() + "\n"
	}
	return out
}

// dump writes what is set, a line each.
func dump(path string, v reflect.Value) string {
	if s, ok := v.Interface().(durable.Secret); ok {
		if s.IsZero() {
			return ""
		}
		return fmt.Sprintf("%s = %v of %d characters\n", path, s, len(s.Reveal()))
	}
	if v.IsZero() {
		return ""
	}
	join := func(name string) string { return strings.TrimPrefix(path+"."+name, ".") }
	var out string
	switch v.Kind() {
	case reflect.Pointer:
		if v.Elem().IsZero() {
			return path + " = the zero value\n"
		}
		return dump(path, v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			switch {
			case !f.IsExported() || f.Name == "Warnings":
			case opts == "inline":
				out += dump(path, v.Field(i))
			default:
				if name == "" || name == "-" {
					name = f.Name
				}
				out += dump(join(name), v.Field(i))
			}
		}
	case reflect.Map:
		var keys []string
		for _, k := range v.MapKeys() {
			keys = append(keys, k.String())
		}
		sort.Strings(keys)
		for _, k := range keys {
			out += dump(join(k), v.MapIndex(reflect.ValueOf(k)))
		}
	case reflect.Interface:
		return fmt.Sprintf("%s = %#v\n", path, v.Interface())
	case reflect.Slice:
		for i := range v.Len() {
			out += dump(fmt.Sprintf("%s[%d]", path, i), v.Index(i))
		}
		if v.Len() == 0 {
			out = path + " = []\n"
		}
	default:
		return fmt.Sprintf("%s = %v\n", path, v.Interface())
	}
	return out
}

// TestTelemetryReadsItsSection decodes otel into the type that is for it, in
// every form that the Python project has.
func TestTelemetryReadsItsSection(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "mcp_agent.config.yaml")
	text := `
otel:
  enabled: true
  exporters:
    - console
    - type: file
      path: traces.jsonl
    - otlp: {endpoint: "${COLLECTOR:-http://localhost:4318}", headers: {Authorization: "Bearer ${TOKEN}"}}
  service_name: summarizer
  sample_rate: 0.5
  capture_content: true
  metric_interval: 5
  queue_size: 100
`
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var got telemetry.Config
	c, err := engines.Load(path, &engines.LoadOptions{Env: []string{"TOKEN=x"}, Sections: map[string]any{"otel": &got}})
	if err != nil || len(c.Warnings) > 0 {
		t.Fatalf("%v, %v", err, c)
	}
	half := 0.5
	want := telemetry.Config{
		Enabled: true, ServiceName: "summarizer", SampleRate: &half, CaptureContent: true, MetricInterval: 5, QueueSize: 100,
		Exporters: []telemetry.Exporter{
			{Console: &telemetry.Console{}}, {File: &telemetry.File{Path: "traces.jsonl"}},
			{OTLP: &telemetry.OTLP{Endpoint: "http://localhost:4318", Headers: map[string]string{"Authorization": "Bearer x"}}},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if err := os.WriteFile(path, []byte("otel:\n  sample_rate: 2\n  queue_size: -1\n  exporters: [{otlp: {endpont: x}}]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = engines.Load(path, &engines.LoadOptions{Sections: map[string]any{"otel": &telemetry.Config{}}, Env: []string{}})
	if err == nil || !strings.Contains(err.Error(), ":4:23: otel.exporters[0].otlp.endpont: the key is not known") || strings.Contains(err.Error(), "unknown field") {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(path, []byte("otel:\n  sample_rate: 2\n  queue_size: -1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = engines.Load(path, &engines.LoadOptions{Sections: map[string]any{"otel": &telemetry.Config{}}, Env: []string{}})
	if err == nil || !strings.Contains(err.Error(), ":2:3: otel.sample_rate: 2 is not between 0 and 1\n") || !strings.Contains(err.Error(), ":3:3: otel.queue_size: ") {
		t.Errorf("%v", err)
	}
}

// TestLimits refuses, in time and memory, what is made to hurt a parser.
func TestLimits(t *testing.T) {
	t.Parallel()
	bomb := "x-0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := range 8 {
		bomb += fmt.Sprintf("x-%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 10), ", "))
	}
	for name, test := range map[string]struct{ text, want string }{
		"long":          {"name: " + strings.Repeat("x", 1<<20), "the limit is"},
		"brackets":      {strings.Repeat("[", 500_000), "nested too deeply"},
		"braces":        {strings.Repeat("{a: ", 200_000), "nested too deeply"},
		"dashes":        {strings.Repeat("- ", 400_000) + "x", "nested too deeply"},
		"questions":     {strings.Repeat("? ", 400_000) + "x", "nested too deeply"},
		"tags":          {"name: " + strings.Repeat("!!str ", 100_000) + "x", "nested too deeply"},
		"aliases":       {bomb, "its aliases counted"},
		"a cycle":       {"name: &a [*a]", "no anchor &a stands before *a"},
		"merge of self": {"local: &a\n  <<: *a\n", "no anchor &a stands before *a"},
		"defaults":      {"name: " + strings.Repeat("${A:-", 50) + strings.Repeat("}", 50), "more than 8 times"},
		"a number":      {"local: {max_steps: 99999999999999999999}", "out of range"},
		"a size":        {"local: {max_payload: 9999999999GB}", "out of range"},
		"a duration":    {"local: {retention: 1e300}", "too long"},
		"no number":     {"local: {retention: .nan}", "want a duration"},
		"a rate":        {"temporal: {max_activities_per_second: .inf}", "want a number"},
	} {
		_, err := engines.Load("", &engines.LoadOptions{Dir: t.TempDir(), Env: []string{"MCP_APP_SETTINGS_PRELOAD=" + test.text}})
		var problems engines.Problems
		if !errors.As(err, &problems) || !strings.Contains(err.Error(), test.want) || len(err.Error()) > 1000 {
			t.Errorf("%s: %.300v, want %s", name, err, test.want)
		}
	}
}

// TestByteOrderMark: editors of Windows begin files with one.
func TestByteOrderMark(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "mcp_agent.config.yaml")
	if err := os.WriteFile(path, []byte("\ufeffexecution_engine: local\r\nname: x\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := engines.Load(path, nil); err != nil || c.Engine != "local" || c.Name != "x" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"0": 0, "1.5": 1500 * time.Millisecond, `"2"`: 2 * time.Second, "90s": 90 * time.Second, "1h30m": 90 * time.Minute, "1_000": 1000 * time.Second,
		"PT0.5S": 500 * time.Millisecond, "PT1M": time.Minute, "P1D": 24 * time.Hour, "P1W": 7 * 24 * time.Hour, "P1DT1H1M1.5S": 25*time.Hour + time.Minute + 1500*time.Millisecond,
		"PT0,5S": 500 * time.Millisecond, "1ms": time.Millisecond,
	} {
		c, err := engines.Load("", &engines.LoadOptions{Dir: t.TempDir(), Env: []string{"MCP_APP_SETTINGS_PRELOAD=local: {retention: " + text + "}"}})
		if strings.Contains(text, ",") { // a comma ends a value in flow style
			c, err = engines.Load("", &engines.LoadOptions{Dir: t.TempDir(), Env: []string{"MCP_AGENT__LOCAL__RETENTION=" + text}})
		}
		if err != nil || c.Local.Retention != want {
			t.Errorf("%s: %v, %v, want %v", text, c, err, want)
		}
	}
	for _, text := range []string{"P", "PT", "P1DT", "P1Y", "P1M", "PT1", "P1H", "1d", "x", "-1", "-1s", "1e400", "PT1.2.3S", `""`} {
		if c, err := engines.Load("", &engines.LoadOptions{Dir: t.TempDir(), Env: []string{"MCP_APP_SETTINGS_PRELOAD=local: {retention: " + text + "}"}}); err == nil {
			t.Errorf("%s is %v", text, c.Local.Retention)
		}
	}
}

func TestItemsOfAMapBeginWithTheirDefaults(t *testing.T) {
	t.Parallel()
	type server struct {
		Transport string `yaml:"transport" default:"stdio"`
		Required  bool   `yaml:"required" default:"true"`
		Pin       string `yaml:"pin"`
	}
	var got struct {
		Servers map[string]server `yaml:"servers"`
	}
	path := filepath.Join(t.TempDir(), "mcp_agent.config.yaml")
	text := "mcp:\n  servers:\n    a: {pin: 2025-11-25}\n    b: {required: false, transport: sse}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := engines.Load(path, &engines.LoadOptions{Sections: map[string]any{"mcp": &got}}); err != nil {
		t.Fatal(err)
	}
	want := map[string]server{"a": {"stdio", true, "2025-11-25"}, "b": {"sse", false, ""}}
	if !maps.Equal(got.Servers, want) {
		t.Errorf("servers = %v, want %v", got.Servers, want)
	}
}
