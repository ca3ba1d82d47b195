package mcphost

import (
	"bufio"
	"context"
	"io"
	"log/slog"

	"github.com/mcpagent/mcpagent/internal/toolset"
)

// CallStep is the step mcp.call_tool without an engine around it.
func (h *Host) CallStep(ctx context.Context, in toolset.CallIn) (toolset.CallOut, error) {
	return h.call(ctx, in)
}

// ReadAll reads what a server writes, as the connection does, and gives the
// number of messages and the error at the end.
func ReadAll(in io.Reader, limit int) (int, error) {
	c := &stdioConn{t: &stdio{limit: limit, log: slog.New(slog.DiscardHandler), hide: &hider{}, in: bufio.NewReaderSize(in, 16)}}
	n := 0
	for {
		line, err := c.line()
		if err != nil {
			return n, err
		}
		c.parse(context.Background(), line)
		n += len(c.queue)
		c.queue = nil
	}
}

// What names are made with.
var ExposedName = exposedName

// FailLost is the error of a request of a connection that is lost.
func FailLost(why, err error) error {
	s := &session{l: &link{name: "s", hide: &hider{}}, down: make(chan struct{})}
	s.lose(why)
	return s.fail("tools/call", err)
}
