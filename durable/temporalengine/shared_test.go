package temporalengine_test

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/temporalengine"
	"github.com/mcpagent/mcpagent/internal/temporaltest"
)

// anyServer is the address of a server that the package's tests share: what
// each leaves there has ids and task queues of its own. It ends with this
// process.
func anyServer(t *testing.T) string {
	t.Helper()
	if a := os.Getenv("TEMPORAL_ADDRESS"); a != "" {
		return a
	}
	s, err := startShared()
	if err != nil {
		t.Fatal(err)
	}
	return s.Addr()
}

var startShared = sync.OnceValues(func() (*temporaltest.Server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute) // the first build is long
	defer cancel()
	return temporaltest.Start(ctx, nil)
})

// dial is the SDK's plain client.
func dial(t *testing.T, addr string) client.Client {
	t.Helper()
	c, err := client.DialContext(t.Context(), client.Options{HostPort: addr, Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// within is the time that something is given which must not hang.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// on is an engine of the test's own queue on the shared server.
func on(t *testing.T, o temporalengine.Options, defs ...durable.Definer) *durable.Engine {
	t.Helper()
	if o.HostPort == "" {
		o.HostPort = anyServer(t)
	}
	if o.TaskQueue == "" {
		o.TaskQueue = queue(t)
	}
	if o.Worker.WorkerStopTimeout == 0 {
		o.Worker.WorkerStopTimeout = time.Second
	}
	return engine(t, &o, defs...)
}

var quietLog = slog.New(slog.DiscardHandler)
