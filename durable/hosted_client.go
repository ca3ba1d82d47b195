package durable

import (
	"encoding/json"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// What the client side of a cluster's engine shares with the engines here.

// Accepts refuses a message that a workflow does not declare; nil where it is
// declared, or where this program does not define the workflow.
func (h *Host) Accepts(workflow string, kind Kind, name string, ref Ref) *Reply {
	return h.proto.accepts(&journal.Run{Name: workflow}, kind, name, ref)
}

// Starting is a start that was looked at.
type Starting struct {
	ID     string
	Input  json.RawMessage
	Meta   StartMeta
	Signal *SignalWithStart // with an id
}

// CheckStart refuses a start that no engine would take, and says how another
// one is carried out.
func (h *Host) CheckStart(req *Request) (*Starting, *Reply) {
	s, no := h.proto.checkStart(req)
	if no != nil {
		return nil, no
	}
	return &Starting{ID: s.id, Input: s.input, Signal: s.signal, Meta: StartMeta{
		Owner: s.owner, By: s.by, Trace: s.cfg.Trace, Headers: s.cfg.Headers, Tags: s.tags, Memo: s.memo,
		Digest: startDigest(s.name, s.input), Key: s.key, Secret: newUUID(), Timeout: time.Duration(s.timeout) * time.Microsecond}}, nil
}

// Seal gives the stored form of a value.
func (h *Host) Seal(b json.RawMessage) (journal.Payload, error) { return h.proto.seal(b) }

// Unseal is the reverse of Seal.
func (h *Host) Unseal(p journal.Payload) (json.RawMessage, error) { return h.proto.unseal(p) }

// CheckRequest refuses what is too large.
func (h *Host) CheckRequest(req *Request) error { return h.proto.checkRequest(req) }

// Refuse makes the reply for an operation that ends in a sentinel error.
func Refuse(sentinel error, ref Ref, format string, args ...any) *Reply {
	return refuse(sentinel, ref, format, args...)
}

// EndedReply is the reply for a run that ended otherwise than with a result.
func EndedReply(ref Ref, s State, f *journal.Failure) *Reply {
	e := &RunError{WorkflowID: ref.WorkflowID, RunID: ref.RunID, State: s, Err: fromFailure(f)}
	return &Reply{Err: &ReplyError{Code: "ended", Message: e.Error(), Ref: ref, State: s, Failure: e.Err}}
}

// ChildFailure is the failure of a call whose child ended otherwise than with
// a result.
func ChildFailure(ref Ref, s State, f *journal.Failure) *journal.Failure {
	return runFailure(&journal.Run{WorkflowID: ref.WorkflowID, RunID: ref.RunID, State: string(s), Failure: f})
}

// FailureOf makes the stored form of an error, and ErrorOf an error of that.
func FailureOf(err error) *journal.Failure { return toFailure(toError(err)) }

// ErrorOf is the reverse of FailureOf.
func ErrorOf(f *journal.Failure) *Error { return fromFailure(f) }

// The operations that an engine of a cluster has to know.
const (
	OpStart, OpSignal, OpQuery, OpUpdate, OpCancel, OpTerminate = opStart, opSignal, opQuery, opUpdate, opCancel, opTerminate
	OpPause, OpResume, OpAnswer, OpComplete, OpPutBlob          = opPause, opResume, opAnswer, opComplete, opPutBlob
	OpReset, OpFork, OpResult, OpDescribe, OpList, OpHistory    = opReset, opFork, opResult, opDescribe, opList, opHistory
	OpStream, OpQuestions, OpGetBlob, OpExport                  = opStream, opQuestions, opGetBlob, opExport
	OpSchedule, OpUnschedule, OpTrigger, OpHoldSchedule         = opSchedule, opUnschedule, opTrigger, opHoldSchedule
	OpSchedules                                                 = opSchedules
)

// Queries are the queries that a workflow accepts, by name.
func (h *Host) Queries(workflow string) (names []string) {
	if def := h.proto.defs.wfs[workflow]; def != nil {
		for k := range def.accepts {
			if k.kind == KindQuery {
				names = append(names, k.name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// Queue is the one that a workflow is executed from; empty: the engine's own.
func (h *Host) Queue(workflow string) string {
	if def := h.proto.defs.wfs[workflow]; def != nil {
		return def.opts.Queue
	}
	return ""
}

// ReplyErr is the error that a reply stands for, nil if it is none.
func ReplyErr(rep *Reply) error { return rep.err() }

// BlobDigest is what content is stored under.
func BlobDigest(data []byte) string { return blobDigest(data) }

// RunOf is the run id in the id of a question or in the token of a callback.
func RunOf(id string) (string, bool) {
	runID, _, ok := strings.Cut(id, "/")
	return runID, ok && runID != ""
}

// TerminatedFailure is the failure of a run that was terminated.
func TerminatedFailure(reason string) *journal.Failure {
	return &journal.Failure{Type: "terminated", Message: reason}
}

// OpenJSON reads a stored value inside a record.
func OpenJSON(c Codec, v json.RawMessage) (json.RawMessage, error) { return openJSON(c, v) }

// SortQuestions puts the oldest first.
func SortQuestions(qs []*QuestionInfo) {
	slices.SortStableFunc(qs, func(a, b *QuestionInfo) int { return a.Created.Compare(b.Created) })
}

// CheckSchedule refuses a schedule that no engine would take.
func (h *Host) CheckSchedule(req *Request) *Reply {
	if req.Schedule == nil {
		return refuse(ErrBadInput, Ref{}, "schedule %q: it has no definition", req.Name)
	}
	return h.proto.checkSchedule(req)
}

// SealJSON makes the stored form of a value inside a record.
func SealJSON(c Codec, v json.RawMessage) (json.RawMessage, error) {
	if c == nil || v == nil {
		return v, nil
	}
	b, err := c.Encode(v)
	if err != nil {
		return nil, err
	}
	return jsonOf(b), nil
}

// SortSchedules puts them into the order of their ids.
func SortSchedules(ss []*ScheduleInfo) {
	slices.SortFunc(ss, func(a, b *ScheduleInfo) int { return strings.Compare(a.ID, b.ID) })
}

// AtMostOnce reads it from the recorded options of a step's call.
func AtMostOnce(options json.RawMessage) bool {
	var s stepSpec
	return json.Unmarshal(options, &s) == nil && s.AtMostOnce
}

// StuckStacks are the stacks of workflow code that does not block in durable.
func StuckStacks() string { return stuckStacks() }

// UnlockThread undoes what code may have done that is not to be trusted: it
// lets the goroutine go on on any thread. For the engines of this module.
func UnlockThread() {
	for threadLocked() {
		runtime.UnlockOSThread()
	}
}
