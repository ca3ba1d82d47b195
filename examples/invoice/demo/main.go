// Command demo is the invoice example with the engine that needs nothing but a
// file. It has everything that the example has but -config, and compiles in
// half the time, since neither Temporal's SDK nor gRPC is in it. Without flags
// it shows what the example is about:
//
//	go run ./examples/invoice/demo    # a workflow is killed twice, and pays everything once
package main

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/localengine"
	"github.com/mcpagent/mcpagent/examples/invoice/app"
)

func main() {
	if len(os.Args) == 1 {
		os.Args = append(os.Args, "-demo")
	}
	app.Main(choose)
}

func choose(f *app.Flags) (*app.Engine, error) {
	if f.Config != "" {
		return nil, errors.New("this command has one engine; go run ./examples/invoice takes -config, also with -demo")
	}
	e := &app.Engine{Open: func(ctx context.Context, log *slog.Logger, defs ...durable.Definer) (*durable.Engine, error) {
		return localengine.Open(ctx, f.DB, &localengine.Options{Engine: durable.Options{Logger: log, MaxDeaths: -1}}, defs...)
	}}
	if f.DB != ":memory:" {
		e.Runs = app.Absolute(f.DB)
	}
	return e, nil
}
