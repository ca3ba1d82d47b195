package mcphost

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/internal/toolset"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// ask is something that a server of the older revisions asks in the middle of a
// call, and waits for.
type ask struct {
	req   toolset.InputRequest
	reply chan toolset.InputResponse // takes one
}

// attribution is how long a server's question waits until it is clear which
// call it belongs to: the older revisions don't say.
const attribution = 10 * time.Second

// elicit is a server's request for input. It waits for the answer of the run
// whose call it belongs to.
func (s *session) elicit(ctx context.Context, req *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
	in, err := inputRequest(req.Params)
	if err != nil {
		return nil, err
	}
	c, err := s.whose(ctx)
	if err != nil {
		s.l.h.log.WarnContext(ctx, "mcphost: a question of a server was refused", "server", s.l.name, "error", err)
		return nil, err
	}
	a := c.take(in)
	defer c.drop(a)
	select {
	case r := <-a.reply:
		return elicitResult(r)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-c.done:
		return nil, errors.New("the call has ended")
	}
}

// whose finds the call that a server's question belongs to: one of those that
// were under way when it came. Those that end are none; when one is left it is
// that. Calls of one run may stand for each other, those of several may not:
// a question must not get to somebody else's person.
func (s *session) whose(ctx context.Context) (*call, error) {
	if s.modern {
		return nil, errors.New("a server of this revision says in its result what it needs, and asks nothing in the middle of a call")
	}
	timeout := time.NewTimer(attribution)
	defer timeout.Stop()
	var first []*call
	for late := false; ; {
		s.mu.Lock()
		if first == nil {
			first = slices.Collect(maps.Values(s.calls))
		}
		open := slices.DeleteFunc(slices.Clone(first), func(c *call) bool { return s.calls[c.token] != c })
		// Who waits for an answer already hardly asks again.
		if quiet := slices.DeleteFunc(slices.Clone(open), func(c *call) bool { return len(c.asks) > 0 }); len(quiet) > 0 {
			open = quiet
		}
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed := s.changed
		s.mu.Unlock()
		switch {
		case len(open) == 0:
			return nil, errors.New("it belongs to no call")
		case len(open) == 1:
			return open[0], nil
		case late:
			oldest := slices.MinFunc(open, func(a, b *call) int {
				return cmp.Or(cmp.Compare(len(a.token), len(b.token)), strings.Compare(a.token, b.token))
			})
			if slices.ContainsFunc(open, func(c *call) bool { return c.run != oldest.run }) {
				return nil, fmt.Errorf("%d calls of several runs are under way, and the server does not say to which of them it belongs", len(open))
			}
			return oldest, nil
		}
		select {
		case <-changed:
		case <-timeout.C:
			late = true
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// take gives a question to the call. Its time stands still until all are
// answered.
func (c *call) take(in toolset.InputRequest) *ask {
	s := c.s
	a := &ask{req: in, reply: make(chan toolset.InputResponse, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	digest := in.Digest(s.l.name, "")
	if c.given == nil {
		c.given = map[string]int{}
	}
	c.given[digest]++
	a.req.Key = fmt.Sprintf("%s/%d", digest, c.given[digest])
	c.asks = append(c.asks, a)
	c.until = deadlines{}
	s.news()
	select {
	case c.asked <- struct{}{}:
	default:
	}
	return a
}

// drop forgets a question that is answered, or taken back.
func (c *call) drop(a *ask) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	c.asks = slices.DeleteFunc(c.asks, func(b *ask) bool { return b == a })
	if len(c.asks) == 0 {
		c.wind()
	}
	s.news()
}

// answer gives the answers that are there to the questions that are open, and
// tells what is still needed.
func (c *call) answer(got map[string]toolset.InputResponse) []toolset.InputRequest {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	var needs []toolset.InputRequest
	for _, a := range c.asks {
		r, ok := got[a.req.Key]
		if !ok {
			needs = append(needs, a.req)
			continue
		}
		if note := misfit(a.req.Kind, a.req.Schema, r); note != "" {
			again := a.req
			again.Note = note
			needs = append(needs, again)
			continue
		}
		select {
		case a.reply <- r:
		default: // it has one
		}
	}
	return needs
}

// park keeps the call for the step that comes with the answers.
func (c *call) park(in *toolset.CallIn, needs []toolset.InputRequest) toolset.CallOut {
	h := c.s.l.h
	raw, err := json.Marshal(state{Key: c.state.Key, Held: true})
	if err != nil {
		panic(err) // it consists of texts
	}
	wait := in.Wait
	if wait <= 0 {
		wait = defaultWait
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return toolset.CallOut{Needs: needs, State: raw, Held: true} // the call ends with its connection
	}
	h.parked[c.state.Key] = c
	// The run answers at the expiry of its question; this is for runs that
	// are no more.
	c.expiry = time.AfterFunc(wait+time.Minute, func() {
		if h.unpark(c.state.Key) == c {
			c.end(errors.New("nobody answered"))
		}
	})
	return toolset.CallOut{Needs: needs, State: raw, Held: true}
}

const defaultWait = 7 * 24 * time.Hour

// unpark takes a parked call.
func (h *Host) unpark(key string) *call {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.parked[key]
	if c != nil {
		c.expiry.Stop()
		delete(h.parked, key)
	}
	return c
}

// goOn goes on with a call that was parked.
func (c *call) goOn(ctx context.Context, in *toolset.CallIn) (toolset.CallOut, error) {
	if needs := c.answer(in.Responses); len(needs) > 0 {
		return c.park(in, needs), nil
	}
	out, _, err := c.follow(ctx, in)
	return out, err
}

// inputRequest is what a server asks, in the form that runs know.
func inputRequest(p *mcp.ElicitParams) (toolset.InputRequest, error) {
	r := toolset.InputRequest{Kind: p.Mode, Message: p.Message, URL: p.URL}
	switch p.Mode {
	case "", toolset.Form:
		r.Kind = toolset.Form
		if p.RequestedSchema != nil {
			raw, err := json.Marshal(p.RequestedSchema)
			if err != nil {
				return r, err
			}
			r.Schema = raw
		}
	case toolset.URL:
		if p.URL == "" {
			return r, errors.New("the url is missing")
		}
	default:
		return r, fmt.Errorf("the mode %q is not known", p.Mode)
	}
	return r, nil
}

// elicitResult is an answer in the protocol's form.
func elicitResult(r toolset.InputResponse) (*mcp.ElicitResult, error) {
	out := &mcp.ElicitResult{Action: r.Action}
	if r.Action == toolset.Accept && len(r.Content) > 0 {
		if err := json.Unmarshal(r.Content, &out.Content); err != nil {
			return nil, fmt.Errorf("the answer is no object: %w", err)
		}
	}
	return out, nil
}

// misfit tells why an answer does not fit what was asked; empty if it does.
func misfit(kind string, schema json.RawMessage, r toolset.InputResponse) string {
	if r.Action != toolset.Accept || kind != toolset.Form || len(schema) == 0 {
		return ""
	}
	s := new(jsonschema.Schema)
	if json.Unmarshal(schema, s) != nil {
		return ""
	}
	resolved, err := s.Resolve(nil)
	if err != nil {
		return ""
	}
	content := any(map[string]any{})
	if len(r.Content) > 0 {
		if err := json.Unmarshal(r.Content, &content); err != nil {
			return fmt.Sprintf("The answer before was not accepted: %v.", err)
		}
	}
	if err := resolved.Validate(content); err != nil {
		return fmt.Sprintf("The answer before was not accepted: %v.", err)
	}
	return ""
}

// needs is a server's wish for input before it goes on, in the form of
// revision 2026-07-28. What the configuration can say is said at once.
func (c *call) needs(in *toolset.CallIn) (out toolset.CallOut, again bool, err error) {
	l := c.s.l
	st := state{Key: c.state.Key, Request: c.res.RequestState, Asked: map[string]asked{}}
	for _, key := range slices.Sorted(maps.Keys(c.res.InputRequests)) {
		switch p := c.res.InputRequests[key].(type) {
		case *mcp.ElicitParams:
			r, err := inputRequest(p)
			if err != nil {
				return out, false, durable.Permanent(l.fail("tools/call", nil, kindOf(ErrProtocol, "input request %q: %w", key, err)))
			}
			r.Key = key
			out.Needs = append(out.Needs, r)
			st.Asked[key] = asked{Kind: r.Kind, Message: r.Message, Schema: r.Schema}
		default:
			if wantsRoots(p) {
				st.Asked[key] = asked{Kind: kindRoots}
				continue
			}
			out.Result = toolset.Failed(in.Call, "the server %q wants a model's answer (sampling), which this host does not give", l.name)
			out.Needs = nil
			return out, false, nil
		}
	}
	out.State, err = json.Marshal(st)
	return out, len(out.Needs) == 0 && len(st.Asked) > 0, err
}

// responses are the answers to what was asked last.
func (l *link) responses(st *state, got map[string]toolset.InputResponse) mcp.InputResponseMap {
	out := mcp.InputResponseMap{}
	for key, a := range st.Asked {
		if a.Kind == kindRoots {
			out[key] = l.rootsResult()
			continue
		}
		if r, ok := got[key]; ok {
			if res, err := elicitResult(r); err == nil {
				out[key] = res
			}
		}
	}
	return out
}

// refuse looks at the answers before the server does. What does not fit is
// asked again; to decline a page that the server insists on ends the call.
func (st *state) refuse(in *toolset.CallIn) (toolset.CallOut, bool) {
	if st.Held {
		return toolset.CallOut{}, false
	}
	var needs []toolset.InputRequest
	for _, key := range slices.Sorted(maps.Keys(st.Asked)) {
		a := st.Asked[key]
		r, ok := in.Responses[key]
		if !ok {
			continue
		}
		if st.Again && r.Action != toolset.Accept {
			return toolset.CallOut{Result: toolset.Failed(in.Call, "the server needs a person to visit a page first, and the answer was: %s", r.Action)}, true
		}
		if note := misfit(a.Kind, a.Schema, r); note != "" {
			needs = append(needs, toolset.InputRequest{Key: key, Kind: a.Kind, Message: a.Message, Schema: a.Schema, Note: note})
		}
	}
	if len(needs) == 0 {
		return toolset.CallOut{}, false
	}
	return toolset.CallOut{Needs: needs, State: bytes.Clone(in.State)}, true
}

// urlsNeeded reads the error by which servers of revision 2025-11-25 say that
// a person has to visit pages before the call can be made.
func urlsNeeded(key string, e *jsonrpc.Error) ([]toolset.InputRequest, state) {
	st := state{Key: key, Again: true, Asked: map[string]asked{}}
	if e.Code != mcp.CodeURLElicitationRequired {
		return nil, st
	}
	var data struct {
		Elicitations []*mcp.ElicitParams `json:"elicitations"`
	}
	if json.Unmarshal(e.Data, &data) != nil {
		return nil, st
	}
	var needs []toolset.InputRequest
	for i, p := range data.Elicitations {
		if p == nil || p.URL == "" {
			continue
		}
		n := toolset.InputRequest{Key: fmt.Sprintf("url/%d/%s", i, p.ElicitationID), Kind: toolset.URL, Message: p.Message, URL: p.URL}
		needs = append(needs, n)
		st.Asked[n.Key] = asked{Kind: n.Kind}
	}
	return needs, st
}
