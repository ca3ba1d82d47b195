//go:build unix

package localengine_test

import (
	"os"
	"syscall"
	"testing"
)

// stopProcess makes a process hang with all that it holds.
func stopProcess(t *testing.T, p *os.Process) {
	t.Helper()
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
}
