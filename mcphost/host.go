package mcphost

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/internal/toolset"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Options are the settings of a host. The zero value is fine.
type Options struct {
	// Servers are known by these names, beside those of the configuration,
	// over which they win.
	Servers map[string]Server
	// Name and Version are how the host introduces itself. Empty: mcp-agent,
	// and the module's version.
	Name, Version string
	Logger        *slog.Logger // nil: slog.Default
	// MaxMessage is the size limit of one message of a server. 0: 16 MB.
	MaxMessage int
	// ToolsOnly leaves out what a listing adds to the tools of a server: tools
	// that list and read its resources, and list and get its prompts.
	ToolsOnly bool
}

// Host holds the connections to MCP servers. It is a [durable.Definer]: an
// engine that it is given to can list and call their tools. It is safe for
// concurrent use.
type Host struct {
	opts     Options
	log      *slog.Logger
	section  section
	tag      string // of all processes
	launcher *launcher
	guard    *guard

	life   context.Context // ends with the host
	end    context.CancelFunc
	work   sync.WaitGroup // goroutines of the host
	tokens atomic.Int64   // of progress

	mu       sync.Mutex // guards what follows
	links    map[string]*link
	invalid  error // of the configuration
	settled  bool  // links are made
	parked   map[string]*call
	closed   bool
	closing  chan struct{} // closed when a Close is done
	closeErr error
}

// New makes a host. It connects to nothing until it has to.
func New(o *Options) *Host {
	if o == nil {
		o = &Options{}
	}
	h := &Host{opts: *o, log: o.Logger, tag: strings.ToLower(rand.Text()), parked: map[string]*call{}, launcher: newLauncher()}
	if h.log == nil {
		h.log = slog.Default()
	}
	h.guard = &guard{tag: h.tag}
	h.life, h.end = context.WithCancel(context.Background())
	return h
}

// Section is where the section mcp of the configuration is decoded into, before
// the host is used: a pointer for engines.LoadOptions.Sections.
func (h *Host) Section() any { return &h.section }

// Check reports what is wrong with the servers of the options.
func (h *Host) Check() error {
	_, err := h.all()
	return err
}

// Define implements [durable.Definer]. An engine takes one host.
func (h *Host) Define(d *durable.Definitions) {
	d.Add(
		toolset.List.Bind(h.listTools), toolset.Call.Bind(h.call),
		toolset.ListResources.Bind(h.listResources), toolset.ReadResource.Bind(h.readResource),
		toolset.ListPrompts.Bind(h.listPrompts), toolset.GetPrompt.Bind(h.getPrompt),
		toolset.Elicitation,
	)
}

// Servers are the names of all servers, sorted.
func (h *Host) Servers() []string {
	links, _ := h.all()
	return slices.Sorted(maps.Keys(links))
}

// all gives the servers. The first call settles which they are.
func (h *Host) all() (map[string]*link, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.settled {
		return h.links, h.invalid
	}
	h.settled, h.links = true, map[string]*link{}
	var errs []error
	add := func(name string, s Server, err error) {
		if err == nil {
			err = s.check()
		}
		var own []error
		for _, e := range unjoin(err) {
			own = append(own, fmt.Errorf("mcp.servers.%s%w", name, e))
		}
		if name == "" {
			own = append(own, errors.New("mcp.servers: a server without a name"))
		}
		errs = append(errs, own...)
		h.links[name] = newLink(h, name, &s, errors.Join(own...))
	}
	for _, name := range slices.Sorted(maps.Keys(h.section.Servers)) {
		if _, ours := h.opts.Servers[name]; !ours {
			c := h.section.Servers[name]
			s, err := c.server()
			add(name, s, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(h.opts.Servers)) {
		add(name, h.opts.Servers[name], nil)
	}
	h.invalid = errors.Join(errs...)
	return h.links, h.invalid
}

// link gives a server by its name.
func (h *Host) link(name string) (*link, error) {
	links, _ := h.all()
	if l := links[name]; l != nil {
		return l, nil
	}
	known := "there are none"
	if len(links) > 0 {
		known = "there are " + strings.Join(slices.Sorted(maps.Keys(links)), ", ")
	}
	return nil, durable.Permanent(&Error{Server: name, Op: "connect", Err: kindOf(ErrUnavailable, "it is not in the configuration, mcp.servers; %s", known)})
}

func (h *Host) maxMessage() int {
	if h.opts.MaxMessage > 0 {
		return h.opts.MaxMessage
	}
	return 16 << 20
}

// implementation is how the host introduces itself.
func (h *Host) implementation() *mcp.Implementation {
	i := &mcp.Implementation{Name: h.opts.Name, Version: h.opts.Version}
	if i.Name == "" {
		i.Name = "mcp-agent"
	}
	if i.Version == "" {
		i.Version = "devel"
		if b, ok := debug.ReadBuildInfo(); ok {
			for _, m := range append(b.Deps, &b.Main) {
				if m.Path == "github.com/mcpagent/mcpagent" && m.Version != "" && m.Version != "(devel)" {
					i.Version = m.Version
				}
			}
		}
	}
	return i
}

// Close ends all calls, connections and servers, each within its
// Timeouts.Close; when ctx ends, at once. The error is what it had to kill, an
// [*Error] for each server, or what it could not. It may be called many times.
func (h *Host) Close(ctx context.Context) error {
	h.mu.Lock()
	if h.closed {
		done := h.closing
		h.mu.Unlock()
		<-done
		return h.closeErr
	}
	h.closed, h.closing = true, make(chan struct{})
	links := h.links
	for _, c := range h.parked {
		c.expiry.Stop() // its connection ends it
	}
	clear(h.parked)
	h.settled = true
	h.mu.Unlock()
	defer close(h.closing)

	names := slices.Sorted(maps.Keys(links))
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() { errs[i] = links[name].close(ctx) })
	}
	wg.Wait()
	h.end()
	h.work.Wait()
	h.guard.close()
	h.launcher.close()
	h.closeErr = errors.Join(errs...)
	return h.closeErr
}

// errClosed is why nothing works after Close.
var errClosed = errors.New("the host is closed")
