// Command invoice is a long-running tool with a person in it, served over MCP:
// it validates an invoice, waits for days until somebody approves it, and pays
// each line when it is due. Kill it at any moment and start it again: it goes
// on, and every payment is made once.
//
//	go run ./examples/invoice                 # serve http://127.0.0.1:8000/mcp
//	go run ./examples/invoice -stdio          # for an MCP host that starts it
//	go run ./examples/invoice -config FILE    # on the engine that a file names: a Temporal cluster, say
//	go run ./examples/invoice -demo           # watch it being killed
package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/engines"
	"github.com/mcpagent/mcpagent/examples/invoice/app"
)

func main() { app.Main(choose) }

// choose makes the engine that the flags name.
func choose(f *app.Flags) (*app.Engine, error) {
	cfg, err := configuration(f)
	if err != nil {
		return nil, err
	}
	e := &app.Engine{Open: func(ctx context.Context, log *slog.Logger, defs ...durable.Definer) (*durable.Engine, error) {
		return engines.Open(ctx, cfg, &engines.Options{Engine: durable.Options{Logger: log}}, defs...)
	}}
	switch t := &cfg.Temporal; {
	case cfg.Engine == "temporal":
		e.Runs = fmt.Sprintf("Temporal at %s, namespace %s, task queue %s", t.HostPort(), cmp.Or(t.Namespace, "default"), cmp.Or(t.TaskQueue, "mcp-agent"))
	case cfg.Engine == "local" && cfg.Local.Path == "":
		e.Runs = "mcp-agent.db, beside " + app.Absolute(f.Config)
	case cfg.Engine == "local" && cfg.Local.Path != ":memory:":
		e.Runs = app.Absolute(cfg.Local.Path)
	}
	return e, nil
}

// configuration is the file's; without one, the runs are in a file of their
// own.
func configuration(f *app.Flags) (*engines.Config, error) {
	if f.Config == "" {
		// Here it is you who kills the process, not a poisonous step.
		return &engines.Config{Engine: "local", Local: engines.Local{Path: f.DB, MaxDeaths: -1}}, nil
	}
	cfg, err := engines.Load(f.Config, nil)
	if err != nil || f.DB == "" {
		return cfg, err
	}
	switch path := cfg.Local.Path; {
	case cfg.Engine != "local":
		return nil, fmt.Errorf("-db %s is for the engine local, and %s says execution_engine: %s; leave one of the two out", f.DB, f.Config, cmp.Or(cfg.Engine, "memory"))
	case path != "" && app.Absolute(path) != app.Absolute(f.DB):
		return nil, fmt.Errorf("-db says %s, and %s says local.path: %s; leave one of the two out", f.DB, f.Config, path)
	}
	cfg.Local.Path = f.DB
	return cfg, nil
}
