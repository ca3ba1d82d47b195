package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// asCommand makes the test's executable the command.
const asCommand = "TEMPORALSERVER_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	os.Exit(m.Run())
}

// command is the command in a process, ready to use.
type command struct {
	ready
	cmd    *exec.Cmd
	stdin  io.Closer
	stdout *bufio.Reader
	stderr *strings.Builder
}

func launch(t *testing.T, args ...string) *command {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &command{cmd: exec.Command(exe, append(args, "-exit-with-parent")...), stderr: &strings.Builder{}}
	// A variable of another program does not concern the server.
	c.cmd.Env = append(os.Environ(), asCommand+"=1", "OTEL_TRACES_EXPORTER=console")
	c.cmd.Stderr = c.stderr
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.stdout = bufio.NewReader(stdout)
	line, err := c.stdout.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &c.ready)
	}
	if err != nil {
		c.cmd.Process.Kill()
		t.Fatal(err, c.cmd.Wait(), c.stderr)
	}
	t.Cleanup(func() { c.cmd.Process.Kill() })
	return c
}

// ends checks that the command ends well by itself, without another word.
func (c *command) ends(t *testing.T) {
	t.Helper()
	rest, err := io.ReadAll(c.stdout)
	if err != nil || len(rest) > 0 {
		t.Errorf("after the line, standard output has %q, %v", rest, err)
	}
	if err := c.cmd.Wait(); err != nil || c.stderr.String() != "" {
		t.Errorf("it ends with %v and says:\n%s", err, c.stderr)
	}
}

// order waits for its payment between two steps.
func order(ctx workflow.Context) (string, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	var got [2]string
	if err := workflow.ExecuteActivity(ctx, "Pick").Get(ctx, &got[0]); err != nil {
		return "", err
	}
	if err := workflow.SetQueryHandler(ctx, "picked", func() (string, error) { return got[0], nil }); err != nil {
		return "", err
	}
	workflow.GetSignalChannel(ctx, "paid").Receive(ctx, &got[1])
	return fmt.Sprint(got), nil
}

func connect(t *testing.T, r ready) (client.Client, func()) {
	t.Helper()
	c, err := client.DialContext(t.Context(), client.Options{
		HostPort: r.Address, Namespace: r.Namespace,
		Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
	if err != nil {
		t.Fatal(err)
	}
	w := worker.New(c, "q", worker.Options{})
	w.RegisterWorkflow(order)
	w.RegisterActivity(&activities{})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	return c, func() { w.Stop(); c.Close() }
}

type activities struct{}

func (*activities) Pick(context.Context) (string, error) { return "a book", nil }

func TestRunsOutliveKill(t *testing.T) {
	t.Parallel()
	for _, synchronous := range []string{"full", "normal"} {
		t.Run(synchronous, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "t.db")
			s := launch(t, "-db", file, "-port", "0", "-synchronous", synchronous)
			c, leave := connect(t, s.ready)
			run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "order", TaskQueue: "q"}, order)
			if err != nil {
				t.Fatal(err)
			}
			history := c.GetWorkflowHistory(t.Context(), "order", run.GetRunID(), true, 1)
			for history.HasNext() {
				e, err := history.Next()
				if err != nil {
					t.Fatal(err)
				}
				if e.GetActivityTaskCompletedEventAttributes() != nil {
					break
				}
			}
			s.cmd.Process.Kill()
			s.cmd.Wait()
			leave()

			_, port, _ := strings.Cut(s.Address, ":")
			s = launch(t, "-db", file, "-port", port)
			c, leave = connect(t, s.ready)
			defer leave()
			if err := c.SignalWorkflow(t.Context(), "order", "", "paid", "in cash"); err != nil {
				t.Fatal(err)
			}
			var got string
			if err := c.GetWorkflow(t.Context(), "order", "").Get(t.Context(), &got); err != nil || got != "[a book in cash]" {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestEndsWell(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*command) error{
		"SIGTERM":             func(c *command) error { return c.cmd.Process.Signal(syscall.SIGTERM) },
		"SIGINT":              func(c *command) error { return c.cmd.Process.Signal(os.Interrupt) },
		"the parent has gone": func(c *command) error { return c.stdin.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := launch(t, "-port", "0", "-ui-port", "0", "-namespace", "shop", "-search-attribute", "Color=Keyword",
				"-dynamic-config", "limit.blobSize.error=1000000", "-dynamic-config", "history.timerProcessorMaxTimeShift=5ms")
			if c.Namespace != "shop" || !strings.HasPrefix(c.UI, "http://127.0.0.1:") {
				t.Errorf("the line says %+v", c.ready)
			}
			if err := end(c); err != nil {
				t.Fatal(err)
			}
			c.ends(t)
		})
	}
}

func TestSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args string
		code int
		want string
	}{
		{"-prot 7", 2, "flag provided but not defined: -prot"},
		{"7233", 2, "unexpected argument: 7233"},
		{"-search-attribute Color", 2, "want NAME=TYPE"},
		{"-dynamic-config =1", 2, "want KEY=VALUE"},
		{"-log-level loud", 2, "log-level"},
		{"-dynamic-config history.x=1 -ip somewhere", 1, `option DynamicConfig: "history.x=1"`},
		{"-port 70000", 1, `option Port: "70000"`},
	} {
		var stdout, stderr strings.Builder
		code := run(strings.Fields(test.args), strings.NewReader(""), &stdout, &stderr)
		if code != test.code || !strings.Contains(stderr.String(), test.want) || stdout.String() != "" {
			t.Errorf("%s: %d, %q, %q", test.args, code, stdout.String(), stderr.String())
		}
	}
}
