package mcpserve

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// runIDs are the arguments by which a call names a run.
func runIDs() []property {
	return []property{
		{"workflow_id", "of the run; not needed where only one run can be meant"},
		{"run_id", "of the run; empty: its newest run"},
	}
}

// addQuestion offers a question: the tool answers it.
func (s *Server) addQuestion(info durable.Info, t *Tool) error {
	sc := s.accepting(info)
	value, err := t.input(info.In)
	if err != nil {
		return err
	}
	var fixed json.RawMessage
	if t.Const != nil {
		if fixed, err = constant(t.Const, info.In, value); err != nil {
			return err
		}
		value = nil
	}
	own := append(runIDs(), property{"question_id", "of the question; not needed where only one can be meant"})
	if value == nil || value.Properties["note"] == nil {
		own = append(own, property{"note", "a remark for the record"})
	}
	args, err := newParams(value, t.Arg, "value", own...)
	if err != nil {
		return err
	}
	fallback := fmt.Sprintf("Answers the question %q of a run. Only for a person's own decision.", info.Name)
	if fixed != nil {
		fallback = fmt.Sprintf("Answers the question %q of a run with %s. Only for a person's own decision.", info.Name, fixed)
	}
	r := &registered{tool: t.tool(info, fallback, Hints{}, args.schema, either(loose(reflect.TypeFor[answered]())))}
	r.handler = s.handle(func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		own, v, err := args.read(req.Params.Arguments)
		if err != nil {
			return nil, err
		}
		if fixed != nil {
			v = fixed
		}
		q, err := sc.question(ctx, info.Name, own["workflow_id"], own["run_id"], own["question_id"])
		if err != nil {
			return nil, err
		}
		out, err := s.reply(ctx, req, q, v, own["note"])
		if err != nil {
			return nil, err
		}
		return structured(out), nil
	})
	if err := s.register(r, fmt.Sprintf("question %q", info.Name)); err != nil {
		return err
	}
	s.mu.Lock()
	s.asks[info.Name] = append(s.asks[info.Name], r)
	s.mu.Unlock()
	return nil
}

// constant encodes a fixed answer and holds it against the type of the answer.
func constant(v any, typ reflect.Type, schema *jsonschema.Schema) (json.RawMessage, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("Tool.Const: %w", err)
	}
	r, err := schema.Resolve(nil)
	if err != nil {
		return nil, err
	}
	var plain any
	if err := json.Unmarshal(raw, &plain); err != nil {
		return nil, err
	}
	if err := r.Validate(plain); err != nil {
		return nil, fmt.Errorf("Tool.Const %s is no answer to the question, which takes a %v: %w", raw, typ, err)
	}
	if typ != nil {
		dec := json.NewDecoder(strings.NewReader(string(raw)))
		dec.DisallowUnknownFields()
		if err := dec.Decode(reflect.New(typ).Interface()); err != nil {
			return nil, fmt.Errorf("Tool.Const %s is no answer to the question, which takes a %v: %w", raw, typ, err)
		}
	}
	return raw, nil
}

// answered is the answer of a tool that answers a question.
type answered struct {
	WorkflowID string          `json:"workflow_id"`
	RunID      string          `json:"run_id"`
	QuestionID string          `json:"question_id"`
	Question   string          `json:"question" jsonschema:"its name"`
	Answer     json.RawMessage `json:"answer" jsonschema:"what was answered"`
}

// reply answers a question in the name of the caller.
func (s *Server) reply(ctx context.Context, req *mcp.CallToolRequest, q *durable.QuestionInfo, v json.RawMessage, note string) (*answered, error) {
	o := &durable.AnswerOptions{Note: note, Digest: q.Digest}
	if key := idempotencyKey(req); key != "" {
		o.ID = mustKey("mcp", durable.ActorOf(ctx).Owner, q.ID, key)
	}
	if err := s.answer(ctx, q, v, o); err != nil {
		e := *typed(err)
		e.WorkflowID, e.RunID = q.WorkflowID, q.RunID
		return nil, &e
	}
	return &answered{WorkflowID: q.WorkflowID, RunID: q.RunID, QuestionID: q.ID, Question: q.Name, Answer: v}, nil
}

// answer checks a value against the question's schema and gives it to the
// engine.
func (s *Server) answer(ctx context.Context, q *durable.QuestionInfo, v json.RawMessage, o *durable.AnswerOptions) error {
	if r, err := s.answerSchema(q).Resolve(nil); err == nil {
		var plain any
		if err := json.Unmarshal(v, &plain); err != nil {
			return badArguments("the answer is not valid JSON: %v", err)
		}
		if err := r.Validate(plain); err != nil {
			return badArguments("the answer does not fit question %q: %s", q.Name, misfit(err))
		}
	}
	return s.eng.Answer(ctx, q.ID, v, o)
}

// answerSchema is the schema of a question's answer: the one that it was asked
// with, or that of its type.
func (s *Server) answerSchema(q *durable.QuestionInfo) *jsonschema.Schema {
	if len(q.Schema) > 0 {
		own := new(jsonschema.Schema)
		if json.Unmarshal(q.Schema, own) == nil {
			return own
		}
	}
	info, _ := s.eng.Definitions().Info(durable.KindQuestion, q.Name)
	return loose(info.In)
}

// addMessage offers a signal, an update or a query: the tool sends it.
func (s *Server) addMessage(info durable.Info, t *Tool) error {
	sc := s.accepting(info)
	payload, err := t.input(info.In)
	if err != nil {
		return err
	}
	spare, does, hints := "input", "Sends the update %q to a run and returns what the run answers.", Hints{}
	out := newResultShape(info.Out)
	switch info.Kind {
	case durable.KindSignal:
		spare, does = "payload", "Sends the signal %q to a run. The run takes it when it comes to it."
		out = resultShape{schema: loose(reflect.TypeFor[sent]())}
	case durable.KindQuery:
		does, hints = "Asks a run the query %q. Nothing changes.", readsOnly()
	}
	args, err := newParams(payload, t.Arg, spare, runIDs()...)
	if err != nil {
		return err
	}
	m := t.tool(info, fmt.Sprintf(does, info.Name), hints, args.schema, either(out.schema))
	return s.register(&registered{tool: m, handler: s.handle(func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		own, v, err := args.read(req.Params.Arguments)
		if err != nil {
			return nil, err
		}
		d, err := sc.run(ctx, own["workflow_id"], own["run_id"], info.Kind != durable.KindQuery)
		if err != nil {
			return nil, err
		}
		ctx, stop := s.bounded(ctx)
		defer stop()
		res, err := s.send(ctx, req, info, d, v)
		if err != nil && ctx.Err() != nil {
			err = &toolError{Type: "timeout", Message: fmt.Sprintf("run %s did not answer %s %q in time; an update goes on all the same, and repeated with the same %s in _meta it gives the same answer", naming(d.WorkflowID, d.RunID), info.Kind, info.Name, IdempotencyKey)}
		}
		if err != nil {
			return nil, about(err, d)
		}
		if info.Kind == durable.KindSignal {
			return structured(&sent{WorkflowID: d.WorkflowID, RunID: d.RunID, Signal: info.Name}), nil
		}
		return value(res, out), nil
	})}, fmt.Sprintf("%s %q", info.Kind, info.Name))
}

// sent is the answer of a tool that sends a signal.
type sent struct {
	WorkflowID string `json:"workflow_id"`
	RunID      string `json:"run_id"`
	Signal     string `json:"signal"`
}

func (s *Server) send(ctx context.Context, req *mcp.CallToolRequest, info durable.Info, d *durable.Description, v json.RawMessage) (json.RawMessage, error) {
	o := &durable.SendOptions{}
	if key := idempotencyKey(req); key != "" {
		o.ID = mustKey("mcp", durable.ActorOf(ctx).Owner, info.Name, key)
	}
	run := s.eng.Run(d.WorkflowID, d.RunID)
	switch info.Kind {
	case durable.KindSignal:
		return nil, run.Signal(ctx, info.Name, v, o)
	case durable.KindUpdate:
		return run.Update(ctx, info.Name, v, o)
	}
	return run.Query(ctx, info.Name, v)
}

// published value of a run as a tool shows it.
type shown struct {
	WorkflowID string          `json:"workflow_id"`
	RunID      string          `json:"run_id"`
	Workflow   string          `json:"workflow"`
	Status     string          `json:"status" jsonschema:"state of the run: running, paused, completed, failed, cancelled, terminated or timed_out"`
	Value      json.RawMessage `json:"value" jsonschema:"what the run published; null before it published anything"`
	WaitingFor []waiting       `json:"waiting_for,omitempty"`
	Questions  []question      `json:"questions,omitempty"`
	Error      string          `json:"error,omitempty"`
}

// addStatus offers a status: the tool reads it, and says how the run is.
func (s *Server) addStatus(info durable.Info, t *Tool) error {
	sc := s.accepting(info)
	args, err := newParams(nil, "", "", runIDs()...)
	if err != nil {
		return err
	}
	out := loose(reflect.TypeFor[shown]())
	out.Properties["value"] = &jsonschema.Schema{AnyOf: []*jsonschema.Schema{loose(info.Out), {Type: "null"}}}
	m := t.tool(info, fmt.Sprintf("Tells the status %q of a run, and how the run is. Nothing changes.", info.Name), readsOnly(), args.schema, either(out))
	return s.register(&registered{tool: m, handler: s.handle(func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		own, _, err := args.read(req.Params.Arguments)
		if err != nil {
			return nil, err
		}
		d, err := sc.run(ctx, own["workflow_id"], own["run_id"], false)
		if err != nil {
			return nil, err
		}
		return s.show(m.Title, info.Name, d), nil
	})}, fmt.Sprintf("status %q", info.Name))
}

// maxRemark is the length of the other published texts that a status shows.
const maxRemark = 500

func (s *Server) show(title, name string, d *durable.Description) *mcp.CallToolResult {
	st := s.statusOf(d)
	out := &shown{
		WorkflowID: d.WorkflowID, RunID: d.RunID, Workflow: d.Workflow, Status: string(d.State), Value: d.Status[name],
		WaitingFor: st.WaitingFor, Questions: st.Questions, Error: st.Error,
	}
	text := "(nothing yet)"
	if out.Value == nil {
		out.Value = json.RawMessage("null")
	} else if json.Unmarshal(out.Value, &text) != nil {
		text = pretty(out.Value)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\nRun status: %s\n", title, text, strings.ToUpper(string(d.State)))
	for _, other := range slices.Sorted(maps.Keys(d.Status)) {
		// What else the run says about itself, where that is a remark: why it
		// failed, say.
		var remark string
		if other != name && json.Unmarshal(d.Status[other], &remark) == nil && remark != "" && len(remark) <= maxRemark {
			about, _ := s.eng.Definitions().Info(durable.KindStatus, other)
			fmt.Fprintf(&b, "%s: %s\n", cmp.Or(about.Title, humanize(other)), remark)
		}
	}
	if out.Error != "" {
		fmt.Fprintf(&b, "Error: %s\n", out.Error)
	}
	if d.Problem != nil {
		fmt.Fprintf(&b, "Blocked: %s\n", d.Problem.Text)
	}
	for _, w := range out.WaitingFor {
		switch {
		case w.Text == "":
		case w.Count > 1:
			fmt.Fprintf(&b, "Waiting %s (%d times)\n", w.Text, w.Count)
		default:
			fmt.Fprintf(&b, "Waiting %s\n", w.Text)
		}
	}
	fmt.Fprintf(&b, "Run: %s", naming(d.WorkflowID, d.RunID))
	return saying(b.String(), out)
}
