package app

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mcpagent/mcpagent/internal/temporaltest"
)

// onTemporal writes a configuration for a task queue of this test's own.
func onTemporal(t *testing.T, server *temporaltest.Server) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "mcp_agent.config.yaml")
	text := fmt.Sprintf("execution_engine: temporal\ntemporal:\n  host: %q\n  task_queue: %q\n  heartbeat_seconds: 2\n", server.Addr(), t.Name())
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// startedOn is started, with a configuration.
func startedOn(t *testing.T, config, transport, dir string, args ...string) *server {
	t.Helper()
	s := newServer(t, transport, dir, args...)
	s.config = config
	if err := s.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// lines is an invoice whose lines are told from those of all others.
func lines(t *testing.T, id string) (invoice map[string]any, paid []string) {
	t.Helper()
	invoice = sample(t, id)
	for n, l := range invoice["lines"].([]any) {
		d := fmt.Sprintf("%s line %d", id, n)
		l.(map[string]any)["description"] = d
		paid = append(paid, d)
	}
	return invoice, paid
}

// TestTemporalSurvivesKills kills the worker in mid-payment and the Temporal
// server after an approval. What was acknowledged holds, and each line is paid
// once.
func TestTemporalSurvivesKills(t *testing.T) {
	t.Parallel()
	temporal := temporaltest.New(t, &temporaltest.Options{File: filepath.Join(t.TempDir(), "temporal.db")})
	s := startedOn(t, onTemporal(t, temporal), "http", t.TempDir(), "-pay-delay", "600ms")
	first, want := lines(t, "K-1")
	second, more := lines(t, "K-2")
	paying, waiting := s.begin(t, first), s.begin(t, second)
	s.await(t, paying, "PENDING-APPROVAL")
	s.await(t, waiting, "PENDING-APPROVAL")
	s.must(t, "approve_invoice", paying)
	s.booked(t, 1) // and the run has not heard of it
	s.kill()

	if err := s.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.must(t, "approve_invoice", waiting)
	temporal.Kill()
	if err := temporal.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, ids := range []map[string]any{paying, waiting} {
		s.awaitThrough(t, ids, "PAID")
		if out := s.must(t, "workflows-get_status", ids); out["result"] != "PAID" {
			t.Errorf("the result of %v is %v, want PAID: %v", ids["workflow_id"], out["result"], out)
		}
	}
	checkBook(t, s.book(), append(want, more...)...)
}

// booked waits until the gateway has booked n payments.
func (s *server) booked(t *testing.T, n int) {
	t.Helper()
	err := eventually(t.Context(), func() (bool, error) {
		all, err := readBook(s.book())
		return len(all) >= n, err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// awaitThrough waits until an invoice has a status, whatever the server says
// while the cluster is away.
func (s *server) awaitThrough(t *testing.T, ids map[string]any, want string) {
	t.Helper()
	var said error
	err := eventually(t.Context(), func() (bool, error) {
		out, err := s.call(t.Context(), "invoice_status", ids)
		var no *toolError
		if err != nil && !errors.As(err, &no) {
			return false, err
		}
		said = err
		return out["value"] == want, nil
	})
	if err != nil {
		t.Fatalf("invoice %v is not %s: %v; it said %v", ids["workflow_id"], want, err, said)
	}
}

// TestTemporalTools has two processes on one cluster, one over stdio and one
// over HTTP, and calls each tool by the one about the runs of the other.
func TestTemporalTools(t *testing.T) {
	t.Parallel()
	temporal := temporaltest.New(t, nil)
	dir, config := t.TempDir(), onTemporal(t, temporal)
	host, desk := startedOn(t, config, "stdio", dir), startedOn(t, config, "http", dir)

	t.Run("approve", func(t *testing.T) {
		inv, want := lines(t, "T-1")
		ids := host.begin(t, inv)
		desk.await(t, ids, "PENDING-APPROVAL")
		if again := desk.begin(t, inv); again["run_id"] != ids["run_id"] {
			t.Errorf("the same invoice again is run %v, not %v", again["run_id"], ids["run_id"])
		}
		desk.must(t, "approve_invoice", with(ids, "note", "fine"))
		host.await(t, ids, "PAID")
		checkBook(t, host.book(), want...)
		var no *toolError
		if _, err := host.call(t.Context(), "reject_invoice", ids); !errors.As(err, &no) || no.kind != "already_answered" {
			t.Errorf("reject_invoice after approve_invoice: %v, want already_answered", err)
		}
	})
	t.Run("reject", func(t *testing.T) {
		ids := desk.begin(t, sample(t, "T-2"))
		host.await(t, ids, "PENDING-APPROVAL")
		host.must(t, "reject_invoice", with(ids, "note", "we never ordered that"))
		desk.await(t, ids, "REJECTED")
		if got := desk.why(t, ids); got != "we never ordered that" {
			t.Errorf("got the reason %q, want the note", got)
		}
	})
	t.Run("questions", func(t *testing.T) {
		ids := host.begin(t, sample(t, "T-3"))
		desk.await(t, ids, "PENDING-APPROVAL")
		var question map[string]any
		err := eventually(t.Context(), func() (bool, error) { // the cluster's lists lag behind
			out, err := desk.call(t.Context(), "workflows-questions", nil)
			for _, q := range anys(out["questions"]) {
				if q, _ := q.(map[string]any); q["workflow_id"] == ids["workflow_id"] {
					question = q
				}
			}
			return question != nil, err
		})
		if err != nil {
			t.Fatal(err)
		}
		if want := "Pay invoice T-3 of ACME Corp: 2 lines, 300 in all?"; question["text"] != want {
			t.Errorf("the run asks %q, want %q", question["text"], want)
		}
		desk.must(t, "workflows-answer", map[string]any{"question_id": question["question_id"], "value": map[string]any{"approved": false}})
		host.await(t, ids, "REJECTED")
	})
	t.Run("pause, resume, cancel", func(t *testing.T) {
		inv, _ := lines(t, "T-4")
		for _, l := range inv["lines"].([]any) {
			l.(map[string]any)["due_date"] = "2999-01-01"
		}
		ids := host.begin(t, inv)
		desk.await(t, ids, "PENDING-APPROVAL")
		state := func(want string) {
			t.Helper()
			err := eventually(t.Context(), func() (bool, error) {
				out, err := host.call(t.Context(), "workflows-get_status", ids)
				return out["status"] == want, err
			})
			if err != nil {
				t.Fatalf("the run does not become %s: %v", want, err)
			}
		}
		desk.must(t, "workflows-pause", ids)
		state("paused")
		desk.must(t, "approve_invoice", ids)
		desk.must(t, "workflows-resume", ids)
		host.await(t, ids, "PAYING")
		desk.must(t, "workflows-cancel", ids)
		state("cancelled")
	})
	t.Run("list", func(t *testing.T) {
		want := map[any]bool{"invoice-T-1": true, "invoice-T-2": true, "invoice-T-3": true, "invoice-T-4": true}
		err := eventually(t.Context(), func() (bool, error) {
			out, err := host.call(t.Context(), "workflows-runs-list", map[string]any{"workflow_name": "process_invoice"})
			for _, r := range anys(out["runs"]) {
				r, _ := r.(map[string]any)
				delete(want, r["workflow_id"])
			}
			return len(want) == 0, err
		})
		if err != nil {
			t.Errorf("not in the list: %v: %v", want, err)
		}
	})
	t.Run("a refused payment", func(t *testing.T) {
		dir, config := t.TempDir(), onTemporal(t, temporal)
		poor := startedOn(t, config, "stdio", dir, "-fail-payment", "INSUFFICIENT_FUNDS", "-fail-validate", "1")
		inv, _ := lines(t, "T-5")
		ids := poor.begin(t, inv)
		// The cluster's list shows the run before long, and then there is only this one.
		err := eventually(t.Context(), func() (bool, error) {
			out, err := poor.call(t.Context(), "invoice_status", nil)
			var no *toolError
			if errors.As(err, &no) {
				err = nil
			}
			return out["value"] == "PENDING-APPROVAL", err
		})
		if err != nil {
			t.Fatal(err)
		}
		poor.must(t, "approve_invoice", nil)
		poor.await(t, ids, "FAILED")
		if got := poor.why(t, ids); !strings.Contains(got, "INSUFFICIENT_FUNDS") || strings.Contains(got, "attempts") {
			t.Errorf("got the reason %q, want INSUFFICIENT_FUNDS at the first attempt", got)
		}
		checkBook(t, poor.book())
	})
}

func anys(v any) []any { l, _ := v.([]any); return l }

// TestTemporalDemo is -demo on a cluster, and what it says where there is none.
func TestTemporalDemo(t *testing.T) {
	t.Parallel()
	temporal := temporaltest.New(t, nil)
	config := onTemporal(t, temporal)
	out, err := exec.Command(binary, "-demo", "-config", config).CombinedOutput()
	if err != nil {
		t.Fatalf("-demo: %v\n%s", err, out)
	}
	for _, want := range []string{
		`kill -9 +while the run waits for a person`,
		`the run asks +Pay invoice INV-100-\d+ of ACME Corp: 2 lines, 300 in all\?`,
		`kill -9 +in mid-payment: [12] booked by the gateway, none reported to the run`,
		`invoice_status +PAID`,
		`\nledger\n  payments  2 of 2 .*\n  doubled   0\n  kills     2\n$`,
	} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
}

// TestConfig holds flags and file against each other.
func TestConfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	memory := file("memory.yaml", "execution_engine: memory\n")
	local := file("local.yaml", "execution_engine: local\nlocal: {path: runs.db}\n")
	temporal := file("temporal.yaml", "execution_engine: temporal\ntemporal: {host: '127.0.0.1:1', connect_timeout_seconds: 0.2}\n")
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"-config", filepath.Join(dir, "nowhere.yaml")}, "nowhere.yaml"},
		{[]string{"-config", file("typo.yaml", "execution_engine: temproal\n")}, "typo.yaml:1:19: execution_engine"},
		{[]string{"-config", memory, "-db", "x.db"}, "-db x.db is for the engine local, and " + memory + " says execution_engine: memory"},
		{[]string{"-config", temporal, "-db", "x.db"}, temporal + " says execution_engine: temporal"},
		{[]string{"-config", local, "-db", "x.db"}, "-db says x.db, and " + local + " says local.path: " + filepath.Join(dir, "runs.db")},
		{[]string{"-config", temporal}, "connect to Temporal at 127.0.0.1:1"},
		{[]string{"-config", memory, "-demo"}, "-demo needs execution_engine: local or temporal"},
	} {
		out, err := exec.Command(binary, append(tt.args, "-stdio", "-payments", filepath.Join(dir, "p.jsonl"))...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), tt.want) || strings.Contains(string(out), "ready") {
			t.Errorf("invoice %s: %v, want exit status 1 and %q in\n%s", strings.Join(tt.args, " "), err, tt.want, out)
		}
	}

	// The two may agree, or complete each other, and the file's engine executes.
	pathless := file("pathless.yaml", "execution_engine: local\n")
	for name, tt := range map[string]struct {
		config string
		args   []string
		said   string
	}{
		"the file's":  {local, nil, filepath.Join(dir, "runs.db")},
		"both's":      {local, []string{"-db", filepath.Join(dir, "runs.db")}, filepath.Join(dir, "runs.db")},
		"the flag's":  {pathless, []string{"-db", filepath.Join(dir, "own.db")}, filepath.Join(dir, "own.db")},
		"the default": {pathless, nil, "mcp-agent.db, beside " + pathless},
		"in memory":   {memory, nil, "in memory"},
	} {
		s := startedOn(t, tt.config, "stdio", t.TempDir(), tt.args...)
		ids := s.begin(t, sample(t, "C-"+name))
		s.await(t, ids, "PENDING-APPROVAL")
		s.kill()
		if want := regexp.QuoteMeta(tt.said); !regexp.MustCompile(`  runs +` + want + "\n").Match(s.stderr.Bytes()) {
			t.Errorf("%s: the runs are not at %s:\n%s", name, tt.said, s.stderr.Bytes())
		}
	}
}
