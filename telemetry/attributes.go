package telemetry

import "go.opentelemetry.io/otel/attribute"

// The keys of what is exported are here and nowhere else. Those that begin
// with mcpagent are ours; the others are from the semantic conventions.
const (
	scope = "github.com/mcpagent/mcpagent/telemetry"

	keyWorkflow   = attribute.Key("mcpagent.workflow")
	keyWorkflowID = attribute.Key("mcpagent.workflow.id")
	keyRunID      = attribute.Key("mcpagent.run.id")
	keyChain      = attribute.Key("mcpagent.run.chain") // run id of the first run, where the run continues one
	keyState      = attribute.Key("mcpagent.run.state")
	keyOwner      = attribute.Key("mcpagent.owner")
	keyStep       = attribute.Key("mcpagent.step")
	keyCall       = attribute.Key("mcpagent.call")
	keyAttempt    = attribute.Key("mcpagent.attempt")
	keyAttempts   = attribute.Key("mcpagent.attempts") // that a step took
	keyWait       = attribute.Key("mcpagent.wait")     // timer, child, question, signal, …
	keyName       = attribute.Key("mcpagent.name")     // of what is waited for, or of a message
	keyMessage    = attribute.Key("mcpagent.message")  // signal, update, cancel
	keyDropped    = attribute.Key("mcpagent.dropped")  // nobody wants the outcome any more
	keyOutcome    = attribute.Key("mcpagent.outcome")  // ok, error, dropped
	keyProblem    = attribute.Key("mcpagent.problem")
	keyInput      = attribute.Key("mcpagent.input")
	keyOutput     = attribute.Key("mcpagent.output")
	keyError      = attribute.Key("error.type")

	keyService         = attribute.Key("service.name")
	keyServiceInstance = attribute.Key("service.instance.id")
	keyServiceVersion  = attribute.Key("service.version")
)

// The names of the metrics.
const (
	metricStarted       = "mcpagent.runs.started"
	metricEnded         = "mcpagent.runs.ended"
	metricRun           = "mcpagent.run.duration"
	metricTurns         = "mcpagent.turns"
	metricStep          = "mcpagent.step.duration"
	metricAttempts      = "mcpagent.step.attempts"
	metricRetries       = "mcpagent.step.retries"
	metricAttempt       = "mcpagent.attempt.duration"
	metricQueue         = "mcpagent.queue.duration"
	metricWait          = "mcpagent.wait.duration"
	metricMessages      = "mcpagent.messages"
	metricProblems      = "mcpagent.problems"
	metricReplay        = "mcpagent.replay.duration"
	metricReplayTurns   = "mcpagent.replay.turns"
	metricDrifts        = "mcpagent.replay.drifts"
	metricFlush         = "mcpagent.flush.duration"
	metricFlushSize     = "mcpagent.flush.operations"
	metricRuns          = "mcpagent.runs"       // unfinished, by state
	metricAwake         = "mcpagent.runs.awake" // in memory
	metricStepsAtWork   = "mcpagent.steps.atwork"
	metricStepsQueued   = "mcpagent.steps.queued"
	metricHealthy       = "mcpagent.engine.healthy"
	metricUndeliverable = "mcpagent.telemetry.dropped"
)
