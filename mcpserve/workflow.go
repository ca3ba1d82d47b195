package mcpserve

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// IdempotencyKey is the _meta key of a tool call under which a client may put
// a string of its own: a call that is repeated with the same key, because its
// answer was lost, has its effect once and finds the same run.
const IdempotencyKey = "io.github.mcpagent/idempotency-key"

// flow is a workflow that is served.
type flow struct {
	info durable.Info
	tool *Tool
	id   *template
	args *params // of the tool; run_parameters of the run-control tools
	out  resultShape
}

// addWorkflow offers a workflow as a tool of its own, and to run control.
func (s *Server) addWorkflow(info durable.Info, t *Tool) error {
	in, err := t.input(info.In)
	if err != nil {
		return err
	}
	f := &flow{info: info, tool: t, out: newResultShape(info.Out)}
	if f.args, err = newParams(in, t.Arg, "input"); err != nil {
		return err
	}
	if f.id, err = parseTemplate(t.ID, in); err != nil {
		return err
	}
	s.mu.Lock()
	_, twice := s.flows[info.Name]
	s.mu.Unlock()
	if twice {
		return fmt.Errorf("it was added before; a workflow is one tool")
	}
	hints := Hints{Idempotent: t.ID != "" && t.Reuse == durable.ReuseReject}
	started := loose(reflect.TypeFor[ids]())
	m := t.tool(info, s.howToFollow(t), hints, f.args.schema, either(f.out.schema, loose(reflect.TypeFor[handover]())))
	if t.Async {
		m.OutputSchema = either(started)
	}
	tool := &registered{tool: m, handler: s.attend(func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		_, input, err := f.args.read(req.Params.Arguments)
		if err != nil {
			return nil, err
		}
		if !t.Async {
			return s.inline(ctx, req, f, input)
		}
		run, err := s.start(ctx, req, f, input, "", "")
		if err != nil {
			return nil, err
		}
		return structured(idsOf(run)), nil
	})}
	if err := s.register(tool, fmt.Sprintf("workflow %q", info.Name)); err != nil {
		return err
	}
	s.mu.Lock()
	s.flows[info.Name] = f
	s.mu.Unlock()
	if !s.offers(ControlStart) {
		return nil
	}
	return s.addStart(f, started)
}

// howToFollow is what the description of a workflow tool says about runs.
func (s *Server) howToFollow(t *Tool) string {
	poll := ""
	if s.offers(ControlStatus) {
		poll = fmt.Sprintf(" Poll %s with them.", ControlStatus)
	}
	if t.Async {
		return "Starts a durable run and returns workflow_id and run_id at once; the run goes on by itself." + poll
	}
	return "Waits for the result. If that takes long, or the run needs a person, the call returns workflow_id and run_id instead and the run goes on by itself." + poll
}

// ids is the answer of a tool that starts a run and does not wait.
type ids struct {
	WorkflowID  string `json:"workflow_id"`
	RunID       string `json:"run_id"`
	ExecutionID string `json:"execution_id" jsonschema:"the same as run_id"`
	Existing    bool   `json:"existing,omitempty" jsonschema:"the run was there before this call"`
}

func idsOf(r *durable.Run) *ids {
	return &ids{WorkflowID: r.WorkflowID, RunID: r.RunID, ExecutionID: r.RunID, Existing: r.Existing}
}

// start starts a run, or finds the one that this call means.
func (s *Server) start(ctx context.Context, req *mcp.CallToolRequest, f *flow, input json.RawMessage, id, key string) (*durable.Run, error) {
	o := &durable.StartOptions{ID: id, Reuse: f.tool.Reuse}
	if o.ID == "" && f.id != nil {
		var err error
		if o.ID, err = f.id.expand(input); err != nil {
			return nil, err
		}
	}
	if key == "" {
		key = idempotencyKey(req)
	}
	if key != "" {
		// A key is the caller's own: it must not find another caller's run.
		o.Key = mustKey("mcp", durable.ActorOf(ctx).Owner, f.info.Name, key)
	}
	ctx, cancel := context.WithTimeout(ctx, or(f.tool.Wait, s.opts.Wait))
	defer cancel()
	return s.eng.Start(ctx, f.info.Name, canonical(input), o)
}

func mustKey(parts ...string) string { return string(mustJSON(parts)) }

func idempotencyKey(req *mcp.CallToolRequest) string {
	key, _ := req.Params.Meta[IdempotencyKey].(string)
	return key
}

// addStart offers workflows-NAME-run: it starts a run and does not wait.
func (s *Server) addStart(f *flow, out *jsonschema.Schema) error {
	t := &Tool{Name: "workflows-" + toolName(f.info.Name) + "-run", Icons: f.tool.Icons}
	if len(t.Name) > 64 {
		return fmt.Errorf("the run-control tool %q would have more than 64 characters; leave %s out of Options.Controls, or give the workflow a shorter name", t.Name, ControlStart)
	}
	args, err := newParams(f.args.schema, "run_parameters", "", startProperties()...)
	if err != nil {
		return err
	}
	if len(f.args.schema.Required) == 0 {
		args.schema.Required = nil
	}
	title := f.info.Title
	if title == "" {
		title = humanize(toolName(f.info.Name))
	}
	m := t.tool(durable.Info{Title: "Start: " + title, Description: f.info.Description}, s.howToFollow(&Tool{Async: true}), Hints{}, args.schema, either(out))
	return s.register(&registered{tool: m, handler: s.handle(func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		own, parameters, err := args.read(req.Params.Arguments)
		if err != nil {
			return nil, err
		}
		run, err := s.startWith(ctx, req, f, parameters, own["workflow_id"], own["idempotency_key"])
		if err != nil {
			return nil, err
		}
		return structured(idsOf(run)), nil
	})}, fmt.Sprintf("run control of workflow %q", f.info.Name))
}

func startProperties() []property {
	return []property{
		{"workflow_id", "id for the run; an unfinished run with this id and the same parameters is the answer. Empty: made by the server"},
		{"idempotency_key", "any string; a repeated call with the same key finds the same run"},
	}
}

// startWith starts a run with run_parameters: the arguments that the
// workflow's own tool takes.
func (s *Server) startWith(ctx context.Context, req *mcp.CallToolRequest, f *flow, parameters json.RawMessage, id, key string) (*durable.Run, error) {
	if string(parameters) == "null" {
		parameters = nil
	}
	_, input, err := f.args.read(parameters)
	if err != nil {
		e := *typed(err)
		e.Message = "run_parameters: " + e.Message
		return nil, &e
	}
	return s.start(ctx, req, f, input, id, key)
}
