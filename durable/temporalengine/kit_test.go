package temporalengine_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/durabletest"
	"github.com/mcpagent/mcpagent/durable/temporalengine"
	"github.com/mcpagent/mcpagent/internal/temporaltest"
)

// lacks is what an engine on Temporal cannot do, and why.
var lacks = map[durabletest.Ability]string{
	durabletest.Newest:    "Temporal lists unfinished runs before those that have ended",
	durabletest.AnyID:     "Temporal's clients send the id in a header, which is ASCII",
	durabletest.Notes:     "Temporal's history has one event for all attempts of an activity",
	durabletest.Stacks:    "Temporal's failure has the stack of the SDK's goroutine; the worker logs that of the code",
	durabletest.BothSides: "Temporal's check knows the recorded event only",
	durabletest.Poison:    "Temporal sends an attempt as often as its policy says, whatever it does to its workers",
	durabletest.LastError: "Temporal's history does not have the failure of an attempt after which the activity was cancelled",
}

// hour is long enough for what does not wait, on a server that takes tens of
// milliseconds for each turn.
const hour = time.Second

// kitOptions are those of a worker or client in the kit. A place is a
// namespace, for workflow ids are the kit's.
func kitOptions(ctx context.Context, addr, place string, o *durable.Options) (*temporalengine.Options, error) {
	space, err := namespaceOf(ctx, addr, place)
	if err != nil {
		return nil, err
	}
	return &temporalengine.Options{
		Engine: *o, HostPort: addr, Namespace: space, Blobs: temporalengine.Dir(filepath.Join(place, "blobs")), Heartbeat: 12 * time.Second, // longer than a workflow task whose worker was killed
		Worker: worker.Options{
			MaxConcurrentWorkflowTaskPollers: 2, MaxConcurrentActivityTaskPollers: 2,
			WorkerStopTimeout: time.Second, StickyScheduleToStartTimeout: time.Second,
		},
	}, nil
}

// kitEngine is a worker and client in this process. Its wire to the server is
// cut to make it die.
func kitEngine(t *testing.T, addr string) durabletest.Engine {
	wires := &wires{at: map[string]*proxy{}}
	return durabletest.Engine{
		Name: "temporal", Hour: hour, AtOnce: 12, Modes: []string{"awake", "paranoid"}, Kill: wires.cut, Lacks: lacks,
		Open: func(ctx context.Context, place string, o *durable.Options, defs ...durable.Definer) (*durable.Engine, error) {
			opts, err := kitOptions(ctx, addr, place, o)
			if err != nil {
				return nil, err
			}
			wire, err := wires.open(t, place, addr)
			if err != nil {
				return nil, err
			}
			opts.HostPort = wire.addr()
			return temporalengine.Open(ctx, opts, defs...)
		},
	}
}

// addressEnv tells the workers' process where the server is.
const addressEnv = "TEMPORALENGINE_TEST_ADDRESS"

// apartEngine is two workers in another process, which keep no run in memory
// and so take turns in replaying each task, and clients in this one.
func apartEngine(addr string) durabletest.Engine {
	apart := maps.Clone(lacks)
	apart[durabletest.OnePlace] = "each of two workers has places of its own"
	return durabletest.Engine{
		Name: "temporal-2-uncached", Env: []string{addressEnv + "=" + addr}, Hour: hour, AtOnce: 12, Modes: []string{"awake"}, Lacks: apart,
		Open: func(ctx context.Context, place string, o *durable.Options, defs ...durable.Definer) (*durable.Engine, error) {
			opts, err := kitOptions(ctx, addr, place, o)
			if err != nil {
				return nil, err
			}
			first, err := temporalengine.Open(ctx, opts, defs...)
			if err != nil {
				return nil, err
			}
			second, err := temporalengine.Open(ctx, opts, defs...)
			if err != nil {
				return nil, errors.Join(err, first.Close(ctx))
			}
			return durable.NewEngine(&pair{first.Backend(), second.Backend()}, first.Definitions(), o), nil
		},
		Client: func(ctx context.Context, place string, o *durable.Options, defs ...durable.Definer) (*durable.Engine, error) {
			opts, err := kitOptions(ctx, addr, place, o)
			if err != nil {
				return nil, err
			}
			opts.ClientOnly = true
			return temporalengine.Open(ctx, opts, defs...)
		},
	}
}

// pair is two workers of one engine.
type pair struct {
	durable.Backend
	second durable.Backend
}

// Close implements [durable.Backend].
func (p *pair) Close(ctx context.Context) error {
	return errors.Join(p.Backend.Close(ctx), p.second.Close(ctx))
}

func TestMain(m *testing.M) {
	addr := os.Getenv(addressEnv)
	if addr != "" {
		temporalengine.CacheSize(0) // of the workers' process
	}
	durabletest.Serve(apartEngine(addr))
	os.Exit(m.Run())
}

// spaces makes sure that a namespace is made once.
var spaces sync.Map // server and place → *sync.Once

// namespaceOf gives the namespace of a place.
func namespaceOf(ctx context.Context, addr, place string) (string, error) {
	sum := sha256.Sum256([]byte(place))
	name := "kit-" + hex.EncodeToString(sum[:8])
	made := &space{name: name}
	if had, ok := spaces.LoadOrStore(addr+name, made); ok {
		made = had.(*space)
	}
	return name, made.make(ctx, addr)
}

type space struct {
	name string
	mu   sync.Mutex
	done bool
}

func (s *space) make(ctx context.Context, addr string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return nil
	}
	c, err := client.NewNamespaceClient(client.Options{HostPort: addr})
	if err != nil {
		return err
	}
	defer c.Close()
	err = c.Register(ctx, &workflowservice.RegisterNamespaceRequest{Namespace: s.name, WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour)})
	var there *serviceerror.NamespaceAlreadyExists
	if err != nil && !errors.As(err, &there) {
		return err
	}
	// The server's parts learn of it one after the other.
	for {
		cl, err := client.DialContext(ctx, client.Options{HostPort: addr, Namespace: s.name, Logger: quiet})
		if err != nil {
			return err
		}
		_, err = cl.WorkflowService().ListWorkflowExecutions(ctx, &workflowservice.ListWorkflowExecutionsRequest{Namespace: s.name})
		cl.Close()
		if err == nil {
			s.done = true
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

var quiet = log.NewStructuredLogger(slog.New(slog.DiscardHandler))

// kitServer are the settings of a server that many namespaces are made on.
var kitServer = []string{
	"-dynamic-config", `system.namespaceCacheRefreshInterval="200ms"`,
	"-dynamic-config", "frontend.namespaceRPS=100000",
	"-dynamic-config", "frontend.namespaceRPS.visibility=100000",
	"-dynamic-config", "frontend.rps=100000",
	"-dynamic-config", "frontend.globalNamespaceRPS=0",
}

// server is the address of a server: the one that the environment names, or
// one of the test's own.
func server(t *testing.T) string {
	if a := os.Getenv("TEMPORAL_ADDRESS"); a != "" {
		return a
	}
	return temporaltest.New(t, &temporaltest.Options{Args: kitServer}).Addr()
}

// complete is set by the build tag contract, which go run ./internal/contract
// -temporal gives: a server and its waits take minutes for all scenarios. A
// plain go test plays the first one of each area.
var complete bool

// sample chooses the scenarios.
func sample() func(durabletest.Scenario) bool {
	if complete {
		return nil
	}
	first := map[string]string{}
	for _, s := range durabletest.Scenarios() {
		area, _, _ := strings.Cut(s.Name, "/")
		if first[area] == "" {
			first[area] = s.Name
		}
	}
	return func(s durabletest.Scenario) bool {
		area, _, _ := strings.Cut(s.Name, "/")
		return first[area] == s.Name
	}
}

func TestContract(t *testing.T) {
	t.Parallel()
	e := kitEngine(t, server(t))
	e.Only = sample()
	durabletest.TestEngine(t, e)
}

// TestContractApart plays the contract with clients apart from the workers.
func TestContractApart(t *testing.T) {
	t.Parallel()
	e := apartEngine(server(t))
	e.Only = sample()
	durabletest.TestEngine(t, e)
}
