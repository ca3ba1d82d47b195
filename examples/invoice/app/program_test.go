package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func TestApproved(t *testing.T) {
	for _, transport := range []string{"stdio", "http"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			s := started(t, transport, t.TempDir())
			ids := s.begin(t, sample(t, "INV-100"))
			if ids["workflow_id"] != "invoice-INV-100" || ids["run_id"] == "" {
				t.Errorf("process_invoice gave %v, want workflow_id invoice-INV-100 and a run_id", ids)
			}
			s.await(t, ids, "PENDING-APPROVAL")
			again := s.begin(t, sample(t, "INV-100"))
			if diff := cmp.Diff(ids, again); diff != "" {
				t.Errorf("the same invoice again is another run (-first +second):\n%s", diff)
			}
			s.must(t, "approve_invoice", ids)
			s.await(t, ids, "PAID")
			res, err := s.raw(t.Context(), "invoice_status", ids)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{"PAID", "COMPLETED"} {
				if !strings.Contains(textOf(res), want) {
					t.Errorf("invoice_status says\n%s\nwithout %s", textOf(res), want)
				}
			}
			checkBook(t, s.book(), "Widget A", "Widget B")
		})
	}
}

// TestNoIDs is a person who does not type ids.
func TestNoIDs(t *testing.T) {
	t.Parallel()
	s := started(t, "stdio", t.TempDir())
	ids := s.begin(t, sample(t, "INV-100"))
	s.await(t, nil, "PENDING-APPROVAL")
	s.must(t, "reject_invoice", nil)
	s.await(t, ids, "REJECTED")
	checkBook(t, s.book())
}

func TestRejectedIsFinal(t *testing.T) {
	t.Parallel()
	s := started(t, "http", t.TempDir())
	ids := s.begin(t, sample(t, "INV-100"))
	s.await(t, ids, "PENDING-APPROVAL")
	s.must(t, "reject_invoice", with(ids, "note", "we never ordered that"))
	s.await(t, ids, "REJECTED")
	if got := s.why(t, ids); got != "we never ordered that" {
		t.Errorf("got the reason %q, want the note", got)
	}
	var no *toolError
	if _, err := s.call(t.Context(), "approve_invoice", ids); !errors.As(err, &no) || no.kind != "already_answered" {
		t.Errorf("approve_invoice after reject_invoice: %v, want already_answered", err)
	}
	checkBook(t, s.book())
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	s := started(t, "stdio", t.TempDir())
	inv := sample(t, "INV-100")
	inv["lines"].([]any)[1].(map[string]any)["due_date"] = "2999-01-01"
	ids := s.begin(t, inv)
	s.await(t, ids, "PENDING-APPROVAL")
	s.must(t, "approve_invoice", ids)
	err := eventually(t.Context(), func() (bool, error) {
		booked, err := readBook(s.book())
		return len(booked) == 1, err
	})
	if err != nil {
		t.Fatal(err)
	}
	s.await(t, ids, "PAYING") // and for centuries
	s.must(t, "workflows-cancel", ids)
	err = eventually(t.Context(), func() (bool, error) {
		out, err := s.call(t.Context(), "invoice_status", ids)
		return out["status"] == "cancelled", err
	})
	if err != nil {
		t.Fatal(err)
	}
	checkBook(t, s.book(), "Widget A")
}

func TestMemory(t *testing.T) {
	t.Parallel()
	s := started(t, "http", t.TempDir(), "-db", ":memory:")
	ids := s.begin(t, sample(t, "INV-100"))
	s.await(t, ids, "PENDING-APPROVAL")
	s.must(t, "approve_invoice", ids)
	s.await(t, ids, "PAID")
	checkBook(t, s.book(), "Widget A", "Widget B")
	if _, err := os.Stat(s.db()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("-db :memory: left a file: %v", err)
	}
}

func TestInsufficientFundsIsNotRetried(t *testing.T) {
	t.Parallel()
	s := started(t, "stdio", t.TempDir(), "-fail-payment", "INSUFFICIENT_FUNDS")
	ids := s.begin(t, sample(t, "INV-100"))
	s.await(t, ids, "PENDING-APPROVAL")
	s.must(t, "approve_invoice", ids)
	s.await(t, ids, "FAILED")
	got := s.why(t, ids)
	if !strings.Contains(got, "INSUFFICIENT_FUNDS") || strings.Contains(got, "attempts") {
		t.Errorf("got the reason %q, want INSUFFICIENT_FUNDS at the first attempt", got)
	}
	res, err := s.raw(t.Context(), "invoice_status", ids)
	if err != nil || !strings.Contains(textOf(res), "Reason: "+got) {
		t.Errorf("invoice_status = %s, %v, want it to tell the reason", textOf(res), err)
	}
	checkBook(t, s.book())
}

func TestOtherRefusalsAreRetried(t *testing.T) {
	t.Parallel()
	s := started(t, "stdio", t.TempDir(), "-fail-payment", "LIMIT_EXCEEDED")
	ids := s.begin(t, sample(t, "INV-100"))
	s.await(t, ids, "PENDING-APPROVAL")
	s.must(t, "approve_invoice", ids)
	s.await(t, ids, "FAILED")
	if got := s.why(t, ids); !strings.Contains(got, "LIMIT_EXCEEDED") || !strings.Contains(got, "after 3 attempts") {
		t.Errorf("got the reason %q, want LIMIT_EXCEEDED after 3 attempts", got)
	}
	checkBook(t, s.book())
}

func TestValidationIsRetried(t *testing.T) {
	t.Parallel()
	s := started(t, "stdio", t.TempDir(), "-fail-validate", "2")
	s.await(t, s.begin(t, sample(t, "INV-100")), "PENDING-APPROVAL")
}

// TestBadInvoices are mistakes that a model makes. What the schema can say is
// refused before a run begins; the rest fails it, with the reason.
func TestBadInvoices(t *testing.T) {
	t.Parallel()
	s := started(t, "stdio", t.TempDir())
	line := map[string]any{"description": "x", "amount": 1, "due_date": "2024-06-30"}
	for _, tt := range []struct {
		name    string
		invoice any
		kind    string // of the error; empty: the run is FAILED
		want    string // in the reason
	}{
		{"no id", map[string]any{"lines": []any{line}}, "bad_arguments", "invoice_id"},
		{"no lines at all", map[string]any{"invoice_id": "B-1"}, "bad_arguments", "lines"},
		{"amount is text", map[string]any{"invoice_id": "B-2", "lines": []any{with(line, "amount", "many")}}, "bad_arguments", "amount"},
		{"not an object", "B-3", "bad_arguments", "object"},
		{"empty lines", map[string]any{"invoice_id": "B-4", "lines": []any{}}, "", "no lines"},
		{"negative amount", map[string]any{"invoice_id": "B-5", "lines": []any{with(line, "amount", -1)}}, "", "line 1: amount"},
		{"no such day", map[string]any{"invoice_id": "B-6", "lines": []any{line, with(line, "due_date", "2024-02-30")}}, "", "line 2: INVALID_INVOICE: due_date \"2024-02-30\""},
	} {
		out, err := s.call(t.Context(), "process_invoice", map[string]any{"invoice": tt.invoice})
		if tt.kind != "" {
			var no *toolError
			if !errors.As(err, &no) || no.kind != tt.kind || !strings.Contains(no.text, tt.want) {
				t.Errorf("%s: got %v, want %s about %q", tt.name, err, tt.kind, tt.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		ids := map[string]any{"workflow_id": out["workflow_id"], "run_id": out["run_id"]}
		s.await(t, ids, "FAILED")
		if got := s.why(t, ids); !strings.Contains(got, tt.want) {
			t.Errorf("%s: got the reason %q, want it to name %q", tt.name, got, tt.want)
		}
	}
	checkBook(t, s.book())
}

// why is the reason that a run has published.
func (s *server) why(t *testing.T, ids map[string]any) string {
	t.Helper()
	out := s.must(t, "workflows-get_status", ids)
	state, _ := out["state"].(map[string]any)
	published, _ := state["metadata"].(map[string]any)
	why, _ := published["reason"].(string)
	return why
}

func TestTools(t *testing.T) {
	t.Parallel()
	s := started(t, "stdio", t.TempDir())
	tools := map[string]*mcp.Tool{}
	for tool, err := range s.session.Tools(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		tools[tool.Name] = tool
	}
	for name, want := range map[string][]string{
		"process_invoice": {"invoice"},
		"approve_invoice": {"note", "question_id", "run_id", "workflow_id"},
		"reject_invoice":  {"note", "question_id", "run_id", "workflow_id"},
		"invoice_status":  {"run_id", "workflow_id"},
	} {
		tool := tools[name]
		if tool == nil {
			t.Errorf("there is no tool %s", name)
			continue
		}
		schema, _ := tool.InputSchema.(map[string]any)
		properties, _ := schema["properties"].(map[string]any)
		var got []string
		for p := range properties {
			got = append(got, p)
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("arguments of %s (-want +got):\n%s", name, diff)
		}
		if tool.Title == "" || tool.Description == "" {
			t.Errorf("%s: title %q, description %q", name, tool.Title, tool.Description)
		}
	}
}

// TestWelcome holds the first lines to what a newcomer needs.
func TestWelcome(t *testing.T) {
	for _, transport := range []string{"stdio", "http"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			s := started(t, transport, t.TempDir())
			said := string(s.stderr.Bytes())
			for _, want := range []string{
				fmt.Sprintf("pid %d\n", s.cmd.Process.Pid), fmt.Sprint("kill", " "), s.db(), s.book(),
				"claude mcp add ", "goose session --with-", "npx @modelcontextprotocol/inspector ", "testdata/invoice_acme.json",
			} {
				if !strings.Contains(said, want) {
					t.Errorf("no %q in\n%s", want, said)
				}
			}
		})
	}
}

func TestFlags(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"serve"}, "no arguments beside flags"},
		{[]string{"-http", "nowhere", "-db", ":memory:"}, "choose another address with -http"},
		{[]string{"-http", "0.0.0.0:0", "-db", ":memory:"}, "can be reached from other machines"},
		{[]string{"-stdio", "-db", t.TempDir()}, "directory"},
		{[]string{"-stdio", "-db", "app.go"}, "app.go"},
		{[]string{"-stdio", "-db", ":memory:", "-payments", t.TempDir()}, "choose another file with -payments"},
		{[]string{"-stdio", "-db", ":memory:", "-payments", "nowhere/payments.jsonl"}, "choose another file with -payments"},
		{[]string{"-stdio", "-db", ":memory:", "-payments", "app.go"}, "line 1 of the book"},
	} {
		out, err := exec.Command(binary, tt.args...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), tt.want) || strings.Contains(string(out), "ready") {
			t.Errorf("invoice %s: %v, want exit status 1 and %q in\n%s", strings.Join(tt.args, " "), err, tt.want, out)
		}
	}
}

func TestDemo(t *testing.T) {
	t.Parallel()
	out, err := exec.Command(binary, "-demo").CombinedOutput()
	if err != nil {
		t.Fatalf("-demo: %v\n%s", err, out)
	}
	for _, want := range []string{
		`(?m)^ +[\d.]+s  kill -9 +while the run waits for a person$`,
		`(?m)^ +[\d.]+s  the run asks +Pay invoice INV-100 of ACME Corp: 2 lines, 300 in all\?$`,
		`(?m)^ +[\d.]+s  kill -9 +in mid-payment: [12] booked by the gateway, none reported to the run$`,
		`(?m)^ +[\d.]+s  invoice_status +PAID$`,
		`\nledger\n  payments  2 of 2 .*\n  doubled   0\n  kills     2\n$`,
	} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
}

// TestUnknownFields looks for a field that the program does not know where the
// run keeps its input, and at where it goes from there.
func TestUnknownFields(t *testing.T) {
	t.Parallel()
	const in = `{"invoice_id":"X-1","customer":"ACME","lines":[{"description":"a","amount":1.10,"due_date":"2024-06-30","cost_center":{"id":7}}],"po_number":"PO-9"}`
	var inv Invoice
	if err := json.Unmarshal([]byte(in), &inv); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(inv)
	if err != nil {
		t.Fatal(err)
	}
	if string(out) != in {
		t.Errorf("got  %s\nwant %s", out, in)
	}
	inv.Extra = nil
	if out, err = json.Marshal(inv); err != nil || strings.Contains(string(out), "po_number") {
		t.Errorf("without its extra fields: %s, %v", out, err)
	}
}

// The person who decides sees what is going to be paid, to the last digit.
func TestQuestion(t *testing.T) {
	t.Parallel()
	for amounts, want := range map[string]string{
		"100 200":         "Pay invoice 7 of C: 2 lines, 300 in all?",
		"0.001":           "Pay invoice 7 of C: 0.001?",
		"0.1 0.2":         "Pay invoice 7 of C: 2 lines, 0.30 in all?",
		"1e3":             "Pay invoice 7 of C: 1000?",
		"0 -1":            "",
		"1e-7 1e300":      "",
		"1e-999999999 1_": "",
		"":                "",
	} {
		inv := Invoice{ID: "7", Customer: "C"}
		for _, a := range strings.Split(amounts, " ") {
			inv.Lines = append(inv.Lines, Line{Amount: json.Number(a), DueDate: "2024-06-30"})
		}
		err := inv.check()
		if want != "" && (err != nil || inv.question() != want) {
			t.Errorf("%s: %q, %v, want %q", amounts, inv.question(), err, want)
		}
		if want == "" && (!errors.Is(err, errInvalid) || strings.Count(err.Error(), "amount") != len(inv.Lines)) {
			t.Errorf("%s: %v, want an error about each amount", amounts, err)
		}
	}
	if got, want := (Invoice{ID: "7"}).question(), "Pay invoice 7: 0 lines, 0 in all?"; got != want {
		t.Errorf("without a customer: %q, want %q", got, want)
	}
}

func TestDueDate(t *testing.T) {
	t.Parallel()
	for in, want := range map[DueDate]string{
		"2024-06-30":                "2024-06-30T00:00:00Z",
		"2024-06-30T12:00:00+02:00": "2024-06-30T10:00:00Z",
		"2024-06-30T12:00:00.5Z":    "2024-06-30T12:00:00.5Z",
		"30.6.2024":                 "",
		"":                          "",
	} {
		got, err := in.Time()
		switch {
		case want == "" && !errors.Is(err, errInvalid):
			t.Errorf("%q: got %v, %v, want %v", in, got, err, errInvalid)
		case want != "" && (err != nil || got.UTC().Format("2006-01-02T15:04:05.999Z07:00") != want):
			t.Errorf("%q: got %v, %v, want %s", in, got, err, want)
		}
	}
}

func TestBook(t *testing.T) {
	t.Parallel()
	g := gateway{book: t.TempDir() + "/payments.jsonl"}
	pay := func(key string) error { return g.transfer(payment{Key: key, Description: key, Amount: "1"}) }
	if err := pay("a"); err != nil {
		t.Fatal(err)
	}
	if err := pay("a"); !errors.Is(err, errBooked) {
		t.Errorf("the same key again: %v, want %v", err, errBooked)
	}
	if err := pay(""); err == nil {
		t.Error("a payment without a key was booked")
	}
	// A power cut tears a line: what it says did not happen.
	whole, err := os.ReadFile(g.book)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(g.book, append(whole, `{"idempotency_key":"b","descr`...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := pay("b"); err != nil {
		t.Fatal(err)
	}
	if err := pay("b"); !errors.Is(err, errBooked) {
		t.Errorf("the same key again after a torn line: %v, want %v", err, errBooked)
	}
	checkBook(t, g.book, "a", "b")
	if err := os.WriteFile(g.book, []byte("no book\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := pay("c"); err == nil || !strings.Contains(err.Error(), "line 1 of the book") {
		t.Errorf("a file that is no book: %v", err)
	}
}
