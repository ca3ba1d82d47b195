package mcpserve_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/mcpserve"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

const childEnv = "MCPSERVE_TEST_CHILD"

// runChild is this test binary as a server over standard input and output.
func runChild() bool {
	if os.Getenv(childEnv) == "" {
		return false
	}
	w, _ := asking[Decision](nil)
	slow := durable.NewWorkflow("slow", func(ctx context.Context, _ struct{}) (string, error) {
		return "", durable.Sleep(ctx, time.Hour)
	}, nil)
	eng, err := durable.NewMemory(context.Background(), nil, w, slow)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	srv := mcpserve.New("child", eng, nil)
	srv.Add(w, nil)
	srv.Add(slow, nil)
	if err := srv.ServeStdio(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	eng.Close(context.Background())
	fmt.Fprintln(os.Stderr, "served")
	return true
}

func child(t *testing.T) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	return cmd, &stderr
}

func TestStdio(t *testing.T) {
	t.Parallel()
	for _, revision := range revisions {
		cmd, stderr := child(t)
		elicit, _, _ := person(accept(object{"approved": true}))
		cs := dial(t, &mcp.CommandTransport{Command: cmd, TerminateDuration: patience}, peer{revision: revision, elicit: elicit})
		if got, want := text(call(t, cs, "asker", object{"input": "Pay?"})), `{"approved":true} by mcp:tester`; got != want {
			t.Errorf("asker = %s, want %s", got, want)
		}
		if err := cs.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if got := stderr.String(); got != "served\n" {
			t.Errorf("standard error = %q", got)
		}
	}
}

// The server ends when its input does, with a call under way, and writes
// nothing but protocol to its output.
func TestStdioEnd(t *testing.T) {
	t.Parallel()
	cmd, stderr := child(t)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	read := func() string {
		if !lines.Scan() {
			t.Fatalf("the output ended: %v; standard error: %s", lines.Err(), stderr)
		}
		if !json.Valid(lines.Bytes()) {
			t.Errorf("not protocol: %s", lines.Text())
		}
		return lines.Text()
	}
	fmt.Fprintln(in, initialize)
	read()
	fmt.Fprintln(in, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	fmt.Fprintln(in, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"slow","_meta":{"progressToken":1}}}`)
	if got := read(); !strings.Contains(got, "notifications/progress") {
		t.Errorf("first = %s", got)
	}
	in.Close()
	rest := make(chan struct{})
	go func() { io.Copy(io.Discard, out); close(rest) }()
	select {
	case <-rest:
	case <-time.After(patience):
		cmd.Process.Kill()
		t.Error("the server did not end with its input")
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, stderr)
	}
}
