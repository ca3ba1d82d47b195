package temporalengine_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/engines"
	"github.com/mcpagent/mcpagent/durable/temporalengine"
)

// The code of docs/temporal.md, compiled, and where a server is enough, run.

func openFile(ctx context.Context, file string) (*durable.Engine, error) {
	cfg, err := engines.Load(file, nil) // "": found as usual
	if err != nil {
		return nil, err
	}
	return engines.Open(ctx, cfg, nil, process, pay)
}

func openInGo(ctx context.Context) (*durable.Engine, error) {
	return temporalengine.Open(ctx, &temporalengine.Options{HostPort: "127.0.0.1:7233", TaskQueue: "orders"}, process, pay)
}

func openClient(ctx context.Context) (*durable.Engine, error) {
	return temporalengine.Open(ctx, &temporalengine.Options{HostPort: "temporal.internal:7233", TaskQueue: "orders", ClientOnly: true}, process)
}

func openMTLS(ctx context.Context, cert tls.Certificate) (*durable.Engine, error) {
	return temporalengine.Open(ctx, &temporalengine.Options{
		HostPort: "orders.a1b2c.tmprl.cloud:7233", Namespace: "orders.a1b2c",
		TLS: &tls.Config{Certificates: []tls.Certificate{cert}},
	}, process, pay)
}

func openAPIKey(ctx context.Context) (*durable.Engine, error) {
	return temporalengine.Open(ctx, &temporalengine.Options{
		HostPort: "eu-west-1.aws.api.temporal.io:7233", Namespace: "orders.a1b2c", APIKey: os.Getenv("TEMPORAL_API_KEY"),
	}, process, pay)
}

type Order = order

var (
	charge2 = durable.NewStep[Order, string]("ChargeCard", nil, &durable.StepOptions{Queue: "payments"})
	refund  = durable.NewWorkflow[string, bool]("Refund", nil, &durable.WorkflowOptions{Queue: "payments"})
	process = takeOrder
	pay     = charge
)

func sendMail(context.Context, string) error { return nil }

func ownPlugin(c client.Client) (worker.Worker, error) {
	p, err := temporalengine.NewPlugin(&temporalengine.Options{Client: c}, process, pay)
	if err != nil {
		return nil, err
	}
	w := worker.New(c, "orders", worker.Options{Plugins: []worker.Plugin{p}})
	w.RegisterActivity(sendMail)
	return w, nil
}

var _ = []any{openInGo, openClient, openMTLS, openAPIKey, charge2, refund, ownPlugin}

// TestTheFileOfTheDocument opens what the YAML says, on a server.
func TestTheFileOfTheDocument(t *testing.T) {
	t.Parallel()
	addr := anyServer(t)
	blocks := docBlocks(t, "yaml")
	file := filepath.Join(t.TempDir(), "mcp_agent.config.yaml")
	text := strings.Replace(blocks[0], "host: 127.0.0.1:7233", "host: "+addr, 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := openFile(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	run, err := process.Start(t.Context(), e, Order{"tea", 5}, &durable.StartOptions{ID: id(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := approved.Send(t.Context(), run, approval{"alex"}, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := process.Result(t.Context(), run); err != nil || got.Number != "paid-tea" {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
	// The second one is the section for TLS, whose certificates are not here.
	if err := os.WriteFile(file, []byte("execution_engine: temporal\n"+blocks[1]), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = engines.Load(file, nil)
	var problems engines.Problems
	if !errors.As(err, &problems) {
		t.Fatalf("the section without its variables: %v", err)
	}
	for _, p := range problems {
		if !strings.Contains(fmt.Sprint(p), "ORDERS_") && !strings.Contains(fmt.Sprint(p), ".pem") {
			t.Errorf("the section has a problem of its own: %v", p)
		}
	}
}

// TestTheDocument: its Go code is in this file, line by line.
func TestTheDocument(t *testing.T) {
	t.Parallel()
	own, err := os.ReadFile("doc_test.go")
	if err != nil {
		t.Fatal(err)
	}
	flat := func(s string) string {
		s = strings.NewReplacer("charge2", "charge").Replace(s)
		return strings.Join(strings.Fields(s), " ")
	}
	blocks := docBlocks(t, "go")
	if len(blocks) < 6 {
		t.Fatalf("docs/temporal.md has %d blocks of Go", len(blocks))
	}
	for _, b := range blocks {
		if !strings.Contains(flat(string(own)), strings.TrimSuffix(flat(b), " )")) {
			t.Errorf("this is not compiled in doc_test.go:\n%s", b)
		}
	}
}

func docBlocks(t *testing.T, language string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "temporal.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "```"+language+"\n")[1:]
	for i, b := range blocks {
		blocks[i], _, _ = strings.Cut(b, "```")
	}
	return blocks
}
