// Command invoice is a long-running tool with a person in it, served over MCP:
// it validates an invoice, waits for days until somebody approves it, and pays
// each line when it is due. Kill it at any moment and start it again: it goes
// on, and every payment is made once.
//
//	go run ./examples/invoice -demo      # watch that happen
//	go run ./examples/invoice            # serve http://127.0.0.1:8000/mcp
//	go run ./examples/invoice -stdio     # for an MCP host that starts it
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/localengine"
	"github.com/mcpagent/mcpagent/mcpserve"
)

//go:embed schema.json
var invoiceSchema []byte

// config is what the flags say.
type config struct {
	stdio, demo  bool
	addr         string
	db           string
	gateway      *gateway
	failValidate int
}

func main() {
	c := config{gateway: new(gateway)}
	flag.BoolVar(&c.stdio, "stdio", false, "serve MCP over standard input and output")
	flag.StringVar(&c.addr, "http", "127.0.0.1:8000", "serve MCP over HTTP at `ADDR`, endpoint "+mcpserve.Endpoint)
	flag.StringVar(&c.db, "db", "invoice.db", "keep the runs in `FILE`; :memory: keeps none")
	flag.StringVar(&c.gateway.book, "payments", "payments.jsonl", "the payment gateway's own book: `FILE` with a JSON line for each payment made")
	flag.DurationVar(&c.gateway.delay, "pay-delay", 0, "time that a payment takes: half before it is booked, half before it is reported")
	flag.StringVar(&c.gateway.fail, "fail-payment", "", "make all payments fail with `CODE`; INSUFFICIENT_FUNDS is not tried again")
	flag.IntVar(&c.failValidate, "fail-validate", 0, "make the first `N` attempts to validate an invoice fail")
	flag.BoolVar(&c.demo, "demo", false, "start, kill, start again, approve, kill, start again; then show what was paid")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := errors.New("there are no arguments beside flags; see -help")
	switch {
	case flag.NArg() > 0:
	case c.demo:
		err = demo(ctx, os.Stdout)
	default:
		err = serve(ctx, c)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "invoice:", err)
		os.Exit(1)
	}
}

// serve opens the engine and serves its workflows until ctx ends.
func serve(ctx context.Context, c config) (err error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := c.gateway.check(); err != nil {
		return err
	}
	books := erp{failFirst: c.failValidate}
	eng, err := localengine.Open(ctx, c.db,
		// Here it is you who kills the process, not a poisonous step.
		&localengine.Options{Engine: durable.Options{Logger: log, MaxDeaths: -1}},
		process, payLine, validate.Bind(books.Validate), record.Bind(books.Record), pay.Bind(c.gateway.Pay))
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, eng.Close(closing))
	}()

	srv := mcpserve.New("invoices", eng, &mcpserve.Options{Title: "Invoices", Logger: log})
	srv.Add(process, &mcpserve.Tool{Async: true, Arg: "invoice", InputSchema: invoiceSchema, ID: "invoice-{invoice_id}",
		Description: "Starts the processing of an invoice and returns workflow_id and run_id at once. It is validated, waits up to five days for a person's approve_invoice or reject_invoice, and each line is paid when it is due. Look at it with invoice_status."})
	srv.Add(decide, &mcpserve.Tool{Name: "approve_invoice", Title: "Approve an invoice", Const: Decision{Approved: true}})
	srv.Add(decide, &mcpserve.Tool{Name: "reject_invoice", Title: "Reject an invoice", Const: Decision{}})
	srv.Add(status, &mcpserve.Tool{Name: "invoice_status"})

	if c.stdio {
		welcome(os.Stderr, c, "")
		return srv.ServeStdio(ctx)
	}
	ln, err := net.Listen("tcp", c.addr)
	if err != nil {
		return fmt.Errorf("%w; choose another address with -http", err)
	}
	if a, ok := ln.Addr().(*net.TCPAddr); ok && a.IP.IsLoopback() { // any other address is refused
		welcome(os.Stderr, c, "http://"+ln.Addr().String()+mcpserve.Endpoint)
	}
	return srv.Serve(ctx, ln)
}
