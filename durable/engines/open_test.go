package engines_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/engines"
)

type none struct{}

var quiet = durable.Options{Logger: slog.New(slog.DiscardHandler)}

// load reads a configuration that a test writes down.
func load(t *testing.T, dir, text string, env ...string) *engines.Config {
	t.Helper()
	path := filepath.Join(dir, "mcp_agent.config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := engines.Load("", &engines.LoadOptions{Dir: dir, Env: append([]string{"HOME=" + dir}, env...)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// failing is a step that always fails, and counts.
func failing(name string, n *atomic.Int64, o *durable.StepOptions) *durable.Step[none, none] {
	return durable.NewStep(name, func(context.Context, none) (none, error) {
		n.Add(1)
		return none{}, durable.NewErrorType("BROKEN")
	}, o)
}

// TestPoliciesHold runs a step under each kind of line, on each engine that
// needs no server: the number of attempts tells which line held.
func TestPoliciesHold(t *testing.T) {
	t.Parallel()
	const policies = `
workflow_task_retry_policies:
  "*": {maximum_attempts: 2}
  invoice.*: {maximum_attempts: 3}
  invoice.pay*: {maximum_attempts: 4}
  pay_line: {maximum_attempts: 5}
  invoice.pay_all: {maximum_attempts: 6}
  invoice.empty: {}
  broken.*: {non_retryable_error_types: [BROKEN]}
  broken.not: {non_retryable_error_types: [], maximum_attempts: 7}
  mcp_agent.agents.agent.AgentTasks.call_tool_task: {maximum_attempts: 8}
  AgentTasks.list_tools_task: {maximum_attempts: 9}
  mcp_agent.workflows.llm.*: {maximum_attempts: 10}
  mcp_agent.workflows.llm.augmented_llm_openai.OpenAICompletionTasks.request_completion_task: {maximum_attempts: 11}
`
	for name, test := range map[string]struct {
		want     int64
		declared *durable.StepOptions
	}{
		"other":             {2, nil},
		"invoice.validate":  {3, nil},
		"invoice.pay":       {4, nil},
		"invoice.pay_line":  {5, nil},
		"invoice.pay_all":   {6, nil},
		"invoice.empty":     {3, nil},
		"broken.now":        {1, nil},
		"broken.not":        {7, &durable.StepOptions{Retry: &durable.Retry{NonRetryable: []string{"BROKEN"}}}},
		"mcp.call_tool":     {8, nil},
		"mcp.list_tools":    {9, nil},
		"x.mcp.call_tool":   {2, nil},
		"llm.google.call":   {10, nil},
		"llm.openai.call":   {11, nil},
		"llm.unheard.call":  {2, nil},
		"invoice.once":      {1, &durable.StepOptions{AtMostOnce: true}},
		"invoice.merged":    {3, &durable.StepOptions{Retry: &durable.Retry{MaxAttempts: 20}}},
		"unlimited.but.two": {2, &durable.StepOptions{Retry: &durable.Retry{MaxAttempts: 20}}},
	} {
		for _, engine := range []string{"asyncio", "memory", "local"} {
			t.Run(engine+"/"+name, func(t *testing.T) {
				t.Parallel()
				c := load(t, t.TempDir(), "execution_engine: "+engine+"\n"+policies)
				var n, x atomic.Int64
				declared := durable.StepOptions{}
				if test.declared != nil {
					declared = *test.declared
				}
				retry := durable.Retry{}
				if declared.Retry != nil {
					retry = *declared.Retry
				}
				retry.Initial, retry.Max = time.Microsecond, time.Microsecond
				declared.Retry = &retry
				step := failing(name, &n, &declared)
				// A step whose policy comes by an alias is there too: its line
				// must not reach this one.
				defs := durable.Set{step}
				if name != "mcp.call_tool" {
					defs = append(defs, failing("mcp.call_tool", &x, nil))
				}
				flow := durable.NewWorkflow("flow", func(ctx context.Context, _ none) (none, error) { return step.Do(ctx, none{}) }, nil)
				eng, err := engines.Open(t.Context(), c, &engines.Options{Engine: quiet}, flow, defs)
				if err != nil {
					t.Fatal(err)
				}
				defer eng.Close(context.Background())
				run, err := flow.Start(t.Context(), eng, none{}, nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := run.Result(t.Context()); err == nil {
					t.Error("the run completed")
				}
				if n.Load() != test.want {
					t.Errorf("%d attempts, want %d", n.Load(), test.want)
				}
			})
		}
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	c := load(t, t.TempDir(), `execution_engine: local
workflow_task_retry_policies:
  "*": {maximum_attempts: 2}
  invoice.*: {maximum_attempts: 3, maximum_interval: PT30S, non_retryable_error_types: [A, B]}
  mcp_agent.agents.agent.AgentTasks.*: {initial_interval: 2}
`)
	steps := durable.Set{
		durable.NewStep("invoice.pay", func(context.Context, none) (none, error) { return none{}, nil },
			&durable.StepOptions{Retry: &durable.Retry{Initial: 5 * time.Second, MaxAttempts: 9}}),
		durable.NewStep("mcp.call_tool", func(context.Context, none) (none, error) { return none{}, nil }, &durable.StepOptions{AtMostOnce: true}),
		durable.NewStep("other.step", func(context.Context, none) (none, error) { return none{}, nil }, nil),
		durable.NewWorkflow("flow", func(context.Context, none) (none, error) { return none{}, nil }, nil),
	}
	o := &engines.Options{Engine: durable.Options{Policies: durable.Policies{"step": {Backoff: 3}}}}
	d, err := durable.NewDefinitions(steps)
	if err != nil {
		t.Fatal(err)
	}
	all, err := engines.Explain(c, o, d)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, p := range all {
		got.WriteString(p.String())
	}
	const want = `invoice.pay
  maximum_attempts           3            mcp_agent.config.yaml:4:3 "invoice.*"
  initial_interval           5s           the step
  backoff_coefficient        2            the default
  maximum_interval           30s          mcp_agent.config.yaml:4:3 "invoice.*"
  non_retryable_error_types  A, B         mcp_agent.config.yaml:4:3 "invoice.*"
  won: mcp_agent.config.yaml:4:3 "invoice.*"
  matches too: mcp_agent.config.yaml:3:3 "*"
mcp.call_tool
  maximum_attempts           1            the step, which is at most once
  initial_interval           2s           mcp_agent.config.yaml:5:3 "mcp_agent.agents.agent.AgentTasks.*", as mcp_agent.agents.agent.AgentTasks.call_tool_task
  backoff_coefficient        2            the default
  maximum_interval           3m20s        the default
  non_retryable_error_types  none         the default
  won: mcp_agent.config.yaml:5:3 "mcp_agent.agents.agent.AgentTasks.*", as mcp_agent.agents.agent.AgentTasks.call_tool_task
  matches too: mcp_agent.config.yaml:3:3 "*"
other.step
  maximum_attempts           no limit     the default
  initial_interval           1s           the default
  backoff_coefficient        3            "step" (set in Go)
  maximum_interval           1m40s        the default
  non_retryable_error_types  none         the default
  won: "step" (set in Go)
  matches too: mcp_agent.config.yaml:3:3 "*"
`
	if d := cmp.Diff(want, got.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if all, err := engines.Explain(nil, nil, d); err != nil || len(all) != 3 || !strings.Contains(all[0].String(), "won: no line") {
		t.Errorf("no configuration: %v, %v", all, err)
	}
}

// echo is a workflow that says back what it is told, and a step it needs.
func echo() (*durable.Workflow[string, string], durable.Set) {
	step := durable.NewStep("echo", func(_ context.Context, s string) (string, error) { return s + "!", nil }, nil)
	flow := durable.NewWorkflow("flow", func(ctx context.Context, s string) (string, error) { return step.Do(ctx, s) }, nil)
	return flow, durable.Set{flow, step}
}

func TestOpenLocalSurvives(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	flow, defs := echo()
	for i := range 2 {
		c := load(t, dir, "execution_engine: local\nlocal: {path: sub.db, codec_key: "+strings.Repeat("ab", 32)+", id_reuse_policy: reject_duplicate}\n")
		eng, err := engines.Open(t.Context(), c, &engines.Options{Engine: quiet}, defs)
		if err != nil {
			t.Fatal(err)
		}
		run, err := flow.Start(t.Context(), eng, canary, &durable.StartOptions{ID: "one"})
		if err != nil {
			t.Fatal(err)
		}
		if run.Existing != (i == 1) {
			t.Errorf("open %d: the run is there: %v", i, run.Existing)
		}
		if got, err := run.Result(t.Context()); err != nil || string(got) != `"`+canary+`!"` {
			t.Errorf("open %d: %s, %v", i, got, err)
		}
		if err := eng.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if c := load(t, dir, "execution_engine: local"); c.Local.Path != "" {
		t.Errorf("the default path is %q", c.Local.Path)
	} else if eng, err := engines.Open(t.Context(), c, &engines.Options{Engine: quiet}); err != nil {
		t.Error(err)
	} else if _, err := os.Stat(filepath.Join(dir, "mcp-agent.db")); err != nil || eng.Close(context.Background()) != nil {
		t.Errorf("the default file is not beside the configuration: %v", err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "sub.db"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, []byte(canary)) || len(b) == 0 {
		t.Errorf("the file of %d bytes is not encrypted", len(b))
	}
}

const canary = "canary-51d2"

// TestOpenUsesWhatIsConfigured looks at the effect of settings that the
// memory engine shows.
func TestOpenUsesWhatIsConfigured(t *testing.T) {
	t.Parallel()
	flow, defs := echo()
	open := func(c *engines.Config, o durable.Options) *durable.Engine {
		t.Helper()
		o.Logger = quiet.Logger
		eng, err := engines.Open(t.Context(), c, &engines.Options{Engine: o}, defs)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = eng.Close(context.Background()) })
		return eng
	}
	start := func(eng *durable.Engine, in string) (*durable.Run, error) {
		run, err := flow.Start(t.Context(), eng, in, &durable.StartOptions{ID: "one"})
		if err != nil {
			return nil, err
		}
		_, _ = run.Result(t.Context())
		return flow.Start(t.Context(), eng, in, &durable.StartOptions{ID: "one"})
	}
	c := load(t, t.TempDir(), "local: {id_reuse_policy: allow_duplicate, max_payload: 1KB}")
	if run, err := start(open(c, durable.Options{}), "x"); err != nil || run.Existing {
		t.Errorf("id_reuse_policy of the file: %+v, %v", run, err)
	}
	if run, err := start(open(c, durable.Options{Reuse: durable.ReuseFailed}), "x"); err != nil || !run.Existing {
		t.Errorf("Reuse of the program over it: %+v, %v", run, err)
	}
	big := strings.Repeat("x", 2000)
	if _, err := start(open(c, durable.Options{}), big); !errors.Is(err, durable.ErrTooLarge) {
		t.Errorf("max_payload of the file: %v", err)
	}
	if _, err := start(open(c, durable.Options{MaxPayload: 1 << 20}), big); err != nil {
		t.Errorf("MaxPayload of the program over it: %v", err)
	}
	c.Local.MaxPayload = 1 << 20
	if _, err := start(open(c, durable.Options{}), big); err != nil {
		t.Errorf("what the program sets in the configuration: %v", err)
	}
	if _, err := start(open(nil, durable.Options{}), "x"); err != nil {
		t.Errorf("no configuration: %v", err)
	}
}

func TestModules(t *testing.T) {
	t.Parallel()
	flow, set := echo()
	other := durable.NewStep("other", func(context.Context, none) (none, error) { return none{}, nil }, nil)
	modules := map[string]durable.Set{"core": set, "extra": {other}}
	c := load(t, t.TempDir(), "workflow_task_modules: [core]\ntemporal: {workflow_task_modules: [nothing]}\n")
	eng, err := engines.Open(t.Context(), c, &engines.Options{Engine: quiet, Modules: modules})
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close(context.Background())
	if _, ok := eng.Definitions().Info(durable.KindWorkflow, flow.Name()); !ok {
		t.Error("the module that is named is not there")
	}
	if _, ok := eng.Definitions().Info(durable.KindStep, "other"); ok {
		t.Error("a module that is not named is there")
	}
	c = load(t, t.TempDir(), "workflow_task_modules: [core, cora, my_project.temporal_tasks]\n")
	_, err = engines.Open(t.Context(), c, &engines.Options{Engine: quiet, Modules: modules})
	const want = `mcp_agent.config.yaml:1:31: workflow_task_modules[1]: the module cora is not compiled into this program; it has core and extra (Options.Modules)
mcp_agent.config.yaml:1:37: workflow_task_modules[2]: the module my_project.temporal_tasks is not compiled into this program; it has core and extra (Options.Modules)`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// TestOpenLogsWarnings finds everything that has no effect in the log.
func TestOpenLogsWarnings(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	c := load(t, t.TempDir(), `openai: {api_key: `+canary+`}
usage_telemetry: {enabled: false}
workflow_task_retry_policies:
  "*": {maximum_attempts: 1}
  ech0: {maximum_attempts: 2}
`)
	_, defs := echo()
	eng, err := engines.Open(t.Context(), c, &engines.Options{Engine: durable.Options{
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})),
	}}, defs)
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close(context.Background())
	const want = `level=WARN msg="configuration: the section is not used by this program" key=openai at=mcp_agent.config.yaml:1:1
level=WARN msg="configuration: it has no meaning here: this project sends nothing home" key=usage_telemetry at=mcp_agent.config.yaml:2:1
level=WARN msg="configuration: it matches no step of this program" key=workflow_task_retry_policies.ech0 at=mcp_agent.config.yaml:5:3
`
	if d := cmp.Diff(want, log.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestOpenChecksWhatIsSetInGo reports without positions, and all at once.
func TestOpenChecksWhatIsSetInGo(t *testing.T) {
	t.Parallel()
	_, err := engines.Open(t.Context(), &engines.Config{
		Engine: "redis", Modules: []string{"x"},
		Local:    engines.Local{MaxSteps: -1, Shared: engines.Shared{CodecOldKeys: []durable.Secret{durable.NewSecret(canary)}}},
		Temporal: engines.Temporal{Port: 70000, MaxConcurrentWorkflowTasks: 1, MaxWorkflowTaskPollers: 1, TLS: &engines.TLS{Off: true}, APIKey: durable.NewSecret(canary), Host: "far"},
		Policies: durable.Policies{"a*b": {}},
	}, &engines.Options{Client: true})
	const want = `execution_engine: want asyncio, memory, local or temporal, not "redis"
local.codec_key: codec_old_keys are there, and no codec_key to encrypt with
local.max_steps: it can't be negative
temporal.max_concurrent_workflow_tasks: the SDK needs 2 or more
temporal.max_workflow_task_pollers: the SDK needs 2 or more
temporal.port: a port is a number from 1 to 65535, not 70000
temporal.tls: api_key would be sent in the clear: leave tls out, or write true
workflow_task_modules[0]: the module x is not compiled into this program; it has none (Options.Modules)
workflow_task_retry_policies.a*b: a star stands at the end of a pattern, or alone`
	var problems engines.Problems
	if !errors.As(err, &problems) || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	if _, err := engines.Open(t.Context(), nil, &engines.Options{Client: true}); err == nil || !strings.Contains(err.Error(), "the engine in memory has no other process") {
		t.Errorf("a client of memory: %v", err)
	}
	if _, err := engines.Open(t.Context(), nil, nil, nil); err == nil || !strings.Contains(err.Error(), "a definition is nil") {
		t.Errorf("a definition that is nil: %v", err)
	}
}

// TestTheEngineInUseDecides what must be there: the program may change it
// after Load.
func TestTheEngineInUseDecides(t *testing.T) {
	t.Parallel()
	c := load(t, t.TempDir(), "execution_engine: temporal\nlocal: {codec_key: env:NOT_THERE}\n")
	c.Engine = "memory"
	_, err := engines.Open(t.Context(), c, nil)
	if err == nil || err.Error() != "mcp_agent.config.yaml:2:20: local.codec_key: the environment variable NOT_THERE is not set" {
		t.Errorf("%v", err)
	}
}

func TestLoadWithoutAFile(t *testing.T) {
	t.Parallel()
	_, err := engines.Load(filepath.Join(t.TempDir(), "no.yaml"), nil)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func sprint(verb string, v any) string { return fmt.Sprintf(verb, v) }

// TestSecretsOfAConfigStayIn prints and encodes one in every way.
func TestSecretsOfAConfigStayIn(t *testing.T) {
	t.Parallel()
	c := load(t, t.TempDir(), `temporal: {api_key: `+canary+`, rpc_metadata: {a: `+canary+`}, tls: {cert: x, key: "-----BEGIN `+canary+`"}}`)
	if c.Temporal.APIKey.Reveal() != canary || c.Temporal.RPCMetadata["a"].Reveal() != canary {
		t.Fatal("the secrets are not there")
	}
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "c", c, "t", *c.Temporal.TLS)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "c", *c)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		out.WriteString(sprint(verb, c) + sprint(verb, *c) + sprint(verb, c.Temporal.RPCMetadata) + sprint(verb, c.Temporal.TLS))
	}
	if _, err := json.Marshal(c); err == nil {
		t.Error("it is encoded")
	}
	if strings.Contains(out.String(), canary) || strings.Contains(out.String(), sprint("%x", canary)) {
		t.Errorf("shown:\n%s", out.String())
	}
}
