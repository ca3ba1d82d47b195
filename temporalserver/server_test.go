package temporalserver_test

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/mcpagent/mcpagent/temporalserver"
)

// start starts a server that ends with the test.
func start(t *testing.T, o *temporalserver.Options) *temporalserver.Server {
	t.Helper()
	s, err := temporalserver.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// dial connects to a server with a worker for queue "q".
func dial(t *testing.T, s *temporalserver.Server) client.Client {
	t.Helper()
	c, err := client.DialContext(t.Context(), client.Options{
		HostPort: s.Addr(), Namespace: s.Namespace(),
		Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
	if err != nil {
		t.Fatal(err)
	}
	w := worker.New(c, "q", worker.Options{})
	w.RegisterWorkflow(greet)
	w.RegisterWorkflow(nap)
	w.RegisterActivity(hello)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Stop(); c.Close() })
	return c
}

// greet runs a step, waits for a moment, and takes an update.
func greet(ctx workflow.Context, name string) (string, error) {
	var mark string
	err := workflow.SetUpdateHandler(ctx, "mark", func(_ workflow.Context, m string) (string, error) {
		mark = m
		return "as you wish", nil
	})
	if err != nil {
		return "", err
	}
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	var s string
	if err := workflow.ExecuteActivity(ctx, hello, name).Get(ctx, &s); err != nil {
		return "", err
	}
	if err := workflow.Sleep(ctx, 10*time.Millisecond); err != nil {
		return "", err
	}
	err = workflow.Await(ctx, func() bool { return mark != "" })
	return s + mark, err
}

// nap says how long it slept by the clock of the workflow.
func nap(ctx workflow.Context) (time.Duration, error) {
	start := workflow.Now(ctx)
	err := workflow.Sleep(ctx, 24*time.Hour)
	return workflow.Now(ctx).Sub(start), err
}

func hello(_ context.Context, name string) (string, error) { return "hello " + name, nil }

// useServer runs a workflow, with an update sent along with its start.
func useServer(t *testing.T, s *temporalserver.Server, attributes ...temporal.SearchAttributeUpdate) {
	t.Helper()
	c := dial(t, s)
	begin := c.NewWithStartWorkflowOperation(client.StartWorkflowOptions{
		ID: t.Name(), TaskQueue: "q", WorkflowIDConflictPolicy: 1,
		TypedSearchAttributes: temporal.NewSearchAttributes(attributes...),
	}, greet, "you")
	u, err := c.UpdateWithStartWorkflow(t.Context(), client.UpdateWithStartWorkflowOptions{
		StartWorkflowOperation: begin,
		UpdateOptions:          client.UpdateWorkflowOptions{UpdateName: "mark", Args: []any{"!"}, WaitForStage: client.WorkflowUpdateStageCompleted},
	})
	if err != nil {
		t.Fatal(err)
	}
	var answer, got string
	if err := u.Get(t.Context(), &answer); err != nil || answer != "as you wish" {
		t.Errorf("update: %q, %v", answer, err)
	}
	run, err := begin.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Get(t.Context(), &got); err != nil || got != "hello you!" {
		t.Errorf("result: %q, %v", got, err)
	}
}

func TestServer(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]*temporalserver.Options{
		"nil":    nil,
		"file":   {File: filepath.Join(t.TempDir(), "t.db"), Namespace: "shop", Synchronous: "normal"},
		"IPv6":   {IP: "::1"},
		"tuning": {DynamicConfig: map[string]any{"frontend.enableUpdateWorkflowExecution": true, "history.timerProcessorMaxTimeShift": "20ms"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, o)
			useServer(t, s)
			if o != nil && o.Namespace != "" && s.Namespace() != o.Namespace {
				t.Errorf("namespace %q", s.Namespace())
			}
		})
	}
}

// TestTimeSkipping starts a run whose time is skipped, which the SDK does not
// offer yet.
func TestTimeSkipping(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	c := dial(t, s)
	_, err := c.WorkflowService().StartWorkflowExecution(t.Context(), &workflowservice.StartWorkflowExecutionRequest{
		RequestId: "1", Namespace: s.Namespace(), WorkflowId: "nap",
		WorkflowType:       &commonpb.WorkflowType{Name: "nap"},
		TaskQueue:          &taskqueuepb.TaskQueue{Name: "q"},
		TimeSkippingConfig: &commonpb.TimeSkippingConfig{Enabled: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	var slept time.Duration
	if err := c.GetWorkflow(t.Context(), "nap", "").Get(t.Context(), &slept); err != nil || slept < 24*time.Hour {
		t.Errorf("slept %v, %v", slept, err)
	}
}

// TestNothingIsThrottled calls without an SDK, which tries again by itself: a
// server allows ten lists a second by default.
func TestNothingIsThrottled(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	conn, err := grpc.NewClient(s.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	service := workflowservice.NewWorkflowServiceClient(conn)
	for i := range 100 {
		_, err := service.ListWorkflowExecutions(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Namespace: s.Namespace()})
		if err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
}

func TestBadOptions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, test := range []struct {
		option string
		o      temporalserver.Options
	}{
		{"File", temporalserver.Options{File: filepath.Join(dir, "none", "t.db")}},
		{"File", temporalserver.Options{File: filepath.Join(dir, "a?mode=memory")}},
		{"Synchronous", temporalserver.Options{Synchronous: "off"}},
		{"IP", temporalserver.Options{IP: "localhost"}},
		{"Port", temporalserver.Options{Port: -1}},
		{"UIPort", temporalserver.Options{UI: true, UIPort: 70_000}},
		{"UIPort", temporalserver.Options{UIPort: 8233}},
		{"Namespace", temporalserver.Options{Namespace: "temporal-system"}},
		{"Retention", temporalserver.Options{Retention: time.Minute}},
		{"SearchAttributes", temporalserver.Options{SearchAttributes: map[string]string{"A": "Sound"}}},
		{"SearchAttributes", temporalserver.Options{SearchAttributes: attributes(12, "Int")}},
		{"DynamicConfig", temporalserver.Options{DynamicConfig: map[string]any{"history.timerMaxShift": "1s"}}},
		{"DynamicConfig", temporalserver.Options{DynamicConfig: map[string]any{"history.timerProcessorMaxTimeShift": "soon"}}},
		{"DynamicConfig", temporalserver.Options{DynamicConfig: map[string]any{"system.enableEagerWorkflowStart": make(chan int)}}},
	} {
		_, err := temporalserver.Start(t.Context(), &test.o)
		e, ok := errors.AsType[*temporalserver.OptionError](err)
		if !ok || e.Option != test.option {
			t.Errorf("%s: %+v: got %v", test.option, test.o, err)
		}
	}
	_, err := temporalserver.Start(t.Context(), &temporalserver.Options{IP: "here", Synchronous: "off", Port: -1})
	for _, want := range []string{"IP", "Synchronous", "Port"} {
		if err == nil || !strings.Contains(err.Error(), "option "+want) {
			t.Errorf("all at once: no %s in %v", want, err)
		}
	}
}

func attributes(n int, kind string) map[string]string {
	m := map[string]string{}
	for i := range n {
		m["A"+strconv.Itoa(i)] = kind
	}
	return m
}

func TestAddressInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	for _, o := range []temporalserver.Options{{Port: port}, {UI: true, UIPort: port}} {
		if _, err := temporalserver.Start(t.Context(), &o); !errors.Is(err, temporalserver.ErrAddressInUse) || !strings.Contains(err.Error(), strconv.Itoa(port)) {
			t.Errorf("%+v: got %v", o, err)
		}
	}
}

func TestOneServerPerFile(t *testing.T) {
	t.Parallel()
	o := &temporalserver.Options{File: filepath.Join(t.TempDir(), "t.db")}
	s, err := temporalserver.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := temporalserver.Start(t.Context(), o); !errors.Is(err, temporalserver.ErrFileInUse) || !strings.Contains(err.Error(), o.File) {
		t.Errorf("a second server on the file: %v", err)
	}
	useServer(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
	// The file is free, and whole without its journal.
	if _, err := os.Stat(o.File + "-wal"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the journal is there after Close: %v", err)
	}
	c := dial(t, start(t, o))
	var got string
	if err := c.GetWorkflow(t.Context(), t.Name(), "").Get(t.Context(), &got); err != nil || got != "hello you!" {
		t.Errorf("after a restart: %q, %v", got, err)
	}
}

func TestForeignFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("This is a letter and no database. It is long enough to look like one."), 0o600); err != nil {
		t.Fatal(err)
	}
	foreign, older := filepath.Join(dir, "foreign.db"), filepath.Join(dir, "older.db")
	execute(t, foreign, `CREATE TABLE mine (x)`)
	s, err := temporalserver.Start(t.Context(), &temporalserver.Options{File: older})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	execute(t, older, `UPDATE schema_version SET curr_version = '0.1/0.1'`)
	for _, file := range []string{text, foreign, older} {
		before, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := temporalserver.Start(t.Context(), &temporalserver.Options{File: file}); !errors.Is(err, temporalserver.ErrNotOurs) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: got %v", file, err)
		}
		if after, err := os.ReadFile(file); err != nil || file == text && string(after) != string(before) {
			t.Errorf("%s was changed: %v", file, err)
		}
	}
}

func execute(t *testing.T, file, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

func TestSearchAttributes(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "t.db")
	color, size := temporal.NewSearchAttributeKeyKeyword("Color"), temporal.NewSearchAttributeKeyInt64("Size")
	s, err := temporalserver.Start(t.Context(), &temporalserver.Options{File: file, SearchAttributes: map[string]string{"Color": "Keyword"}})
	if err != nil {
		t.Fatal(err)
	}
	useServer(t, s, color.ValueSet("red"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	t.Run("changed", func(t *testing.T) {
		_, err := temporalserver.Start(t.Context(), &temporalserver.Options{File: file, SearchAttributes: map[string]string{"Color": "Int"}})
		if e, ok := errors.AsType[*temporalserver.OptionError](err); !ok || e.Value != "Color=Int" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("added", func(t *testing.T) {
		s := start(t, &temporalserver.Options{File: file, SearchAttributes: map[string]string{"Color": "Keyword", "Size": "Int"}})
		useServer(t, s, color.ValueSet("blue"), size.ValueSet(7))
	})
}

func TestUI(t *testing.T) {
	t.Parallel()
	s := start(t, &temporalserver.Options{UI: true, Namespace: "shop"})
	for path, want := range map[string]string{
		"/":                       "<!doctype html>",
		"/api/v1/settings":        `"DisableNewsFetch":true`,
		"/api/v1/namespaces/shop": `"NAMESPACE_STATE_REGISTERED"`,
		"/api/v1/cluster-info":    `"serverVersion"`,
	} {
		resp, err := http.Get(s.UI() + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %s, %v, no %q in %.300s", path, resp.Status, err, want, body)
		}
	}
	// A page of another site can't do anything.
	resp, err := http.Post(s.UI()+"/api/v1/namespaces/shop/workflows/x", "text/plain", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode < 400 || resp.StatusCode >= 500 {
		t.Errorf("a forged request: %s", resp.Status)
	}
}

// TestNothingIsLeft is not parallel: it looks at all goroutines. The server's
// own leave some behind, which is why a program that starts many servers had
// better use processes.
func TestNothingIsLeft(t *testing.T) {
	file := filepath.Join(t.TempDir(), "t.db")
	ended, cancel := context.WithCancelCause(context.Background())
	why := errors.New("no time")
	cancel(why)
	if _, err := temporalserver.Start(ended, &temporalserver.Options{File: file, UI: true}); !errors.Is(err, why) {
		t.Errorf("with a context that has ended: %v", err)
	}
	s, err := temporalserver.Start(t.Context(), &temporalserver.Options{File: file, UI: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{s.Addr(), strings.TrimPrefix(s.UI(), "http://")} {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			t.Errorf("something listens on %s after Close", address)
		}
	}
	stacks := make([]byte, 8<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		if strings.Contains(stack, "mcpagent/temporalserver.") && !strings.Contains(stack, "temporalserver_test.") {
			t.Errorf("a goroutine is left:\n%s", stack)
		}
	}
}
