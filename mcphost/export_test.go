package mcphost

import (
	"context"

	"github.com/mcpagent/mcpagent/internal/toolset"
)

// CallStep is the step mcp.call_tool without an engine around it.
func (h *Host) CallStep(ctx context.Context, in toolset.CallIn) (toolset.CallOut, error) {
	return h.call(ctx, in)
}
