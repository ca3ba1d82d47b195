package durable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

// Sentinels, for errors.Is. The package comment has the table of situations.
var (
	// Misuse of a context or a goroutine inside a workflow.
	ErrForeignContext   = errors.New("the context was made by context.WithCancel, WithTimeout or WithDeadline inside a workflow; use durable.WithCancel, durable.WithTimeout or durable.WithoutCancel")
	ErrForeignGoroutine = errors.New("durable call from a goroutine that is not a coroutine of the run; use durable.Group instead of the go statement")
	ErrWrongRun         = errors.New("the context belongs to another run")
	ErrLostContext      = errors.New("durable call without the run's context on a coroutine of the run; pass on the ctx that the workflow was given")
	ErrInStep           = errors.New("not possible inside a step; do it in the workflow")
	ErrInWorkflow       = errors.New("engine operation inside a workflow; do it in a step")
	ErrReadOnly         = errors.New("a query or a validator may not change the run")
	ErrNoEngine         = errors.New("no engine in the context; start the workflow on an engine")
	ErrUnwinding        = errors.New("durable call while a panic unwinds the coroutine")

	// Definitions.
	ErrNotDefined   = errors.New("not defined; add it to the definitions given to Open")
	ErrDefinedTwice = errors.New("defined twice")

	// Runs and messages.
	ErrNotFound    = errors.New("not found")
	ErrFinished    = errors.New("the run has ended")
	ErrIDTaken     = errors.New("the id is taken by a run with another workflow or input")
	ErrNotAccepted = errors.New("the workflow does not accept it; add it to WorkflowOptions.Accepts")
	ErrNoWorker    = errors.New("no worker listens")
	ErrNoHandler   = errors.New("the run has no handler for it (yet)")
	ErrRejected    = errors.New("rejected by the run's validator")
	ErrPaused      = errors.New("the run is paused; resume it first")
	ErrExpired     = errors.New("nobody answered in time")
	ErrAnswered    = errors.New("already answered")
	ErrBadInput    = errors.New("the value does not fit the type")
	ErrForbidden   = errors.New("it belongs to another owner")

	// Outcomes.
	ErrTimeout        = errors.New("timed out")
	ErrOutcomeUnknown = errors.New("the step was started and its outcome was not recorded: it may have taken effect; verify before repeating")
	ErrTooLarge       = errors.New("too large")
	ErrLimit          = errors.New("a limit is reached")
	ErrRepeat         = errors.New("an at-most-once step that was sent would be made again")
	ErrNotStarted     = errors.New("never started")
	ErrShutdown       = errors.New("the engine is shutting down")
	ErrClosed         = errors.New("the engine is closed")
	ErrUnsupported    = errors.New("not supported by this engine")
	ErrUnavailable    = errors.New("the engine can record nothing any more; look at its Health, mend the cause and start it again")
)

// codes are the sentinels' names where an error crosses a border as data.
var codes = []struct {
	code string
	err  error
}{
	{"not_found", ErrNotFound}, {"finished", ErrFinished}, {"id_taken", ErrIDTaken},
	{"not_accepted", ErrNotAccepted}, {"no_handler", ErrNoHandler}, {"no_worker", ErrNoWorker}, {"rejected", ErrRejected},
	{"paused", ErrPaused}, {"expired", ErrExpired}, {"answered", ErrAnswered},
	{"bad_input", ErrBadInput}, {"forbidden", ErrForbidden}, {"timeout", ErrTimeout},
	{"unknown", ErrOutcomeUnknown}, {"too_large", ErrTooLarge}, {"limit", ErrLimit}, {"repeat", ErrRepeat}, {"not_started", ErrNotStarted},
	{"shutdown", ErrShutdown}, {"closed", ErrClosed}, {"unsupported", ErrUnsupported}, {"unavailable", ErrUnavailable},
	{"not_defined", ErrNotDefined}, {"read_only", ErrReadOnly}, {"in_step", ErrInStep},
	{"canceled", context.Canceled}, {"deadline", context.DeadlineExceeded},
}

func codeOf(err error) string {
	for _, c := range codes {
		if c.err == err {
			return c.code
		}
	}
	return "error"
}

func sentinelOf(code string) error {
	for _, c := range codes {
		if c.code == code {
			return c.err
		}
	}
	return nil
}

// Error is an error as it is stored and sent: what an application raises on
// purpose ([ErrorType.New], or a literal), and what any other error becomes
// when it leaves a step, a child run or an update handler.
type Error struct {
	Type      string          `json:"type"`                // a name to decide by; for other errors the Go type
	Message   string          `json:"message"`             //
	Permanent bool            `json:"permanent,omitempty"` // do not retry
	Details   json.RawMessage `json:"details,omitempty"`   // any JSON
	Code      string          `json:"code,omitempty"`      // the sentinel it answers to, if any
	Cause     *Error          `json:"cause,omitempty"`
}

func (e *Error) Error() string {
	switch {
	case e.Message == "":
		return e.Type
	case e.Type == "" || strings.Contains(e.Type, ".") || e.Type == "error" || e.Code != "":
		return e.Message
	}
	return e.Type + ": " + e.Message
}

// Is reports whether e is of the type or answers to the sentinel target.
func (e *Error) Is(target error) bool {
	if t, ok := target.(*ErrorType); ok {
		return e.Type == t.name
	}
	return e.Code != "" && sentinelOf(e.Code) == target
}

func (e *Error) Unwrap() error {
	if e.Cause == nil {
		return nil
	}
	return e.Cause
}

// ErrorType is a named kind of application error. errors.Is(err, t) holds on
// both sides of a step and of an engine.
type ErrorType struct{ name string }

// NewErrorType names a kind of application error, "INSUFFICIENT_FUNDS" say.
func NewErrorType(name string) *ErrorType { return &ErrorType{name} }

func (t *ErrorType) Error() string { return t.name }

// New makes an error of the type. Wrap it in [Permanent] if it must not be
// retried.
func (t *ErrorType) New(format string, args ...any) error {
	return &Error{Type: t.name, Message: fmt.Sprintf(format, args...)}
}

// StepError is a step that failed for good: what [Step.Do] returns on every
// engine and without one.
type StepError struct {
	Step     string
	Call     string // call id, empty without an engine
	Attempts int
	Err      *Error // of the last attempt
}

func (e *StepError) Error() string {
	n := ""
	if e.Attempts > 1 {
		n = fmt.Sprintf(" after %d attempts", e.Attempts)
	}
	return fmt.Sprintf("step %s failed%s: %v", e.Step, n, e.Err)
}

func (e *StepError) Unwrap() error { return e.Err }

// RunError is a run that ended otherwise than completed.
type RunError struct {
	WorkflowID, RunID string
	State             State
	Err               *Error // nil where the state says it all
}

func (e *RunError) Error() string {
	s := fmt.Sprintf("run %s %s", e.WorkflowID, e.State)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Is makes a cancelled run answer to context.Canceled and a timed-out one to
// [ErrTimeout].
func (e *RunError) Is(target error) bool {
	switch e.State {
	case Cancelled:
		return target == context.Canceled
	case TimedOut:
		return target == ErrTimeout
	}
	return false
}

func (e *RunError) Unwrap() error {
	if e.Err == nil {
		return nil
	}
	return e.Err
}

// BlockedError is a run that can't go on until somebody mends something: its
// code is missing, panics, or no longer fits its history. It is not lost: it
// goes on after a fixed deploy.
type BlockedError struct {
	WorkflowID, RunID string
	Problem           Problem
}

func (e *BlockedError) Error() string {
	return fmt.Sprintf("run %s is blocked (%s): %s", e.WorkflowID, e.Problem.Kind, e.Problem.Text)
}

// TakenError is an id in use by a run with another workflow or input; it
// answers to [ErrIDTaken].
type TakenError struct{ WorkflowID, RunID, Text string }

func (e *TakenError) Error() string { return e.Text }
func (e *TakenError) Unwrap() error { return ErrIDTaken }

// DecodeError is a message whose payload does not fit the receiver's type. It
// is consumed all the same. It answers to [ErrBadInput].
type DecodeError struct {
	Name, ID string
	Err      error
}

func (e *DecodeError) Error() string {
	return fmt.Sprintf("message %q does not fit the type: %v", e.Name, e.Err)
}
func (e *DecodeError) Unwrap() []error { return []error{ErrBadInput, e.Err} }

// Problem is why a run that is not finished does not go on.
type Problem struct {
	Kind  string    `json:"kind"`           // mismatch, panic, deadlock, not_defined, poison, payload
	Call  string    `json:"call,omitempty"` // where
	Text  string    `json:"text"`           // what, and what to do next
	Since time.Time `json:"since"`
	Tries int       `json:"tries"`
}

// --- errors that instruct the engine

type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// Permanent marks an error of a step as not worth a retry.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanentError{err}
}

type retryAfterError struct {
	error
	d time.Duration
}

func (e retryAfterError) Unwrap() error { return e.error }

// RetryAfter asks for the next attempt of a step not before d from now. It is
// not cut by [Retry.Max] and counts as an attempt; d <= 0 is the normal
// backoff. Where the next attempt would come too late or is one too many, the
// step fails now with err.
func RetryAfter(d time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return retryAfterError{err, d}
}

type unknownError struct{ error }

func (e unknownError) Unwrap() error { return e.error }

// Instructs reports whether an error carries an instruction to the engine:
// [Permanent], [RetryAfter] or [OutcomeUnknown].
func Instructs(err error) bool {
	var p permanentError
	var r retryAfterError
	var u unknownError
	return errors.As(err, &p) || errors.As(err, &r) || errors.As(err, &u)
}

// OutcomeUnknown says that a step can't tell whether it took effect: an
// at-most-once step then ends in [ErrOutcomeUnknown].
func OutcomeUnknown(err error) error {
	if err == nil {
		return nil
	}
	return unknownError{err}
}

// --- to and from the stored form

// toError makes the stored form of any error: the application's own *Error if
// there is one in the chain, else Go type and text.
func toError(err error) *Error {
	if err == nil {
		return nil
	}
	var perm permanentError
	permanent := errors.As(err, &perm)
	var own *Error
	if errors.As(err, &own) {
		e := *own
		e.Permanent = e.Permanent || permanent
		if msg := err.Error(); own.Error() != msg {
			// Keep what wrappers said, without repeating the type.
			e.Message = strings.TrimPrefix(msg, e.Type+": ")
		}
		return &e
	}
	e := &Error{Type: typeName(err), Message: err.Error(), Permanent: permanent}
	var kind *ErrorType
	if errors.As(err, &kind) {
		e.Type = kind.name
		e.Message = strings.TrimPrefix(e.Message, kind.name+": ")
		if e.Message == kind.name {
			e.Message = ""
		}
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			e.Code = c.code
			break
		}
	}
	return e
}

// typeName is the Go type of the innermost error that is not a mere wrapper.
func typeName(err error) string {
	for {
		switch x := err.(type) {
		case permanentError, retryAfterError, unknownError:
			err = errors.Unwrap(err)
			continue
		case interface{ Unwrap() []error }:
			if all := x.Unwrap(); len(all) > 0 && reflect.TypeOf(err).String() == "*errors.joinError" || reflect.TypeOf(err).String() == "*fmt.wrapErrors" {
				err = all[0]
				continue
			}
		}
		name := strings.TrimLeft(reflect.TypeOf(err).String(), "*")
		if name == "fmt.wrapError" {
			if in := errors.Unwrap(err); in != nil {
				err = in
				continue
			}
		}
		if name == "errors.errorString" || name == "fmt.wrapError" {
			return "error"
		}
		return name
	}
}

func toFailure(e *Error) *journal.Failure {
	if e == nil {
		return nil
	}
	return &journal.Failure{Type: e.Type, Message: e.Message, Kind: e.Code, Permanent: e.Permanent, Details: e.Details, Cause: toFailure(e.Cause)}
}

func fromFailure(f *journal.Failure) *Error {
	if f == nil {
		return nil
	}
	return &Error{Type: f.Type, Message: f.Message, Code: f.Kind, Permanent: f.Permanent, Details: f.Details, Cause: fromFailure(f.Cause)}
}

// failed makes the stored form of a failure that the engine itself states.
func failed(sentinel error, format string, args ...any) *journal.Failure {
	return &journal.Failure{Type: codeOf(sentinel), Kind: codeOf(sentinel), Message: fmt.Sprintf(format, args...), Permanent: true}
}

// Misuse is the panic value of a durable call that can't return an error and
// was used where it must not be; inside a run it becomes a [Problem].
type Misuse struct {
	Call string
	Err  error
}

func (m *Misuse) Error() string { return fmt.Sprintf("durable.%s: %v", m.Call, m.Err) }
func (m *Misuse) Unwrap() error { return m.Err }
