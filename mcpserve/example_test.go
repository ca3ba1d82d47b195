package mcpserve_test

import (
	"context"
	"fmt"
	"log"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/mcpserve"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// A workflow with a person in it, as tools: one starts it, two decide, one
// tells how it is.
func Example() {
	type invoice struct {
		ID string `json:"invoice_id"`
	}
	type decision struct {
		Approved bool `json:"approved"`
	}
	status := durable.NewStatus[string]("status")
	decide := durable.NewQuestion[decision]("approve")
	process := durable.NewWorkflow("process_invoice", func(ctx context.Context, inv invoice) (string, error) {
		status.Set(ctx, "PENDING-APPROVAL")
		a, err := decide.Ask(ctx, "Pay invoice "+inv.ID+"?", nil)
		if err != nil {
			return "", err
		}
		if !a.Value.Approved {
			return "REJECTED", nil
		}
		return "PAID", nil
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{status, decide}})

	ctx := context.Background()
	eng, err := durable.NewMemory(ctx, nil, process)
	if err != nil {
		log.Fatal(err)
	}
	defer eng.Close(ctx)

	srv := mcpserve.New("invoices", eng, nil)
	srv.Add(process, &mcpserve.Tool{Arg: "invoice", ID: "invoice-{invoice_id}"})
	srv.Add(decide, &mcpserve.Tool{Name: "approve_invoice", Const: decision{Approved: true}})
	srv.Add(decide, &mcpserve.Tool{Name: "reject_invoice", Const: decision{}})
	srv.Add(status, &mcpserve.Tool{Name: "invoice_status"})
	// A program ends with srv.ListenAndServe(ctx, "127.0.0.1:8000"), or with
	// srv.ServeStdio(ctx). Here the client is in the same process.
	cs, done := client(ctx, srv)
	defer done()

	call := func(tool string, args map[string]any) *mcp.CallToolResult {
		res, err := cs.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: args})
		if err != nil {
			log.Fatal(err)
		}
		return res
	}
	// This client shows no forms, so the call hands the run over.
	res := call("process_invoice", map[string]any{"invoice": map[string]any{"invoice_id": "INV-7"}})
	run := res.StructuredContent.(map[string]any)
	fmt.Println(run["workflow_id"], run["status"], run["reason"])

	res = call("invoice_status", map[string]any{"workflow_id": "invoice-INV-7"})
	fmt.Println(res.StructuredContent.(map[string]any)["value"])

	call("approve_invoice", map[string]any{"workflow_id": "invoice-INV-7"})

	// The same call again finds the same run, and waits for its result.
	res = call("process_invoice", map[string]any{"invoice": map[string]any{"invoice_id": "INV-7"}})
	fmt.Println(res.Content[0].(*mcp.TextContent).Text)
	// Output:
	// invoice-INV-7 running question
	// PENDING-APPROVAL
	// PAID
}

// client connects a client of the MCP SDK to a server in the same process.
func client(ctx context.Context, srv *mcpserve.Server) (*mcp.ClientSession, func()) {
	host := mcp.NewServer(&mcp.Implementation{Name: "host", Version: "1"}, nil)
	if err := srv.Attach(host); err != nil {
		log.Fatal(err)
	}
	ours, theirs := mcp.NewInMemoryTransports()
	ss, err := host.Connect(ctx, ours, nil)
	if err != nil {
		log.Fatal(err)
	}
	cs, err := mcp.NewClient(&mcp.Implementation{Name: "client", Version: "1"}, nil).Connect(ctx, theirs, nil)
	if err != nil {
		log.Fatal(err)
	}
	return cs, func() { cs.Close(); ss.Wait() }
}
