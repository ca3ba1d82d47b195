// Package temporaltest runs the Temporal server of module temporalserver in a
// process of its own, for the tests and benchmarks of this module, which can't
// import that one.
//
//	server := temporaltest.New(t, &temporaltest.Options{File: filepath.Join(t.TempDir(), "temporal.db")})
//	// … connect to server.Addr() …
//	server.Kill()    // as kill -9 does
//	server.Restart() // on the same file and port
package temporaltest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	startWithin = time.Minute
	stopWithin  = 30 * time.Second
)

// Build builds the server's command, without the race detector, and gives the
// path of the executable. Go keeps it: the first build on a machine takes
// minutes and needs the network for the modules, the next ones a second.
func Build(ctx context.Context) (string, error) {
	built.Lock()
	defer built.Unlock()
	if built.path != "" {
		return built.path, nil
	}
	dir, err := goTool(ctx, "list", "-m", "-f", "{{.Dir}}", "github.com/mcpagent/mcpagent")
	if err != nil {
		return "", fmt.Errorf("temporaltest: find the root module: %w", err)
	}
	path, err := goTool(ctx, "-C", filepath.Join(dir, "temporalserver"), "tool", "-n", "temporalserver")
	if err != nil {
		return "", fmt.Errorf("temporaltest: build temporalserver (the first time takes minutes: go -C temporalserver build ./... does it apart): %w", err)
	}
	built.path = path
	return path, nil
}

// built is what this process has built: to ask go whether anything changed
// takes a second or two, which a test that starts many servers feels.
var built struct {
	sync.Mutex
	path string
}

// goTool runs go and gives the line that it prints.
func goTool(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	// What the caller's build is made with is not for this one.
	cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false", "GOOS=", "GOARCH=", "GOWORK=off")
	stderr := &tail{}
	cmd.Stderr = stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, stderr)
	}
	return strings.TrimSpace(string(out)), nil
}

// Options of a server. The zero value is one in memory, on a free port.
type Options struct {
	// File is the database. Empty means in memory: such a server has forgotten
	// everything after a restart.
	File string
	// Args are further flags of the command, such as -namespace, -synchronous,
	// -search-attribute NAME=TYPE, -dynamic-config KEY=VALUE and -log-level.
	Args []string
}

// Server is a server in a process of its own. It ends with this process at the
// latest. Its methods may be called by many goroutines.
type Server struct {
	path string
	args []string // without -port

	mu      sync.Mutex
	ready   ready
	process *process // the latest
}

// New starts a server and stops it when the test ends. What the server said is
// logged if the test failed.
func New(tb testing.TB, options *Options) *Server {
	tb.Helper()
	s, err := Start(tb.Context(), options)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		s.Kill()
		if said := s.Stderr(); tb.Failed() && said != "" {
			tb.Logf("the Temporal server's standard error:\n%s", said)
		}
	})
	return s
}

// Start builds and starts a server, and returns when it serves. The caller
// ends it with Stop or Kill.
func Start(ctx context.Context, options *Options) (*Server, error) {
	var o Options
	if options != nil {
		o = *options
	}
	path, err := Build(ctx)
	if err != nil {
		return nil, err
	}
	s := &Server{path: path, args: []string{"-exit-with-parent"}}
	if o.File != "" {
		s.args = append(s.args, "-db", o.File)
	}
	s.args = append(s.args, o.Args...)
	if err := s.launch(ctx, "0"); err != nil {
		return nil, err
	}
	return s, nil
}

// Kill ends the server as kill -9 does, and returns when it is gone.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process.kill()
}

// Stop ends the server in good order.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.process.stop(); err != nil {
		return fmt.Errorf("temporaltest: stop the server: %w", err)
	}
	return nil
}

// Restart starts the server again after Kill or Stop, on the same file and
// port, and returns when it serves.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.process.ended:
	default:
		return errors.New("temporaltest: restart the server: it runs; Kill or Stop comes first")
	}
	_, port, err := net.SplitHostPort(s.ready.Address)
	if err != nil {
		return fmt.Errorf("temporaltest: restart the server: %w", err)
	}
	return s.launch(ctx, port)
}

// launch starts a process, on a free port for 0.
func (s *Server) launch(ctx context.Context, port string) error {
	p, r, err := launch(ctx, s.path, append(slices.Clone(s.args), "-port", port))
	if err != nil {
		return fmt.Errorf("temporaltest: start the server: %w", err)
	}
	s.process, s.ready = p, r
	return nil
}

// Addr is the address of the frontend, as host:port. It stays the same.
func (s *Server) Addr() string { return s.said().Address }

// Namespace is the namespace that exists.
func (s *Server) Namespace() string { return s.said().Namespace }

// UI is the URL of the web interface, or empty.
func (s *Server) UI() string { return s.said().UI }

// Stderr is the end of what the latest process wrote there.
func (s *Server) Stderr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process.stderr.String()
}

func (s *Server) said() ready {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready
}
