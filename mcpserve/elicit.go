package mcpserve

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// formKey is the name of the one input request of an input_required answer.
const formKey = "answer"

// reply is what came back for a form.
type reply struct {
	res *mcp.ElicitResult
	err error
}

// shownForm is a form that a person has before them.
type shownForm struct {
	q       *durable.QuestionInfo
	replies chan reply
	stop    context.CancelFunc
}

// show sends the form to a client of the era of sessions, which may ask its
// clients at any time. Stopping takes the form back.
func (c *inlineCall) show(ctx context.Context, wg *sync.WaitGroup, q *durable.QuestionInfo) *shownForm {
	ctx, stop := context.WithCancel(ctx)
	f := &shownForm{q: q, replies: make(chan reply, 1), stop: stop}
	params := c.s.formOf(q).params(c.prompt(q))
	wg.Go(func() {
		res, err := c.req.Session.Elicit(ctx, params)
		f.replies <- reply{res, err}
	})
	return f
}

// ask is the answer that asks, for clients of the era without sessions: they
// call again with the person's answer and the state, and any process that
// serves the engine may take that call.
func (c *inlineCall) ask(q *durable.QuestionInfo) (*mcp.CallToolResult, error) {
	st := &requestState{
		WorkflowID: c.run.WorkflowID, RunID: c.run.RunID, Question: q.ID, Asker: durable.Ref{WorkflowID: q.WorkflowID, RunID: q.RunID},
		Arguments: argumentsDigest(c.req.Params.Arguments), Rounds: c.rounds + 1, Tries: c.tries[q.ID], Existing: c.run.Existing,
	}
	return &mcp.CallToolResult{
		InputRequests: mcp.InputRequestMap{formKey: c.s.formOf(q).params(c.prompt(q))},
		RequestState:  st.encode(),
	}, nil
}

// prompt is the text of a form.
func (c *inlineCall) prompt(q *durable.QuestionInfo) string {
	note := c.note
	c.note = ""
	if note != "" {
		return note + "\n\n" + questionText(q)
	}
	return questionText(q)
}

// askable picks the question to put before the caller; false if there is one
// that can't be: the client shows no forms, or somebody else is meant.
func (c *inlineCall) askable(ctx context.Context, open []*durable.QuestionInfo) (*durable.QuestionInfo, bool) {
	if !c.forms {
		return nil, false
	}
	a := durable.ActorOf(ctx)
	for _, q := range open {
		if q.Audience == "" || q.Audience == a.Name || q.Audience == a.Owner {
			return q, true
		}
	}
	return nil, false
}

// replied gives a person's answer to the engine. A result ends the call; nil
// goes on waiting.
func (c *inlineCall) replied(ctx context.Context, q *durable.QuestionInfo, r reply) *mcp.CallToolResult {
	switch {
	case ctx.Err() != nil:
		return nil
	case r.err != nil:
		c.s.log.DebugContext(ctx, "mcpserve: elicitation", "question", q.ID, "error", r.err)
		return c.handOver(ctx, "form_closed", fmt.Sprintf("the client did not bring an answer (%v); the question stays open", r.err))
	case r.res.Action != "accept":
		return c.handOver(ctx, "declined", "the person did not answer; the question stays open")
	}
	v, err := c.s.formOf(q).value(r.res.Content)
	if err == nil {
		err = c.s.answer(ctx, q, v, &durable.AnswerOptions{Digest: q.Digest})
	}
	switch {
	case err == nil,
		errors.Is(err, durable.ErrAnswered), errors.Is(err, durable.ErrExpired),
		errors.Is(err, durable.ErrFinished), errors.Is(err, durable.ErrNotFound):
		c.skip[q.ID] = true // it is settled, by this answer or before it came
		return nil
	}
	if c.tries[q.ID]++; c.tries[q.ID] >= formTries {
		return c.handOver(ctx, "form_closed", fmt.Sprintf("the answers did not fit (%v); the question stays open", err))
	}
	c.note = fmt.Sprintf("That was not accepted: %v", err)
	return nil
}

// resume goes on where an input_required answer stopped. A result or an error
// ends the call.
func (c *inlineCall) resume(ctx context.Context) (*mcp.CallToolResult, error) {
	st, err := decodeState(c.req.Params.RequestState)
	if err != nil {
		return nil, err
	}
	if st.Arguments != argumentsDigest(c.req.Params.Arguments) {
		return nil, badState("it belongs to a call with other arguments")
	}
	// The state only names things; what the caller may see and do is decided
	// here, as for any call.
	d, err := c.s.served().run(ctx, st.WorkflowID, st.RunID, false)
	if err != nil {
		return nil, err
	}
	if d.Workflow != c.flow.info.Name {
		return nil, badState("it belongs to a run of another workflow")
	}
	c.run = c.s.eng.Run(st.WorkflowID, st.RunID)
	c.run.Existing = st.Existing
	c.rounds = st.Rounds
	c.tries[st.Question] = st.Tries
	in, ok := c.req.Params.InputResponses[formKey]
	if !ok {
		return nil, nil // the client asks again
	}
	res, ok := in.(*mcp.ElicitResult)
	if !ok {
		return nil, badState("the input response is no answer to an elicitation")
	}
	asked, err := c.s.eng.Questions(ctx, &durable.QuestionFilter{WorkflowID: st.Asker.WorkflowID, RunID: st.Asker.RunID})
	if err != nil && !errors.Is(err, durable.ErrNotFound) {
		return nil, err
	}
	for _, q := range asked {
		if q.ID == st.Question && q.State == "open" && c.s.descends(ctx, q, d.WorkflowID) {
			return c.replied(ctx, q, reply{res: res}), nil
		}
	}
	return nil, nil // settled meanwhile
}
