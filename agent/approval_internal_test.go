package agent

import (
	"testing"

	"github.com/mcpagent/mcpagent/llm"
)

// TestRulesOfNamesWithSlashes: servers may call their tools "admin/delete", and
// a pattern that denies them means those too.
func TestRulesOfNamesWithSlashes(t *testing.T) {
	t.Parallel()
	o := &offered{server: "team/files", original: "admin/delete", spec: llm.Tool{Name: "team_files_admin_delete"}}
	for _, r := range []Rule{{Tool: "admin*"}, {Tool: "*delete"}, {Tool: "admin?delete"}, {Server: "team*"}, {Server: "*", Tool: "admin/*"}, {Tool: "team_*"}} {
		r.Do = Deny
		if got := (Policy{r}).decide(o, nil); got != Deny {
			t.Errorf("%+v: %s", r, got)
		}
	}
	if got := (Policy{{Tool: "admin", Do: Deny}, {Server: "team", Do: Deny}}).decide(o, nil); got != Allow {
		t.Errorf("a part of a name: %s", got)
	}
}
