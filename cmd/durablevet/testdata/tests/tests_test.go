package tests

import (
	"context"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

var seen int // written by a test: it counts, for it is a test's variable

func TestWorkflow(t *testing.T) {
	level = "test"
	seen = 0
	calls := 0 // tests look into runs
	_ = durable.NewWorkflow("tested", func(ctx context.Context, n int) (int, error) {
		_ = time.Now() // want `workflow tested → time.Now`
		calls++
		_ = seen // want `the package variable seen`
		return n + len(level), nil
	}, nil)
}
