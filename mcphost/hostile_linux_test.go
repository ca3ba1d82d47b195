package mcphost_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/llm"
	"github.com/mcpagent/mcpagent/mcphost"
)

// markVar marks the processes of one test, also those that a server starts.
const markVar = "MCPHOST_TEST_MARK"

func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// marked are the processes with a mark that run.
func marked(mark string) []string {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		panic(err)
	}
	var found []string
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err == nil && bytes.Contains(env, []byte(markVar+"="+mark)) {
			name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			found = append(found, fmt.Sprintf("%d %q", pid, name))
		}
	}
	return found
}

// hostile makes a host with one server that does not behave, with short
// deadlines.
func hostile(t *testing.T, kind string, env ...string) (h *mcphost.Host, mark string) {
	t.Helper()
	mark = rand.Text()
	s := child(kind, append(env, markVar, mark)...)
	s.Timeouts = mcphost.Timeouts{Connect: 3 * time.Second, Idle: 2 * time.Second, Request: 5 * time.Second, Close: 2 * time.Second}
	h = mcphost.New(&mcphost.Options{Servers: map[string]mcphost.Server{"it": s}, Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { _ = h.Close(context.Background()) })
	return h, mark
}

// closes closes a host within its budget, and looks that nothing is left.
func closes(t *testing.T, h *mcphost.Host, mark string, budget time.Duration) error {
	t.Helper()
	began := time.Now()
	err := h.Close(context.Background())
	if took := time.Since(began); took > budget {
		t.Errorf("Close took %v, more than %v", took, budget)
	}
	if left := marked(mark); len(left) > 0 {
		t.Errorf("left after Close: %v", left)
	}
	return err
}

const closeBudget = 4 * time.Second // of hostile's 2, on a busy machine

func TestServerThatNeverAnswers(t *testing.T) {
	t.Parallel()
	h, mark := hostile(t, "silent")
	began := time.Now()
	_, err := list(t, h)
	if !errors.Is(err, mcphost.ErrUnavailable) || !errors.Is(err, durable.ErrTimeout) {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 9*time.Second { // connect 3 s, close 2 s
		t.Errorf("it took %v", took)
	}
	if left := marked(mark); len(left) > 0 {
		t.Errorf("left after the failure: %v", left)
	}
	if !strings.Contains(err.Error(), "killed process") {
		t.Errorf("the error does not tell what was killed: %v", err)
	}
	if err := closes(t, h, mark, closeBudget); err != nil {
		t.Error(err)
	}
}

func TestServerThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	h, mark := hostile(t, "deaf")
	if res := callTool(t, h, "it", "echo", echoIn{"x"}); res.Text() != "x" {
		t.Errorf("%+v", res)
	}
	err := closes(t, h, mark, closeBudget)
	var failed *mcphost.Error
	if !errors.As(err, &failed) || failed.Server != "it" || failed.Op != "close" || !strings.Contains(err.Error(), "killed process") {
		t.Errorf("the error does not tell what was killed: %v", err)
	}
}

func TestCloseWithoutTime(t *testing.T) {
	t.Parallel()
	h, mark := hostile(t, "deaf")
	callTool(t, h, "it", "echo", echoIn{"x"})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	began := time.Now()
	if err := h.Close(ctx); err == nil {
		t.Error("nothing was killed")
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %v", took)
	}
	if left := marked(mark); len(left) > 0 {
		t.Error(left)
	}
}

func TestCloseWhileConnecting(t *testing.T) {
	t.Parallel()
	h, mark := hostile(t, "silent")
	failed := make(chan error, 1)
	wf := durable.NewWorkflow("test", func(ctx context.Context, _ struct{}) (mcphost.Listing, error) { return mcphost.ListTools(ctx) }, nil)
	eng := engine(t, h, wf)
	run, err := wf.Start(context.Background(), eng, struct{}{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, err := run.Result(context.Background())
		failed <- err
	}()
	poll(t, "the server starts", func() bool { return len(marked(mark)) > 0 })
	if err := closes(t, h, mark, closeBudget); err != nil {
		t.Error(err)
	}
	if err := <-failed; !errors.Is(err, mcphost.ErrUnavailable) {
		t.Error(err)
	}
}

func TestServerThatEndsAtOnce(t *testing.T) {
	t.Parallel()
	h, mark := hostile(t, "quitter", "TOKEN", "canary-secret-1")
	_, err := list(t, h)
	if !errors.Is(err, mcphost.ErrUnavailable) || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "cannot go on") {
		t.Error(err)
	}
	if strings.Contains(err.Error(), "canary") {
		t.Errorf("a secret is in the error: %v", err)
	}
	if err := closes(t, h, mark, closeBudget); err != nil {
		t.Error(err)
	}
}

func TestCommandThatIsNotThere(t *testing.T) {
	t.Parallel()
	h := open(t, map[string]mcphost.Server{"it": {Command: "no-such-command-here"}})
	_, err := list(t, h)
	if !errors.Is(err, mcphost.ErrUnavailable) || !strings.Contains(err.Error(), "no-such-command-here") {
		t.Error(err)
	}
}

// TestServersThatAreOnlyStrange says things where they don't belong, leave
// processes behind, or know no newer revision, and work.
func TestServersThatAreOnlyStrange(t *testing.T) {
	t.Parallel()
	for kind, killed := range map[string]bool{"chatty": false, "banner": false, "family": true, "runaway": true} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			h, mark := hostile(t, kind)
			if res := callTool(t, h, "it", "echo", echoIn{"x"}); res.Text() != "x" {
				t.Errorf("%+v", res)
			}
			err := closes(t, h, mark, closeBudget)
			if (err != nil) != killed {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

func TestServerThatSaysNothingToWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	h, mark := hostile(t, "mute")
	if res := callTool(t, h, "it", "sum", nil); res.Text() != "42" {
		t.Errorf("%+v", res)
	}
	if err := closes(t, h, mark, closeBudget); err != nil {
		t.Error(err)
	}
}

// TestOutcomeUnknown breaks calls after they were sent.
func TestOutcomeUnknown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ kind, tool, says string }{
		{"fragile", "die", "exit status 7"},
		{"huge", "huge", "more than 16777216 bytes"},
		{"slow", "wait", "timeouts.idle"},
		{"unread", "sum", ""},
	} {
		t.Run(c.kind, func(t *testing.T) {
			t.Parallel()
			h, mark := hostile(t, c.kind)
			began := time.Now()
			res := callTool(t, h, "it", c.tool, nil)
			if !res.Error || !strings.Contains(res.Text(), "outcome unknown") || !strings.Contains(res.Text(), "verify before repeating") || !strings.Contains(res.Text(), c.says) {
				t.Errorf("%s", res.Text())
			}
			if took := time.Since(began); took > patience/2 {
				t.Errorf("it took %v", took)
			}
			if c.kind == "fragile" || c.kind == "huge" { // it is started again
				if res := callTool(t, h, "it", "echo", echoIn{"again"}); res.Text() != "again" {
					t.Errorf("%+v", res)
				}
			}
			_ = closes(t, h, mark, closeBudget)
		})
	}
}

// TestRepeatable makes a call that may be repeated twice.
func TestRepeatable(t *testing.T) {
	t.Parallel()
	h, mark := hostile(t, "fragile")
	_, err := do(t, h, func(ctx context.Context) (*llm.ToolResult, error) {
		return mcphost.CallTool(ctx, "it", "die", nil, &mcphost.CallOptions{Repeat: true})
	})
	if err != nil {
		t.Error(err)
	}
	_ = closes(t, h, mark, closeBudget)
}

// beHost is a program with servers of the worst kind, which waits for its end.
func beHost() {
	mark := os.Getenv(markVar)
	servers := map[string]mcphost.Server{}
	for _, kind := range []string{"plain", "deaf", "family", "runaway"} {
		servers[kind] = child(kind, markVar, mark)
	}
	h := mcphost.New(&mcphost.Options{Servers: servers, Logger: slog.New(slog.DiscardHandler)})
	eng, err := durable.NewMemory(context.Background(), nil, h, durable.NewWorkflow("test", func(ctx context.Context, _ struct{}) (int, error) {
		l, err := mcphost.ListTools(ctx)
		return len(l.Tools), err
	}, nil))
	if err != nil {
		panic(err)
	}
	run, err := eng.Start(context.Background(), "test", nil, nil)
	if err != nil {
		panic(err)
	}
	n, err := run.Result(context.Background())
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s tools\n", n)
	forever()
}

// TestKilled kills a program by SIGKILL. Nothing of its servers survives, also
// when somebody killed the guard before.
func TestKilled(t *testing.T) {
	t.Parallel()
	for name, guarded := range map[string]bool{"guarded": true, "the guard first": false} {
		t.Run(name, func(t *testing.T) { t.Parallel(); testKilled(t, guarded) })
	}
}

// guards are the shells that a process started and that listen.
func guards(parent int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		panic(err)
	}
	var found []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if bytes.Contains(status, fmt.Appendf(nil, "\nPPid:\t%d\n", parent)) && bytes.HasPrefix(line, []byte("/bin/sh\x00-c\x00trap")) {
			found = append(found, pid)
		}
	}
	return found
}

func testKilled(t *testing.T, guarded bool) {
	mark := rand.Text()
	cmd := exec.Command(os.Args[0])
	// The mark must not come to the servers by us, but by their configuration.
	cmd.Env = append(os.Environ(), serverVar+"=host", markVar+"="+mark)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "4 tools\n" {
		t.Errorf("%q, %v", line, err)
	}
	if n := len(marked(mark)); n != 7 { // the program, four servers, two grandchildren
		t.Errorf("%d processes: %v", n, marked(mark))
	}
	if !guarded {
		old := guards(cmd.Process.Pid)
		if len(old) != 1 {
			t.Fatalf("guards: %v", old)
		}
		if err := syscall.Kill(old[0], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		poll(t, "a new guard", func() bool {
			now := guards(cmd.Process.Pid)
			return len(now) == 1 && now[0] != old[0]
		})
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	poll(t, "nothing survives", func() bool { return len(marked(mark)) == 0 })

}
