// Package engines opens the engine that a configuration names, so that a
// program goes from memory to a file to a Temporal cluster by one line:
//
//	cfg, err := engines.Load("", nil) // mcp_agent.config.yaml, found as usual
//	eng, err := engines.Open(ctx, cfg, nil, process, payLine, validate, pay)
//	defer eng.Close(context.Background())
//
// Everything can be said in Go as well, without a file:
//
//	cfg := &engines.Config{Engine: "local", Local: engines.Local{Path: "invoice.db"}}
//
// What the program sets wins over the environment, and that over the file.
//
// # Files
//
// The files are those of the Python project: their keys are known, and those
// that this program has no part for, or that mean nothing here, are warnings.
// A key that nobody knows is an error with its line and the nearest key.
// docs/configuration.md has all keys, docs/mcp-agent.schema.json is for
// editors. A package with a section of its own has it decoded by
// [LoadOptions.Sections].
//
// # Errors
//
//	the file, or what was set in Go, is wrong    [Problems], all of them
//	a file can't be read                         an error with [fs.ErrNotExist] and its like
//	the engine can't be opened                   the error of its package
package engines

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/localengine"
)

// Options are what a program says in Go about its engine. What is set wins
// over the configuration. The zero value is fine.
type Options struct {
	// Engine are the settings that all engines share. Its policies are laid
	// over those of the configuration, pattern by pattern.
	Engine durable.Options
	// Modules are sets of definitions that the configuration can name, with
	// workflow_task_modules.
	Modules map[string]durable.Set
	// Client makes this process execute nothing: it starts runs and talks to
	// them. The engine in memory has no other process, and refuses.
	Client bool
}

// Open opens the engine of a configuration; nil is one in memory. The
// warnings of the configuration are logged. The caller closes the engine.
func Open(ctx context.Context, c *Config, o *Options, defs ...durable.Definer) (*durable.Engine, error) {
	if c == nil {
		c = &Config{}
	}
	if o == nil {
		o = &Options{}
	}
	p := slices.Concat(c.check(), c.pending[c.section()])
	defs = append(slices.Clone(defs), c.modules(o, &p)...)
	if o.Client && c.engine() == "memory" {
		p.add(c.pos("execution_engine"), "execution_engine", "the engine in memory has no other process, so this one can't be its client: choose local or temporal")
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	d, err := durable.NewDefinitions(defs...)
	if err != nil {
		return nil, err
	}
	engine, unmatched, err := c.options(o, d)
	if err != nil {
		return nil, err
	}
	warnings := slices.Clone(c.Warnings)
	for _, pattern := range unmatched {
		if !o.Client {
			warnings.add(c.at[policiesKey+"."+pattern], policiesKey+"."+pattern, "it matches no step of this program")
		}
	}
	log := cmp.Or(engine.Logger, slog.Default())
	for _, w := range warnings.sorted() {
		log.Warn("configuration: "+w.Text, "key", w.Key, "at", w.Pos.String())
	}
	switch c.engine() {
	case "local":
		path := cmp.Or(c.Local.Path, filepath.Join(c.dir, "mcp-agent.db"))
		return localengine.Open(ctx, path, &localengine.Options{Engine: *engine, Client: o.Client}, defs...)
	case "temporal":
		return openTemporal(ctx, c, o, engine, defs)
	}
	return durable.NewMemory(ctx, engine, defs...)
}

// modules are the sets that the configuration names.
func (c *Config) modules(o *Options, p *Problems) []durable.Definer {
	var out []durable.Definer
	take := func(key string, names []string) {
		for i, name := range names {
			set, ok := o.Modules[name]
			if !ok {
				key := fmt.Sprintf("%s[%d]", key, i)
				p.add(c.pos(key), key, "the module %s is not compiled into this program; it has %s (Options.Modules)", name, listOf(slices.Collect(maps.Keys(o.Modules))))
				continue
			}
			out = append(out, set)
		}
	}
	take("workflow_task_modules", c.Modules)
	if c.engine() == "temporal" {
		take("temporal.workflow_task_modules", c.Temporal.Modules)
	}
	return out
}

// shared are the settings of the engine's section that all have.
func (c *Config) shared() *Shared {
	if c.engine() == "temporal" {
		return &c.Temporal.Shared
	}
	return &c.Local.Shared
}

func (c *Config) stepTimeout(o *Options) time.Duration {
	return cmp.Or(o.Engine.StepTimeout, c.shared().Timeout)
}

// options are the engine's: those of the program, and for what it does not
// say, those of the configuration.
func (c *Config) options(o *Options, d *durable.Definitions) (*durable.Options, []string, error) {
	e, s := o.Engine, c.shared()
	reuse, err := s.reuse()
	if err != nil {
		return nil, nil, err
	}
	e.StepTimeout = c.stepTimeout(o)
	e.Reuse = cmp.Or(e.Reuse, reuse)
	e.MaxPayload = cmp.Or(e.MaxPayload, s.MaxPayload)
	e.WarnPayload = cmp.Or(e.WarnPayload, s.WarnPayload)
	if e.Codec == nil {
		if e.Codec, err = s.codec(); err != nil {
			return nil, nil, err
		}
	}
	if c.engine() != "temporal" {
		l := &c.Local
		e.Retention = cmp.Or(e.Retention, l.Retention)
		e.MaxEnded = cmp.Or(e.MaxEnded, l.MaxEnded)
		e.MaxSteps = cmp.Or(e.MaxSteps, l.MaxSteps)
		e.MaxAwake = cmp.Or(e.MaxAwake, l.MaxAwake)
		e.MaxDeaths = cmp.Or(e.MaxDeaths, l.MaxDeaths)
		e.Watchdog = cmp.Or(e.Watchdog, l.Watchdog)
		e.Portable = e.Portable || l.Portable
	}
	var unmatched []string
	e.Policies, unmatched = c.effective(o, d)
	return &e, unmatched, nil
}
