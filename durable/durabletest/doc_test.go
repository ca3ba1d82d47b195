package durabletest

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// rows are the rows of the contract, in its order. Where no scenario is, it
// says what holds the row instead.
var rows = []struct{ part, name, instead string }{
	{"Ideas", "Turn", "One flush per turn, however many events: the benchmarks count flushes. That a run may take its events one by one or all at once is a mode in which every scenario is played."},
	{"Ideas", "Commit before effect", ""},
	{"Ideas", "Call id", ""},
	{"Ideas", "Effect key", ""},
	{"Ideas", "Canonical log", "Every scenario: the logs of its runs are held against `durable/durabletest/canonical`."},
	{"Order and context", "Interleaving", ""},
	{"Order and context", "Who blocks", ""},
	{"Order and context", "Context values", ""},
	{"Order and context", "Put away", ""},
	{"Order and context", "Watchdog", ""},
	{"Order and context", "Group", ""},
	{"Order and context", "Select, Await", ""},
	{"Order and context", "Time, ids", ""},
	{"Order and context", "Version", ""},
	{"Order and context", "SideEffect, closures", ""},
	{"Order and context", "In a step", ""},
	{"Order and context", "Plain Go", "No engine takes part: `durable/plain_test.go`."},
	{"Steps", "Policy", ""},
	{"Steps", "`RetryAfter(d)`", ""},
	{"Steps", "Errors", ""},
	{"Steps", "Heartbeats", ""},
	{"Steps", "At most once", ""},
	{"Steps", "Not started", ""},
	{"Steps", "Payloads", ""},
	{"Steps", "Values", ""},
	{"Lifecycle", "States", ""},
	{"Lifecycle", "Panic, mismatch", ""},
	{"Lifecycle", "Cancel", ""},
	{"Lifecycle", "Cleanup", ""},
	{"Lifecycle", "Pause", ""},
	{"Lifecycle", "End of a run", ""},
	{"Lifecycle", "Continue as new", ""},
	{"Lifecycle", "Start", ""},
	{"Lifecycle", "Children", ""},
	{"Lifecycle", "Reset, fork", ""},
	{"Lifecycle", "Registration", ""},
	{"Lifecycle", "Schedules", ""},
	{"Lifecycle", "List", ""},
	{"Lifecycle", "Poison", ""},
	{"Messages", "Signals", ""},
	{"Messages", "`ReceiveTimeout`", ""},
	{"Messages", "Updates", ""},
	{"Messages", "Queries", ""},
	{"Messages", "Questions", ""},
	{"Messages", "Callbacks", ""},
	{"Messages", "Published values", ""},
	{"Messages", "Queues", "**Not there yet.**"},
	{"Rails of a plain context", "4.1.1", ""},
}

const contractHead = `# The contract of an engine

What an engine of this module has to mean, rule by rule, and the scenario that shows it. The scenarios are
` + "`durabletest.Scenarios`" + `; ` + "`durabletest.TestEngine`" + ` plays all of them on an engine, in each mode: runs stay awake, or are put away
and replayed after every turn; events reach them one by one, or all of an instant at once. After each, no goroutine may be
left, no run may be blocked, the journal of every run must replay from zero, and its canonical log must be the one that is
committed.

` + "```" + `
go run ./internal/contract -temporal      # every engine of this module, as a table
go test -run TestContract ./durable/...   # the same as tests
` + "```" + `

This page is made from the list by ` + "`go test ./durable/durabletest -run TestContract -update`" + `, and a test holds it against it.
`

// contractDoc is docs/contract.md.
func contractDoc() (string, error) {
	var b strings.Builder
	b.WriteString(contractHead)
	all := map[string][]Scenario{}
	for _, s := range Scenarios() {
		all[s.Row] = append(all[s.Row], s)
	}
	part := ""
	for _, r := range rows {
		if r.part != part {
			part = r.part
			fmt.Fprintf(&b, "\n## %s\n", part)
		}
		if r.name != "4.1.1" {
			fmt.Fprintf(&b, "\n### %s\n", r.name)
		}
		ss := all[r.name]
		delete(all, r.name)
		if (len(ss) == 0) == (r.instead == "") {
			return "", fmt.Errorf("row %q has %d scenarios, and instead of them %q", r.name, len(ss), r.instead)
		}
		if r.instead != "" {
			fmt.Fprintf(&b, "\n%s\n", r.instead)
			continue
		}
		b.WriteString("\n| rule | scenario |\n|---|---|\n")
		for _, s := range ss {
			fmt.Fprintf(&b, "| %s | `%s` |\n", s.Rule, s.Name)
		}
	}
	for row, ss := range all {
		return "", fmt.Errorf("scenario %q names the row %q, which the contract does not have", ss[0].Name, row)
	}
	return b.String(), nil
}

const contractFile = "../../docs/contract.md"

func TestDocumentNamesEveryScenario(t *testing.T) {
	t.Parallel()
	want, err := contractDoc()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(contractFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("docs/contract.md is not what the scenarios say: run go test ./durable/durabletest -run TestContract -update\n%s", diffLines(string(got), want))
	}
}
