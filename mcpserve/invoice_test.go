package mcpserve_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/mcpserve"
)

// Invoice, Line and Decision are the types of the invoice program.
type (
	Invoice struct {
		ID    string `json:"invoice_id"`
		Lines []Line `json:"lines,omitempty"`
	}
	Line struct {
		SKU    string  `json:"sku"`
		Amount float64 `json:"amount"`
	}
	Decision struct {
		Approved bool   `json:"approved"`
		Reason   string `json:"reason,omitempty"`
	}
)

// invoices is the invoice program of the design, without its gateway.
type invoices struct {
	status  *durable.Status[string]
	decide  *durable.Question[Decision]
	pay     *durable.Step[Line, string]
	payLine *durable.Workflow[Line, string]
	process *durable.Workflow[json.RawMessage, string]
	typed   *durable.Workflow[Invoice, string]
}

func newInvoices() *invoices {
	p := &invoices{status: durable.NewStatus[string]("status"), decide: durable.NewQuestion[Decision]("approve")}
	p.pay = durable.NewStep("invoice.pay", func(_ context.Context, l Line) (string, error) { return "paid " + l.SKU, nil }, nil)
	p.payLine = durable.NewWorkflow("pay_line_item", p.pay.Do, nil)
	run := func(ctx context.Context, inv Invoice) (string, error) {
		to := func(s string) (string, error) { p.status.Set(ctx, s); return s, nil }
		to("PENDING-APPROVAL")
		a, err := p.decide.Ask(ctx, "Pay invoice "+inv.ID+"?", &durable.AskOptions{Expires: 5 * 24 * time.Hour})
		if errors.Is(err, durable.ErrExpired) || err == nil && !a.Value.Approved {
			return to("REJECTED")
		}
		if err != nil {
			return "", err
		}
		to("PAYING")
		if _, err := durable.Map(ctx, inv.Lines, p.payLine.Run, nil); err != nil {
			return to("FAILED")
		}
		return to("PAID")
	}
	o := &durable.WorkflowOptions{Accepts: []durable.Accepted{p.status, p.decide}}
	p.typed = durable.NewWorkflow("process_invoice", run, o)
	p.process = durable.NewWorkflow("process_raw", func(ctx context.Context, raw json.RawMessage) (string, error) {
		var inv Invoice
		if err := json.Unmarshal(raw, &inv); err != nil {
			return "", err
		}
		return run(ctx, inv)
	}, o)
	return p
}

func (p *invoices) Define(d *durable.Definitions) { d.Add(p.typed, p.process, p.payLine, p.pay) }

func (p *invoices) server(eng *durable.Engine) *mcpserve.Server {
	srv := mcpserve.New("invoices", eng, nil)
	srv.Add(p.typed, &mcpserve.Tool{Async: true, Arg: "invoice", ID: "invoice-{invoice_id}"})
	srv.Add(p.decide, &mcpserve.Tool{Name: "approve_invoice", Const: Decision{Approved: true}})
	srv.Add(p.decide, &mcpserve.Tool{Name: "reject_invoice", Const: Decision{}})
	srv.Add(p.status, &mcpserve.Tool{Name: "invoice_status"})
	return srv
}

func TestInvoice(t *testing.T) {
	t.Parallel()
	every(t, func(t *testing.T, p peer) {
		prog := newInvoices()
		eng := engine(t, prog)
		cs := connect(t, prog.server(eng), p)
		args := object{"invoice": object{"invoice_id": "INV-7", "vendor": "ACME", "lines": []any{object{"sku": "a", "amount": 1.5}}}}
		ids := ok(t, cs, "process_invoice", args)
		if ids["workflow_id"] != "invoice-INV-7" || ids["run_id"] == "" || ids["execution_id"] != ids["run_id"] {
			t.Fatalf("ids = %v", ids)
		}
		if again := ok(t, cs, "process_invoice", args); again["run_id"] != ids["run_id"] || again["existing"] != true {
			t.Errorf("the same invoice again = %v, want the run %v", again, ids)
		}
		until(t, "the run asks", func() bool {
			res := call(t, cs, "invoice_status", object{"workflow_id": "invoice-INV-7"})
			return strings.HasPrefix(text(res), "Invoice status: PENDING-APPROVAL\nRun status: RUNNING\n")
		})
		st := ok(t, cs, "invoice_status", object{})
		if st["value"] != "PENDING-APPROVAL" || st["status"] != "running" || fmt.Sprint(st["questions"]) == "<nil>" {
			t.Errorf("invoice_status = %v", st)
		}
		got := ok(t, cs, "approve_invoice", object{"workflow_id": "invoice-INV-7", "run_id": ids["run_id"]})
		if got["question"] != "approve" || fmt.Sprint(got["answer"]) != "map[approved:true]" {
			t.Errorf("approve_invoice = %v", got)
		}
		until(t, "the invoice is paid", func() bool {
			return ok(t, cs, "workflows-get_status", object{"run_id": ids["run_id"]})["completed"] == true
		})
		full := ok(t, cs, "workflows-get_status", object{"workflow_id": "invoice-INV-7"})
		if full["result"] != "PAID" || full["status"] != "completed" || full["state"].(object)["status"] != "PAID" || full["id"] != ids["run_id"] {
			t.Errorf("workflows-get_status = %v", full)
		}
		refused(t, cs, "approve_invoice", object{"workflow_id": "invoice-INV-7"}, "already_answered")
		refused(t, cs, "reject_invoice", object{}, "not_found")

		// What the input's type does not know is kept.
		rec, err := eng.Run("invoice-INV-7", "").History(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if in := string(rec[0].Events[0].Payload); !strings.Contains(in, `"vendor":"ACME"`) {
			t.Errorf("recorded input = %s, want the vendor in it", in)
		}
		for tool, args := range map[string]object{
			"process_invoice": {"invoice": object{}},
			"approve_invoice": {"workflow_id": 7},
			"invoice_status":  {"workflow_id": []any{}},
		} {
			refused(t, cs, tool, args, "bad_arguments")
		}
		if e := refused(t, cs, "process_invoice", object{"invoice": object{"invoice_id": ""}}, "bad_arguments"); !strings.Contains(fmt.Sprint(e["message"]), "invoice_id: missing or empty") {
			t.Errorf("an empty invoice_id = %v", e)
		}
		if e := refused(t, cs, "process_invoice", object{}, "bad_arguments"); !strings.Contains(fmt.Sprint(e["message"]), `"invoice"`) {
			t.Errorf("no invoice = %v", e)
		}
	})
}
