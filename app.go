package mcpagent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"time"

	"github.com/mcpagent/mcpagent/agent"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/engines"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/mcphost"
	"github.com/mcpagent/mcpagent/mcpserve"
	"github.com/mcpagent/mcpagent/telemetry"
)

// Options are what a program says in Go. The zero value is fine; what is set
// wins over the environment, and that over the file.
type Options struct {
	// File is the configuration. Empty: mcp_agent.config.yaml, found as usual;
	// no file is fine. [os.DevNull] is none.
	File string
	// Models are the providers of language models that the program links.
	Models agent.Models
	// Servers are MCP servers beside those of the file, by name.
	Servers map[string]mcphost.Server
	// Modules are sets of definitions that the configuration can name
	// (workflow_task_modules).
	Modules map[string]durable.Set
	// Configure changes what was read, before anything is opened. Its error is
	// Open's.
	Configure func(*Config) error
	// Engine are settings that all engines share. Its Observer, where
	// telemetry is on, and its Logger are the App's.
	Engine durable.Options
	// Client makes this process execute nothing: it starts runs and talks to
	// them, and others do the work.
	Client bool
	// Logger is for everything that the App and its parts have to say. Nil:
	// slog.Default.
	Logger *slog.Logger
	// CloseWithin bounds Close. 0: 15 s.
	CloseWithin time.Duration
}

// Config is what is read from a file, and can be said in Go.
type Config struct {
	*engines.Config
	Models Models
	Otel   *telemetry.Config
}

// Models are names for models: the section models of the configuration.
type Models struct {
	// Default is the model of agents that name none: "provider:model", or one
	// of Names.
	Default string           `yaml:"default"`
	Names   map[string]Model `yaml:"names"`
}

// Model is what a name stands for.
type Model struct {
	Provider        string   `yaml:"provider"`
	Model           string   `yaml:"model"`
	Fallback        []string `yaml:"fallback"`
	MaxTokens       int      `yaml:"max_tokens"`
	Temperature     *float64 `yaml:"temperature"`
	ReasoningEffort string   `yaml:"reasoning_effort"`
}

// Check implements what [engines.LoadOptions].Sections asks for: it refuses
// what agents can't honour yet, by name.
func (m *Models) Check() error {
	var errs []error
	for name, n := range m.Names {
		if n.Provider == "" {
			errs = append(errs, fmt.Errorf("names.%s: provider is missing", name))
		}
		if len(n.Fallback) > 0 || n.MaxTokens != 0 || n.Temperature != nil || n.ReasoningEffort != "" {
			errs = append(errs, fmt.Errorf("names.%s: fallback, max_tokens, temperature and reasoning_effort have no effect yet: set them in the agent's Config", name))
		}
	}
	return errors.Join(errs...)
}

// App is an open program: an engine, and what its agents need. It is safe for
// concurrent use.
type App struct {
	name   string
	log    *slog.Logger
	eng    *durable.Engine
	host   *mcphost.Host
	tel    *telemetry.Telemetry
	watch  watchers
	within time.Duration
	client bool
}

// Open reads the configuration and opens what it names. Definitions are
// agents, patterns, workflows, steps and sets of these: all that its runs need.
// Everything that is wrong is reported at once, with file and line. The caller
// closes the App.
func Open(ctx context.Context, o *Options, defs ...durable.Definer) (_ *App, err error) {
	if o == nil {
		o = &Options{}
	}
	app := &App{log: o.Logger, within: o.CloseWithin, client: o.Client}
	if app.log == nil {
		app.log = slog.Default()
	}
	if app.within == 0 {
		app.within = 15 * time.Second
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, app.Close())
		}
	}()
	app.host = mcphost.New(&mcphost.Options{Servers: o.Servers, Logger: app.log})
	cfg, err := load(o, app.host)
	if err != nil {
		return nil, err
	}
	app.name = cfg.Name
	if app.name == "" {
		app.name = "mcp-agent"
	}
	otel := *cfg.Otel
	if otel.Logger == nil {
		otel.Logger = app.log
	}
	if app.tel, err = telemetry.Open(ctx, &otel); err != nil {
		return nil, err
	}
	app.log = slog.New(app.tel.Handler(app.log.Handler()))
	models := &agent.ModelSet{
		Providers: o.Models, Default: cfg.Models.Default, Names: map[string]string{},
		Watch: app.watch.of, AskKey: cfg.Engine == "local" || cfg.Engine == "temporal",
		Renew: (&renewal{file: o.File, sections: cfg.sections(app.host, o.Models), log: app.log, at: map[string]time.Time{}}).renew,
	}
	for name, m := range cfg.Models.Names {
		models.Names[name] = m.Provider + ":" + m.Model
	}
	shared := o.Engine
	shared.Logger = app.log
	if seen := app.tel.Observer(); seen != nil {
		shared.Observer = seen
	}
	app.eng, err = engines.Open(ctx, cfg.Config, &engines.Options{Engine: shared, Modules: o.Modules, Client: o.Client},
		append(defs, models, app.host)...)
	if err != nil {
		return nil, err
	}
	app.tel.Watch(app.eng)
	return app, nil
}

// load reads the file, and lets the program change what it says.
func load(o *Options, host *mcphost.Host) (*Config, error) {
	cfg := &Config{Otel: &telemetry.Config{}}
	var err error
	if cfg.Config, err = engines.Load(o.File, &engines.LoadOptions{Sections: cfg.sections(host, o.Models)}); err != nil {
		return nil, err
	}
	if o.Configure != nil {
		if err := o.Configure(cfg); err != nil {
			return nil, err
		}
	}
	return cfg, host.Check()
}

// sections are those of the file, and what they are read into.
func (c *Config) sections(host *mcphost.Host, models agent.Models) map[string]any {
	all := map[string]any{"mcp": host.Section(), "models": &c.Models, "otel": c.Otel}
	for _, p := range models {
		if p, ok := p.(llm.Configured); ok {
			all[p.Provider()] = p.Section()
		}
	}
	return all
}

// Engine is what the App runs on: for everything that has no short form here.
func (a *App) Engine() *durable.Engine { return a.eng }

// Host holds the connections to MCP servers.
func (a *App) Host() *mcphost.Host { return a.host }

// Run starts a run of a [agent.Runner] and waits for its result. Content is
// strings, and messages and parts of package llm. When ctx ends, the run is
// cancelled: to let it go on without waiting, use Start. While it waits for a
// person, that is logged.
func (a *App) Run(ctx context.Context, r agent.Runner, content ...any) (*agent.Result, error) {
	run, err := a.Start(ctx, r, nil, content...)
	if err != nil {
		return nil, err
	}
	return a.await(ctx, run)
}

func (a *App) await(ctx context.Context, run *durable.Run) (*agent.Result, error) {
	stop := a.remind(ctx, run)
	res, err := agent.ResultOf(ctx, run)
	stop()
	if ctx.Err() != nil {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if cerr := run.Cancel(closing, "its caller went away"); cerr != nil && !errors.Is(cerr, durable.ErrFinished) {
			err = errors.Join(err, cerr)
		}
	}
	return res, err
}

// Start starts a run and returns when that is durable. With an ID in the
// options, starting the same again is the same run, also in another process.
func (a *App) Start(ctx context.Context, r agent.Runner, o *durable.StartOptions, content ...any) (*durable.Run, error) {
	return agent.Start(ctx, a.eng, r, o, content...)
}

// Stream starts a run and gives what happens in it: milestones, and what models
// say as they say it where they are called in this process. The last event is
// of kind [agent.EventDone] and has the result. To break off cancels the run.
func (a *App) Stream(ctx context.Context, r agent.Runner, content ...any) iter.Seq2[*agent.Event, error] {
	return func(yield func(*agent.Event, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		name := r.Card().Name
		id := name + "-" + strings.ToLower(rand.Text())
		to, leave := a.watch.add(id)
		defer leave()
		run, err := a.Start(ctx, r, &durable.StartOptions{ID: id}, content...)
		if err != nil {
			yield(nil, err)
			return
		}
		for ev, err := range to.follow(ctx, run) {
			if !yield(ev, err) {
				cancel()
				_, _ = a.await(ctx, run) // cancels it
				return
			}
			if err != nil {
				return
			}
		}
		res, err := a.await(ctx, run)
		if err != nil {
			yield(nil, err)
			return
		}
		yield(&agent.Event{Kind: agent.EventDone, Agent: name, Time: time.Now(), Result: res}, nil)
	}
}

// Server makes an MCP server for the App's runs. What it offers is said with
// its Add: agents and patterns, workflows, questions, and so on.
func (a *App) Server(o *mcpserve.Options) *mcpserve.Server {
	var opts mcpserve.Options
	if o != nil {
		opts = *o
	}
	if opts.Logger == nil {
		opts.Logger = a.log
	}
	return mcpserve.New(a.name, a.eng, &opts)
}

// Worker works until ctx ends: for a program that only executes what others
// start. An App works from Open to Close anyway.
func (a *App) Worker(ctx context.Context) error {
	if a.client {
		return errors.New("mcpagent: a client executes nothing: leave Options.Client out")
	}
	a.log.Info("working; end it with Ctrl-C", "name", a.name)
	<-ctx.Done()
	return nil
}

// Close ends the App within [Options].CloseWithin: steps at work may finish for
// a part of that time, MCP servers are stopped, telemetry is sent. Runs are not
// cancelled: on a durable engine the next process goes on with them. The error
// says what had to be killed, and what was lost.
func (a *App) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), a.within)
	defer cancel()
	var errs []error
	if a.eng != nil {
		part, cancel := context.WithTimeout(ctx, a.within/2)
		errs = append(errs, a.eng.Close(part))
		cancel()
	}
	if a.host != nil {
		errs = append(errs, a.host.Close(ctx))
	}
	if a.tel != nil {
		errs = append(errs, a.tel.Close(ctx))
	}
	return errors.Join(errs...)
}
