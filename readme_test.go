package mcpagent_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/localengine"
	"github.com/mcpagent/mcpagent/mcpserve"
)

// The code of README.md, compiled. TestDocuments holds the two against each other.

type Invoice struct {
	ID    string `json:"invoice_id"`
	Lines []Line `json:"lines"`
}

type Line struct {
	Amount int `json:"amount"`
}

type Decision struct {
	Approved bool `json:"approved"`
}

type gateway struct{}

func (gateway) Pay(context.Context, Line) (string, error) { return "paid", nil }

func payLineItem(ctx context.Context, l Line) (string, error) { return pay.Do(ctx, l) }

var (
	status  = durable.NewStatus[string]("status")      // a value that the run publishes
	decide  = durable.NewQuestion[Decision]("approve") // a durable question to a person
	pay     = durable.NewStep[Line, string]("invoice.pay", nil, nil)
	payLine = durable.NewWorkflow("pay_line_item", payLineItem, nil)
	process = durable.NewWorkflow("process_invoice", processInvoice,
		&durable.WorkflowOptions{Accepts: []durable.Accepted{status, decide}})
)

func processInvoice(ctx context.Context, inv Invoice) (string, error) {
	to := func(s string) (string, error) { status.Set(ctx, s); return s, nil }
	to("PENDING-APPROVAL")
	a, err := decide.Ask(ctx, "Pay invoice "+inv.ID+"?", &durable.AskOptions{Expires: 5 * 24 * time.Hour})
	if errors.Is(err, durable.ErrExpired) || err == nil && !a.Value.Approved {
		return to("REJECTED")
	}
	if err != nil {
		return "", err
	}
	to("PAYING")
	if _, err := durable.Map(ctx, inv.Lines, payLine.Run, nil); err != nil {
		return to("FAILED")
	}
	return to("PAID")
}

func serve(ctx context.Context, gateway gateway) error {
	eng, err := localengine.Open(ctx, "invoice.db", nil, process, payLine, pay.Bind(gateway.Pay))
	if err != nil {
		return err
	}
	srv := mcpserve.New("invoices", eng, nil)
	srv.Add(process, &mcpserve.Tool{Async: true})
	srv.Add(decide, &mcpserve.Tool{Name: "approve_invoice", Const: Decision{Approved: true}})
	srv.Add(status, &mcpserve.Tool{Name: "invoice_status"})
	return srv.ListenAndServe(ctx, "127.0.0.1:8000")
}

var _ = serve

func Example() {
	ctx := context.Background()
	eng, err := durable.NewMemory(ctx, nil, process, payLine, pay.Bind(gateway{}.Pay))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = eng.Close(ctx) }()
	run, err := process.Start(ctx, eng, Invoice{ID: "INV-100", Lines: []Line{{100}, {200}}}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	var open []*durable.QuestionInfo
	for len(open) == 0 && err == nil {
		open, err = eng.Questions(ctx, nil)
	}
	if err == nil {
		fmt.Println(open[0].Text)
		err = decide.Answer(ctx, eng, open[0].ID, Decision{Approved: true}, nil)
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(process.Result(ctx, run))
	// Output:
	// Pay invoice INV-100?
	// PAID <nil>
}

// TestDocuments: the Go code of these documents is in files that are compiled,
// line by line.
func TestDocuments(t *testing.T) {
	t.Parallel()
	lines := func(s string) string {
		var out []string
		for l := range strings.SplitSeq(s, "\n") {
			if l = strings.Join(strings.Fields(l), " "); l != "" {
				out = append(out, l)
			}
		}
		return strings.Join(out, "\n")
	}
	read := func(file string) string {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	var code strings.Builder
	for _, file := range []string{"readme_test.go", "docs_test.go", "examples/hello/main.go", "examples/report/main.go"} {
		code.WriteString(lines(read(file)) + "\n")
	}
	for _, file := range []string{"README.md", "docs/quickstart.md", "docs/coming-from-python.md"} {
		blocks := strings.Split(read(file), "```go\n")[1:]
		if len(blocks) == 0 {
			t.Errorf("%s has no Go code", file)
		}
		for i, b := range blocks {
			b, _, _ = strings.Cut(b, "```")
			for part := range strings.SplitSeq(b, "\n\n") {
				if part = lines(part); !strings.Contains(code.String(), part) {
					t.Errorf("%s, code block %d is not compiled anywhere:\n%s", file, i+1, part)
				}
			}
		}
	}
}
