package main

import (
	"fmt"
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
