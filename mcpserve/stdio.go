package mcpserve

import (
	"context"
	"fmt"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// ServeStdio serves one client over standard input and output, until the input
// closes or ctx ends, and returns nil then. Standard output carries the
// protocol and nothing else may be written there: the server logs to standard
// error, and so should the program. Runs go on when the program is started
// again, by whatever the engine keeps them in.
func (s *Server) ServeStdio(ctx context.Context) error {
	return s.serve(ctx, &mcp.StdioTransport{})
}

func (s *Server) serve(ctx context.Context, t mcp.Transport) error {
	m := s.newMCP()
	defer s.drop(m)
	done := make(chan struct{})
	ss, err := m.Connect(withDrain(context.WithoutCancel(ctx), done), t, nil)
	if err != nil {
		return fmt.Errorf("mcpserve: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- ss.Wait() }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		close(done)
		_ = ss.Close()
		<-ended
	case <-s.closing:
		_ = ss.Close()
		<-ended
	}
	if err != nil {
		return fmt.Errorf("mcpserve: the connection broke: %w", err)
	}
	return nil
}
