package temporalengine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/mcpagent/mcpagent/durable"
)

// The wire form. Inputs, results and signals are plain JSON payloads under
// plain names, so that the web UI, the command line and every SDK read and
// write them. What we say beside a value is in the payload's metadata, which
// they keep and ignore.
const (
	metaEncoding = "encoding"
	metaOurs     = "mcp-agent"

	jsonPlain = "json/plain"
	null      = "binary/null"
	encoded   = "binary/mcp-agent" // by durable.Options.Codec

	// doName, which is no name that a definition can have, is the signal, query and update for operations that
	// have no form of their own on Temporal: its value is a durable.Request,
	// its answer a durable.Reply.
	doName = "mcp-agent:do"
)

// Memo keys. What a run publishes is readable without any code of it.
const (
	memoStart  = "mcp-agent" // durable.StartMeta without headers
	memoStatus = "status"
	memoPaused = "paused"
	memoAsks   = "questions"
)

// signalMeta is what is said with a signal or an update.
type signalMeta struct {
	ID    string `json:"id,omitempty"`
	By    string `json:"by,omitempty"`
	Trace string `json:"trace,omitempty"`
}

// stepMeta is what is said with a step's input, beside what Temporal says of
// the activity: mostly the key alone.
type stepMeta struct {
	Key     string            `json:"key,omitempty"`
	Options json.RawMessage   `json:"options,omitempty"` // empty: [durable.Host.UsualTerms]
	Owner   string            `json:"owner,omitempty"`
	Trace   string            `json:"trace,omitempty"`
	Chain   string            `json:"chain,omitempty"` // where it is not the run
	Headers map[string]string `json:"headers,omitempty"`
	Called  int64             `json:"called,omitempty"` // microseconds; 0: when it was scheduled
	Done    int               `json:"done,omitempty"`   // attempts made before it was scheduled anew
}

// resultMeta is what is said with a step's result, where there is anything: how
// many attempts it took.
type resultMeta struct {
	Attempt int `json:"attempt"`
}

// payload makes the wire form of a stored value, with what is said beside it,
// if that is anything.
func (h *shared) payload(stored []byte, meta any) *commonpb.Payload {
	var said []byte
	if meta != nil {
		said = jsonOf(meta)
	}
	if string(said) == "{}" {
		said = nil
	}
	p := &commonpb.Payload{Metadata: map[string][]byte{metaEncoding: []byte(jsonPlain)}, Data: stored}
	switch {
	case stored == nil && said == nil:
		return &commonpb.Payload{Metadata: map[string][]byte{metaEncoding: []byte(null)}}
	case stored == nil:
		p.Data = []byte("null")
		if h.opts.Engine.Codec != nil {
			p.Metadata[metaEncoding] = []byte(null)
			p.Data = nil
		}
	case h.opts.Engine.Codec != nil:
		p.Metadata[metaEncoding] = []byte(encoded)
	}
	if said != nil {
		p.Metadata[metaOurs] = said
	}
	return p
}

// raw is the wire form of a stored value that does not come from a run.
func (h *shared) raw(stored []byte, meta any) (converter.RawValue, error) {
	p, err := h.out(h.payload(stored, meta))
	return converter.NewRawValue(p), err
}

// stored makes the stored form of a payload, also of one that somebody else
// wrote.
func (h *shared) stored(p *commonpb.Payload) ([]byte, error) {
	if p == nil {
		return nil, nil
	}
	p, err := h.in(p)
	if err != nil {
		return nil, err
	}
	switch enc := string(p.GetMetadata()[metaEncoding]); enc {
	case null:
		return nil, nil
	case encoded:
		return p.GetData(), nil
	case jsonPlain, "json/protobuf", "":
		if !json.Valid(p.GetData()) {
			return nil, fmt.Errorf("a payload is not the JSON that it says it is (%d bytes)", len(p.GetData()))
		}
		return h.host.Seal(p.GetData())
	default:
		return nil, fmt.Errorf("a payload has the encoding %q: send JSON, or give the workers the codec that it was written with", enc)
	}
}

// plain is what a payload says.
func (h *shared) plain(p *commonpb.Payload) (json.RawMessage, error) {
	stored, err := h.stored(p)
	if err != nil {
		return nil, err
	}
	return h.host.Unseal(stored)
}

// sealed makes the wire form of a plain value.
func (h *shared) sealed(plain json.RawMessage) (converter.RawValue, error) {
	stored, err := h.host.Seal(plain)
	if err != nil {
		return converter.RawValue{}, err
	}
	return h.raw(stored, nil)
}

// first is the first of some payloads, nil if there is none.
func first(ps *commonpb.Payloads) *commonpb.Payload {
	if len(ps.GetPayloads()) == 0 {
		return nil
	}
	return ps.GetPayloads()[0]
}

func payloads(p ...*commonpb.Payload) *commonpb.Payloads { return &commonpb.Payloads{Payloads: p} }

// plainJSON is a payload of our own bookkeeping: never encoded.
func plainJSON(v any) *commonpb.Payload {
	return &commonpb.Payload{Metadata: map[string][]byte{metaEncoding: []byte(jsonPlain)}, Data: jsonOf(v)}
}

// metaOf reads what is said with a payload; false if nothing is.
func metaOf(p *commonpb.Payload, into any) bool {
	b := p.GetMetadata()[metaOurs]
	return len(b) > 0 && json.Unmarshal(b, into) == nil
}

func jsonOf(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // values are shown as they were meant
	if err := e.Encode(v); err != nil {
		panic(fmt.Sprintf("temporalengine: encode %T: %v", v, err))
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

// --- failures

// failureError makes the Temporal form of a failure: type and message for
// everybody, all of it as details.
func failureError(f *durable.StoredFailure, o temporal.ApplicationErrorOptions) error {
	f = brief(f)
	o.Details = []any{converter.NewRawValue(plainJSON(f))}
	return temporal.NewApplicationErrorWithOptions(f.Message, f.Type, o)
}

// longestText is how much of an error's text crosses: a failure over the
// cluster's limits would be lost as a whole.
const longestText = 16 << 10

// brief is a failure that crosses in any case.
func brief(f *durable.StoredFailure) *durable.StoredFailure {
	if f == nil {
		return nil
	}
	short := *f
	if n := len(f.Message); n > longestText {
		short.Message = strings.ToValidUTF8(f.Message[:longestText], "") + fmt.Sprintf("… (%d bytes)", n)
	}
	if n := len(f.Details); n > longestText {
		short.Details = jsonOf(fmt.Sprintf("(details of %d bytes were left out: an error carries %d at most)", n, longestText))
	}
	short.Cause = brief(f.Cause)
	return &short
}

// failureOf reads the failure in an error of the SDK, ours or anybody's.
func failureOf(err error) *durable.StoredFailure {
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		f := &durable.StoredFailure{Type: app.Type(), Message: app.Message(), Permanent: app.NonRetryable()}
		var raw converter.RawValue
		if app.HasDetails() && app.Details(&raw) == nil && string(raw.Payload().GetMetadata()[metaEncoding]) == jsonPlain {
			var ours durable.StoredFailure
			if json.Unmarshal(raw.Payload().GetData(), &ours) == nil && ours.Type == f.Type {
				return &ours
			}
			f.Details = raw.Payload().GetData()
		}
		return f
	}
	var panicked *temporal.PanicError
	if errors.As(err, &panicked) {
		return &durable.StoredFailure{Type: "panic", Message: panicked.Error()}
	}
	return durable.FailureOf(err)
}

// failureFromProto is failureOf for what a history has.
func failureFromProto(f *failurepb.Failure) *durable.StoredFailure {
	if f == nil {
		return nil
	}
	return failureOf(temporal.GetDefaultFailureConverter().FailureToError(f))
}

// stateOf is the state that a status stands for.
func stateOf(s enumspb.WorkflowExecutionStatus) durable.State {
	switch s {
	case enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		return durable.Completed
	case enumspb.WORKFLOW_EXECUTION_STATUS_FAILED:
		return durable.Failed
	case enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED:
		return durable.Cancelled
	case enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED:
		return durable.Terminated
	case enumspb.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW:
		return durable.Continued
	case enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
		return durable.TimedOut
	case enumspb.WORKFLOW_EXECUTION_STATUS_PAUSED:
		return durable.Paused
	}
	return durable.Running
}

func rawJSON(b []byte) *commonpb.Payload {
	return &commonpb.Payload{Metadata: map[string][]byte{metaEncoding: []byte(jsonPlain)}, Data: b}
}

func unmarshal(p *commonpb.Payload, into any) error {
	if err := json.Unmarshal(p.GetData(), into); err != nil {
		return fmt.Errorf("a payload of this engine is damaged: %w", err)
	}
	return nil
}
