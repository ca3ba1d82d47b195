package mcpserve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// The run-control tools, for [Options.Controls].
const (
	ControlList      = "workflows-list"
	ControlRuns      = "workflows-runs-list"
	ControlRun       = "workflows-run"
	ControlStatus    = "workflows-get_status"
	ControlResume    = "workflows-resume"
	ControlPause     = "workflows-pause"
	ControlCancel    = "workflows-cancel"
	ControlQuestions = "workflows-questions"
	ControlAnswer    = "workflows-answer"
	// ControlStart stands for one tool for each workflow, with NAME replaced.
	ControlStart = "workflows-NAME-run"
)

func controls() []string {
	return []string{ControlList, ControlRuns, ControlRun, ControlStatus, ControlResume, ControlPause, ControlCancel, ControlQuestions, ControlAnswer, ControlCredentials, ControlStart}
}

// offers reports whether a run-control tool is on.
func (s *Server) offers(name string) bool {
	return s.opts.Controls == nil || slices.Contains(s.opts.Controls, name)
}

// addControls adds the run-control tools that are on.
func (s *Server) addControls() {
	for _, name := range s.opts.Controls {
		if !slices.Contains(controls(), name) {
			panic(fmt.Sprintf("mcpserve.New: Options.Controls: there is no tool %q; the tools are %s", name, quoted(controls())))
		}
	}
	steers := Hints{Idempotent: true, Destructive: new(false), OpenWorld: new(false)}
	control(s, ControlList, "List workflows", "Lists the workflows that can be started, with their parameters.", readsOnly(), s.listWorkflows)
	control(s, ControlRuns, "List runs", "Lists runs, newest first.", readsOnly(), s.listRuns)
	control(s, ControlRun, "Start a workflow", "Starts a run of a workflow and returns its ids at once; the run goes on by itself.", Hints{}, s.runWorkflow)
	control(s, ControlStatus, "Status of a run", "Tells how a run is: its status, what it waits for, what it asks people, and its result once it has ended.", readsOnly(), s.getStatus)
	control(s, ControlResume, "Resume a run", "Lets a paused run go on; or answers the open question, or sends the signal, named signal_name, with the payload.", Hints{}, s.resumeRun)
	control(s, ControlPause, "Pause a run", "Keeps a run from going on until it is resumed. Steps under way come to their end.", steers, s.pauseRun)
	control(s, ControlCancel, "Cancel a run", "Asks a run to stop. It may clean up first.", Hints{Idempotent: true, Destructive: new(true), OpenWorld: new(false)}, s.cancelRun)
	control(s, ControlQuestions, "Questions to people", "Lists the open questions that runs ask people, oldest first.", readsOnly(), s.listQuestions)
	control(s, ControlAnswer, "Answer a question", "Answers an open question of a run. Only for a person's own decision.", Hints{}, s.answerQuestion)
	if s.opts.Credentials != nil {
		control(s, ControlCredentials, "Store credentials", "Hands over tokens for servers that the caller's runs will talk to.", steers, s.storeCredentials)
	} else if slices.Contains(s.opts.Controls, ControlCredentials) {
		panic(fmt.Sprintf("mcpserve.New: Options.Controls names %s, and Options.Credentials, which stores them, is nil", ControlCredentials))
	}
}

// control registers a tool with typed arguments and a typed answer.
func control[In, Out any](s *Server, name, title, about string, hints Hints, fn func(context.Context, *mcp.CallToolRequest, In) (Out, error)) {
	if !s.offers(name) {
		return
	}
	in := loose(reflect.TypeFor[In]())
	resolved, err := in.Resolve(nil)
	if err != nil {
		panic(fmt.Sprintf("mcpserve: %s: %v", name, err))
	}
	var optional []string
	for p := range in.Properties {
		if !slices.Contains(in.Required, p) {
			optional = append(optional, p)
		}
	}
	t := &Tool{Name: name, Title: title, Description: about}
	m := t.tool(durable.Info{}, "", hints, in, either(loose(reflect.TypeFor[Out]())))
	err = s.register(&registered{tool: m, handler: s.handle(func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		raw := withoutNulls(req.Params.Arguments, optional)
		if err := check(resolved, &raw); err != nil {
			return nil, err
		}
		var all map[string]json.RawMessage
		var args In
		if err := errors.Join(json.Unmarshal(raw, &all), json.Unmarshal(raw, &args)); err != nil {
			return nil, badArguments("%v", err)
		}
		if err := known(all, in); err != nil {
			return nil, err
		}
		out, err := fn(ctx, req, args)
		if err != nil {
			return nil, err
		}
		return structured(out), nil
	})}, "run control")
	if err != nil {
		panic(fmt.Sprintf("mcpserve: %v", err))
	}
}

// workflow is what workflows-list tells about one.
type workflow struct {
	Name          string             `json:"name"`
	Title         string             `json:"title,omitempty"`
	Description   string             `json:"description"`
	Capabilities  []string           `json:"capabilities"`
	ToolEndpoints []string           `json:"tool_endpoints" jsonschema:"tools that start it"`
	RunParameters *jsonschema.Schema `json:"run_parameters" jsonschema:"JSON Schema of run_parameters"`
	Questions     []string           `json:"questions,omitempty" jsonschema:"what its runs may ask people"`
	Signals       []string           `json:"signals,omitempty" jsonschema:"what its runs may be sent"`
}

type workflowMap map[string]*workflow

func (s *Server) listWorkflows(context.Context, *mcp.CallToolRequest, struct{}) (workflowMap, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := workflowMap{}
	for name, f := range s.flows {
		w := &workflow{
			Name: name, Title: f.info.Title, Description: f.info.Description, Capabilities: []string{"run"},
			ToolEndpoints: []string{f.tool.Name}, RunParameters: f.args.schema,
		}
		if f.tool.Description != "" {
			w.Description = f.tool.Description
		}
		if s.offers(ControlStart) {
			w.ToolEndpoints = append(w.ToolEndpoints, "workflows-"+toolName(name)+"-run")
		}
		for _, a := range f.info.Accepts {
			switch a.Kind {
			case durable.KindQuestion:
				w.Questions = append(w.Questions, a.Name)
			case durable.KindSignal:
				w.Signals = append(w.Signals, a.Name)
			}
		}
		out[name] = w
	}
	return out, nil
}

type runArgs struct {
	WorkflowName   string                     `json:"workflow_name" jsonschema:"one of those that workflows-list lists"`
	RunParameters  map[string]json.RawMessage `json:"run_parameters,omitempty" jsonschema:"the workflow's parameters; see workflows-list"`
	WorkflowID     string                     `json:"workflow_id,omitempty" jsonschema:"id for the run; an unfinished run with this id and the same parameters is the answer. Empty: made by the server"`
	IdempotencyKey string                     `json:"idempotency_key,omitempty" jsonschema:"any string; a repeated call with the same key finds the same run"`
}

// flow finds a workflow that is served.
func (s *Server) flow(name string) (*flow, error) {
	s.mu.Lock()
	f := s.flows[name]
	s.mu.Unlock()
	if f == nil {
		return nil, &toolError{Type: "unknown_workflow", Message: fmt.Sprintf("there is no workflow %q here; there are %s", name, quoted(s.served().workflows()))}
	}
	return f, nil
}

func (s *Server) runWorkflow(ctx context.Context, req *mcp.CallToolRequest, in runArgs) (*ids, error) {
	f, err := s.flow(in.WorkflowName)
	if err != nil {
		return nil, err
	}
	var parameters json.RawMessage
	if in.RunParameters != nil {
		parameters = mustJSON(in.RunParameters)
	}
	run, err := s.startWith(ctx, req, f, parameters, in.WorkflowID, in.IdempotencyKey)
	if err != nil {
		return nil, err
	}
	return idsOf(run), nil
}

type questionArgs struct {
	WorkflowID string `json:"workflow_id,omitempty" jsonschema:"only questions of this run"`
	RunID      string `json:"run_id,omitempty"`
	Name       string `json:"name,omitempty" jsonschema:"only questions of this name"`
}

type questionList struct {
	Questions []question `json:"questions"`
}

func (s *Server) listQuestions(ctx context.Context, _ *mcp.CallToolRequest, in questionArgs) (*questionList, error) {
	sc := s.served()
	filter := &durable.QuestionFilter{Name: in.Name}
	if in.WorkflowID != "" || in.RunID != "" {
		d, err := sc.run(ctx, in.WorkflowID, in.RunID, false)
		if err != nil {
			return nil, err
		}
		filter.WorkflowID, filter.RunID = d.WorkflowID, d.RunID
	}
	all, err := s.eng.Questions(ctx, filter)
	if err != nil {
		return nil, err
	}
	oldestFirst(all)
	out := &questionList{Questions: []question{}}
	for _, q := range all {
		if q.State == "open" && sc.sees(ctx, q) {
			out.Questions = append(out.Questions, s.questionOf(q))
		}
	}
	return out, nil
}

type answerArgs struct {
	QuestionID string          `json:"question_id,omitempty" jsonschema:"of the question; not needed where only one can be meant"`
	WorkflowID string          `json:"workflow_id,omitempty" jsonschema:"of the run that asks"`
	RunID      string          `json:"run_id,omitempty" jsonschema:"of the run that asks"`
	Name       string          `json:"name,omitempty" jsonschema:"of the question"`
	Value      json.RawMessage `json:"value" jsonschema:"the answer: any JSON that fits the question's schema"`
	Note       string          `json:"note,omitempty" jsonschema:"a remark for the record"`
}

func (s *Server) answerQuestion(ctx context.Context, req *mcp.CallToolRequest, in answerArgs) (*answered, error) {
	q, err := s.served().question(ctx, in.Name, in.WorkflowID, in.RunID, in.QuestionID)
	if err != nil {
		return nil, err
	}
	return s.reply(ctx, req, q, in.Value, in.Note)
}
