//go:build !race

package localengine_test

import (
	"testing"

	"github.com/mcpagent/mcpagent/durable/durabletest"
)

const raceDetector = false

// TestContractOfAClient plays the contract with the clients in this process,
// and the program in another one. The race detector sees neither across the
// border, and slows both down beyond what real time allows.
func TestContractOfAClient(t *testing.T) {
	t.Parallel()
	durabletest.TestEngine(t, clientEngine())
}
