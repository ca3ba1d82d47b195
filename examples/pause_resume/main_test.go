package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/internal/temporaltest"
)

// In virtual time: a second before the end it is resumed, a second after it
// there is nothing to resume.
func TestItWaitsForAMinute(t *testing.T) {
	for after, want := range map[time.Duration]string{59 * time.Second: "resumed by alex: hi", 61 * time.Second: ""} {
		synctest.Test(t, func(t *testing.T) {
			eng, err := durable.NewMemory(t.Context(), &durable.Options{MaxAwake: -1}, pauseResume)
			if err != nil {
				t.Fatal(err)
			}
			defer eng.Close(context.Background())
			r, err := pauseResume.Start(t.Context(), eng, Pause{"hi", 60}, nil)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(after)
			sent := resume.Send(t.Context(), r, Resume{"alex"}, nil)
			got, err := pauseResume.Result(t.Context(), r)
			if got != want {
				t.Errorf("after %v: %q, want %q", after, got, want)
			}
			if late := want == ""; errors.Is(sent, durable.ErrFinished) != late || errors.Is(err, errSignalTimeout) != late || (err == nil) == late {
				t.Errorf("after %v: sending gave %v, the run %v", after, sent, err)
			}
			d, err := r.Describe(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if want == "" && (d.State != durable.Failed || d.Failure.Type != "SignalTimeout" || d.Closed.Sub(d.Created) != time.Minute) {
				t.Errorf("the run is %s after %v: %v", d.State, d.Closed.Sub(d.Created), d.Failure)
			}
		})
	}
}

// program builds the example.
func program(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "pause_resume.exe")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

// starter is a process that has started a run and waits for its end.
type starter struct {
	*exec.Cmd
	out *bufio.Reader
	err bytes.Buffer
}

func startProcess(t *testing.T, bin string, args ...string) *starter {
	t.Helper()
	s := &starter{Cmd: exec.CommandContext(t.Context(), bin, args...)}
	s.Stderr = &s.err
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.out = bufio.NewReader(out)
	return s
}

func (s *starter) line(t *testing.T, want string) {
	t.Helper()
	if got, err := s.out.ReadString('\n'); strings.TrimSpace(got) != want {
		t.Errorf("line %q (%v), want %q; %s", got, err, want, &s.err)
	}
}

// engineFlags are those of the engines that more than one process can use.
func engineFlags(t *testing.T) map[string][]string {
	t.Helper()
	dir := t.TempDir()
	server := temporaltest.New(t, nil)
	config := filepath.Join(dir, "mcp_agent.config.yaml")
	text := fmt.Sprintf("execution_engine: temporal\ntemporal: {host: %q, namespace: %s, task_queue: pauses}\n", server.Addr(), server.Namespace())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return map[string][]string{"local": {"-db", filepath.Join(dir, "runs.db")}, "temporal": {"-config", config}}
}

func TestAnotherProcessResumesIt(t *testing.T) {
	t.Parallel()
	bin := program(t)
	const waits = "pause-7 waits for 1m0s at most: go run ./examples/pause_resume -resume pause-7"
	for engine, flags := range engineFlags(t) {
		with := func(more ...string) []string { return slices.Concat(flags, more) }
		first := startProcess(t, bin, with("-id", "pause-7")...)
		if err := first.Start(); err != nil {
			t.Fatal(err)
		}
		first.line(t, waits)
		if err := first.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := first.Wait(); err == nil {
			t.Error("a killed process ended well")
		}
		again := startProcess(t, bin, with("-id", "pause-7")...) // finds the run and goes on with it
		if err := again.Start(); err != nil {
			t.Fatal(err)
		}
		again.line(t, waits)
		if out, err := exec.CommandContext(t.Context(), bin, with("-resume", "pause-7", "-by", "alex")...).Output(); err != nil || len(out) > 0 {
			t.Errorf("%s: the second process: %v\n%s", engine, err, out)
		}
		again.line(t, "resumed by alex: hello")
		if err := again.Wait(); err != nil {
			t.Errorf("%s: the first process: %v\n%s", engine, err, &again.err)
		}
		out, err := exec.CommandContext(t.Context(), bin, with("-resume", "pause-7")...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "has ended (completed)") {
			t.Errorf("%s: resumed once more: %v\n%s", engine, err, out)
		}
	}
}

func TestNobodyResumesIt(t *testing.T) {
	t.Parallel()
	bin := program(t)
	for engine, flags := range engineFlags(t) {
		out, err := exec.CommandContext(t.Context(), bin, slices.Concat(flags, []string{"-wait", "100ms"})...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "SignalTimeout: nobody sent the signal resume within 100ms") {
			t.Errorf("%s: %v\n%s", engine, err, out)
		}
	}
}

func TestInMemoryEnterResumesIt(t *testing.T) {
	t.Parallel()
	p := startProcess(t, program(t), "-db", ":memory:", "-by", "me")
	in, mine, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	p.Stdin = in
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	p.line(t, "pause-1 waits for 1m0s at most: press Enter to resume it")
	if _, err := mine.WriteString("\n"); err != nil {
		t.Fatal(err)
	}
	if err := mine.Close(); err != nil {
		t.Fatal(err)
	}
	p.line(t, "resumed by me: hello")
	if err := p.Wait(); err != nil {
		t.Errorf("%v\n%s", err, &p.err)
	}
}

// The file says which engine and where the spans go; what two processes send
// is one trace.
func TestAFileNamesEngineAndTelemetry(t *testing.T) {
	t.Parallel()
	bin, dir := program(t), t.TempDir()
	config := filepath.Join(dir, "mcp_agent.config.yaml")
	err := os.WriteFile(config, []byte(`
execution_engine: local
local:
  path: runs.db
otel:
  enabled: true
  service_name: pauses
  capture_content: true
  exporters:
    - type: file
      path: `+filepath.ToSlash(filepath.Join(dir, "spans.jsonl"))+`
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	first := startProcess(t, bin, "-config", config)
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	first.line(t, "pause-1 waits for 1m0s at most: go run ./examples/pause_resume -resume pause-1")
	if out, err := exec.CommandContext(t.Context(), bin, "-config", config, "-resume", "pause-1", "-by", "alex").Output(); err != nil || len(out) > 0 {
		t.Errorf("the second process: %v\n%s", err, out)
	}
	first.line(t, "resumed by alex: hello")
	if err := first.Wait(); err != nil {
		t.Errorf("%v\n%s", err, &first.err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "spans.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"name":"started pause_resume"`, `"name":"received signal resume"`, `"name":"signal resume"`, `"name":"run pause_resume"`, `"service.name":"pauses"`, `"mcpagent.output":"\"resumed by alex: hello\""`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("the spans lack %s:\n%s", want, b)
		}
	}
}
