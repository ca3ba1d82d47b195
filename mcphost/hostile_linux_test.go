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
	"slices"
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

// storeVar says where a program that is a host keeps its runs.
const storeVar = "MCPHOST_TEST_STORE"

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
	s.Timeouts = mcphost.Timeouts{Connect: 6 * time.Second, Idle: 10 * time.Second, Request: 12 * time.Second, Close: 2 * time.Second}
	switch kind { // what is waited for to the end
	case "silent":
		s.Timeouts.Connect = 3 * time.Second
	case "slow", "unread":
		s.Timeouts.Idle = 2 * time.Second
	}
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

// TestServerThatRefuses: it was said of one that it had ended by itself.
func TestServerThatRefuses(t *testing.T) {
	t.Parallel()
	h, mark := hostile(t, "refuser")
	if _, err := list(t, h); !errors.Is(err, mcphost.ErrUnavailable) || !strings.Contains(err.Error(), "not today") {
		t.Error(err)
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
// processes behind, or are up late, and work. The last ones could not be
// connected to.
func TestServersThatAreOnlyStrange(t *testing.T) {
	t.Parallel()
	for kind, killed := range map[string]bool{"chatty": false, "banner": false, "family": true, "runaway": true, "late": false} {
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

// worst are the servers of a program that is killed. The last one has a tool
// that does not come back, unless it is given a deadline.
var worst = []string{"plain", "deaf", "family", "runaway", "slow"}

// hangs is a workflow that lists the tools of the worst servers, and calls the
// one that does not come back.
var hangs = durable.NewWorkflow("hangs", func(ctx context.Context, _ struct{}) (string, error) {
	l, err := mcphost.ListTools(ctx)
	if err != nil {
		return "", err
	}
	res, err := mcphost.CallTool(ctx, "slow", "wait", nil, nil)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d tools, %s", len(l.Tools), res.Text()), nil
}, nil)

func worstHost(mark string, idle time.Duration) *mcphost.Host {
	servers := map[string]mcphost.Server{}
	for _, kind := range worst {
		s := child(kind, markVar, mark)
		s.Timeouts.Idle = idle
		servers[kind] = s
	}
	return mcphost.New(&mcphost.Options{Servers: servers, Logger: slog.New(slog.DiscardHandler)})
}

// beHost is a program with servers of the worst kind, which says when the call
// that does not come back is under way, and waits for its end.
func beHost() {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	ctx := context.Background()
	h := worstHost(os.Getenv(markVar), time.Hour)
	var eng *durable.Engine
	var err error
	switch kind, where, _ := strings.Cut(os.Getenv(storeVar), " "); kind {
	case "local":
		eng, err = onFile(where, false, h, hangs)
	case "temporal":
		addr, queue, _ := strings.Cut(where, " ")
		eng, err = onCluster(addr, queue, false, h, hangs)
	default:
		eng, err = durable.NewMemory(ctx, &once, h, hangs)
	}
	must(err)
	run, err := hangs.Start(ctx, eng, struct{}{}, &durable.StartOptions{ID: "it"})
	must(err)
	tick := time.NewTicker(10 * time.Millisecond)
	for range tick.C {
		d, err := run.Describe(ctx)
		must(err)
		if slices.ContainsFunc(d.Waiting, func(w durable.Wait) bool { return w.Name == "mcp.call_tool" }) {
			break
		}
	}
	fmt.Println("it calls")
	forever()
}

// TestKilled kills a program by SIGKILL in the middle of a call. Nothing of its
// servers survives, also when somebody killed the guard before; and where the
// run does, the next program hears that nobody knows what came of the call.
func TestKilled(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, s *store) {
		testKilled(t, s, true)
		if s.kind == "memory" {
			return
		}
		mark := rand.Text()
		h := worstHost(mark, 2*time.Second)
		eng := s.open(t, false, h, hangs)
		got, err := hangs.Result(t.Context(), eng.Run("it", ""))
		if err != nil || !strings.HasPrefix(got, "6 tools, ") || !strings.Contains(got, "outcome unknown") {
			t.Errorf("%q, %v", got, err)
		}
		if err := eng.Close(context.Background()); err != nil {
			t.Error(err)
		}
		_ = closes(t, h, mark, closeBudget)
	})
	t.Run("the guard first", func(t *testing.T) {
		t.Parallel()
		testKilled(t, &store{kind: "memory"}, false)
	})
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

func testKilled(t *testing.T, s *store, guarded bool) {
	mark := rand.Text()
	cmd := exec.Command(os.Args[0])
	// The mark must not come to the servers by us, but by their configuration.
	cmd.Env = append(os.Environ(), serverVar+"=host", markVar+"="+mark, storeVar+"="+strings.Join(slices.DeleteFunc([]string{s.kind, s.path, s.addr, s.queue}, func(s string) bool { return s == "" }), " "))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "it calls\n" {
		t.Errorf("%q, %v", line, err)
	}
	if n := len(marked(mark)); n != 8 { // the program, five servers, two grandchildren
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
