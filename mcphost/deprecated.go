package mcphost

//lint:file-ignore SA1019 roots and logging are deprecated from revision 2026-07-28 on, and servers speak them.

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// deprecated makes the client, with what the newest revision deprecates: the
// roots of the configuration, and the lines of the server's log.
func (s *session) deprecated(o *mcp.ClientOptions) *mcp.Client {
	o.LoggingMessageHandler = s.logged
	if len(s.l.s.Roots) > 0 {
		o.Capabilities.RootsV2 = &mcp.RootCapabilities{}
	}
	c := mcp.NewClient(s.l.h.implementation(), o)
	c.AddRoots(s.l.rootsResult().Roots...)
	return c
}

// wantsRoots reports whether a server asks for its roots.
func wantsRoots(r mcp.InputRequest) bool {
	_, ok := r.(*mcp.ListRootsParams)
	return ok
}

// rootsResult is what a server is told that asks.
func (l *link) rootsResult() *mcp.ListRootsResult {
	out := &mcp.ListRootsResult{Roots: []*mcp.Root{}}
	for _, r := range l.s.Roots {
		out.Roots = append(out.Roots, r.wire())
	}
	return out
}

// logged is a line of a server's log.
func (s *session) logged(ctx context.Context, req *mcp.LoggingMessageRequest) {
	if p := req.Params; p != nil && s.l.h.log.Enabled(ctx, slog.LevelDebug) {
		s.l.h.log.DebugContext(ctx, "mcphost: a server logs", "server", s.l.name, "level", string(p.Level), "logger", p.Logger, "data", clip(s.l.hide.text(fmt.Sprint(p.Data)), 2000))
	}
}

// wire is what the server is told of a root.
func (r Root) wire() *mcp.Root {
	uri := r.URI
	if r.Alias != "" {
		uri = r.Alias
	}
	return &mcp.Root{URI: uri, Name: r.Name}
}
