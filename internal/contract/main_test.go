package main

import (
	"strings"
	"testing"
)

// A scenario that fails, or is missing on one engine, fails the table.
func TestTable(t *testing.T) {
	t.Parallel()
	const good = `{"Action":"pass","Test":"TestContract/a/awake/x/one"}
{"Action":"pass","Test":"TestContract/b/awake/x/one"}
{"Action":"output","Test":"TestContract/b/awake/x/two","Output":"    x.go:1: not able: killing: it is elsewhere\n"}
{"Action":"pass","Test":"TestContract/b/awake/x/two"}
{"Action":"pass","Test":"TestContract/b/awake"}
`
	for name, c := range map[string]struct {
		in, want string
		good     bool
	}{
		"all hold": {good + `{"Action":"pass","Test":"TestContract/a/awake/x/two"}`, "x/one  ✓  ✓", true},
		"unable":   {good + `{"Action":"pass","Test":"TestContract/a/awake/x/two"}`, "x/two  ✓  –", true},
		"missing":  {good, "x/two on a/awake: it was not played", false},
		"failed": {good + `{"Action":"output","Test":"TestContract/a/awake/x/two","Output":"    wrong\n"}
{"Action":"fail","Test":"TestContract/a/awake/x/two"}`, "x/two on a/awake:\n    wrong", false},
		"skipped": {good + `{"Action":"skip","Test":"TestContract/a/awake/x/two"}`, "x/two  ✗  –", false},
		"nothing": {"", "", false},
	} {
		tab, err := read(strings.NewReader(c.in))
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if got := tab.print(&b, ""); got != c.good || !strings.Contains(b.String(), c.want) {
			t.Errorf("%s: good %v, want %v, with %q:\n%s", name, got, c.good, c.want, b.String())
		}
	}
}
