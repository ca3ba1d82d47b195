package telemetry

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// metrics counts and measures what is observed.
type metrics struct {
	started, ended, turns, attempts, retries, messages, problems, drifts metric.Int64Counter
	run, step, attempt, queue, wait, replay, flush                       metric.Float64Histogram
	replayTurns, flushSize                                               metric.Int64Histogram

	sets  sync.Map // labels → metric.MeasurementOption
	known atomic.Int64
}

// labels are attributes of a measurement: up to three keys with their values.
type labels struct {
	k1 attribute.Key
	v1 string
	k2 attribute.Key
	v2 string
	k3 attribute.Key
	v3 string
}

// maxLabels is how many sets of attributes are remembered. Their values are
// names of definitions and types of errors; who makes names up as he goes
// pays for it.
const maxLabels = 10_000

func (m *metrics) with(l labels) metric.MeasurementOption {
	if o, ok := m.sets.Load(l); ok {
		return o.(metric.MeasurementOption)
	}
	kvs := make([]attribute.KeyValue, 0, 3)
	for _, kv := range []attribute.KeyValue{l.k1.String(l.v1), l.k2.String(l.v2), l.k3.String(l.v3)} {
		if kv.Key != "" && kv.Value.AsString() != "" {
			kvs = append(kvs, kv)
		}
	}
	o := metric.WithAttributeSet(attribute.NewSet(kvs...))
	if m.known.Add(1) <= maxLabels {
		m.sets.Store(l, o)
	}
	return o
}

// Seconds, from a step that reads a cache to a run that waits for a person.
var (
	shortBounds = []float64{.0001, .0003, .001, .003, .01, .03, .1, .3, 1, 3, 10}
	stepBounds  = []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10, 30, 100, 300, 1000, 3600}
	longBounds  = []float64{.01, .1, 1, 10, 60, 300, 1800, 3600, 6 * 3600, 86400, 3 * 86400, 7 * 86400, 30 * 86400}
	countBounds = []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000}
)

func newMetrics(meter metric.Meter) (*metrics, error) {
	m := &metrics{}
	var first error
	keep := func(err error) {
		if first == nil {
			first = err
		}
	}
	counter := func(name, unit, text string) metric.Int64Counter {
		c, err := meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(text))
		keep(err)
		return c
	}
	seconds := func(name, text string, bounds []float64) metric.Float64Histogram {
		h, err := meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(text), metric.WithExplicitBucketBoundaries(bounds...))
		keep(err)
		return h
	}
	sizes := func(name, unit, text string) metric.Int64Histogram {
		h, err := meter.Int64Histogram(name, metric.WithUnit(unit), metric.WithDescription(text), metric.WithExplicitBucketBoundaries(countBounds...))
		keep(err)
		return h
	}
	m.started = counter(metricStarted, "{run}", "runs whose first turn is recorded")
	m.ended = counter(metricEnded, "{run}", "runs that ended, by state")
	m.run = seconds(metricRun, "from the start of a run to its end", longBounds)
	m.turns = counter(metricTurns, "{turn}", "turns recorded")
	m.step = seconds(metricStep, "from the call of a step to its outcome, with all attempts and waits between", stepBounds)
	m.attempts = counter(metricAttempts, "{attempt}", "attempts of steps that came to an end")
	m.retries = counter(metricRetries, "{attempt}", "of these, not the first of their call")
	m.attempt = seconds(metricAttempt, "one attempt of a step", stepBounds)
	m.queue = seconds(metricQueue, "how long an attempt waited for a place", shortBounds)
	m.wait = seconds(metricWait, "waits of runs, but for steps", longBounds)
	m.messages = counter(metricMessages, "{message}", "signals, updates and cancels that reached the code of a run")
	m.problems = counter(metricProblems, "{problem}", "times that a run was blocked")
	m.replay = seconds(metricReplay, "replays of runs that had been put away", shortBounds)
	m.replayTurns = sizes(metricReplayTurns, "{turn}", "turns in a replay")
	m.drifts = counter(metricDrifts, "{replay}", "replays that made a call with another input than it had")
	m.flush = seconds(metricFlush, "making a group of operations durable", shortBounds)
	m.flushSize = sizes(metricFlushSize, "{operation}", "operations in a group")
	return m, first
}

func (m *metrics) observe(o *durable.Observation) {
	ctx := context.Background()
	switch o.Kind {
	case "run.started":
		m.started.Add(ctx, 1, m.with(labels{k1: keyWorkflow, v1: o.Workflow}))
	case "run.ended":
		l := m.with(labels{k1: keyWorkflow, v1: o.Workflow, k2: keyState, v2: string(o.State)})
		m.ended.Add(ctx, 1, l)
		if !o.Since.IsZero() {
			m.run.Record(ctx, seconds(o.At.Sub(o.Since)), l)
		}
	case "turn":
		m.turns.Add(ctx, 1, m.with(labels{k1: keyWorkflow, v1: o.Workflow}))
	case "wait.ended":
		if o.Since.IsZero() {
			return
		}
		h, l := m.wait, labels{k1: keyWait, v1: o.Wait, k2: keyOutcome, v2: outcome(o), k3: keyName, v3: o.Name}
		if o.Wait == "step" {
			h, l = m.step, labels{k1: keyStep, v1: o.Name, k2: keyOutcome, v2: l.v2, k3: keyError, v3: errorType(o)}
		}
		if o.Wait == "timer" {
			l.v3 = ""
		}
		h.Record(ctx, seconds(o.At.Sub(o.Since)), m.with(l))
	case "step.started":
		if o.Attempt > 1 {
			m.retries.Add(ctx, 1, m.with(labels{k1: keyStep, v1: o.Name}))
		}
		if o.Attempt == 1 || o.Took > 0 { // a later one does not say it everywhere
			m.queue.Record(ctx, seconds(o.Took), m.with(labels{k1: keyStep, v1: o.Name}))
		}
	case "step.ended":
		l := m.with(labels{k1: keyStep, v1: o.Name, k2: keyOutcome, v2: outcome(o), k3: keyError, v3: errorType(o)})
		m.attempts.Add(ctx, 1, l)
		m.attempt.Record(ctx, seconds(o.Took), l)
	case "message":
		m.messages.Add(ctx, 1, m.with(labels{k1: keyMessage, v1: o.Wait, k2: keyName, v2: o.Name}))
	case "problem":
		if o.Attempt <= 1 {
			m.problems.Add(ctx, 1, m.with(labels{k1: keyWorkflow, v1: o.Workflow, k2: keyProblem, v2: errorType(o)}))
		}
	case "woken":
		l := m.with(labels{k1: keyWorkflow, v1: o.Workflow})
		m.replay.Record(ctx, seconds(o.Took), l)
		m.replayTurns.Record(ctx, int64(o.Turns), l)
	case "drift":
		m.drifts.Add(ctx, 1, m.with(labels{k1: keyWorkflow, v1: o.Workflow}))
	case "flush":
		m.flush.Record(ctx, seconds(o.Took))
		m.flushSize.Record(ctx, int64(o.Count))
	}
}

// watch reports what an engine says about itself each time that metrics are
// collected.
func watch(meter metric.Meter, e *durable.Engine) (metric.Registration, error) {
	gauge := func(name, unit, text string) metric.Int64ObservableGauge {
		g, _ := meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(text))
		return g
	}
	runs := gauge(metricRuns, "{run}", "unfinished runs, by state; blocked ones have a problem that somebody has to mend")
	awake := gauge(metricAwake, "{run}", "unfinished runs in memory")
	atWork := gauge(metricStepsAtWork, "{step}", "steps at work")
	queued := gauge(metricStepsQueued, "{step}", "steps that wait for a place")
	healthy := gauge(metricHealthy, "1", "1 if the engine acknowledges work, else 0")
	state := func(s string) metric.ObserveOption { return metric.WithAttributes(keyState.String(s)) }
	return meter.RegisterCallback(func(ctx context.Context, to metric.Observer) error {
		h, err := e.Health(ctx)
		if err != nil {
			to.ObserveInt64(healthy, 0)
			return nil
		}
		to.ObserveInt64(runs, int64(max(h.Running-h.Paused-h.Blocked, 0)), state("running"))
		to.ObserveInt64(runs, int64(h.Paused), state("paused"))
		to.ObserveInt64(runs, int64(h.Blocked), state("blocked"))
		to.ObserveInt64(awake, int64(h.Awake))
		to.ObserveInt64(atWork, int64(h.Steps))
		to.ObserveInt64(queued, int64(h.Queued))
		ok := int64(0)
		if h.OK {
			ok = 1
		}
		to.ObserveInt64(healthy, ok)
		return nil
	}, runs, awake, atWork, queued, healthy)
}

func seconds(d time.Duration) float64 { return max(d, 0).Seconds() }

func outcome(o *durable.Observation) string {
	switch {
	case o.Err != nil:
		return "error"
	case o.Dropped:
		return "dropped"
	}
	return "ok"
}

func errorType(o *durable.Observation) string {
	if o.Err == nil {
		return ""
	}
	return o.Err.Type
}
