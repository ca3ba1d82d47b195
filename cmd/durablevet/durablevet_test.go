package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/go/analysis/analysistest"
)

// TestRules compares what is found in testdata with the comments there.
func TestRules(t *testing.T) {
	t.Parallel()
	analysistest.Run(findings{t}, analysistest.TestData(), analyzer, "./...")
}

// findings lets facts pass that testdata does not name: what they are good for
// is seen by what is found in other packages.
type findings struct{ *testing.T }

func (f findings) Errorf(format string, args ...any) {
	f.Helper()
	if text := fmt.Sprintf(format, args...); !strings.Contains(text, ": unexpected fact: ") {
		f.Error(text)
	}
}

// build makes the command.
func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "durablevet.exe")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

// command runs a program in a directory.
func command(dir, name string, args ...string) (stdout, stderr string, err error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	var o, e strings.Builder
	cmd.Stdout, cmd.Stderr = &o, &e
	err = cmd.Run()
	return o.String(), e.String(), err
}

// TestGoVet has go vet run it over the repository: the examples are clean, and
// among the tests of package durable only those of misuse are not.
func TestGoVet(t *testing.T) {
	t.Parallel()
	tool := "-vettool=" + build(t)
	root := filepath.Join("..", "..")
	if _, stderr, err := command(root, "go", "vet", tool, "./examples/..."); err != nil {
		t.Errorf("the examples: %v\n%s", err, stderr)
	}

	stdout, stderr, err := command(root, "go", "vet", tool, "-json", "./durable")
	if err != nil {
		t.Fatalf("package durable: %v\n%s", err, stderr)
	}
	found := map[string]string{} // a message for each file
	for dec := json.NewDecoder(strings.NewReader(stdout + uncommented(stderr))); ; {
		var result map[string]map[string][]struct{ Posn, Message string }
		if err := dec.Decode(&result); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%v in\n%s%s", err, stdout, stderr)
		}
		for _, byAnalyzer := range result {
			for _, d := range byAnalyzer[analyzer.Name] {
				file := filepath.Base(d.Posn)
				name, _, _ := strings.Cut(file, ":")
				found[name] = file + ": " + d.Message
			}
		}
	}
	if m := found["example_test.go"]; m != "" {
		t.Errorf("an example of package durable: %s", m)
	}
	if found["misuse_test.go"] == "" {
		t.Errorf("nothing found in the tests of misuse: was anything looked at? %v", found)
	}
}

// uncommented leaves out the lines in which go vet names packages.
func uncommented(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		if !strings.HasPrefix(line, "#") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// TestAlone runs the command without go vet.
func TestAlone(t *testing.T) {
	t.Parallel()
	bin := build(t)
	_, stderr, err := command("testdata", bin, "./across")
	want := `across.go:28:2: time.Now in workflow code gives another time in a replay: use durable.Now(ctx) (workflow across → local → helper.Stamp → stamp → time.Now, helper.go:13)`
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.Contains(stderr, want) {
		t.Errorf("got %v and\n%s\nwant findings, with\n%s", err, stderr, want)
	}
	if _, stderr, err := command("testdata", bin, "./helper"); err != nil {
		t.Errorf("a package without workflows: %v\n%s", err, stderr)
	}
}
