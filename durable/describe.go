package durable

import (
	"encoding/json"
	"time"
)

// State is where a run stands.
type State string

// The states. Running and Paused are not the end; the others are, and they
// never mix.
const (
	Running    State = "running"
	Paused     State = "paused"
	Completed  State = "completed"
	Failed     State = "failed"
	Cancelled  State = "cancelled"
	Terminated State = "terminated"
	TimedOut   State = "timed_out"
	Continued  State = "continued" // as the run that Description.Next names
)

// Done reports whether the run has ended.
func (s State) Done() bool { return s != Running && s != Paused && s != "" }

// Description is what is known about a run.
type Description struct {
	WorkflowID string                     `json:"workflow_id"`
	RunID      string                     `json:"run_id"`
	Workflow   string                     `json:"workflow"`
	State      State                      `json:"state"`
	Owner      string                     `json:"owner,omitempty"`
	Tags       map[string]string          `json:"tags,omitempty"`
	Memo       json.RawMessage            `json:"memo,omitempty"`
	Status     map[string]json.RawMessage `json:"status,omitempty"` // published values by name
	Problem    *Problem                   `json:"problem,omitempty"`
	Paused     *Pause                     `json:"paused,omitempty"`
	Created    time.Time                  `json:"created"`
	Changed    time.Time                  `json:"changed"`
	Closed     time.Time                  `json:"closed,omitzero"`
	Deadline   time.Time                  `json:"deadline,omitzero"` // of the run timeout
	Parent     *Ref                       `json:"parent,omitempty"`
	Chain      string                     `json:"chain"`          // run id of the first run of the chain
	Next       string                     `json:"next,omitempty"` // run id of the run that continues this one, or that it was reset to
	Turns      int64                      `json:"turns"`
	// Result and Failure are in lists too, but for those of a cluster.
	Result  json.RawMessage `json:"result,omitempty"`
	Failure *Error          `json:"failure,omitempty"`
	// Waiting and Questions are filled by Describe, not in lists.
	Waiting   []Wait          `json:"waiting,omitempty"`
	Questions []*QuestionInfo `json:"questions,omitempty"`
}

// Pause is who paused a run.
type Pause struct {
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since"`
	ID     string    `json:"id,omitempty"`
}

// Wait is one thing that a run waits for.
type Wait struct {
	Call    string    `json:"call"`
	Kind    string    `json:"kind"` // step, timer, child, question, callback, message, stop; signal, condition, select, lock, updates, turn
	Name    string    `json:"name,omitempty"`
	Text    string    `json:"text,omitempty"` // for people
	Since   time.Time `json:"since,omitzero"`
	Due     time.Time `json:"due,omitzero"` // timer, next attempt, expiry
	Attempt int       `json:"attempt,omitempty"`
	Failure *Error    `json:"failure,omitempty"` // of the last attempt
}

// Filter selects runs. The zero value selects all.
type Filter struct {
	Workflow      string            `json:"workflow,omitempty"`
	WorkflowID    string            `json:"workflow_id,omitempty"`
	States        []State           `json:"states,omitempty"`
	CreatedAfter  time.Time         `json:"created_after,omitzero"`
	CreatedBefore time.Time         `json:"created_before,omitzero"`
	Tags          map[string]string `json:"tags,omitempty"`
	Limit         int               `json:"limit,omitempty"`  // 0: 100
	Cursor        string            `json:"cursor,omitempty"` // Page.Next of the page before
}

// Page is a part of a list.
type Page struct {
	Runs []*Description `json:"runs"`
	Next string         `json:"next,omitempty"` // empty at the end
}

// Record is one entry of a run's history: a turn of its code with the events
// that led to it, events that wait to be applied, or facts beside the code.
type Record struct {
	Seq    int64     `json:"seq"`
	Kind   string    `json:"kind"` // turn, event, note; seed: of a fork
	At     time.Time `json:"at"`
	Events []Event   `json:"events,omitempty"`
	Calls  []Call    `json:"calls,omitempty"`
	Closed []string  `json:"closed,omitempty"` // calls that nobody waits for any more
	Stops  []string  `json:"stops,omitempty"`  // calls asked to cancel
	Notes  []Note    `json:"notes,omitempty"`
	End    *Outcome  `json:"end,omitempty"`
}

// Event is something that reached a run.
type Event struct {
	Kind    string          `json:"kind"` // started, signaled, done, running, fired, asked, canceled, reset
	At      time.Time       `json:"at"`
	Call    string          `json:"call,omitempty"`
	ID      string          `json:"id,omitempty"`
	Name    string          `json:"name,omitempty"`
	By      string          `json:"by,omitempty"`
	Payload json.RawMessage `json:"payload,omitempty"`
	Failure *Error          `json:"failure,omitempty"`
	Attempt int             `json:"attempt,omitempty"`
}

// Call is something that a run asked its engine to do.
type Call struct {
	ID      string          `json:"id"`
	Kind    string          `json:"kind"` // step, timer, child, message, stop, question, callback, side_effect; refused only: continue, append, put_blob
	Name    string          `json:"name,omitempty"`
	Input   json.RawMessage `json:"input,omitempty"`
	Digest  string          `json:"digest,omitempty"`
	Due     time.Time       `json:"due,omitzero"`
	Options json.RawMessage `json:"options,omitempty"`
	Refused *Error          `json:"refused,omitempty"` // why it was not made at all
}

// Note is a fact beside the code: an attempt, a pause, a problem.
type Note struct {
	Kind    string    `json:"kind"` // sent, attempt, lost, beat, paused, resumed, problem, dropped
	Call    string    `json:"call,omitempty"`
	Attempt int       `json:"attempt,omitempty"`
	Due     time.Time `json:"due,omitzero"`
	By      string    `json:"by,omitempty"`
	Text    string    `json:"text,omitempty"`
	Failure *Error    `json:"failure,omitempty"`
}

// Outcome is how a run ended, or what an update answered.
type Outcome struct {
	State   State           `json:"state"`
	Payload json.RawMessage `json:"payload,omitempty"`
	Failure *Error          `json:"failure,omitempty"`
}
