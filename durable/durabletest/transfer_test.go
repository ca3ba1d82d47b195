package durabletest_test

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/durabletest"
)

// A bank books a transfer once for each key.
type bank struct {
	mu    sync.Mutex
	moved map[string]int
}

func (b *bank) transfer(key string, amount int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.moved[key] = amount
}

func TestTransferSurvivesCrashes(t *testing.T) {
	t.Parallel()
	rep := durabletest.Sweep(t, func() *durabletest.World {
		b := &bank{moved: map[string]int{}} // the world outside: it survives
		w := &durabletest.World{}
		transfer := durable.NewStep("transfer", func(ctx context.Context, amount int) (string, error) {
			call, _ := durable.StepInfoOf(ctx)
			w.Point("before the transfer")
			b.transfer(call.Key, amount)
			w.Point("after the transfer")
			return "moved", nil
		}, nil)
		order := durable.NewWorkflow("order", func(ctx context.Context, amount int) (string, error) {
			if err := durable.Sleep(ctx, 24*time.Hour); err != nil {
				return "", err
			}
			return transfer.Do(ctx, amount)
		}, nil)
		w.Defs = durable.Set{order, transfer}
		w.Drive = func(ctx context.Context, e *durable.Engine) (string, error) { // in each life
			r, err := order.Start(ctx, e, 100, &durable.StartOptions{ID: "order-1"})
			if err != nil {
				return "", err
			}
			return order.Result(ctx, r)
		}
		w.Check = func(t *testing.T, result string, died bool) {
			if result != "moved" || len(b.moved) != 1 {
				t.Errorf("%s: the money moved %d times", result, len(b.moved))
			}
		}
		return w
	})
	t.Logf("%d points, %d lives, %d deaths", rep.Points, rep.Lives, rep.Deaths)
}

// The code of docs/crash.md is that of the test above.
func TestDocument(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/crash.md")
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile("transfer_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "```go\n")
	shown, _, ok := strings.Cut(rest, "```\n")
	if !ok || !strings.Contains(string(code), shown) {
		t.Errorf("docs/crash.md shows other code than transfer_test.go:\n%s", shown)
	}
}
