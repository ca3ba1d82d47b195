package engines_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/mcpagent/mcpagent/durable/engines"
)

// FuzzLoad loads whatever it is given: it does not panic, what is wrong is
// Problems, each with a place, and what is accepted has no key that is neither
// known nor warned about. What is known is said by the schema-like walk below,
// over the document as the YAML package itself decodes it.
func FuzzLoad(f *testing.F) {
	stories, err := filepath.Glob("testdata/load/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range stories {
		b, err := os.ReadFile(s)
		if err != nil {
			f.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(b), ".yaml --\n")
		config, _, _ := strings.Cut(rest, "\n-- ")
		f.Add(config)
	}
	for _, s := range []string{"&a [*a]", "a: &a {<<: *a}", "? ? ? a", "[[[[", "{a: {a: {", "local: !!str", "local: !!map x", "- - - -", "\x00", "%YAML 1.1", "local: &x\ntemporal: *x", "temporal: {tls: {}}", "otel: {exporters: [[]]}", "env: [{}, a, {b: c}]"} {
		f.Add(s)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) { loads(t, dir, text) })
}

func loads(t *testing.T, dir, text string) {
	c, err := engines.Load("", &engines.LoadOptions{Dir: dir, Env: []string{"MCP_APP_SETTINGS_PRELOAD=" + text, "A=x"}})
	var problems engines.Problems
	if err != nil {
		if !errors.As(err, &problems) || len(problems) == 0 {
			t.Fatalf("not Problems: %v", err)
		}
		for _, p := range problems {
			if p.Pos == (engines.Pos{}) || p.Text == "" {
				t.Errorf("a problem without place or text: %+v", p)
			}
		}
		return
	}
	var doc map[string]any
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil || doc == nil {
		return // its decoder is stricter about what we don't read, or it is empty
	}
	warned := map[string]bool{}
	for _, w := range c.Warnings {
		warned[w.Key] = true
	}
	for key := range doc {
		if !topLevel[key] && !warned[key] && !strings.HasPrefix(key, "x-") {
			t.Errorf("%q is neither known nor warned about", key)
		}
	}
	within(t, doc["local"], "local", localKeys, warned)
	within(t, doc["temporal"], "temporal", temporalKeys, warned)
	if m, ok := doc["workflow_task_retry_policies"].(map[string]any); ok {
		for pattern, p := range m {
			within(t, p, "workflow_task_retry_policies."+pattern, policyKeys, warned)
		}
	}
}

func within(t *testing.T, v any, path string, known, warned map[string]bool) {
	m, ok := v.(map[string]any)
	if !ok {
		return
	}
	for key := range m {
		if !known[key] && !warned[fmt.Sprintf("%s.%s", path, key)] {
			t.Errorf("%s.%s is neither known nor warned about", path, key)
		}
	}
}

func set(names string) map[string]bool {
	out := map[string]bool{}
	for _, n := range strings.Fields(names) {
		out[n] = true
	}
	return out
}

var (
	topLevel     = set("$schema name description execution_engine local temporal workflow_task_modules workflow_task_retry_policies")
	sharedKeys   = "timeout_seconds id_reuse_policy codec_key codec_old_keys max_payload warn_payload "
	localKeys    = set(sharedKeys + "path retention max_ended max_steps max_awake max_deaths watchdog portable")
	temporalKeys = set(sharedKeys + `host port namespace task_queue identity api_key tls rpc_metadata connect_timeout_seconds heartbeat_seconds
		max_concurrent_activities max_concurrent_workflow_tasks max_activity_pollers max_workflow_task_pollers max_cached_workflows
		max_activities_per_second max_task_queue_activities_per_second stop_timeout_seconds external_storage versioning workflow_task_modules`)
	policyKeys = set("maximum_attempts initial_interval backoff_coefficient maximum_interval non_retryable_error_types")
)
