package mcpserve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// handover is the answer of an inline call whose run goes on without it.
type handover struct {
	WorkflowID  string     `json:"workflow_id"`
	RunID       string     `json:"run_id"`
	ExecutionID string     `json:"execution_id" jsonschema:"the same as run_id"`
	Status      string     `json:"status" jsonschema:"state of the run"`
	Reason      string     `json:"reason" jsonschema:"wait_limit, question, declined, form_closed, rounds, cancelled or shutdown"`
	Message     string     `json:"message"`
	WaitingFor  []waiting  `json:"waiting_for,omitempty"`
	Questions   []question `json:"questions,omitempty" jsonschema:"open questions to people; ask the person, then answer with one of the tools named"`
	Poll        *poll      `json:"poll,omitempty" jsonschema:"the call that tells how the run is"`
}

type poll struct {
	Tool      string            `json:"tool"`
	Arguments map[string]string `json:"arguments"`
}

const (
	lookFirst = 10 * time.Millisecond  // until the first look at a run
	lookMost  = time.Second            // between looks, later
	alive     = 10 * time.Second       // between notifications of progress
	formTries = 3                      // answers that do not fit, before the form is given up
	maxRounds = 8                      // input_required answers of one call; clients stop at 10
	courtesy  = 100 * time.Millisecond // for word of a form that is taken back
	afterward = 5 * time.Second        // for what is left to do once a call was cancelled
)

// inlineCall is one call that waits for its run.
type inlineCall struct {
	s     *Server
	req   *mcp.CallToolRequest
	flow  *flow
	run   *durable.Run
	forms bool

	rounds int            // input_required answers so far
	tries  map[string]int // answers that did not fit, by question
	skip   map[string]bool
	note   string // for the next form: what was wrong with the last answer

	shown    string // progress last sent
	progress float64
	sentAt   time.Time
}

// inline starts a run, or goes on with the one that a retried call names, and
// waits for its result.
func (s *Server) inline(ctx context.Context, req *mcp.CallToolRequest, f *flow, input json.RawMessage) (*mcp.CallToolResult, error) {
	c := &inlineCall{s: s, req: req, flow: f, forms: showsForms(req), tries: map[string]int{}, skip: map[string]bool{}}
	if req.Params.RequestState != "" {
		res, err := c.resume(ctx)
		if res != nil || err != nil {
			return res, err
		}
		return c.wait(ctx)
	}
	var err error
	if c.run, err = s.start(ctx, req, f, input, "", ""); err != nil {
		return nil, err
	}
	return c.wait(ctx)
}

type outcome struct {
	value json.RawMessage
	err   error
}

// wait waits for the run's end, and hands over at the limit. All it starts has
// ended when it returns.
func (c *inlineCall) wait(ctx context.Context) (*mcp.CallToolResult, error) {
	wctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var form *shownForm     // a person has it now
	var takenBack time.Time // when the last form was
	defer func() {
		if form != nil {
			takenBack = time.Now()
		}
		stop()
		wg.Wait()
		if !takenBack.IsZero() {
			// The SDK says so to the client in its own time, and over HTTP
			// only until the call is answered.
			<-time.After(courtesy - time.Since(takenBack))
		}
	}()
	ended := make(chan outcome, 1)
	wg.Go(func() {
		v, err := c.run.Result(wctx)
		ended <- outcome{v, err}
	})
	most := or(c.flow.tool.Wait, c.s.opts.Wait)
	deadline := time.Now().Add(most)
	limit, look, pause := time.NewTimer(most), time.NewTimer(lookFirst), lookFirst
	defer limit.Stop()
	defer look.Stop()

	var replies <-chan reply
	var left time.Duration // of the limit, which stands still meanwhile
	closeForm := func() {
		form.stop()
		form, replies = nil, nil
		deadline = time.Now().Add(left)
		limit.Reset(left)
	}
	for {
		select {
		case <-c.s.closing:
			return c.handOver(ctx, "shutdown", "the server is shutting down"), nil
		case <-c.s.draining(ctx):
			return c.handOver(ctx, "shutdown", "the server is shutting down"), nil
		default:
		}
		select {
		case <-c.s.closing: // see above
		case <-c.s.draining(ctx):
		case o := <-ended:
			return c.finish(ctx, o)
		case <-ctx.Done():
			return c.abandon(ctx), nil
		case <-limit.C:
			if form != nil {
				return c.handOver(ctx, "form_closed", "nobody filled in the form in time; the question stays open"), nil
			}
			return c.handOver(ctx, "wait_limit", fmt.Sprintf("it has not ended after %v", most)), nil
		case r := <-replies:
			q := form.q
			closeForm()
			if res := c.replied(ctx, q, r); res != nil {
				return res, nil
			}
			pause = lookFirst
			look.Reset(pause)
		case <-look.C:
			pause = min(pause*3/2, lookMost)
			look.Reset(pause)
			d, err := c.s.follow(wctx, c.run.WorkflowID, c.run.RunID)
			if err != nil || d.State.Done() {
				continue // the result says more
			}
			if c.report(ctx, d) {
				pause = lookFirst
				look.Reset(pause)
			}
			open := c.open(wctx, d)
			if form != nil && !has(open, form.q.ID) {
				takenBack = time.Now() // answered elsewhere, or expired
				closeForm()
			}
			if form != nil || len(open) == 0 {
				continue
			}
			q, ok := c.askable(ctx, open)
			switch {
			case !ok:
				return c.handOver(ctx, "question", "it needs an answer from a person"), nil
			case !isModern(c.req):
				left = max(time.Until(deadline), 0)
				limit.Reset(c.s.opts.FormWait)
				form = c.show(wctx, &wg, q)
				replies = form.replies
			case c.rounds >= maxRounds:
				return c.handOver(ctx, "rounds", "it has asked more than one call can carry"), nil
			default:
				return c.ask(q)
			}
		}
	}
}

// finish is the answer for a run that has ended.
func (c *inlineCall) finish(ctx context.Context, o outcome) (*mcp.CallToolResult, error) {
	switch {
	case o.err == nil:
		return value(o.value, c.flow.out), nil
	case ctx.Err() != nil:
		return c.abandon(ctx), nil
	case errors.Is(o.err, durable.ErrShutdown) || errors.Is(o.err, durable.ErrClosed):
		return c.handOver(ctx, "shutdown", "the engine is shutting down"), nil
	}
	e := *typed(o.err)
	if e.WorkflowID == "" {
		e.WorkflowID, e.RunID = c.run.WorkflowID, c.run.RunID
	}
	return nil, &e
}

// abandon is for a call that its client has given up. The answer reaches
// nobody; the run goes on, unless the tool was added with CancelRun and the
// run is this call's own.
func (c *inlineCall) abandon(ctx context.Context) *mcp.CallToolResult {
	if c.flow.tool.CancelRun && !c.run.Existing {
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterward)
		defer cancel()
		if err := c.run.Cancel(after, "the client cancelled the call"); err != nil && !errors.Is(err, durable.ErrFinished) {
			c.s.log.WarnContext(after, "mcpserve: cancel the run of a cancelled call", "workflow_id", c.run.WorkflowID, "run_id", c.run.RunID, "error", err)
		}
	}
	return c.handOver(ctx, "cancelled", "the call was cancelled")
}

// handOver is the answer for a run that goes on by itself: its ids, what it
// waits for and what to do.
func (c *inlineCall) handOver(ctx context.Context, reason, why string) *mcp.CallToolResult {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterward)
	defer cancel()
	h := &handover{
		WorkflowID: c.run.WorkflowID, RunID: c.run.RunID, ExecutionID: c.run.RunID, Reason: reason,
		Status: string(durable.Running),
	}
	h.Message = fmt.Sprintf("run %s goes on by itself: %s", naming(h.WorkflowID, h.RunID), why)
	if d, err := c.s.follow(ctx, c.run.WorkflowID, c.run.RunID); err == nil {
		st := c.s.statusOf(d)
		h.Status, h.WaitingFor = st.Status, st.WaitingFor
		for _, q := range c.open(ctx, d) {
			h.Questions = append(h.Questions, c.s.questionOf(q))
		}
	}
	for _, q := range h.Questions {
		h.Message += fmt.Sprintf(". It asks a person: %q", q.Text)
		if len(q.AnswerWith) > 0 {
			h.Message += fmt.Sprintf(" (answer with %s)", q.AnswerWith[0])
		}
	}
	if c.s.offers(ControlStatus) {
		h.Poll = &poll{Tool: ControlStatus, Arguments: map[string]string{"workflow_id": h.WorkflowID, "run_id": h.RunID}}
		h.Message += ". Poll " + ControlStatus + " with its ids"
	}
	return structured(h)
}

// report tells the client what the run does, if it wants to know; true if
// that is news. Sending now and then without news keeps a call alive whose
// client counts the time since it last heard of it.
func (c *inlineCall) report(ctx context.Context, d *durable.Description) bool {
	text := published(d)
	for _, w := range d.Waiting {
		if w.Text != "" {
			text += ", waiting " + w.Text
			break
		}
	}
	news := text != c.shown
	token := c.req.Params.GetProgressToken()
	if token == nil || !news && time.Since(c.sentAt) < alive {
		c.shown = text
		return news
	}
	c.shown, c.sentAt = text, time.Now()
	c.progress++
	err := c.req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: c.progress, Message: text})
	if err != nil {
		c.s.log.DebugContext(ctx, "mcpserve: progress", "error", err)
	}
	return news
}

// open lists the open questions of the run and of its children.
func (c *inlineCall) open(ctx context.Context, d *durable.Description) []*durable.QuestionInfo {
	var out []*durable.QuestionInfo
	add := func(q *durable.QuestionInfo) {
		if q.State == "open" && !c.skip[q.ID] {
			out = append(out, q)
		}
	}
	for _, q := range d.Questions {
		add(q)
	}
	children := false
	for _, w := range d.Waiting {
		children = children || w.Kind == "child"
	}
	if !children {
		return out
	}
	all, err := c.s.eng.Questions(ctx, nil)
	if err != nil {
		return out
	}
	for _, q := range all {
		if q.WorkflowID != d.WorkflowID && c.s.descends(ctx, q, d.WorkflowID) {
			add(q)
		}
	}
	oldestFirst(out)
	return out
}

// descends reports whether a question is asked by a run, or a child of it.
func (s *Server) descends(ctx context.Context, q *durable.QuestionInfo, workflowID string) bool {
	ref := &durable.Ref{WorkflowID: q.WorkflowID, RunID: q.RunID}
	for range maxDepth {
		if ref.WorkflowID == workflowID {
			return true
		}
		d, err := s.eng.Run(ref.WorkflowID, ref.RunID).Describe(ctx)
		if err != nil || d.Parent == nil {
			return false
		}
		ref = d.Parent
	}
	return false
}

func has(qs []*durable.QuestionInfo, id string) bool {
	for _, q := range qs {
		if q.ID == id {
			return true
		}
	}
	return false
}
