package app

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcpagent/mcpagent/durable"
)

// till is a gateway that remembers when it was asked.
type till struct {
	paid map[string]time.Duration // since the start
	from time.Time
	fail map[string]error
}

func (g *till) Pay(ctx context.Context, l Line) (string, error) {
	if err := g.fail[l.Description]; err != nil {
		return "", err
	}
	g.paid[l.Description] = time.Since(g.from)
	return "paid", nil
}

// bench runs the workflow on the engine in memory, in virtual time: days pass
// in no time.
func bench(t *testing.T, inv Invoice, fail map[string]error, act func(ctx context.Context, e *durable.Engine, r *durable.Run)) (got string, why string, g *till) {
	t.Helper()
	g = &till{paid: map[string]time.Duration{}, from: time.Now(), fail: fail}
	ctx := t.Context()
	e, err := durable.NewMemory(ctx, &durable.Options{Logger: slog.New(slog.DiscardHandler)}, process, payLine, validate.Bind(erp{}.Validate), record.Bind(erp{}.Record), pay.Bind(g.Pay))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(ctx); err != nil {
			t.Error(err)
		}
	}()
	r, err := process.Start(ctx, e, inv, nil)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	act(ctx, e, r)
	got, err = process.Result(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	if published, _, err := status.Of(ctx, r); err != nil || published != got {
		t.Errorf("the status is %q, %v, the result %q", published, err, got)
	}
	why, _, err = reason.Of(ctx, r)
	if err != nil {
		t.Error(err)
	}
	return got, why, g
}

func answer(t *testing.T, ctx context.Context, e *durable.Engine, d Decision) {
	t.Helper()
	asked, err := e.Questions(ctx, nil)
	if err != nil || len(asked) != 1 {
		t.Fatalf("open questions: %v, %v, want one", asked, err)
	}
	if err := decide.Answer(ctx, e, asked[0].ID, d, nil); err != nil {
		t.Fatal(err)
	}
}

func invoice(days ...int) Invoice {
	inv := Invoice{ID: "V-1", Customer: "ACME"}
	for _, n := range days {
		due := time.Now().Add(time.Duration(n) * 24 * time.Hour)
		inv.Lines = append(inv.Lines, Line{Description: due.UTC().Format(time.DateOnly), Amount: json.Number("1.50"), DueDate: DueDate(due.Format(time.RFC3339))})
	}
	return inv
}

func TestEachLineIsPaidWhenDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inv := invoice(90, -1, 2)
		got, _, g := bench(t, inv, nil, func(ctx context.Context, e *durable.Engine, _ *durable.Run) {
			time.Sleep(24 * time.Hour) // virtual
			answer(t, ctx, e, Decision{Approved: true})
		})
		if got != "PAID" {
			t.Errorf("got %s, want PAID", got)
		}
		day := 24 * time.Hour
		want := map[string]time.Duration{inv.Lines[0].Description: 90 * day, inv.Lines[1].Description: day, inv.Lines[2].Description: 2 * day}
		if diff := cmp.Diff(want, g.paid); diff != "" {
			t.Errorf("when the lines were paid (-want +got):\n%s", diff)
		}
	})
}

func TestNobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := time.Now()
		got, why, g := bench(t, invoice(0), nil, func(context.Context, *durable.Engine, *durable.Run) {})
		if took := time.Since(from); got != "REJECTED" || took != 5*24*time.Hour {
			t.Errorf("got %s after %v, want REJECTED after five days", got, took)
		}
		if !strings.Contains(why, durable.ErrExpired.Error()) || len(g.paid) > 0 {
			t.Errorf("got the reason %q and the payments %v", why, g.paid)
		}
	})
}

// TestOneLineFails has the other lines paid all the same.
func TestOneLineFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inv := invoice(0, 1)
		inv.Lines[0].Description = "too much"
		fail := map[string]error{"too much": errInsufficientFunds.New("no money")}
		got, why, g := bench(t, inv, fail, func(ctx context.Context, e *durable.Engine, _ *durable.Run) {
			answer(t, ctx, e, Decision{Approved: true})
		})
		if got != "FAILED" || !strings.Contains(why, "item 0") || !strings.Contains(why, "INSUFFICIENT_FUNDS") {
			t.Errorf("got %s because of %q, want FAILED because of item 0 and INSUFFICIENT_FUNDS", got, why)
		}
		if len(g.paid) != 1 {
			t.Errorf("paid: %v, want the other line", g.paid)
		}
	})
}

// TestPlain calls the workflow without an engine: nobody can be asked there.
func TestPlain(t *testing.T) {
	t.Parallel()
	if _, err := payLineItem(t.Context(), Line{DueDate: "soon"}); !errors.Is(err, errInvalid) {
		t.Errorf("a line without a due date: %v, want %v", err, errInvalid)
	}
	if _, err := decide.Ask(t.Context(), "?", nil); !errors.Is(err, durable.ErrNoEngine) {
		t.Errorf("a question without an engine: %v, want %v", err, durable.ErrNoEngine)
	}
}
