package durabletest

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the canonical logs and docs/contract.md anew")

// TestContract plays the contract on the engine in memory.
func TestContract(t *testing.T) {
	t.Parallel()
	if *update {
		writeCanonical(t)
	}
	TestEngine(t, Memory())
}

// writeCanonical records the logs that the engine in memory gives, awake. They
// are read by people before they are committed.
func writeCanonical(t *testing.T) {
	areas := map[string]string{}
	for _, s := range Scenarios() {
		out := Check(t, Memory(), ContractModes()[0], s)
		for _, f := range out.Failures {
			t.Errorf("%s: %s", s.Name, f)
		}
		area, _, _ := strings.Cut(s.Name, "/")
		areas[area] += "-- " + s.Name + " --\n" + out.Log
	}
	old, err := filepath.Glob("canonical/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range old {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	for area, text := range areas {
		if err := os.WriteFile(filepath.Join("canonical", area+".txtar"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	doc, err := contractDoc()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(contractFile, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Fatal("the canonical logs were written; look at them, and run the test again")
}

func TestScenariosAreNamedOnceAndSayTheirRule(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, s := range Scenarios() {
		area, what, ok := strings.Cut(s.Name, "/")
		if !ok || area == "" || what == "" || seen[s.Name] {
			t.Errorf("scenario %q: a name is area/what-holds, once", s.Name)
		}
		seen[s.Name] = true
		if s.Row == "" || !strings.HasSuffix(s.Rule, ".") {
			t.Errorf("scenario %q has no row or no rule: %q, %q", s.Name, s.Row, s.Rule)
		}
	}
}
