package telemetry

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// spanQueue is a span processor with one exporter.
type spanQueue struct {
	*queue[sdktrace.ReadOnlySpan]
	to     sdktrace.SpanExporter
	closed atomic.Bool
}

func (q *spanQueue) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

func (q *spanQueue) OnEnd(s sdktrace.ReadOnlySpan) {
	if s.SpanContext().IsSampled() {
		q.put(s)
	}
}

func (q *spanQueue) ForceFlush(ctx context.Context) error { return q.flush(ctx) }

func (q *spanQueue) Shutdown(ctx context.Context) error {
	if q.closed.Swap(true) {
		return nil
	}
	return errors.Join(q.close(ctx), q.to.Shutdown(ctx))
}

// logQueue is a log processor with one exporter.
type logQueue struct {
	*queue[sdklog.Record]
	to     sdklog.Exporter
	closed atomic.Bool
}

func (q *logQueue) OnEmit(_ context.Context, r *sdklog.Record) error {
	q.put(r.Clone())
	return nil
}

func (q *logQueue) Enabled(context.Context, sdklog.EnabledParameters) bool { return true }

func (q *logQueue) ForceFlush(ctx context.Context) error { return q.flush(ctx) }

func (q *logQueue) Shutdown(ctx context.Context) error {
	if q.closed.Swap(true) {
		return nil
	}
	return errors.Join(q.close(ctx), q.to.Shutdown(ctx))
}

// gentle is a metric exporter that fails in silence, but for the first time:
// what it sends are sums, so a later one makes up for it.
type gentle struct {
	sdkmetric.Exporter
	t      *Telemetry
	where  string
	told   atomic.Bool
	failed atomic.Bool // the last one
	hide   *strings.Replacer
}

func (g *gentle) Export(ctx context.Context, rm *metricdata.ResourceMetrics) error {
	err := hidden(g.hide, g.Exporter.Export(ctx, rm))
	g.failed.Store(err != nil)
	if err != nil && !g.told.Swap(true) {
		g.t.log().Warn("metrics can't be delivered; the next ones make up for it, and runs are not affected", "what", g.where, "error", err)
	}
	return nil
}

// Shutdown is bounded by ctx; the last metrics have been sent, or not.
func (g *gentle) Shutdown(ctx context.Context) error {
	err := g.Exporter.Shutdown(ctx)
	if g.failed.Load() {
		err = errors.Join(err, fmt.Errorf("the last %s were not delivered", g.where))
	}
	return err
}

// outlets are the processors of all exporters.
type outlets struct {
	spans   []sdktrace.SpanProcessor
	logs    []sdklog.Processor
	metrics []sdkmetric.Reader
}

// discreet is a span exporter whose errors show no secret.
type discreet struct {
	sdktrace.SpanExporter
	hide *strings.Replacer
}

func (d discreet) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	return hidden(d.hide, d.SpanExporter.ExportSpans(ctx, spans))
}

// secrets finds what is sent to a collector and nobody else should see: what
// it answers is in errors, and it may tell what it got.
func (o *OTLP) secrets() *strings.Replacer {
	var found []string
	add := func(s string) {
		if len(s) >= 4 {
			found = append(found, s)
		}
	}
	for _, v := range o.Headers {
		add(v)
	}
	for _, signal := range []string{"", "TRACES_", "LOGS_", "METRICS_"} {
		for pair := range strings.SplitSeq(os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"HEADERS"), ",") {
			_, v, _ := strings.Cut(pair, "=")
			v = strings.TrimSpace(v)
			add(v)
			if plain, err := url.PathUnescape(v); err == nil {
				add(plain)
			}
		}
	}
	if u, err := url.Parse(o.Endpoint); err == nil && u.User != nil {
		password, _ := u.User.Password()
		add(password)
		add(base64.StdEncoding.EncodeToString([]byte(u.User.Username() + ":" + password)))
	}
	slices.SortFunc(found, func(a, b string) int { return len(b) - len(a) }) // one may be a part of another
	var pairs []string
	for _, s := range found {
		pairs = append(pairs, s, "(secret)")
	}
	return strings.NewReplacer(pairs...)
}

// hidden is an error without secrets.
func hidden(r *strings.Replacer, err error) error {
	if err == nil {
		return nil
	}
	if text := r.Replace(err.Error()); text != err.Error() {
		return errors.New(text)
	}
	return err
}

// open makes the processors of an exporter.
func (t *Telemetry) open(ctx context.Context, c *Config, e Exporter, instance string, out *outlets) error {
	size := c.QueueSize
	if size == 0 {
		size = 8192
	}
	spans := func(where string, to sdktrace.SpanExporter) {
		q := newQueue("spans to "+where, size, t.log, t.drops("spans"), to.ExportSpans)
		out.spans = append(out.spans, &spanQueue{queue: q, to: to})
	}
	switch {
	case e.Console != nil:
		spans("the console", &lines{w: os.Stderr})
	case e.File != nil:
		name, settings := e.File.Path, e.File.PathSettings
		if name == "" && settings == nil {
			name, settings = c.Path, c.PathSettings
		}
		if name == "" {
			name = settings.name(time.Now(), instance)
		}
		f, err := create(name)
		if err != nil {
			return fmt.Errorf("otel.exporters: file: %w", err)
		}
		spans(name, &lines{f, f})
	case e.OTLP != nil:
		o := e.OTLP
		if o.Endpoint == "" && len(o.Headers) == 0 && c.OTLPSettings != nil {
			o = c.OTLPSettings
		}
		return t.openOTLP(ctx, c, o, size, spans, out)
	}
	return nil
}

func (t *Telemetry) openOTLP(ctx context.Context, c *Config, o *OTLP, size int, spans func(string, sdktrace.SpanExporter), out *outlets) error {
	urls, hide := o.urls(), o.secrets()
	where := func(url string) string {
		if url == "" {
			return "the endpoint of OTEL_EXPORTER_OTLP_ENDPOINT, or http://localhost:4318"
		}
		return redacted(url)
	}
	if url, ok := urls["traces"]; ok {
		var opts []otlptracehttp.Option
		if url != "" {
			opts = append(opts, otlptracehttp.WithEndpointURL(url))
		}
		if len(o.Headers) > 0 {
			opts = append(opts, otlptracehttp.WithHeaders(o.Headers))
		}
		to, err := otlptracehttp.New(ctx, opts...)
		if err != nil {
			return fmt.Errorf("otel.exporters: otlp: %w", err)
		}
		spans(where(url), discreet{to, hide})
	}
	if url, ok := urls["logs"]; ok {
		var opts []otlploghttp.Option
		if url != "" {
			opts = append(opts, otlploghttp.WithEndpointURL(url))
		}
		if len(o.Headers) > 0 {
			opts = append(opts, otlploghttp.WithHeaders(o.Headers))
		}
		to, err := otlploghttp.New(ctx, opts...)
		if err != nil {
			return fmt.Errorf("otel.exporters: otlp: %w", err)
		}
		q := newQueue("log lines to "+where(url), size, t.log, t.drops("logs"), func(ctx context.Context, r []sdklog.Record) error { return hidden(hide, to.Export(ctx, r)) })
		out.logs = append(out.logs, &logQueue{queue: q, to: to})
	}
	if url, ok := urls["metrics"]; ok {
		var opts []otlpmetrichttp.Option
		if url != "" {
			opts = append(opts, otlpmetrichttp.WithEndpointURL(url))
		}
		if len(o.Headers) > 0 {
			opts = append(opts, otlpmetrichttp.WithHeaders(o.Headers))
		}
		to, err := otlpmetrichttp.New(ctx, opts...)
		if err != nil {
			return fmt.Errorf("otel.exporters: otlp: %w", err)
		}
		every := time.Minute
		if c.MetricInterval > 0 {
			every = time.Duration(c.MetricInterval * float64(time.Second))
		}
		g := &gentle{Exporter: to, t: t, where: "metrics to " + where(url), hide: hide}
		out.metrics = append(out.metrics, sdkmetric.NewPeriodicReader(g, sdkmetric.WithInterval(every), sdkmetric.WithTimeout(exportTime)))
	}
	return nil
}
