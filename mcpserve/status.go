package mcpserve

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

// runStatus is what run control tells about a run. The fields are the Python
// project's; status is the engine's own word, and what the run published is
// in state.
type runStatus struct {
	ID            string           `json:"id" jsonschema:"the run id"`
	WorkflowID    string           `json:"workflow_id"`
	RunID         string           `json:"run_id"`
	Name          string           `json:"name" jsonschema:"the workflow"`
	Status        string           `json:"status" jsonschema:"running, paused, completed, failed, cancelled, terminated or timed_out"`
	Running       bool             `json:"running" jsonschema:"has not ended"`
	State         runState         `json:"state"`
	Completed     bool             `json:"completed"`
	Result        json.RawMessage  `json:"result,omitempty" jsonschema:"what the workflow returned"`
	Error         string           `json:"error,omitempty"`
	ExceptionType string           `json:"exception_type,omitempty" jsonschema:"type of the error"`
	Problem       *durable.Problem `json:"problem,omitempty" jsonschema:"why a run that has not ended can't go on until somebody mends it"`
	WaitingFor    []waiting        `json:"waiting_for,omitempty"`
	Questions     []question       `json:"questions,omitempty" jsonschema:"open questions to people"`
	CreatedAt     time.Time        `json:"created_at"`
	ClosedAt      time.Time        `json:"closed_at,omitzero"`
}

// runState is what the run published about itself.
type runState struct {
	Status    string                     `json:"status" jsonschema:"what the run says its status is"`
	Metadata  map[string]json.RawMessage `json:"metadata" jsonschema:"published values by name"`
	UpdatedAt float64                    `json:"updated_at" jsonschema:"seconds since 1970"`
	Error     *runFailure                `json:"error,omitempty"`
}

type runFailure struct {
	Type      string  `json:"type"`
	Message   string  `json:"message"`
	Timestamp float64 `json:"timestamp,omitempty"`
}

// waiting is one thing that a run waits for.
type waiting struct {
	Kind  string    `json:"kind"`
	Name  string    `json:"name,omitempty"`
	Text  string    `json:"text,omitempty"`
	Since time.Time `json:"since,omitzero"`
	Due   time.Time `json:"due,omitzero"`
	Count int       `json:"count,omitempty" jsonschema:"how many of these, if more than one; since and due are the first one's"`
}

// question is an open question as tools show it.
type question struct {
	ID         string          `json:"id"`
	WorkflowID string          `json:"workflow_id"`
	RunID      string          `json:"run_id"`
	Workflow   string          `json:"workflow"`
	Name       string          `json:"name"`
	Kind       string          `json:"kind"`
	Text       string          `json:"text"`
	Context    json.RawMessage `json:"context,omitempty" jsonschema:"what it is about"`
	Schema     json.RawMessage `json:"schema,omitempty" jsonschema:"JSON Schema of the answer"`
	Audience   string          `json:"audience,omitempty" jsonschema:"who is meant"`
	Created    time.Time       `json:"created"`
	Expires    time.Time       `json:"expires,omitzero"`
	AnswerWith []string        `json:"answer_with,omitempty" jsonschema:"tools that answer it"`
}

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// statusOf makes the status object of a run.
func (s *Server) statusOf(d *durable.Description) *runStatus {
	st := &runStatus{
		ID: d.RunID, WorkflowID: d.WorkflowID, RunID: d.RunID, Name: d.Workflow,
		Status: string(d.State), Running: !d.State.Done(), Completed: d.State == durable.Completed,
		State:     runState{Status: published(d), Metadata: d.Status, UpdatedAt: seconds(d.Changed)},
		Problem:   d.Problem,
		CreatedAt: d.Created, ClosedAt: d.Closed,
		WaitingFor: waitingFor(d),
	}
	if st.State.Metadata == nil {
		st.State.Metadata = map[string]json.RawMessage{}
	}
	if d.State == durable.Completed {
		if st.Result = d.Result; st.Result == nil {
			st.Result = json.RawMessage("null")
		}
	}
	if f := d.Failure; f != nil {
		st.Error, st.ExceptionType = f.Error(), f.Type
		st.State.Error = &runFailure{Type: f.Type, Message: f.Message, Timestamp: seconds(d.Closed)}
	}
	for _, q := range d.Questions {
		st.Questions = append(st.Questions, s.questionOf(q))
	}
	return st
}

// published is the one line that a run says about itself: its status named
// "status", or its only one, if that is a string; else the state.
func published(d *durable.Description) string {
	raw, ok := d.Status["status"]
	if !ok && len(d.Status) == 1 {
		for _, v := range d.Status {
			raw = v
		}
	}
	var text string
	if json.Unmarshal(raw, &text) == nil && text != "" {
		return text
	}
	return string(d.State)
}

// waitingFor lists what a run waits for. What reads the same is there once,
// with how often: an invoice may have a thousand lines to pay.
func waitingFor(d *durable.Description) []waiting {
	var out []waiting
	type same struct{ kind, name, text string }
	at := map[same]int{}
	for _, w := range d.Waiting {
		key := same{w.Kind, w.Name, w.Text}
		if i, ok := at[key]; ok && w.Text != "" {
			out[i].Count = max(out[i].Count, 1) + 1
			continue
		}
		at[key] = len(out)
		out = append(out, waiting{Kind: w.Kind, Name: w.Name, Text: w.Text, Since: w.Since, Due: w.Due})
	}
	return out
}

// questionOf makes the tool's view of a question.
func (s *Server) questionOf(q *durable.QuestionInfo) question {
	out := question{
		ID: q.ID, WorkflowID: q.WorkflowID, RunID: q.RunID, Workflow: q.Workflow, Name: q.Name, Kind: q.Kind, Text: q.Text,
		Context: q.Context, Audience: q.Audience, Created: q.Created, Expires: q.Expires,
		Schema: mustJSON(s.answerSchema(q)),
	}
	s.mu.Lock()
	for _, r := range s.asks[q.Name] {
		out.AnswerWith = append(out.AnswerWith, r.tool.Name)
	}
	s.mu.Unlock()
	if s.offers(ControlAnswer) {
		out.AnswerWith = append(out.AnswerWith, ControlAnswer)
	}
	return out
}

// oldestFirst orders questions.
func oldestFirst(qs []*durable.QuestionInfo) {
	slices.SortStableFunc(qs, func(a, b *durable.QuestionInfo) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
}
