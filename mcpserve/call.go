package mcpserve

import (
	"context"
	"fmt"
	"regexp"
	"sync"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// modern is the first revision of the protocol without sessions.
const modern = "2026-07-28"

// handler does what a tool is for.
type handler = func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error)

// handle is attend for tools that don't wait for runs. The engine acknowledges
// nothing while it can't write, on a full disk say: the client hears of that,
// within the time that it gives a call.
func (s *Server) handle(fn handler) mcp.ToolHandler {
	return s.attend(func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		ctx, cancel := context.WithTimeout(ctx, s.opts.Wait)
		defer cancel()
		return fn(ctx, req)
	})
}

// attend makes a handler for the SDK: it says who acts, and turns errors into
// results that the client's model can see.
func (s *Server) attend(fn handler) mcp.ToolHandler {
	return func(ctx context.Context, req *mcp.CallToolRequest) (res *mcp.CallToolResult, err error) {
		defer func() {
			if p := recover(); p != nil {
				s.log.ErrorContext(ctx, "mcpserve: a tool panicked", "tool", req.Params.Name, "panic", p)
				res, err = failed(&toolError{Type: "panic", Message: fmt.Sprintf("tool %s panicked; the server's log has the reason", req.Params.Name)}), nil
			}
		}()
		res, err = fn(s.as(ctx, req), req)
		if err != nil {
			s.log.DebugContext(ctx, "mcpserve: tool error", "tool", req.Params.Name, "error", err)
			return failed(err), nil
		}
		return res, nil
	}
}

// actorKey is where the token of a request carries its actor.
const actorKey = "io.github.mcpagent/actor"

// as says in whose name a request acts: the identity of its token; else what
// the program has put into the context; else the client's name, for the record
// only.
func (s *Server) as(ctx context.Context, req *mcp.CallToolRequest) context.Context {
	if tp := traceparent(req); tp != "" {
		ctx = durable.WithTrace(ctx, tp)
	}
	if req.Extra != nil && req.Extra.TokenInfo != nil {
		return durable.WithActor(ctx, actorOf(req.Extra.TokenInfo))
	}
	if durable.ActorOf(ctx) != (durable.Actor{}) {
		return ctx
	}
	if c := req.ClientInfo(); c != nil && c.Name != "" {
		ctx = durable.WithActor(ctx, durable.Actor{Name: "mcp:" + c.Name})
	}
	return ctx
}

// actorOf is the actor of a token that our own Authenticate, or another
// verifier of the SDK's, has accepted.
func actorOf(t *auth.TokenInfo) durable.Actor {
	if a, ok := t.Extra[actorKey].(durable.Actor); ok {
		return a
	}
	return durable.Actor{Name: t.UserID, Owner: t.UserID}
}

var isTraceparent = regexp.MustCompile(`^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

// traceparent is the W3C trace context of a request, in _meta or in a header.
func traceparent(req *mcp.CallToolRequest) string {
	tp, _ := req.Params.Meta["traceparent"].(string)
	if tp == "" && req.Extra != nil {
		tp = req.Extra.Header.Get("Traceparent")
	}
	if len(tp) != 55 || !isTraceparent.MatchString(tp) {
		return ""
	}
	return tp
}

// isModern reports whether the request is of the era without sessions, in
// which the server asks by answering. The request says so itself: what a
// session asked for at its start may not be what it got.
func isModern(req *mcp.CallToolRequest) bool {
	v, _ := req.Params.Meta[mcp.MetaKeyProtocolVersion].(string)
	return v >= modern
}

// showsForms reports whether the client can put a form before a person.
func showsForms(req *mcp.CallToolRequest) bool {
	caps := req.ClientCapabilities()
	if caps == nil || caps.Elicitation == nil {
		return false
	}
	return caps.Elicitation.Form != nil || caps.Elicitation.URL == nil
}

// draining ends when the way of serving that ctx belongs to does.
func (s *Server) draining(ctx context.Context) <-chan struct{} {
	ch, _ := ctx.Value(drainKey{}).(<-chan struct{})
	return ch
}

// drainKey is where a context carries the end of its way of serving; the SDK
// keeps values of contexts, not their ends.
type drainKey struct{}

func withDrain(ctx context.Context, ch <-chan struct{}) context.Context {
	return context.WithValue(ctx, drainKey{}, ch)
}

// bounded is ctx with the end that every wait has: the limit, and the end of
// the way of serving. stop gives back what it holds.
func (s *Server) bounded(ctx context.Context) (_ context.Context, stop func()) {
	drain := s.draining(ctx)
	ctx, cancel := context.WithTimeout(ctx, s.opts.Wait)
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-ctx.Done():
		case <-drain:
		case <-s.closing:
		}
		cancel()
	})
	return ctx, func() { cancel(); wg.Wait() }
}
