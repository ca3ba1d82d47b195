package mcphost

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/internal/toolset"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Server says how a server is reached and what may be done with it: a command
// that is started, or an address. The zero values of the other fields are
// fine.
type Server struct {
	// Description is shown to who chooses among servers.
	Description string

	// Command starts the server, which speaks on its standard input and
	// output. It is looked up in the PATH that the server gets.
	Command string
	Args    []string
	Dir     string // its working directory; empty: this program's
	// Env is added to the few variables that the server gets: HOME, PATH,
	// USER and the like.
	Env map[string]durable.Secret

	// URL is where the server listens, for streamable HTTP.
	URL     string
	SSE     bool                      // it speaks the older HTTP+SSE
	Headers map[string]durable.Secret // of each request
	APIKey  durable.Secret            // sent as a bearer token
	// KeepSession leaves a session at the server when the connection is
	// closed, instead of ending it.
	KeepSession bool

	// Dial connects to the server in another way: one in this process, say.
	// It is called for each connection.
	Dial func(ctx context.Context) (mcp.Transport, error)

	// Roots are directories that the server may ask for.
	Roots []Root
	// Allow are the tools that may be called, as the server calls them; * and
	// ? stand for parts of names. Nil: all. Empty: none.
	Allow []string
	// Deny are tools that may not be called. It wins over Allow.
	Deny []string
	// Optional lets runs go on without the server: a listing names it, and
	// leaves its tools out.
	Optional bool
	Timeouts Timeouts
	// Pin is the protocol revision to speak. Empty: the newest of both sides.
	Pin string
}

// Root is a directory that a server may see.
type Root struct {
	URI  string // file://…
	Name string // for people
	// Alias is what the server is told instead of the URI.
	Alias string
}

// Timeouts are the deadlines of a server.
type Timeouts struct {
	Connect time.Duration // to start and to introduce itself; 0: 1 minute
	Request time.Duration // a request, whatever progress it reports; 0: 10 minutes
	Idle    time.Duration // a request without a sign of progress; 0: 2 minutes
	Close   time.Duration // to end; 0: 5 seconds
	HTTP    time.Duration // to connect to an address; 0: 30 seconds
}

func (t Timeouts) filled() Timeouts {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&t.Connect, time.Minute)
	def(&t.Request, 10*time.Minute)
	def(&t.Idle, 2*time.Minute)
	def(&t.Close, 5*time.Second)
	def(&t.HTTP, 30*time.Second)
	t.Idle = min(t.Idle, t.Request)
	return t
}

// revisions are those that a server can be pinned to.
var revisions = []string{"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"}

// check reports what is wrong, each beginning with the key that it is about,
// after a dot, or with a colon.
func (s *Server) check() error {
	var all []error
	bad := func(key, format string, args ...any) {
		all = append(all, fmt.Errorf(key+": "+format, args...))
	}
	ways := 0
	for _, set := range []bool{s.Command != "", s.URL != "", s.Dial != nil} {
		if set {
			ways++
		}
	}
	switch {
	case ways == 0:
		bad("", "neither a command that starts it, nor the url of a server that listens")
	case ways > 1:
		bad(".command", "a server is started by its command or reached at its url, not both")
	}
	if s.URL != "" {
		if u, err := url.Parse(s.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			bad(".url", "%q is no address of http or https", shown(s.URL))
		}
	}
	if s.URL == "" && s.SSE {
		bad(".transport", "sse needs a url")
	}
	for name := range maps.Keys(s.Env) {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			bad(".env", "%q is no name of a variable", name)
		}
	}
	for i, r := range s.Roots {
		if !strings.HasPrefix(r.URI, "file://") {
			bad(fmt.Sprintf(".roots[%d].uri", i), "%q does not begin with file://", r.URI)
		}
		if r.Alias != "" && !strings.HasPrefix(r.Alias, "file://") {
			bad(fmt.Sprintf(".roots[%d].server_uri_alias", i), "%q does not begin with file://", r.Alias)
		}
	}
	if s.Pin != "" && !slices.Contains(revisions, s.Pin) {
		bad(".pin", "%q is no protocol revision; there are %s", s.Pin, strings.Join(revisions, ", "))
	}
	return errors.Join(all...)
}

// allowed reports whether a tool may be called.
func (s *Server) allowed(tool string) bool {
	in := func(patterns []string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool { return toolset.Glob(p, tool) })
	}
	return (s.Allow == nil || in(s.Allow)) && !in(s.Deny)
}
