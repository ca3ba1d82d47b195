// Package temporalengine executes workflows on a Temporal cluster: the same
// program as on the engines of package durable and localengine, with the same
// meaning.
//
// A workflow is a workflow type of its name and a step an activity type of its
// name; their inputs and results, and signals, are plain JSON. So Temporal's
// web UI, command line and SDKs start, signal, query and update our runs, and
// ours call activities and workflows of others. What each of our rules becomes
// is in docs/temporal.md.
//
// A run is driven by the code that drives it locally, over the history that
// the cluster keeps. Results, lists and states come from the cluster; what
// only the run's code knows (what it waits for, its streams, its history) is
// asked of it, which needs a worker.
package temporalengine

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mcpagent/mcpagent/durable"
)

// Options say where the cluster is and what this program does on it. The zero
// value is a worker and client of 127.0.0.1:7233, namespace default, task
// queue "mcp-agent".
type Options struct {
	// Engine are the settings that all engines share. Retention and MaxEnded
	// are refused: the namespace has a retention. MaxDeaths has no meaning
	// here. MaxAwake is of the runs in the SDK's cache ([CacheSize]); a run
	// that nothing comes for is put away after a second, and a tenth of one
	// for each of its turns, in any case, so 0 is no limit.
	Engine durable.Options

	HostPort  string            // empty: 127.0.0.1:7233
	Namespace string            // empty: default
	TaskQueue string            // of workflows and steps; empty: mcp-agent
	Identity  string            // empty: the SDK's, process and host
	APIKey    string            // turns TLS on
	TLS       *tls.Config       // nil: none, unless there is an APIKey
	Metadata  map[string]string // gRPC metadata of every request

	// ClientOnly makes a program that executes nothing: it starts, signals and
	// reads.
	ClientOnly bool
	// Worker is tuned by what is set in it; what the engine relies on
	// (interceptors, the panic policy) is set in any case.
	Worker worker.Options
	// Client is the user's own, which stays theirs to close, and has the
	// namespace; HostPort, Identity, APIKey, TLS and Metadata are not used
	// then. Encryption is Engine.Codec's: its data converter must not encode.
	Client client.Client
	// Heartbeat is how long a worker may be silent about a step before the
	// attempt counts as lost, for another worker to make the next one. A cancel
	// reaches a step within a sixth of it, at most five seconds. 0: 30 s.
	Heartbeat time.Duration
	// DialTimeout bounds Open. 0: 10 s.
	DialTimeout time.Duration
	// Blobs keeps content beyond the runs: see [Dir]. nil: blobs that a
	// workflow puts are with its run, and steps can't put any.
	Blobs Blobs
	// Threshold sends values that have more bytes than that, in their stored
	// form, to Blobs, and a reference across. It needs Blobs. All programs
	// that work on a namespace need the same store; thresholds may differ.
	// 0: values stay in the history.
	Threshold int
}

// DefaultTaskQueue is where workers listen that are not told otherwise.
const DefaultTaskQueue = "mcp-agent"

// CacheSize sets how many runs all workers of this process keep in memory; of
// the others the history is read again when something comes for them. It
// must be called before the first Open. The SDK's own number is 10,000.
func CacheSize(n int) { worker.SetStickyWorkflowCacheSize(n) }

// shared is what the engine's parts have in common.
type shared struct {
	opts    Options
	defs    *durable.Definitions
	host    *durable.Host
	client  client.Client
	own     bool     // the client is ours to close
	lenders sync.Map // Ref → *durable.Hosted, of the runs in this process that have lent something to their steps
	queue   string
	space   string
	blobs   Blobs
	limit   int // of the cluster, for one value on the wire; 0: not known
	log     *slog.Logger
	line    line
	worker  worker.Worker
	fatal   chan error
	closed  atomic.Bool

	untold untold
	idlers idlers
	asides asides
	steps  atomic.Int64 // at work

	mu       sync.Mutex
	types    map[string]string  // of runs of no particular owner, by run id
	troubles map[string]trouble // by run id
}

// Open connects to the cluster and, unless it is told otherwise, works for it.
func Open(ctx context.Context, o *Options, defs ...durable.Definer) (*durable.Engine, error) {
	h, err := prepare(o, defs)
	if err != nil {
		return nil, err
	}
	if err := h.connect(ctx); err != nil {
		return nil, err
	}
	if !h.opts.ClientOnly {
		if err := h.work(); err != nil {
			h.close()
			return nil, err
		}
	}
	return durable.NewEngine(h, h.defs, &h.opts.Engine), nil
}

// prepare checks the options and the definitions.
func prepare(o *Options, defs []durable.Definer) (*shared, error) {
	if o == nil {
		o = &Options{}
	}
	h := &shared{opts: *o, queue: o.TaskQueue, space: o.Namespace, blobs: o.Blobs, log: o.Engine.Logger, fatal: make(chan error, 1), idlers: idlers{after: idleAfter}}
	if h.queue == "" {
		h.queue = DefaultTaskQueue
	}
	if h.space == "" {
		h.space = client.DefaultNamespace
	}
	if h.log == nil {
		h.log = slog.Default()
	}
	if o.Engine.Retention != 0 || o.Engine.MaxEnded != 0 {
		return nil, fmt.Errorf("temporal: options Retention and MaxEnded: %w: the namespace has a retention", durable.ErrUnsupported)
	}
	if o.Threshold < 0 || o.Threshold > 0 && o.Blobs == nil {
		return nil, fmt.Errorf("temporal: option Threshold is %d: it is the size above which values go to Blobs, which is needed then", o.Threshold)
	}
	var err error
	if h.defs, err = durable.NewDefinitions(defs...); err != nil {
		return nil, err
	}
	if h.host, err = durable.NewHost(h.defs, &h.opts.Engine); err != nil {
		return nil, err
	}
	return h, nil
}

func (h *shared) connect(ctx context.Context) error {
	if h.opts.Client != nil {
		h.client = h.opts.Client
		if err := h.adopt(); err != nil {
			return err
		}
		h.limits(ctx)
		return nil
	}
	o := client.Options{
		HostPort: h.opts.HostPort, Namespace: h.space, Identity: h.opts.Identity,
		Logger: sdkLogger(h.log),
	}
	if o.HostPort == "" {
		o.HostPort = client.DefaultHostPort
	}
	o.ConnectionOptions.TLS = h.opts.TLS
	o.ConnectionOptions.DialOptions = []grpc.DialOption{grpc.WithChainUnaryInterceptor(h.listen, h.line.watch)}
	if h.opts.APIKey != "" {
		o.Credentials = client.NewAPIKeyStaticCredentials(h.opts.APIKey)
	}
	if len(h.opts.Metadata) > 0 {
		o.HeadersProvider = metadata(h.opts.Metadata)
	}
	limit := h.opts.DialTimeout
	if limit <= 0 {
		limit = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c, err := client.DialContext(ctx, o)
	switch {
	case refused(err):
		return fmt.Errorf("connect to Temporal at %s: %w", o.HostPort, h.unwelcome(err))
	case err != nil && strings.Contains(err.Error(), "authentication handshake failed"):
		return fmt.Errorf("connect to Temporal at %s: %w: check the certificates, and whether the server speaks TLS (Options.TLS, temporal.tls)", o.HostPort, err)
	case err != nil:
		return fmt.Errorf("connect to Temporal at %s: %w: is it running, and is this its address? (a development server: go -C temporalserver run ./cmd/temporalserver)", o.HostPort, err)
	}
	h.client, h.own = c, true
	if err := h.checkNamespace(ctx); err != nil {
		c.Close()
		return fmt.Errorf("connect to Temporal at %s: %w", o.HostPort, err)
	}
	h.limits(ctx)
	return nil
}

// refused reports whether the cluster does not let this program in.
func refused(err error) bool {
	var denied *serviceerror.PermissionDenied
	return errors.As(err, &denied) || status.Code(err) == codes.Unauthenticated
}

// unwelcome says of such an error what was refused, and what mends it.
func (h *shared) unwelcome(err error) error {
	with, mend := "without credentials", "set an API key (Options.APIKey, temporal.api_key) or a certificate (Options.TLS, temporal.tls)"
	switch {
	case h.opts.APIKey != "":
		with, mend = "with this API key", "is it a key of this cluster, still valid, and allowed on the namespace? (Options.APIKey, temporal.api_key)"
	case h.opts.TLS != nil && (len(h.opts.TLS.Certificates) > 0 || h.opts.TLS.GetClientCertificate != nil):
		with, mend = "with this certificate", "is it one that the namespace trusts? (Options.TLS, temporal.tls)"
	case h.opts.Client != nil:
		with, mend = "with the credentials of Options.Client", "make the client with others"
	}
	return fmt.Errorf("namespace %q is refused %s: %w: %s", h.space, with, err, mend)
}

type metadata map[string]string

// GetHeaders implements the SDK's HeadersProvider.
func (m metadata) GetHeaders(context.Context) (map[string]string, error) { return m, nil }

// work starts the worker.
func (h *shared) work() error {
	o := h.opts.Worker
	o.Interceptors = append([]interceptor.WorkerInterceptor{&intercept{h: h}}, o.Interceptors...)
	o.WorkflowPanicPolicy = worker.BlockWorkflow
	o.DisableRegistrationAliasing = true
	o.OnFatalError = func(err error) {
		select {
		case h.fatal <- err:
		default:
		}
		h.log.Error("the Temporal worker ended", "error", err)
	}
	if o.MaxConcurrentActivityExecutionSize == 0 {
		o.MaxConcurrentActivityExecutionSize = h.opts.Engine.MaxSteps // 0: the SDK's 1,000
	}
	if o.DeadlockDetectionTimeout == 0 {
		o.DeadlockDetectionTimeout = h.opts.Engine.Watchdog // 0: one second
	}
	if o.WorkerStopTimeout == 0 {
		o.WorkerStopTimeout = 10 * time.Second
	}
	if o.Identity == "" {
		o.Identity = h.opts.Identity
	}
	if o.MaxHeartbeatThrottleInterval == 0 {
		// A step learns of a cancel by a heartbeat.
		o.MaxHeartbeatThrottleInterval = h.beat()
	}
	h.worker = worker.New(h.client, h.queue, o)
	h.register(h.worker)
	h.worker.RegisterDynamicActivity(h.lacks, activity.DynamicRegisterOptions{}) // on a worker of the user's own, that is theirs
	if err := h.worker.Start(); err != nil {
		return fmt.Errorf("start the Temporal worker of task queue %q: %w", h.queue, err)
	}
	return nil
}

// silence is how long a worker may be silent about a step.
func (h *shared) silence() time.Duration {
	if h.opts.Heartbeat > 0 {
		return h.opts.Heartbeat
	}
	return 30 * time.Second
}

// watchdog is how long code may run without blocking in durable.
func (h *shared) watchdog() time.Duration {
	if h.opts.Engine.Watchdog > 0 {
		return h.opts.Engine.Watchdog
	}
	return time.Second
}

// beat is how often it says something.
func (h *shared) beat() time.Duration { return min(h.silence()/6, 5*time.Second) }

// register tells a worker what this program defines.
func (h *shared) register(r registry) {
	for _, i := range h.defs.Infos() {
		switch {
		case !h.host.Defines(i.Kind, i.Name):
		case i.Kind == durable.KindWorkflow:
			r.RegisterWorkflowWithOptions(h.execute, workflow.RegisterOptions{Name: i.Name})
		case i.Kind == durable.KindStep:
			r.RegisterActivityWithOptions(h.perform, activity.RegisterOptions{Name: i.Name})
		}
	}
	r.RegisterActivityWithOptions(h.lookup, activity.RegisterOptions{Name: lookName})
}

// intercept sets our inbound before each of our workflows.
type intercept struct {
	interceptor.WorkerInterceptorBase
	h *shared
}

func (i *intercept) InterceptWorkflow(ctx workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	if !i.h.host.Defines(durable.KindWorkflow, workflow.GetInfo(ctx).WorkflowType.Name) {
		return next
	}
	in := &inbound{h: i.h}
	in.Next = next
	return in
}

// Close implements [durable.Backend].
func (h *shared) Close(ctx context.Context) error {
	done := make(chan struct{})
	go func() { // bounded by the worker's stop timeout
		defer close(done)
		h.close()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.New("close: the Temporal worker did not stop in time; its steps are lost, and sent again by the cluster")
	}
}

func (h *shared) close() {
	if h.worker != nil {
		h.closed.Store(true)
		h.worker.Stop()
	}
	h.asides.close()
	if h.own {
		h.client.Close()
	}
}

func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "\\'") + "'" }
