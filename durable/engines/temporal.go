package engines

import (
	"context"
	"fmt"

	"github.com/mcpagent/mcpagent/durable"
)

// openTemporal opens the engine temporal.
func openTemporal(context.Context, *Config, *Options, *durable.Options, []durable.Definer) (*durable.Engine, error) {
	return nil, fmt.Errorf("open the engine temporal: %w: this version has memory and local", durable.ErrUnsupported)
}
