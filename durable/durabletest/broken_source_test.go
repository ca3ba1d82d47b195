package durabletest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What no wrapper of a store or a backend reaches is broken in the source: the
// edits are compiled in together, each behind a name.
var brokenSources = []struct {
	breaks   string
	scenario string
	mode     string
	file     string
	old, new string
}{
	{"doubles a step", "steps/once-recorded", "awake", "attempt.go",
		"	out, err = fn(a, in)\n",
		"	if broken {\n		_, _ = fn(a, in)\n	}\n	out, err = fn(a, in)\n"},
	{"runs coroutines in parallel", "turns/one-coroutine-at-a-time", "awake", "coroutine.go",
		"	c.next()\n	r.holder.Store(0)\n",
		"	if broken {\n		go c.next()\n		return\n	}\n	c.next()\n	r.holder.Store(0)\n"},
	{"leaks the coroutines of a run that is put away", "put-away/no-goroutine-is-left", "paranoid", "coroutine.go",
		"	r.unwinding.Store(true)\n	for",
		"	if broken {\n		return 0\n	}\n	r.unwinding.Store(true)\n	for"},
	{"keeps its goroutines when it is closed", "put-away/no-goroutine-is-left", "awake", "executor.go",
		"	ex.stopping = true\n	ex.mu.Unlock()\n",
		"	ex.stopping = true\n	ex.mu.Unlock()\n	if broken {\n		return nil\n	}\n"},
	{"writes log lines again in a replay", "published/log-lines", "paranoid", "run.go",
		"	if r.replaying || r.turn == nil {\n		return\n	}\n	ctx := r.logContext()",
		"	if broken && r.replaying {\n		_ = h.Handle(context.Background(), rec)\n	}\n	if r.replaying || r.turn == nil {\n		return\n	}\n	ctx := r.logContext()"},
	{"draws other random numbers in a replay", "ids/named-streams", "awake", "time.go",
		"secret + \"\\x00\" + name))\n",
		"secret + \"\\x00\" + name))\n		if broken && r.replaying {\n			seed[0]++\n		}\n"},
	{"sends only the first step of a turn", "groups/map-keeps-order", "awake", "executor.go",
		"	for i, fn := range e.launched {\n",
		"	for i, fn := range e.launched {\n		if broken && i > 0 {\n			continue\n		}\n"},
	{"lets effects out before the commit", "steps/commit-before-effect", "awake", "turn.go",
		"	if err == nil {\n		err = e.write(tx)\n	}\n	if err != nil {\n		// The run in memory",
		"	if broken {\n		for _, c := range t.entry.Calls {\n			if d := ex.defs.steps[c.Name]; d != nil && d.fn != nil {\n				_, _ = d.fn(&attempt{Context: ex.life, info: StepInfo{Call: c.ID}}, json.RawMessage(c.Payload))\n			}\n		}\n	}\n	if err == nil {\n		err = e.write(tx)\n	}\n	if err != nil {\n		// The run in memory"},
	{"does not see that the code has changed", "problems/mismatch", "paranoid", "run.go",
		"		if want.ID != f.id || want.Kind != spec.kind || want.Name != spec.name {\n			r.stop(",
		"		if !broken && (want.ID != f.id || want.Kind != spec.kind || want.Name != spec.name) {\n			r.stop("},
	{"never looks at code that does not come back", "problems/watchdog", "awake", "watchdog.go",
		"		for _, e := range stuck {\n",
		"		for _, e := range stuck {\n			if broken {\n				continue\n			}\n"},
	{"takes a context of another kind for its own", "rails/with-timeout", "awake", "scope.go",
		"d != nil && d != s.done {",
		"d != nil && d != s.done && !broken {"},
	{"takes a call of another goroutine for its own", "rails/goroutine", "awake", "scope.go",
		"	if g := getg(); r.holder.Load() != g {\n",
		"	if g := getg(); r.holder.Load() != g && !broken {\n"},
	{"lets a lost context fall back to plain Go", "rails/lost-context", "awake", "scope.go",
		"		return env{}, fmt.Errorf(\"durable.%s: %w\", call, ErrLostContext)\n",
		"		if broken {\n			return env{}, nil\n		}\n		return env{}, fmt.Errorf(\"durable.%s: %w\", call, ErrLostContext)\n"},
	{"sends steps under a cancelled context", "cancel/calls-are-not-sent", "awake", "step.go",
		"	if err := ctx.Err(); err != nil {\n		return fail(err)\n	}\n",
		"	if err := ctx.Err(); err != nil && !broken {\n		return fail(err)\n	}\n"},
	{"does not count an attempt that was lost", "retries/a-lost-attempt-counts", "awake", "dispatch.go",
		"			oc.attempt++\n			oc.failure = &journal.Failure{Type: \"lost\"",
		"			if !broken {\n				oc.attempt++\n			}\n			oc.failure = &journal.Failure{Type: \"lost\""},
	{"does not wait for accepted updates at the end of a run", "continue/waits-for-handlers", "awake", "run.go",
		"	if !cancelled {\n		r.parkFor(\"updates\"",
		"	if !cancelled && !broken {\n		r.parkFor(\"updates\""},
}

// TestBrokenSourcesAreRejected: the kit rejects an executor with one of these
// edits, by name, and accepts the same program without.
func TestBrokenSourcesAreRejected(t *testing.T) {
	t.Parallel()
	program := brokenProgram(t)
	for _, b := range brokenSources {
		t.Run(strings.ReplaceAll(b.breaks, " ", "-"), func(t *testing.T) {
			t.Parallel()
			run := func(broken string) (string, error) {
				path := "^TestContract$/^memory$/^" + b.mode + "$/^" + strings.ReplaceAll(b.scenario, "/", "$/^") + "$"
				cmd := exec.CommandContext(t.Context(), program, "-test.run", path, "-test.timeout", "60s", "-test.v")
				cmd.Env = append(os.Environ(), "DURABLE_BROKEN="+broken)
				out, err := cmd.CombinedOutput()
				return string(out), err
			}
			out, err := run("")
			if err != nil || !strings.Contains(out, "--- PASS: TestContract/memory/"+b.mode+"/"+b.scenario) {
				t.Fatalf("%s in mode %s fails without the edit, or is not there: %v\n%s", b.scenario, b.mode, err, out)
			}
			if out, err := run(b.breaks); err == nil {
				t.Errorf("%s accepts an executor that %s:\n%s", b.scenario, b.breaks, out)
			}
		})
	}
}

// brokenProgram compiles this package's tests with all edits in durable.
func brokenProgram(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	durable, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	replace, sources := map[string]string{}, map[string]string{}
	put := func(name, text string) {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(durable, name)] = p
	}
	for _, b := range brokenSources {
		if sources[b.file] == "" {
			src, err := os.ReadFile(filepath.Join(durable, b.file))
			if err != nil {
				t.Fatal(err)
			}
			sources[b.file] = strings.ReplaceAll(string(src), "\r\n", "\n")
		}
		if n := strings.Count(sources[b.file], b.old); n != 1 {
			t.Fatalf("%s has the text of %q %d times, not once: the edit must follow the source\n%s", b.file, b.breaks, n, b.old)
		}
		edit := strings.ReplaceAll(b.new, "broken", "brokenBy["+jsonText(b.breaks)+"]")
		sources[b.file] = strings.Replace(sources[b.file], b.old, edit, 1)
	}
	for name, text := range sources {
		put(name, text)
	}
	put("broken_by.go", "package durable\n\nimport \"os\"\n\nvar brokenBy = map[string]bool{os.Getenv(\"DURABLE_BROKEN\"): true}\n")
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "broken.test.exe")
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", program, "-overlay", file, ".").CombinedOutput(); err != nil {
		t.Fatalf("compile the broken executor: %v\n%s", err, out)
	}
	return program
}

func jsonText(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}
