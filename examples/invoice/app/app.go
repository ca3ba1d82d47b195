// Package app is the invoice example, all but the engine that executes it:
// the workflow and its steps (invoice.go), a payment gateway (gateway.go), the
// tools of an MCP server, and the flags. A command gives it the engine.
package app

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
	"github.com/mcpagent/mcpagent/mcpserve"
)

//go:embed schema.json
var invoiceSchema []byte

// Flags are what the command line says. Those that choose the engine are for
// the command.
type Flags struct {
	Config string // the file that names the engine; empty: none
	DB     string // the file of the engine local, or :memory:; empty: it is for Config to say

	stdio, demo  bool
	addr         string
	gateway      *gateway
	failValidate int
}

// Engine is what a command executes the example with.
type Engine struct {
	Runs string // where the runs are, for people; empty: nowhere, they end with the process
	Open func(ctx context.Context, log *slog.Logger, defs ...durable.Definer) (*durable.Engine, error)
}

// Choose finds the engine that the flags ask for, and doesn't open it yet.
type Choose func(f *Flags) (*Engine, error)

// Main is a command.
func Main(choose Choose) {
	f := &Flags{gateway: new(gateway)}
	flag.BoolVar(&f.stdio, "stdio", false, "serve MCP over standard input and output")
	flag.StringVar(&f.addr, "http", "127.0.0.1:8000", "serve MCP over HTTP at `ADDR`, endpoint "+mcpserve.Endpoint)
	flag.StringVar(&f.Config, "config", "", "execute on the engine that `FILE` names, mcp_agent.config.yaml say")
	flag.StringVar(&f.DB, "db", "", "keep the runs in `FILE`; :memory: keeps none (default invoice.db, or what -config says)")
	flag.StringVar(&f.gateway.book, "payments", "payments.jsonl", "the payment gateway's own book: `FILE` with a JSON line for each payment made")
	flag.DurationVar(&f.gateway.delay, "pay-delay", 0, "time that a payment takes: half before it is booked, half before it is reported")
	flag.StringVar(&f.gateway.fail, "fail-payment", "", "make all payments fail with `CODE`; INSUFFICIENT_FUNDS is not tried again")
	flag.IntVar(&f.failValidate, "fail-validate", 0, "make the first `N` attempts to validate an invoice fail")
	flag.BoolVar(&f.demo, "demo", false, "start, kill, start again, approve, kill, start again; then show what was paid")
	flag.Parse()
	if f.Config == "" && f.DB == "" {
		f.DB = "invoice.db"
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := errors.New("there are no arguments beside flags; see -help")
	switch {
	case flag.NArg() > 0:
	case f.demo:
		err = demo(ctx, os.Stdout, f, choose)
	default:
		err = serve(ctx, f, choose)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "invoice:", err)
		os.Exit(1)
	}
}

// serve opens the engine and serves its workflows until ctx ends.
func serve(ctx context.Context, f *Flags, choose Choose) (err error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := f.gateway.check(); err != nil {
		return err
	}
	engine, err := choose(f)
	if err != nil {
		return err
	}
	books := erp{failFirst: f.failValidate}
	eng, err := engine.Open(ctx, log, process, payLine,
		validate.Bind(books.Validate), record.Bind(books.Record), pay.Bind(f.gateway.Pay))
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

	if f.stdio {
		welcome(os.Stderr, f, engine, "")
		return srv.ServeStdio(ctx)
	}
	ln, err := net.Listen("tcp", f.addr)
	if err != nil {
		return fmt.Errorf("%w; choose another address with -http", err)
	}
	if a, ok := ln.Addr().(*net.TCPAddr); ok && a.IP.IsLoopback() { // any other address is refused
		welcome(os.Stderr, f, engine, "http://"+ln.Addr().String()+mcpserve.Endpoint)
	}
	return srv.Serve(ctx, ln)
}
