package mcpserve

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

const (
	defaultRuns = 100
	maxPages    = 100 // of the engine's, for one page of ours
)

type listArgs struct {
	Limit        int    `json:"limit,omitempty" jsonschema:"at most so many runs over all pages; 0 is 100"`
	PageSize     int    `json:"page_size,omitempty" jsonschema:"runs in one answer; 0 is 100"`
	NextToken    string `json:"next_page_token,omitempty" jsonschema:"from the answer before"`
	WorkflowName string `json:"workflow_name,omitempty" jsonschema:"only runs of this workflow"`
	WorkflowID   string `json:"workflow_id,omitempty" jsonschema:"only runs with this id"`
	Status       string `json:"status,omitempty" jsonschema:"only runs in this state: running, paused, completed, failed, cancelled, terminated or timed_out"`
}

type runList struct {
	Runs []*runStatus `json:"runs"`
	Next string       `json:"next_page_token,omitempty" jsonschema:"for the next page; absent at the end"`
}

// pageToken is where a list goes on.
type pageToken struct {
	Cursor string `json:"c"`
	Left   int    `json:"n"` // of the limit
}

func (s *Server) listRuns(ctx context.Context, _ *mcp.CallToolRequest, in listArgs) (*runList, error) {
	at := pageToken{Left: in.Limit}
	if in.Limit < 0 || in.PageSize < 0 {
		return nil, badArguments("limit and page_size: must not be negative")
	}
	if at.Left == 0 {
		at.Left = defaultRuns
	}
	if in.NextToken != "" {
		raw, err := base64.RawURLEncoding.DecodeString(in.NextToken)
		if err != nil || json.Unmarshal(raw, &at) != nil || at.Left <= 0 {
			return nil, badArguments("next_page_token: not from an answer of this tool; pass it on as it came, or leave it out to begin anew")
		}
	}
	filter := &durable.Filter{WorkflowID: in.WorkflowID, Workflow: in.WorkflowName, Cursor: at.Cursor}
	names := s.served().workflows()
	switch {
	case in.WorkflowName != "" && !slices.Contains(names, in.WorkflowName):
		return nil, &toolError{Type: "unknown_workflow", Message: fmt.Sprintf("there is no workflow %q here; there are %s", in.WorkflowName, quoted(names))}
	case len(names) == 0:
		return &runList{Runs: []*runStatus{}}, nil
	case len(names) == 1:
		filter.Workflow = names[0]
	}
	if in.Status != "" {
		state, err := stateOf(in.Status)
		if err != nil {
			return nil, err
		}
		filter.States = []durable.State{state}
	}
	size := in.PageSize
	if size == 0 {
		size = defaultRuns
	}
	size = min(size, at.Left)
	out := &runList{Runs: []*runStatus{}}
	for range maxPages {
		filter.Limit = size - len(out.Runs)
		page, err := s.eng.List(ctx, filter)
		if err != nil {
			return nil, err
		}
		for _, d := range page.Runs {
			if slices.Contains(names, d.Workflow) {
				out.Runs = append(out.Runs, s.statusOf(d))
			}
		}
		if filter.Cursor = page.Next; page.Next == "" || len(out.Runs) >= size {
			break
		}
	}
	at.Left -= len(out.Runs)
	if at.Cursor = filter.Cursor; at.Cursor != "" && at.Left > 0 {
		out.Next = base64.RawURLEncoding.EncodeToString(mustJSON(at))
	}
	return out, nil
}

// stateOf reads a state as people and the Python project write it.
func stateOf(word string) (durable.State, error) {
	states := []durable.State{durable.Running, durable.Paused, durable.Completed, durable.Failed, durable.Cancelled, durable.Terminated, durable.TimedOut, durable.Continued}
	w := durable.State(strings.ReplaceAll(strings.ToLower(word), "-", "_"))
	switch w {
	case "error":
		w = durable.Failed
	case "canceled":
		w = durable.Cancelled
	}
	if !slices.Contains(states, w) {
		return "", badArguments("status: there is no state %q; the states are running, paused, completed, failed, cancelled, terminated, timed_out", word)
	}
	return w, nil
}

type runRef struct {
	RunID      string `json:"run_id,omitempty" jsonschema:"of the run"`
	WorkflowID string `json:"workflow_id,omitempty" jsonschema:"of the run; without run_id its newest run. Both are not needed where only one run can be meant"`
}

func (s *Server) getStatus(ctx context.Context, _ *mcp.CallToolRequest, in runRef) (*runStatus, error) {
	d, err := s.served().run(ctx, in.WorkflowID, in.RunID, false)
	if err != nil {
		return nil, err
	}
	return s.statusOf(d), nil
}

type resumeArgs struct {
	RunID      string          `json:"run_id,omitempty" jsonschema:"of the run"`
	WorkflowID string          `json:"workflow_id,omitempty" jsonschema:"of the run; without run_id its newest run"`
	SignalName string          `json:"signal_name,omitempty" jsonschema:"a question or signal of the workflow; empty is resume"`
	Payload    json.RawMessage `json:"payload,omitempty" jsonschema:"the answer, or what the signal carries: any JSON"`
	Note       string          `json:"note,omitempty" jsonschema:"a remark for the record"`
}

// steered says what became of a call that steers a run. Result is always true:
// what can't be done is an error. It is there for clients of the Python
// project.
type steered struct {
	Result     bool   `json:"result"`
	Action     string `json:"action" jsonschema:"resumed, answered, signaled, paused or cancelled"`
	WorkflowID string `json:"workflow_id"`
	RunID      string `json:"run_id"`
	Name       string `json:"name,omitempty" jsonschema:"of the question or signal"`
}

func (s *Server) resumeRun(ctx context.Context, req *mcp.CallToolRequest, in resumeArgs) (*steered, error) {
	name := in.SignalName
	if name == "" {
		name = "resume"
	}
	sc := s.served()
	d, err := sc.run(ctx, in.WorkflowID, in.RunID, true)
	if err != nil {
		return nil, err
	}
	if d.State.Done() {
		return nil, about(&toolError{Type: "finished", Message: fmt.Sprintf("run %s has ended (%s); nothing can be resumed", naming(d.WorkflowID, d.RunID), d.State)}, d)
	}
	done := func(action string) *steered {
		return &steered{Result: true, Action: action, WorkflowID: d.WorkflowID, RunID: d.RunID, Name: name}
	}
	run := s.eng.Run(d.WorkflowID, d.RunID)
	key := idempotencyKey(req)
	if key != "" {
		key = mustKey("mcp", durable.ActorOf(ctx).Owner, "resume", key)
	}
	if name == "resume" && (d.State == durable.Paused || d.Problem != nil) {
		if err := run.Resume(ctx, &durable.PauseOptions{ID: key, Reason: in.Note}); err != nil {
			return nil, about(err, d)
		}
		out := done("resumed")
		out.Name = ""
		return out, nil
	}
	for _, q := range d.Questions {
		if q.Name != name || q.State != "open" {
			continue
		}
		if q, err = sc.question(ctx, name, d.WorkflowID, d.RunID, ""); err != nil {
			return nil, err
		}
		if _, err := s.reply(ctx, req, q, payload(in.Payload), in.Note); err != nil {
			return nil, err
		}
		return done("answered"), nil
	}
	info, _ := s.eng.Definitions().Info(durable.KindWorkflow, d.Workflow)
	for _, a := range info.Accepts {
		if a.Kind != durable.KindSignal || a.Name != name {
			continue
		}
		if schema, err := loose(a.In).Resolve(nil); err == nil {
			var plain any
			_ = json.Unmarshal(payload(in.Payload), &plain)
			if err := schema.Validate(plain); err != nil {
				return nil, about(badArguments("payload: does not fit signal %q: %s", name, misfit(err)), d)
			}
		}
		if err := run.Signal(ctx, name, payload(in.Payload), &durable.SendOptions{ID: key}); err != nil {
			return nil, about(err, d)
		}
		return done("signaled"), nil
	}
	return nil, about(s.cannotResume(d, name, info), d)
}

// payload is null where a call gave none.
func payload(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage("null")
	}
	return raw
}

// cannotResume says what a run would take instead.
func (s *Server) cannotResume(d *durable.Description, name string, info durable.Info) error {
	var open, signals []string
	for _, q := range d.Questions {
		open = append(open, q.Name)
	}
	for _, a := range info.Accepts {
		if a.Kind == durable.KindSignal {
			signals = append(signals, a.Name)
		}
	}
	e := &toolError{Type: "not_accepted", Message: fmt.Sprintf("run %s is %s, asks no question %q and takes no signal of that name", naming(d.WorkflowID, d.RunID), d.State, name)}
	if name == "resume" {
		e = &toolError{Type: "not_paused", Message: fmt.Sprintf("run %s is %s: there is nothing to resume", naming(d.WorkflowID, d.RunID), d.State)}
	}
	if len(open) > 0 {
		e.Message += "; it asks " + quoted(open)
	}
	if len(signals) > 0 {
		e.Message += "; it takes the signals " + quoted(signals)
	}
	return e
}

type pauseArgs struct {
	RunID      string `json:"run_id,omitempty" jsonschema:"of the run"`
	WorkflowID string `json:"workflow_id,omitempty" jsonschema:"of the run; without run_id its newest run"`
	Reason     string `json:"reason,omitempty" jsonschema:"for the record"`
}

func (s *Server) pauseRun(ctx context.Context, _ *mcp.CallToolRequest, in pauseArgs) (*steered, error) {
	return s.steer(ctx, in, "paused", func(run *durable.Run) error {
		return run.Pause(ctx, &durable.PauseOptions{Reason: in.Reason})
	})
}

func (s *Server) cancelRun(ctx context.Context, _ *mcp.CallToolRequest, in pauseArgs) (*steered, error) {
	return s.steer(ctx, in, "cancelled", func(run *durable.Run) error {
		reason := in.Reason
		if reason == "" {
			reason = "cancelled over MCP"
		}
		return run.Cancel(ctx, reason)
	})
}

func (s *Server) steer(ctx context.Context, in pauseArgs, action string, do func(*durable.Run) error) (*steered, error) {
	d, err := s.served().run(ctx, in.WorkflowID, in.RunID, true)
	if err != nil {
		return nil, err
	}
	err = do(s.eng.Run(d.WorkflowID, d.RunID))
	if errors.Is(err, durable.ErrFinished) || err == nil && d.State.Done() {
		return nil, about(&toolError{Type: "finished", Message: fmt.Sprintf("run %s has ended (%s) and cannot be %s", naming(d.WorkflowID, d.RunID), d.State, action)}, d)
	}
	if err != nil {
		return nil, about(err, d)
	}
	return &steered{Result: true, Action: action, WorkflowID: d.WorkflowID, RunID: d.RunID}, nil
}
