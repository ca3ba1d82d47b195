package mcphost

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/internal/toolset"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// call is a tool call under way. Where the server may ask something in the
// middle of it, it belongs to no step: the step that began it ends then, and a
// later one goes on with it.
type call struct {
	s      *session
	state  state     // that it was made with
	run    [2]string // the workflow and the run whose call it is; empty: nobody's
	token  string    // of progress
	params *mcp.CallToolParams
	ctx    context.Context
	end    context.CancelCauseFunc
	way    journey

	res    *mcp.CallToolResult
	err    error
	cause  error          // that ended it from here
	done   chan struct{}  // closed when res or err is there
	asked  chan struct{}  // has one element when there may be something new in asks; nil: there never is
	until  deadlines      // guarded by s.mu
	given  map[string]int // how often something was asked; guarded by s.mu
	asks   []*ask         // not answered; guarded by s.mu
	expiry *time.Timer    // of a parked call; guarded by Host.mu
}

// state is what a step gives to the next one of the same call.
type state struct {
	Key     string           `json:"key"`               // effect key, of the whole call
	Held    bool             `json:"held,omitempty"`    // the server waits in a live call
	Request string           `json:"request,omitempty"` // the server's own state
	Asked   map[string]asked `json:"asked,omitempty"`   // what it asked, by key
	Again   bool             `json:"again,omitempty"`   // it refused, and is to be called anew
}

// asked is a request for input, as far as its answer needs it.
type asked struct {
	Kind    string          `json:"kind"` // form, url or roots
	Message string          `json:"message,omitempty"`
	Schema  json.RawMessage `json:"schema,omitempty"`
}

const kindRoots = "roots"

// maxInner is how often a step answers a server that asks only for what the
// configuration says.
const maxInner = 10

// call is the step mcp.call_tool. It may run twice, unless the run made it
// at-most-once.
func (h *Host) call(ctx context.Context, in toolset.CallIn) (toolset.CallOut, error) {
	l, err := h.link(in.Server)
	if err != nil {
		return toolset.CallOut{}, err
	}
	if err := toolset.Borrow(ctx, &in.Call, in.Lent); err != nil {
		return toolset.CallOut{}, err
	}
	if in.Method != "" {
		return h.callMethod(ctx, l, &in)
	}
	if !l.s.allowed(in.Tool) {
		return toolset.CallOut{}, durable.Permanent(&Error{Server: l.name, Op: "tools/call", Err: kindOf(ErrDenied, "the configuration does not allow the tool %q", in.Tool)})
	}
	info, _ := durable.StepInfoOf(ctx)
	st := state{Key: info.Key}
	if len(in.State) > 0 {
		if err := json.Unmarshal(in.State, &st); err != nil {
			return toolset.CallOut{}, durable.Permanent(fmt.Errorf("the state of a call: %w", err))
		}
		if out, ok := st.refuse(&in); ok {
			return out, nil
		}
	} else if st.Key == "" {
		st.Key = rand.Text() // no engine
	}
	if st.Held {
		if c := h.unpark(st.Key); c != nil {
			out, err := c.goOn(ctx, &in)
			if err == nil || !in.Repeat || ctx.Err() != nil || !c.s.isDown() {
				return out, err
			}
			// The connection went while the answer was waited for.
		} else if !in.Repeat {
			return toolset.CallOut{}, durable.OutcomeUnknown(l.fail("tools/call", nil, errors.New("the server waited for an answer in a call that is gone with the process or the connection that held it")))
		}
		st = state{Key: st.Key}
	}
	resent := false
	for range maxInner {
		c, err := l.begin(ctx, &in, &st, info)
		if err != nil {
			return toolset.CallOut{}, err
		}
		out, again, err := c.follow(ctx, &in)
		switch {
		case !again:
			return out, err
		case err != nil && resent:
			return out, err
		case err != nil:
			resent = true // it did not get there: a new connection may take it
			continue
		}
		if err := json.Unmarshal(out.State, &st); err != nil {
			return toolset.CallOut{}, err
		}
	}
	return toolset.CallOut{Result: toolset.Failed(in.Call, "the server %q asks for its roots again and again", l.name)}, nil
}

// begin makes a call, on a connection that lives as far as is known.
func (l *link) begin(ctx context.Context, in *toolset.CallIn, st *state, info durable.StepInfo) (*call, error) {
	s, err := l.session(ctx)
	if err != nil {
		return nil, err
	}
	if s.modern && s.web != nil {
		// Parameters may have to go into headers, which the list tells.
		if _, err := s.listTools(ctx); err != nil {
			return nil, err
		}
	}
	args := any(in.Call.Args)
	if len(in.Call.Args) == 0 || string(in.Call.Args) == "null" {
		args = nil
	}
	p := &mcp.CallToolParams{Name: in.Tool, Arguments: args}
	if st.Request != "" || len(st.Asked) > 0 && !st.Again {
		p.RequestState = st.Request
		p.InputResponses = l.responses(st, in.Responses)
	}
	c := &call{
		s: s, state: *st, run: [2]string{info.WorkflowID, info.RunID}, token: strconv.FormatInt(l.h.tokens.Add(1), 10),
		params: p, done: make(chan struct{}),
	}
	p.Meta = mcp.Meta{"progressToken": c.token, EffectKey: st.Key}
	if trace := cmp.Or(durable.TraceOf(ctx), info.Trace); trace != "" {
		p.Meta["traceparent"] = trace
	}
	life := ctx
	if !s.modern {
		// It may outlive the step.
		life, c.asked = s.wire, make(chan struct{}, 1)
	}
	c.ctx, c.end = context.WithCancelCause(context.WithValue(life, journeyKey{}, &c.way))
	if s.proc == nil && s.web == nil {
		c.way.left.Store(true) // a transport that does not say when
	}
	s.start(c)
	return c, nil
}

// start begins a call, beside the caller; where no server asks in the middle of
// one, it makes it. On a connection that is down it has failed already.
func (s *session) start(c *call) {
	s.mu.Lock()
	if c.err = s.why; c.err != nil {
		s.mu.Unlock()
		c.way.left.Store(false)
		c.ended()
		return
	}
	s.calls[c.token] = c
	c.wind()
	switch {
	case s.modern:
		s.work.Add(1)
		s.mu.Unlock()
		defer s.work.Done()
		c.make()
		return
	case s.spare:
		s.spare = false
		s.next <- c // it does not go before the connection is down, which takes s.mu
	default:
		s.work.Go(func() { s.callers(c) })
	}
	s.mu.Unlock()
}

// callers makes calls, one after the other. The goroutine of a call that has
// ended waits for the next one, if no other does: its stack has grown to what a
// call takes, which costs more than the rest of what is done here.
func (s *session) callers(c *call) {
	for {
		c.make()
		s.mu.Lock()
		if s.spare || s.why != nil {
			s.mu.Unlock()
			return
		}
		s.spare = true
		s.mu.Unlock()
		select {
		case c = <-s.next:
		case <-s.down:
			return
		}
	}
}

// make makes the call.
func (c *call) make() {
	c.res, c.err = c.s.cs.CallTool(c.ctx, c.params)
	c.ended()
}

// ended tells those who wait for it that the call has ended.
func (c *call) ended() {
	c.cause = context.Cause(c.ctx)
	c.end(nil)
	c.s.remove(c)
	close(c.done)
}

// follow waits until the call has a result, or needs input. again tells that
// the call may be made again at once: with the state that is given, or, beside
// an error, because it did not get to the server.
func (c *call) follow(ctx context.Context, in *toolset.CallIn) (out toolset.CallOut, again bool, err error) {
	for {
		select {
		case <-c.done:
			if c.err == nil || ctx.Err() == nil {
				return c.outcome(ctx, in)
			}
		case <-c.asked:
			if needs := c.answer(in.Responses); len(needs) > 0 {
				return c.park(in, needs), false, nil
			}
			continue
		case <-ctx.Done():
			c.end(context.Cause(ctx)) // the server is told
			<-c.done
		}
		if err = context.Cause(ctx); c.way.left.Load() {
			err = durable.OutcomeUnknown(err)
		}
		return out, false, err
	}
}

// outcome is what a call that ended came to.
func (c *call) outcome(ctx context.Context, in *toolset.CallIn) (out toolset.CallOut, again bool, err error) {
	l := c.s.l
	if c.err != nil {
		return c.failure(ctx, in)
	}
	if !c.res.NeedsInput() {
		out.Result, err = l.result(in.Call, c.res)
		return out, false, err
	}
	return c.needs(in)
}

// failure is what a call that brought no result came to.
func (c *call) failure(ctx context.Context, in *toolset.CallIn) (out toolset.CallOut, again bool, err error) {
	if err = c.err; c.cause != nil {
		err = c.cause
	}
	if refused := said(c.err); refused != nil {
		if needs, st := urlsNeeded(c.state.Key, refused); len(needs) > 0 {
			raw, err := json.Marshal(st)
			return toolset.CallOut{Needs: needs, State: raw}, false, err
		}
		return out, false, durable.Permanent(c.s.l.fail("tools/call", nil, refusal(refused)))
	}
	if errors.Is(c.err, mcp.ErrSessionMissing) {
		// The server knows the session no more: it did nothing.
		c.way.left.Store(false)
		c.s.lose(c.err)
	}
	if c.cause == nil && (errors.Is(c.err, mcp.ErrConnectionClosed) || errors.Is(c.err, io.EOF)) {
		// It will be known in a moment why.
		select {
		case <-c.s.down:
		case <-time.After(time.Second):
		}
	}
	sent := c.way.left.Load()
	again = !sent && ctx.Err() == nil && c.s.isDown()
	if status := c.way.status.Load(); status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		// It did nothing, and the run waits: that is the engine's timer, which
		// holds no worker.
		out.After = time.Duration(c.way.after.Load())
		out.State, err = json.Marshal(c.state)
		return out, false, err
	}
	err = c.s.fail("tools/call", err)
	if sent {
		err = durable.OutcomeUnknown(err)
	}
	return out, again, err
}

// remove forgets a call that ended.
func (s *session) remove(c *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.calls, c.token)
	s.news()
}

// news wakes those who wait for a change among the calls. s.mu is held.
func (s *session) news() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// progress is a sign of life of a call.
func (s *session) progress(_ context.Context, req *mcp.ProgressNotificationClientRequest) {
	if req.Params == nil {
		return
	}
	token := fmt.Sprint(req.Params.ProgressToken)
	s.mu.Lock()
	if c := s.calls[token]; c != nil && len(c.asks) == 0 {
		c.until.idle = time.Now().Add(s.l.s.Timeouts.Idle)
	}
	s.mu.Unlock()
}

// result makes a call's result of the server's.
func (l *link) result(c llm.ToolCall, res *mcp.CallToolResult) (*llm.ToolResult, error) {
	out := &llm.ToolResult{ID: c.ID, Name: c.Name, Error: res.IsError, Parts: contentParts(res.Content)}
	if res.StructuredContent != nil {
		raw, err := json.Marshal(res.StructuredContent)
		if err != nil {
			return nil, durable.Permanent(l.fail("tools/call", nil, kindOf(ErrProtocol, "structured content: %w", err)))
		}
		out.Data = l.hide.json(raw)
	}
	l.hide.parts(out.Parts)
	return out, nil
}
