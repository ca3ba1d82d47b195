package durabletest

import (
	"errors"
	"testing"

	"github.com/mcpagent/mcpagent/durable"
)

// Replay holds the code of defs against histories that [durable.Run.Export]
// gave, kept under testdata or fetched from production. A history that the
// code does not fit is an error of the test that says which recorded event met
// which call; what is merely done with other values is logged. Nothing takes
// effect.
func Replay(t testing.TB, defs durable.Definer, histories ...[]byte) {
	t.Helper()
	if len(histories) == 0 {
		t.Error("replay: there is no history")
	}
	for i, h := range histories {
		rep, err := durable.Replay(t.Context(), h, defs)
		var blocked *durable.BlockedError
		switch {
		case errors.As(err, &blocked):
			t.Errorf("history %d, of run %s (%s): the code does not fit it (%s):\n%s", i+1, blocked.WorkflowID, blocked.RunID, blocked.Problem.Kind, blocked.Problem.Text)
			continue
		case err != nil:
			t.Errorf("history %d: %v", i+1, err)
			continue
		}
		for _, d := range rep.Drift {
			t.Logf("history %d, of run %s: drift: %s", i+1, rep.WorkflowID, d)
		}
	}
}
