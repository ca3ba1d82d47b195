package mcphost_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/durabletest"
	"github.com/mcpagent/mcpagent/durable/localengine"
	"github.com/mcpagent/mcpagent/durable/temporalengine"
	"github.com/mcpagent/mcpagent/internal/temporaltest"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/mcphost"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.temporal.io/sdk/worker"
	"go.uber.org/goleak"
)

// serverVar makes the test binary a server of that kind.
const serverVar = "MCPHOST_TEST_SERVER"

func TestMain(m *testing.M) {
	if kind := os.Getenv(serverVar); kind != "" {
		serve(kind)
		return
	}
	goleak.VerifyTestMain(tests{m})
}

// tests are those of the package. The server that they share ends with them.
type tests struct{ *testing.M }

func (m tests) Run() int {
	code := m.M.Run()
	if server != nil {
		server.Kill()
	}
	return code
}

// server is the Temporal server that the tests share, made when the first one
// needs it.
var (
	server      *temporaltest.Server
	startServer = sync.OnceValue(func() (err error) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute) // the first build is long
		defer cancel()
		server, err = temporaltest.Start(ctx, nil)
		return err
	})
)

// once are options of engines that make a call of a server once, on a machine
// that may be busy.
var once = durable.Options{Logger: slog.New(slog.DiscardHandler), Policies: durable.Policies{"mcp.*": {MaxAttempts: 1}}, Watchdog: patience}

func onFile(path string, client bool, defs ...durable.Definer) (*durable.Engine, error) {
	return localengine.Open(context.Background(), path, &localengine.Options{Engine: once, Client: client}, defs...)
}

func onCluster(addr, queue string, client bool, defs ...durable.Definer) (*durable.Engine, error) {
	return temporalengine.Open(context.Background(), &temporalengine.Options{Engine: once, HostPort: addr, TaskQueue: queue, ClientOnly: client,
		Heartbeat: 2 * time.Second, Worker: worker.Options{StickyScheduleToStartTimeout: time.Second, WorkerStopTimeout: time.Second}}, defs...)
}

// store is where runs are kept while engines come and go, and where: a path, an
// address and a queue.
type store struct {
	kind, path, addr, queue string
	memory                  *durabletest.Survivor
}

// open opens an engine, as a process that starts; as a client, it executes
// nothing.
func (s *store) open(t testing.TB, client bool, defs ...durable.Definer) *durable.Engine {
	t.Helper()
	var e *durable.Engine
	var err error
	switch s.kind {
	case "memory":
		e, err = s.memory.Open(context.Background(), &once, nil, defs...)
	case "local":
		e, err = onFile(s.path, client, defs...)
	default:
		e, err = onCluster(s.addr, s.queue, client, defs...)
	}
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// onStores plays a test on a store of each kind, side by side: in memory, in a
// file, and on a cluster.
func onStores(t *testing.T, test func(t *testing.T, s *store)) {
	t.Helper()
	for _, kind := range []string{"memory", "local", "temporal"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := &store{kind: kind}
			switch kind {
			case "memory":
				s.memory = durabletest.NewSurvivor()
			case "local":
				s.path = filepath.Join(t.TempDir(), "runs.db")
			case "temporal":
				if err := startServer(); err != nil {
					t.Fatal(err)
				}
				s.addr, s.queue = server.Addr(), "q-"+rand.Text()
			}
			test(t, s)
		})
	}
}

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// child is a server of a kind, as a process.
func child(kind string, env ...string) mcphost.Server {
	s := mcphost.Server{Command: os.Args[0], Env: map[string]durable.Secret{serverVar: durable.NewSecret(kind)}}
	for i := 0; i < len(env); i += 2 {
		s.Env[env[i]] = durable.NewSecret(env[i+1])
	}
	return s
}

// inside is a server in this process.
func inside(srv *mcp.Server) mcphost.Server {
	return mcphost.Server{Dial: func(ctx context.Context) (mcp.Transport, error) {
		theirs, ours := mcp.NewInMemoryTransports()
		if _, err := srv.Connect(ctx, theirs, nil); err != nil {
			return nil, err
		}
		return ours, nil
	}}
}

// open makes a host that is closed with the test, and must have nothing to
// kill.
func open(t testing.TB, servers map[string]mcphost.Server) *mcphost.Host {
	t.Helper()
	return openWith(t, &mcphost.Options{Servers: servers})
}

func openWith(t testing.TB, o *mcphost.Options) *mcphost.Host {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	h := mcphost.New(o)
	t.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			t.Errorf("close the host: %v", err)
		}
	})
	return h
}

// engine is an engine in memory.
func engine(t testing.TB, defs ...durable.Definer) *durable.Engine {
	t.Helper()
	eng, err := durable.NewMemory(context.Background(), &durable.Options{
		Logger: slog.New(slog.DiscardHandler), Policies: durable.Policies{"mcp.*": {MaxAttempts: 1}},
	}, defs...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := eng.Close(context.Background()); err != nil {
			t.Errorf("close the engine: %v", err)
		}
	})
	return eng
}

// do runs a function as a workflow with a host.
func do[T any](t testing.TB, h *mcphost.Host, fn func(ctx context.Context) (T, error)) (T, error) {
	t.Helper()
	wf := durable.NewWorkflow("test", func(ctx context.Context, _ struct{}) (T, error) { return fn(ctx) }, nil)
	eng := engine(t, h, wf)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	run, err := wf.Start(ctx, eng, struct{}{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return wf.Result(ctx, run)
}

// callTool calls a tool as a workflow does, and fails the test if the run does.
func callTool(t testing.TB, h *mcphost.Host, server, tool string, args any) *llm.ToolResult {
	t.Helper()
	res, err := do(t, h, func(ctx context.Context) (*llm.ToolResult, error) {
		return mcphost.CallTool(ctx, server, tool, args, nil)
	})
	if err != nil {
		t.Fatalf("call %s of %s: %v", tool, server, err)
	}
	return res
}

func text(s string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: s}}}
}

func raw(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

type httpRequest = http.Request

// poll waits for something that tells nobody when it happens.
func poll(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

func jsonEqual(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

func list(t *testing.T, h *mcphost.Host) (mcphost.Listing, error) {
	t.Helper()
	return do(t, h, func(ctx context.Context) (mcphost.Listing, error) { return mcphost.ListTools(ctx) })
}
