package telemetry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/telemetry"
)

func Example() {
	dir, err := os.MkdirTemp("", "telemetry")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "spans.jsonl")

	ctx := context.Background()
	tel, err := telemetry.Open(ctx, &telemetry.Config{
		Enabled:   true,
		Exporters: []telemetry.Exporter{{File: &telemetry.File{Path: file}}},
	})
	if err != nil {
		log.Fatal(err)
	}
	pay := durable.NewStep("pay", func(ctx context.Context, cents int) (string, error) { return "paid", nil }, nil)
	buy := durable.NewWorkflow("buy", func(ctx context.Context, cents int) (string, error) { return pay.Do(ctx, cents) }, nil)
	eng, err := durable.NewMemory(ctx, &durable.Options{
		Observer: tel.Observer(),
		Logger:   slog.New(tel.Handler(slog.DiscardHandler)),
	}, buy, pay)
	if err != nil {
		log.Fatal(err)
	}
	tel.Watch(eng)
	run, err := buy.Start(ctx, eng, 1200, nil)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := buy.Result(ctx, run); err != nil {
		log.Fatal(err)
	}
	if err := eng.Close(ctx); err != nil {
		log.Fatal(err)
	}
	if err := tel.Close(ctx); err != nil {
		log.Fatal(err)
	}

	lines, err := os.ReadFile(file)
	if err != nil {
		log.Fatal(err)
	}
	for line := range strings.Lines(string(lines)) {
		var span struct{ Name string }
		if err := json.Unmarshal([]byte(line), &span); err != nil {
			log.Fatal(err)
		}
		fmt.Println(span.Name)
	}
	// Output:
	// started buy
	// attempt pay
	// step pay
	// run buy
}
