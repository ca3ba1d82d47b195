package durable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// Backend is the seam between [Engine], which users call, and whatever
// executes runs: the executor of this package over memory or a file, a client
// of a file that another process owns, or a cluster. It is for the engines of
// this module, not for users; it may change in any release.
//
// Do carries out one operation. It is safe for concurrent use, honours ctx,
// and acknowledges nothing that isn't durable. An operation with the
// [Request.ID] of one that was carried out before has the same effect and
// answer as that one, so that a caller that lost the reply may ask again.
type Backend interface {
	Do(ctx context.Context, req *Request) (*Reply, error)
	// Close ends execution. Steps at work get until ctx ends to finish.
	Close(ctx context.Context) error
}

// Op names an operation of a [Backend].
type Op string

// The operations.
const (
	opStart     Op = "start"
	opSignal    Op = "signal"
	opQuery     Op = "query"
	opUpdate    Op = "update"
	opCancel    Op = "cancel"
	opTerminate Op = "terminate"
	opPause     Op = "pause"
	opResume    Op = "resume"
	opAnswer    Op = "answer"
	opComplete  Op = "complete" // a callback, with a value or a failure
	opPutBlob   Op = "put_blob"
	opReset     Op = "reset"
	opFork      Op = "fork"

	opSchedule     Op = "schedule" // create or update
	opUnschedule   Op = "unschedule"
	opTrigger      Op = "trigger"
	opHoldSchedule Op = "hold_schedule" // pause or resume

	// The reading ones need nothing but the store.
	opResult    Op = "result"
	opDescribe  Op = "describe"
	opList      Op = "list"
	opHistory   Op = "history"
	opStream    Op = "stream"
	opQuestions Op = "questions"
	opGetBlob   Op = "get_blob"
	opExport    Op = "export"
	opSchedules Op = "schedules"
	OpHealth    Op = "health" // how the engine is; a client of a file answers it in part
)

// Request is one operation. All of it is plain data: it can cross a process
// border as JSON.
type Request struct {
	Op       Op              `json:"op"`
	ID       string          `json:"id,omitempty"` // of the operation: given once, carried out once
	Ref      Ref             `json:"ref"`
	Name     string          `json:"name,omitempty"` // workflow, signal, query, update, stream; question id; token; digest
	Payload  json.RawMessage `json:"payload,omitempty"`
	Data     []byte          `json:"data,omitempty"`
	Actor    Actor           `json:"actor"`
	Trace    string          `json:"trace,omitempty"` // W3C traceparent of the caller
	Reason   string          `json:"reason,omitempty"`
	Failure  *Error          `json:"failure,omitempty"`
	Digest   string          `json:"digest,omitempty"`
	Tree     bool            `json:"tree,omitempty"`
	From     int64           `json:"from,omitempty"`
	Start    *StartOptions   `json:"start,omitempty"`
	Reset    *ResetOptions   `json:"reset,omitempty"`
	Fork     *ForkOptions    `json:"fork,omitempty"`
	Schedule *Schedule       `json:"schedule,omitempty"`
	Filter   *Filter         `json:"filter,omitempty"`
	Asks     *QuestionFilter `json:"asks,omitempty"`
}

// Reads reports whether the operation needs the store only.
func (r *Request) Reads() bool {
	switch r.Op {
	case opResult, opDescribe, opList, opHistory, opStream, opQuestions, opGetBlob, opExport, opSchedules:
		return true
	}
	return false
}

// Reply is what became of a [Request].
type Reply struct {
	Ref       Ref                      `json:"ref"`
	Existing  bool                     `json:"existing,omitempty"`
	Payload   json.RawMessage          `json:"payload,omitempty"`
	Data      []byte                   `json:"data,omitempty"`
	Name      string                   `json:"name,omitempty"` // digest of a blob
	Run       *Description             `json:"run,omitempty"`
	Page      *Page                    `json:"page,omitempty"`
	Questions []*QuestionInfo          `json:"questions,omitempty"`
	Records   []*Record                `json:"records,omitempty"`
	Entries   []Entry[json.RawMessage] `json:"entries,omitempty"`
	End       bool                     `json:"end,omitempty"` // of a stream: the run has ended and nothing follows
	Health    *Health                  `json:"health,omitempty"`
	Schedules []*ScheduleInfo          `json:"schedules,omitempty"`
	Err       *ReplyError              `json:"err,omitempty"`
}

// ReplyError is an operation's error as data: a sentinel of this package by
// its code, and the text.
type ReplyError struct {
	Code    string   `json:"code"`
	Message string   `json:"message"`
	Ref     Ref      `json:"ref"`
	State   State    `json:"state,omitempty"`
	Failure *Error   `json:"failure,omitempty"`
	Problem *Problem `json:"problem,omitempty"`
}

// opError is the error that a ReplyError stands for.
type opError struct {
	*ReplyError
	is error
}

func (e *opError) Error() string { return e.Message }
func (e *opError) Unwrap() error { return e.is }

// refuse makes the reply for an operation that ends in a sentinel error.
func refuse(sentinel error, ref Ref, format string, args ...any) *Reply {
	return &Reply{Err: &ReplyError{Code: codeOf(sentinel), Message: fmt.Sprintf(format, args...), Ref: ref}}
}

// ErrorReply makes the reply for an error that [Backend.Do] returned beside a
// reply, so that it can cross a process border. For the engines of this
// module.
func ErrorReply(ref Ref, err error) *Reply {
	code := "error"
	for _, c := range codes {
		if errors.Is(err, c.err) {
			code = c.code
			break
		}
	}
	return &Reply{Err: &ReplyError{Code: code, Message: err.Error(), Ref: ref}}
}

// err turns the data back into an error that errors.Is and errors.As know.
func (r *Reply) err() error {
	if r.Err == nil {
		return nil
	}
	switch e := r.Err; e.Code {
	case "ended":
		return &RunError{WorkflowID: e.Ref.WorkflowID, RunID: e.Ref.RunID, State: e.State, Err: e.Failure}
	case "blocked":
		p := Problem{}
		if e.Problem != nil {
			p = *e.Problem
		}
		return &BlockedError{WorkflowID: e.Ref.WorkflowID, RunID: e.Ref.RunID, Problem: p}
	case "failure":
		if e.Failure != nil {
			return e.Failure
		}
		return &opError{ReplyError: e}
	case "id_taken":
		return &TakenError{WorkflowID: e.Ref.WorkflowID, RunID: e.Ref.RunID, Text: e.Message}
	default:
		return &opError{ReplyError: e, is: sentinelOf(e.Code)}
	}
}
