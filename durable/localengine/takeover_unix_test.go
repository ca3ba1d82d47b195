//go:build unix

package localengine_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The owner is killed; a client takes over, and a call that was waiting for
// the dead owner is answered by the new one.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	owner, role := spawn(t, path)
	if role != "role: executor" {
		t.Fatal(role)
	}
	if got := owner.say("start one"); got != "started: one" {
		t.Fatal(got)
	}
	client := openEngine(t, path, nil)
	r := client.Run("one", "")
	waitStatus(t, r)
	if err := owner.cmd.Process.Signal(syscall.SIGSTOP); err != nil { // it hangs, and still holds the lock
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() { sent <- goOn.Send(t.Context(), r, "y", nil) }()
	// Where it was stopped inside a transaction, the request can't even be put
	// into the file: that must not matter either.
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(2 * time.Second); requests(t, path) == 0 && time.Now().Before(end); {
		<-tick.C
	}
	select {
	case err := <-sent:
		t.Fatalf("answered by nobody: %v", err)
	default:
	}
	owner.kill()
	if err := <-sent; err != nil {
		t.Errorf("the call that was waiting: %v", err)
	}
	result(t, r, "did one, did y, 0")
	h, err := client.Health(t.Context())
	if err != nil || h.Role != "executor" {
		t.Errorf("Health = %+v, %v", h, err)
	}
	// A third one is the client of the second.
	third, role := spawn(t, path)
	if want := fmt.Sprintf("role: client of process %d", os.Getpid()); !strings.HasPrefix(role, want) {
		t.Errorf("%q, want %q", role, want)
	}
	if got := third.say("start two"); got != "started: two" {
		t.Error(got)
	}
	if got := third.say("close"); got != "closed" {
		t.Error(got)
	}
}
