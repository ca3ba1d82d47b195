package mcpserve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// toolError is what a tool answers when it can't do what was asked: an isError
// result with these fields as structured content.
type toolError struct {
	Type       string          `json:"type" jsonschema:"what went wrong, as a word to decide by"`
	Message    string          `json:"message" jsonschema:"what went wrong and what to do about it"`
	WorkflowID string          `json:"workflow_id,omitempty"`
	RunID      string          `json:"run_id,omitempty"`
	Status     string          `json:"status,omitempty" jsonschema:"state of the run"`
	Details    json.RawMessage `json:"details,omitempty"`
	Candidates []candidate     `json:"candidates,omitempty" jsonschema:"what the call could have meant"`
}

func (e *toolError) Error() string { return e.Message }

// candidate is a run, or a question, that a call without ids could mean.
type candidate struct {
	WorkflowID string `json:"workflow_id"`
	RunID      string `json:"run_id"`
	Workflow   string `json:"workflow"`
	Status     string `json:"status,omitempty"`
	QuestionID string `json:"question_id,omitempty"`
	Question   string `json:"question,omitempty"`
	Text       string `json:"text,omitempty"`
}

// about says which run an error is about.
func about(err error, d *durable.Description) *toolError {
	e := *typed(err)
	if d != nil {
		e.WorkflowID, e.RunID, e.Status = d.WorkflowID, d.RunID, string(d.State)
	}
	return &e
}

// typed gives any error the form that callers see.
func typed(err error) *toolError {
	var te *toolError
	if errors.As(err, &te) {
		return te
	}
	e := &toolError{Type: typeOf(err), Message: err.Error()}
	var run *durable.RunError
	var blocked *durable.BlockedError
	var taken *durable.TakenError
	switch {
	case errors.As(err, &run):
		e.WorkflowID, e.RunID, e.Status = run.WorkflowID, run.RunID, string(run.State)
		e.Type = string(run.State)
		if run.Err != nil {
			e.Details = run.Err.Details
			if run.State == durable.Failed && run.Err.Type != "error" {
				e.Type = run.Err.Type // the application's own word
			}
		}
	case errors.As(err, &blocked):
		e.WorkflowID, e.RunID, e.Status = blocked.WorkflowID, blocked.RunID, string(durable.Running)
		e.Message += "; it is not lost and goes on once that is mended"
	case errors.As(err, &taken):
		e.WorkflowID, e.RunID = taken.WorkflowID, taken.RunID
	}
	return e
}

// typeOf is the word for an error.
func typeOf(err error) string {
	var blocked *durable.BlockedError
	if errors.As(err, &blocked) {
		return "blocked"
	}
	for _, k := range []struct {
		is   error
		word string
	}{
		{durable.ErrNotFound, "not_found"}, {durable.ErrFinished, "finished"}, {durable.ErrIDTaken, "id_taken"},
		{durable.ErrNotAccepted, "not_accepted"}, {durable.ErrNoHandler, "no_handler"}, {durable.ErrRejected, "rejected"},
		{durable.ErrPaused, "paused"}, {durable.ErrExpired, "expired"}, {durable.ErrAnswered, "already_answered"},
		{durable.ErrBadInput, "bad_arguments"}, {durable.ErrForbidden, "forbidden"}, {durable.ErrTooLarge, "too_large"},
		{durable.ErrNotDefined, "not_defined"}, {durable.ErrUnsupported, "unsupported"}, {durable.ErrTimeout, "timeout"},
		{durable.ErrUnavailable, "unavailable"}, {durable.ErrShutdown, "unavailable"}, {durable.ErrClosed, "unavailable"},
		{context.DeadlineExceeded, "timeout"}, {context.Canceled, "cancelled"},
	} {
		if errors.Is(err, k.is) {
			return k.word
		}
	}
	var app *durable.Error
	if errors.As(err, &app) && app.Type != "" {
		return app.Type
	}
	return "error"
}

// failed is the result for an error.
func failed(err error) *mcp.CallToolResult {
	e := typed(err)
	r := &mcp.CallToolResult{StructuredContent: e}
	r.SetError(fmt.Errorf("%s: %s", e.Type, e.Message))
	return r
}

// structured is a result whose text is its structured content.
func structured(v any) *mcp.CallToolResult { return saying(pretty(v), v) }

// saying is a result with a text of its own.
func saying(text string, v any) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}, StructuredContent: v}
}

// value is a result that is a user's value: a string reads as itself.
func value(v json.RawMessage, shape resultShape) *mcp.CallToolResult {
	text := pretty(v)
	if said, ok := shape.text(v); ok {
		text = said
	}
	var s string
	if json.Unmarshal(v, &s) == nil && len(v) > 0 && v[0] == '"' {
		text = s
	}
	return saying(text, shape.of(v))
}

// pretty is JSON for reading.
func pretty(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	return string(bytes.TrimRight(b.Bytes(), "\n"))
}

// mustJSON is for values that can't fail to encode.
func mustJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("mcpserve: encode %T: %v", v, err))
	}
	return b
}
