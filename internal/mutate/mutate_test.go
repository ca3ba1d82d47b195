package main

import (
	"go/format"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const sample = `package p

func f(a, b int, s []int) (n int) {
	if a < b && len(s) > 0 {
		n = 1
		defer g()
	}
	for n <= 3 {
		n++
	}
	return n
}

func g() {
	h()
	h()
}

func h() {}
`

// Every place of a file is found, and with all of them broken it is Go code
// that does what it did while none of them is on.
func TestPlacesAreFoundAndStillCompile(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "p.go")
	if err := os.WriteFile(name, []byte(sample), 0o600); err != nil {
		t.Fatal(err)
	}
	f := &source{name: name, text: sample, lines: strings.Split(sample, "\n")}
	n := 0
	if err := f.find(&n); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range f.sites {
		got = append(got, s.change)
	}
	want := []string{
		"negate a < b && len(s) > 0", "true for a < b", "true for len(s) > 0", "<= for <", ">= for >",
		"drop n = 1", "drop defer g()", "negate n <= 3", "< for <=", "drop n++",
		"return at the start of g", "drop h()", "drop h()",
	}
	for _, w := range want {
		if !strings.Contains("\n"+strings.Join(got, "\n")+"\n", "\n"+w+"\n") {
			t.Errorf("no mutant %q in %q", w, got)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d mutants, want %d: %q", len(got), len(want), got)
	}
	broken := f.broken()
	if _, err := format.Source([]byte(broken)); err != nil {
		t.Errorf("%v:\n%s", err, broken)
	}
	for _, w := range []string{"if !mutantOn(7) { defer g() }", "for mutantOn(8) != ((n <= 3 && !(mutantOn(9) && n == 3)))"} {
		if !strings.Contains(broken, w) {
			t.Errorf("no %q in\n%s", w, broken)
		}
	}
	if strings.Count(broken, "\n") != strings.Count(sample, "\n") {
		t.Error("the lines have moved")
	}
}

// A mutant that does not compile is left out.
func TestALineIsDropped(t *testing.T) {
	t.Parallel()
	f := &source{sites: []*site{{n: 1, line: 3}, {n: 2, line: 4}}, text: "x"}
	if n := f.dropLine("4"); n != 1 || f.sites[0].off || !f.sites[1].off {
		t.Errorf("dropped %d: %+v %+v", n, f.sites[0], f.sites[1])
	}
}

// The record can be read, and says of each mutant that nobody noticed why.
func TestSurvivorsHaveAReason(t *testing.T) {
	t.Parallel()
	m := &mutator{keep: "results.jsonl", done: map[string]result{}}
	if err := m.load(); err != nil {
		t.Fatal(err)
	}
	if len(m.done) < 300 {
		t.Errorf("%d mutants in the record", len(m.done))
	}
	for _, r := range m.sorted() {
		if (r.Killed == "") != (r.Why != "") {
			t.Errorf("%s:%d (%s), %s: noticed by %q, reason %q", r.File, r.Line, r.In, r.Change, r.Killed, r.Why)
		}
	}
}
