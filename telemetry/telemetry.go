// Package telemetry exports what an engine's runs do as OpenTelemetry: spans
// of runs, steps, attempts and waits, metrics, and log lines with their span.
//
//	tel, err := telemetry.Open(ctx, &telemetry.Config{
//		Enabled:   true,
//		Exporters: []telemetry.Exporter{{OTLP: &telemetry.OTLP{Endpoint: "http://localhost:4318"}}},
//	})
//	defer tel.Close(context.Background())
//
//	eng, err := localengine.Open(ctx, "invoice.db", &localengine.Options{Engine: durable.Options{
//		Observer: tel.Observer(),
//		Logger:   slog.New(tel.Handler(slog.Default().Handler())),
//	}}, defs...)
//	tel.Watch(eng)
//
// # What is exported
//
//	run process_invoice            from its start to its end, sent at its end
//	├ started process_invoice      at once: a long run is seen before it ends
//	├ step pay                     from the call to the outcome
//	│ ├ attempt pay                with the error that it failed with
//	│ └ attempt pay                what the step calls by OpenTelemetry is below it
//	├ timer, child kid, question approve, signal resume, …
//	│ └ run kid                    a child's run is in its parent's trace
//	└ received signal resume       linked to the span of who sent it
//
// A run is in the trace of its caller: of the span in the context of Start, of
// the traceparent that [durable.WithTrace] or the _meta of an MCP request gave,
// else in a trace of its own. The ids of spans are derived from the ids of runs
// and calls, so that what several processes send of one run fits together.
// Replays make no spans and count nothing but themselves: the engine observes
// each fact once, when it is recorded.
//
// Inputs and results are exported only with [Config.CaptureContent]; names,
// ids and the texts of errors are always. Nothing is sent anywhere that
// the configuration does not name.
//
// # Faults
//
// Runs never wait for an exporter. What a collector does not take in time is
// dropped: counted in mcpagent.telemetry.dropped, logged once, and summed up in
// the error of [Telemetry.Close].
//
// docs/observability.md lists spans, metrics and attributes.
package telemetry

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"go.opentelemetry.io/contrib/bridges/otelslog"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Telemetry is an open connection to the exporters of a [Config]. It is safe
// for concurrent use.
type Telemetry struct {
	obs    *observer // nil: off
	tracer *sdktrace.TracerProvider
	meter  *sdkmetric.MeterProvider
	logs   *sdklog.LoggerProvider // nil: nobody takes logs
	out    outlets
	lost   metric.Int64Counter
	logger *slog.Logger
}

// Open makes the exporters. It connects to nothing yet: a collector may come
// later, or never. An invalid configuration is refused with all its problems.
// The caller closes the Telemetry, after the engines that it observes.
func Open(ctx context.Context, c *Config) (*Telemetry, error) {
	if c == nil {
		c = &Config{}
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	t := &Telemetry{logger: c.Logger}
	if !c.Enabled {
		return t, nil
	}
	instance := cmp.Or(c.ServiceInstanceID, rand.Text())
	attrs := []attribute.KeyValue{keyService.String(cmp.Or(c.ServiceName, "mcp-agent")), keyServiceInstance.String(instance)}
	if c.ServiceVersion != "" {
		attrs = append(attrs, keyServiceVersion.String(c.ServiceVersion))
	}
	res, err := resource.New(ctx, resource.WithFromEnv(), resource.WithTelemetrySDK(), resource.WithAttributes(attrs...))
	if err != nil {
		return nil, fmt.Errorf("otel: OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	out := &t.out
	var problems []error
	for _, e := range c.Exporters {
		if err := t.open(ctx, c, e, instance, out); err != nil {
			problems = append(problems, err)
		}
	}
	rate := 1.0
	if c.SampleRate != nil {
		rate = *c.SampleRate
	}
	sampler := sdktrace.TraceIDRatioBased(rate)
	topts := []sdktrace.TracerProviderOption{sdktrace.WithResource(res), sdktrace.WithIDGenerator(idSource{}), sdktrace.WithSampler(sdktrace.ParentBased(sampler))}
	for _, p := range out.spans {
		topts = append(topts, sdktrace.WithSpanProcessor(p))
	}
	mopts := []sdkmetric.Option{sdkmetric.WithResource(res)}
	for _, r := range out.metrics {
		mopts = append(mopts, sdkmetric.WithReader(r))
	}
	t.tracer, t.meter = sdktrace.NewTracerProvider(topts...), sdkmetric.NewMeterProvider(mopts...)
	if len(out.logs) > 0 {
		lopts := []sdklog.LoggerProviderOption{sdklog.WithResource(res)}
		for _, p := range out.logs {
			lopts = append(lopts, sdklog.WithProcessor(p))
		}
		t.logs = sdklog.NewLoggerProvider(lopts...)
	}
	m, err := newMetrics(t.meter.Meter(scope))
	problems = append(problems, err)
	t.lost, err = t.meter.Meter(scope).Int64Counter(metricUndeliverable, metric.WithUnit("{item}"), metric.WithDescription("spans and log lines that were not delivered"))
	problems = append(problems, err)
	if err := errors.Join(problems...); err != nil {
		return nil, errors.Join(err, t.shutdown(ctx))
	}
	s := &spans{tracer: t.tracer.Tracer(scope), sampler: sampler, content: c.CaptureContent}
	t.obs = &observer{spans: s, metrics: m}
	return t, nil
}

// Observer is for [durable.Options]; nil if telemetry is off. It is a
// [durable.Tracer] too.
func (t *Telemetry) Observer() durable.Observer {
	if t.obs == nil {
		return nil
	}
	return t.obs
}

// Handler gives a handler of log lines that adds trace_id and span_id to
// those of runs and steps, and of contexts that have a span, for next, and
// sends the lines that next takes by OTLP, if there is an exporter for that.
func (t *Telemetry) Handler(next slog.Handler) slog.Handler {
	if t.obs == nil {
		return next
	}
	h := &handler{next: next}
	if t.logs != nil {
		h.otlp = otelslog.NewHandler(scope, otelslog.WithLoggerProvider(t.logs))
	}
	return h
}

// TracerProvider is for instrumentation of your own: the spans that steps make
// with it are below their attempts, and go where the others go. In workflow
// code it has no place: a replay would make its spans again.
func (t *Telemetry) TracerProvider() trace.TracerProvider {
	if t.obs == nil {
		return noop.NewTracerProvider()
	}
	return t.tracer
}

// Watch adds the state of an engine to the metrics: runs by state, the queue
// of steps, whether work is acknowledged. One engine is watched at a time.
// stop ends it; it need not be called.
func (t *Telemetry) Watch(e *durable.Engine) (stop func()) {
	if t.obs == nil {
		return func() {}
	}
	reg, err := watch(t.meter.Meter(scope), e)
	if err != nil {
		return func() {} // only for instruments of another meter
	}
	return func() { _ = reg.Unregister() }
}

// Flush sends what there is, and waits until it is delivered or lost.
func (t *Telemetry) Flush(ctx context.Context) error {
	if t.tracer == nil {
		return nil
	}
	err := errors.Join(t.tracer.ForceFlush(ctx), t.meter.ForceFlush(ctx))
	if t.logs != nil {
		err = errors.Join(err, t.logs.ForceFlush(ctx))
	}
	return err
}

// Close sends what there is until ctx ends (at most five seconds if it has no
// end) and reports what was lost since Open.
func (t *Telemetry) Close(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
	}
	if err := t.shutdown(ctx); err != nil {
		return fmt.Errorf("close telemetry: %w", err)
	}
	return nil
}

// shutdown closes all at once: one that is slow takes nobody's time.
func (t *Telemetry) shutdown(ctx context.Context) error {
	var closers []func(context.Context) error
	for _, p := range t.out.spans {
		closers = append(closers, p.Shutdown)
	}
	for _, p := range t.out.logs {
		closers = append(closers, p.Shutdown)
	}
	for _, r := range t.out.metrics {
		closers = append(closers, func(ctx context.Context) error {
			if err := r.Shutdown(ctx); !errors.Is(err, sdkmetric.ErrReaderShutdown) {
				return err
			}
			return nil
		})
	}
	errs := make(chan error, len(closers))
	for _, fn := range closers {
		go func() { errs <- fn(ctx) }()
	}
	var all []error
	for range closers {
		all = append(all, <-errs)
	}
	// The providers do nothing more; what they would close is closed. They
	// would not have closed it under a context that has ended.
	if t.tracer != nil {
		_ = t.tracer.Shutdown(context.Background())
		_ = t.meter.Shutdown(context.Background())
	}
	if t.logs != nil {
		_ = t.logs.Shutdown(context.Background())
	}
	return errors.Join(all...)
}

func (t *Telemetry) log() *slog.Logger {
	if t.logger != nil {
		return t.logger
	}
	return slog.Default()
}

// drops counts what is not delivered.
func (t *Telemetry) drops(signal string) func(int) {
	with := metric.WithAttributeSet(attribute.NewSet(attribute.String("signal", signal)))
	return func(n int) {
		if t.lost != nil {
			t.lost.Add(context.Background(), int64(n), with)
		}
	}
}

// observer is what engines are given.
type observer struct {
	spans   *spans
	metrics *metrics
}

// Observe implements [durable.Observer].
func (o *observer) Observe(x durable.Observation) {
	o.metrics.observe(&x)
	o.spans.observe(&x)
}

// Caller implements [durable.Tracer].
func (o *observer) Caller(ctx context.Context) string {
	return format(trace.SpanContextFromContext(ctx))
}

// Place implements [durable.Tracer].
func (o *observer) Place(ctx context.Context, x durable.Observation) context.Context {
	return trace.ContextWithSpanContext(ctx, o.spans.place(&x))
}

// WantsContent implements [durable.ContentObserver].
func (o *observer) WantsContent() bool { return o.spans.content }
