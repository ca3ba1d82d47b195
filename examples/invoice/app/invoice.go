package app

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

// Invoice is the input of the workflow.
type Invoice struct {
	ID       string `json:"invoice_id"`
	Customer string `json:"customer"`
	Lines    []Line `json:"lines"`
	Extra    extra  `json:"-"` // fields that this program does not know
}

// Line is one payment of an invoice.
type Line struct {
	Description string      `json:"description"`
	Amount      json.Number `json:"amount"` // as it was written: money is no float
	DueDate     DueDate     `json:"due_date"`
	Extra       extra       `json:"-"`
}

// DueDate is a day (2006-01-02, from midnight UTC) or a moment (RFC 3339).
type DueDate string

// Decision is a person's answer.
type Decision struct {
	Approved bool `json:"approved"`
}

// Record is what the ERP keeps about a decision.
type Record struct {
	Invoice string `json:"invoice_id"`
	By      string `json:"by"`
	Note    string `json:"note,omitempty"`
}

// The errors that the workflow tells apart.
var (
	errInvalid           = durable.NewErrorType("INVALID_INVOICE")
	errInsufficientFunds = durable.NewErrorType("INSUFFICIENT_FUNDS")
)

var (
	status = durable.NewStatus[string]("status").Describe("Invoice status",
		"One of PENDING-VALIDATION, PENDING-APPROVAL, APPROVED, PAYING, PAID, FAILED, REJECTED.")
	reason   = durable.NewStatus[string]("reason").Describe("Reason", "Why an invoice is FAILED or REJECTED.")
	decide   = durable.NewQuestion[Decision]("approve").Describe("Approve an invoice", "Whether the invoice is to be paid.")
	validate = durable.NewStep[Invoice, string]("invoice.validate", nil, &durable.StepOptions{
		Timeout: 30 * time.Second, Retry: &durable.Retry{Initial: time.Second, Max: 30 * time.Second, MaxAttempts: 5}})
	record = durable.NewStep[Record, string]("invoice.record", nil, nil)
	// A payment has no limit of attempts: one that was lost to a crash may
	// have taken effect, so it is repeated, under its key, until it is known.
	// The gateway says when to give up.
	pay = durable.NewStep[Line, string]("invoice.pay", nil, &durable.StepOptions{
		Timeout: 30 * time.Second, Retry: &durable.Retry{Max: 10 * time.Second, NonRetryable: []string{errInsufficientFunds.Error()}}})
	payLine = durable.NewWorkflow("pay_line_item", payLineItem, nil)
	process = durable.NewWorkflow("process_invoice", processInvoice, &durable.WorkflowOptions{
		Title:       "Process an invoice",
		Description: "Validates an invoice, waits up to five days for a person to approve it, and pays each line when it is due.",
		Accepts:     []durable.Accepted{status, reason, decide},
	})
)

// processInvoice waits for a person in the middle: for days, through restarts.
func processInvoice(ctx context.Context, inv Invoice) (string, error) {
	to := func(s string) (string, error) { status.Set(ctx, s); return s, nil }
	end := func(s string, err error) (string, error) {
		if ctx.Err() != nil {
			return "", ctx.Err() // cancelled: neither paid nor failed
		}
		reason.Set(ctx, err.Error())
		return to(s)
	}

	to("PENDING-VALIDATION")
	if _, err := validate.Do(ctx, inv); err != nil {
		return end("FAILED", err)
	}
	to("PENDING-APPROVAL")
	a, err := decide.Ask(ctx, inv.question(), &durable.AskOptions{Kind: "approval", Expires: 5 * 24 * time.Hour})
	switch {
	case errors.Is(err, durable.ErrExpired):
		return end("REJECTED", err)
	case err != nil:
		return "", err
	case !a.Value.Approved:
		return end("REJECTED", errors.New(cmp.Or(a.Note, "a person said no")))
	}
	to("APPROVED")
	if _, err := record.Do(ctx, Record{Invoice: inv.ID, By: a.By, Note: a.Note}); err != nil {
		return end("FAILED", err)
	}
	to("PAYING")
	if _, err := durable.Map(ctx, inv.Lines, payLine.Run, nil); err != nil {
		return end("FAILED", err)
	}
	return to("PAID")
}

// payLineItem is a run of its own for each line.
func payLineItem(ctx context.Context, l Line) (string, error) {
	due, err := l.DueDate.Time()
	if err != nil {
		return "", err
	}
	if err := durable.SleepUntil(ctx, due); err != nil {
		return "", err
	}
	return pay.Do(ctx, l)
}

// Time is when the day begins, or the moment.
func (d DueDate) Time() (time.Time, error) {
	if t, err := time.Parse(time.DateOnly, string(d)); err == nil {
		return t, nil
	}
	t, err := time.Parse(time.RFC3339, string(d))
	if err != nil {
		return t, errInvalid.New("due_date %q: write it as 2006-01-02 or as 2006-01-02T15:04:05Z", string(d))
	}
	return t, nil
}

// check finds all that is wrong with an invoice.
func (inv Invoice) check() error {
	var bad []string
	if strings.TrimSpace(inv.ID) == "" {
		bad = append(bad, "invoice_id is missing")
	}
	if len(inv.Lines) == 0 {
		bad = append(bad, "there are no lines to pay")
	}
	for i, l := range inv.Lines {
		switch amount, err := l.Amount.Float64(); {
		case err != nil || amount <= 0:
			bad = append(bad, fmt.Sprintf("line %d: amount %.40q is not above zero", i+1, l.Amount))
		case amount < 1e-6 || amount > 1e12 || len(l.Amount) > 40:
			bad = append(bad, fmt.Sprintf("line %d: amount %.40q is nothing that anybody pays", i+1, l.Amount))
		}
		if _, err := l.DueDate.Time(); err != nil {
			bad = append(bad, fmt.Sprintf("line %d: %v", i+1, err))
		}
	}
	if len(bad) > 0 {
		return errInvalid.New("%s", strings.Join(bad, "; "))
	}
	return nil
}

// question is what the person reads who decides: the sum to its last digit.
func (inv Invoice) question() string {
	sum := new(big.Rat)
	for _, l := range inv.Lines {
		if amount, ok := new(big.Rat).SetString(l.Amount.String()); ok {
			sum.Add(sum, amount)
		}
	}
	digits, _ := sum.FloatPrec()
	total := strings.TrimSuffix(sum.FloatString(max(digits, 2)), ".00")
	name := inv.ID
	if inv.Customer != "" {
		name += " of " + inv.Customer
	}
	if len(inv.Lines) == 1 {
		return fmt.Sprintf("Pay invoice %s: %s?", name, total)
	}
	return fmt.Sprintf("Pay invoice %s: %d lines, %s in all?", name, len(inv.Lines), total)
}

// erp is the company's own books: a stand-in.
type erp struct {
	failFirst int // attempts to validate that fail
}

// Validate runs on a worker, and may run twice: it changes nothing.
func (e erp) Validate(ctx context.Context, inv Invoice) (string, error) {
	if call, _ := durable.StepInfoOf(ctx); call.Attempt <= e.failFirst {
		return "", fmt.Errorf("the ERP does not answer (attempt %d)", call.Attempt)
	}
	if err := inv.check(); err != nil {
		return "", durable.Permanent(err)
	}
	return "valid", nil
}

// Record runs on a worker, and may run twice: the second time changes nothing.
func (e erp) Record(ctx context.Context, r Record) (string, error) {
	durable.Logger(ctx).InfoContext(ctx, "approved", "invoice", r.Invoice, "by", r.By)
	return "recorded", nil
}

// extra are JSON fields that a struct has no place for.
type extra map[string]json.RawMessage

// UnmarshalJSON keeps unknown fields.
func (inv *Invoice) UnmarshalJSON(b []byte) error {
	type plain Invoice
	return unmarshal(b, (*plain)(inv), &inv.Extra)
}

// MarshalJSON writes unknown fields as they came.
func (inv Invoice) MarshalJSON() ([]byte, error) {
	type plain Invoice
	return marshal(plain(inv), inv.Extra)
}

// UnmarshalJSON keeps unknown fields.
func (l *Line) UnmarshalJSON(b []byte) error {
	type plain Line
	return unmarshal(b, (*plain)(l), &l.Extra)
}

// MarshalJSON writes unknown fields as they came.
func (l Line) MarshalJSON() ([]byte, error) {
	type plain Line
	return marshal(plain(l), l.Extra)
}

// unmarshal decodes into v, and what v has no field for into rest.
func unmarshal(b []byte, v any, rest *extra) error {
	if err := json.Unmarshal(b, v); err != nil {
		return err
	}
	var all extra
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	known, err := names(v)
	if err != nil {
		return err
	}
	for name := range all {
		// Like encoding/json, which takes "Amount" for "amount".
		if slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, name) }) {
			delete(all, name)
		}
	}
	*rest = nil
	if len(all) > 0 {
		*rest = all
	}
	return nil
}

func marshal(v any, rest extra) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil || len(rest) == 0 {
		return b, err
	}
	more, err := json.Marshal(rest)
	if err != nil {
		return nil, err
	}
	return slices.Concat(bytes.TrimSuffix(b, []byte("}")), []byte(","), more[1:]), nil
}

// names lists the fields of a struct as they are written.
func names(v any) ([]string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	var out []string
	for name := range m {
		out = append(out, name)
	}
	return out, nil
}
