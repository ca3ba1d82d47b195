package mcpserve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Server serves what was added to it over MCP. It keeps nothing about runs:
// any number of servers, one after another or at once, can stand before one
// engine. It is safe for concurrent use.
type Server struct {
	name string
	eng  *durable.Engine
	opts Options
	log  *slog.Logger
	web  *http.CrossOriginProtection

	mu      sync.Mutex
	flows   map[string]*flow // workflows added, by workflow name
	tools   []*registered    // in the order in which they were added
	taken   map[string]string
	asks    map[string][]*registered // tools that answer a question, by its name
	targets []*mcp.Server

	closing   chan struct{}
	closeOnce sync.Once
	closers   map[*listener]struct{}
}

// registered is a tool as the SDK takes it.
type registered struct {
	tool    *mcp.Tool
	handler mcp.ToolHandler
}

// Options are the settings of a [Server]. The zero value is fine.
type Options struct {
	Title        string // of the server, for people; empty: its name
	Version      string // of the program; empty: what the build says
	Instructions string // for the client's model; empty: how to start, watch and answer runs
	Icons        []Icon

	// Logger gets what the server has to say. Nil: text on standard error,
	// warnings and errors only. Standard output is never written to.
	Logger *slog.Logger

	// Wait is how long a call of an inline tool waits before it hands the run
	// over; [Tool.Wait] overrides it. 0: 50 s, just under the minute that most
	// clients give a call.
	Wait time.Duration
	// FormWait is how long a form stays with a person while a call waits; the
	// time does not count against Wait. 0: 5 min. The question itself stays
	// open for as long as the workflow says.
	FormWait time.Duration

	// Controls names the run-control tools to offer. Nil: all; empty: none.
	Controls []string

	// Credentials stores a token that the caller hands over for the runs of a
	// workflow; [durable.ActorOf] tells who that is. It may be called twice
	// with the same one. Nil: the tool [ControlCredentials] is not offered.
	Credentials func(ctx context.Context, workflow string, c Credential) error

	// Authenticate checks the bearer token of an HTTP request. What it gives
	// becomes the actor of everything the request does. An error is a 401. Nil:
	// no authentication, and only this machine is served, see AllowRemote.
	Authenticate func(ctx context.Context, token string) (*Identity, error)
	// AllowRemote serves other machines, and requests under other host names
	// than this machine's, even without Authenticate: for a server behind a
	// gateway that authenticates.
	AllowRemote bool
	// Origins are the web origins ("https://app.example.com") whose pages may
	// call the server from a browser. Others are refused.
	Origins []string
	// SessionTimeout is how long an idle HTTP session of a client of revision
	// 2025-11-25 or older is kept. 0: 1 h.
	SessionTimeout time.Duration
}

// Identity is who made an HTTP request.
type Identity struct {
	// Actor is recorded with what the request does. Its Owner limits what the
	// request can see and touch; the empty Owner sees everything.
	Actor durable.Actor
	// Expires is when the token ends; a token without end has none.
	Expires time.Time
}

// New makes a server for the runs of an engine. Nothing is served before
// [Server.ListenAndServe], [Server.ServeStdio], [Server.Handler] or
// [Server.Attach]. It panics on a nil engine, an empty name and options that
// don't exist.
func New(name string, eng *durable.Engine, o *Options) *Server {
	s := &Server{
		name: name, eng: eng, flows: map[string]*flow{}, taken: map[string]string{},
		asks: map[string][]*registered{}, closing: make(chan struct{}), closers: map[*listener]struct{}{},
	}
	if o != nil {
		s.opts = *o
	}
	switch {
	case name == "":
		panic("mcpserve.New: the server needs a name")
	case eng == nil:
		panic("mcpserve.New: the engine is nil; open one and look at its error first")
	}
	if s.log = s.opts.Logger; s.log == nil {
		s.log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	s.opts.Wait = or(s.opts.Wait, 50*time.Second)
	s.opts.FormWait = or(s.opts.FormWait, 5*time.Minute)
	s.opts.SessionTimeout = or(s.opts.SessionTimeout, time.Hour)
	s.web = http.NewCrossOriginProtection()
	for _, o := range s.opts.Origins {
		if err := s.web.AddTrustedOrigin(o); err != nil {
			panic(fmt.Sprintf("mcpserve.New: Options.Origins: %v", err))
		}
	}
	s.addControls()
	return s
}

func or(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// Add offers a definition as a tool: a workflow, question, signal, update,
// query or status that the engine was opened with. A workflow also becomes
// visible to the run-control tools; workflows that were not added cannot be
// started, and of their runs only those are visible that belong to a visible
// one. Nil options are fine.
//
// It panics if the definition can't be served as asked: these are mistakes in
// the program, and the text says how to mend them.
func (s *Server) Add(def durable.Definition, o *Tool) {
	var t Tool
	if o != nil {
		t = *o
	}
	if def == nil {
		panic("mcpserve: Add(nil): pass the workflow, question or other definition")
	}
	info := def.Info()
	if err := s.add(info, &t); err != nil {
		panic(fmt.Sprintf("mcpserve: add %s %q: %v", info.Kind, info.Name, err))
	}
}

func (s *Server) add(info durable.Info, t *Tool) error {
	known, ok := s.eng.Definitions().Info(info.Kind, info.Name)
	switch {
	case !ok && info.Kind == durable.KindWorkflow:
		return errors.New("the engine does not know it; give it to the engine's Open")
	case !ok:
		return errors.New("the engine does not know it; add it to the Accepts of its workflow's WorkflowOptions")
	case known.In != info.In || known.Out != info.Out:
		return fmt.Errorf("the engine knows another definition under this name, from %v to %v instead of from %v to %v; add the one that was given to Open", known.In, known.Out, info.In, info.Out)
	}
	if t.Name == "" {
		t.Name = toolName(info.Name)
	}
	if err := t.check(info.Kind); err != nil {
		return err
	}
	switch info.Kind {
	case durable.KindWorkflow:
		return s.addWorkflow(known, t)
	case durable.KindQuestion:
		return s.addQuestion(known, t)
	case durable.KindSignal, durable.KindUpdate, durable.KindQuery:
		return s.addMessage(known, t)
	case durable.KindStatus:
		return s.addStatus(known, t)
	}
	return fmt.Errorf("a %s cannot be a tool; add a workflow, question, signal, update, query or status", info.Kind)
}

// register takes a tool's name and gives the tool to every server.
func (s *Server) register(r *registered, what string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if had, ok := s.taken[r.tool.Name]; ok {
		return fmt.Errorf("the tool name %q is taken by %s; set Tool.Name to another one", r.tool.Name, had)
	}
	s.taken[r.tool.Name] = what
	s.tools = append(s.tools, r)
	for _, t := range s.targets {
		t.AddTool(r.tool, r.handler)
	}
	return nil
}

// Attach adds the tools to a server of the MCP SDK that the program has
// already, beside the ones it has; a tool of the same name is replaced. Tools
// added later are added there too. Transports, authentication and logging are
// that server's; requests that the SDK has authenticated act as their user.
func (s *Server) Attach(m *mcp.Server) error {
	if m == nil {
		return errors.New("mcpserve: attach: the server is nil")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.targets, m) {
		return nil
	}
	s.targets = append(s.targets, m)
	for _, r := range s.tools {
		m.AddTool(r.tool, r.handler)
	}
	return nil
}

// newMCP makes the SDK's server for one way of serving. The caller gives it
// back to drop.
func (s *Server) newMCP() *mcp.Server {
	impl := &mcp.Implementation{Name: s.name, Title: s.opts.Title, Version: s.opts.Version, Icons: icons(s.opts.Icons)}
	if impl.Version == "" {
		impl.Version = "unknown"
		if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" {
			impl.Version = b.Main.Version
		}
	}
	m := mcp.NewServer(impl, &mcp.ServerOptions{
		Instructions: s.instructions(),
		Logger:       slog.New(quiet{s.log.Handler()}),
		Capabilities: &mcp.ServerCapabilities{Tools: &mcp.ToolCapabilities{ListChanged: true}},
	})
	_ = s.Attach(m) // m is not nil
	return m
}

func (s *Server) drop(m *mcp.Server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.targets = slices.DeleteFunc(s.targets, func(t *mcp.Server) bool { return t == m })
}

func (s *Server) instructions() string {
	if s.opts.Instructions != "" {
		return s.opts.Instructions
	}
	var b strings.Builder
	b.WriteString("The tools of this server start and steer durable workflow runs. A run is named by workflow_id and run_id, and goes on whatever happens to the call that started it.")
	if s.offers(ControlStatus) {
		fmt.Fprintf(&b, " If a tool answers with ids instead of a result, poll %s with them.", ControlStatus)
	}
	if s.offers(ControlQuestions) {
		fmt.Fprintf(&b, " %s lists what runs ask people; never answer for a person without asking that person.", ControlQuestions)
	}
	return b.String()
}

// Close ends what the server serves: waiting calls hand their runs over,
// sessions end, listeners close. The engine and its runs are not touched.
func (s *Server) Close() error {
	s.closeOnce.Do(func() { close(s.closing) })
	s.mu.Lock()
	all := make([]*listener, 0, len(s.closers))
	for l := range s.closers {
		all = append(all, l)
	}
	s.mu.Unlock()
	for _, l := range all {
		l.close()
	}
	return nil
}

// quiet makes the SDK's account of every connection a matter for debugging.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, l slog.Level) bool {
	return q.Handler.Enabled(ctx, lower(l))
}

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	r.Level = lower(r.Level)
	return q.Handler.Handle(ctx, r)
}
func (q quiet) WithAttrs(a []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(a)} }
func (q quiet) WithGroup(name string) slog.Handler   { return quiet{q.Handler.WithGroup(name)} }

func lower(l slog.Level) slog.Level {
	if l == slog.LevelInfo {
		return slog.LevelDebug
	}
	return l
}
