package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	_ "github.com/mcpagent/mcpagent/durable/engines" // the program is made of it: when it changes, no cached result counts
)

// binary is the program as a user has it.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "invoice-test-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		binary = filepath.Join(dir, "invoice")
		if runtime.GOOS == "windows" {
			binary += ".exe"
		}
		if out, err := exec.Command("go", "build", "-o", binary, "..").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// server is the built program, and a real MCP client connected to it.
type server struct {
	t         *testing.T
	transport string // stdio or http
	dir       string
	config    string // a file that names the engine; empty: it is local
	args      []string

	cmd     *exec.Cmd
	exited  chan struct{} // closed when the process is gone
	pipes   *mcp.IOTransport
	session *mcp.ClientSession
	stderr  *output
}

// newServer prepares a server on the files of dir; start starts it.
func newServer(t *testing.T, transport, dir string, args ...string) *server {
	s := &server{t: t, transport: transport, dir: dir, args: args, stderr: new(output)}
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Logf("standard error of the last %s server:\n%s", transport, s.stderr.Bytes())
		}
	})
	return s
}

// started is newServer and start.
func started(t *testing.T, transport, dir string, args ...string) *server {
	t.Helper()
	s := newServer(t, transport, dir, args...)
	if err := s.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *server) book() string { return filepath.Join(s.dir, "payments.jsonl") }
func (s *server) db() string   { return filepath.Join(s.dir, "invoice.db") }

// start starts the process and connects to it.
func (s *server) start(ctx context.Context) error {
	if err := s.spawn(); err != nil {
		return err
	}
	return s.connect(ctx)
}

// spawn starts the process.
func (s *server) spawn() (err error) {
	args := append([]string{"-payments", s.book()}, s.args...)
	if s.config != "" {
		args = append(args, "-config", s.config)
	} else {
		args = append([]string{"-db", s.db()}, args...)
	}
	if s.transport == "stdio" {
		args = append(args, "-stdio")
	} else {
		args = append(args, "-http", "127.0.0.1:0")
	}
	s.stderr = new(output)
	cmd := exec.Command(binary, args...)
	cmd.Stderr = s.stderr
	s.pipes = new(mcp.IOTransport)
	if s.pipes.Writer, err = cmd.StdinPipe(); err != nil {
		return err
	}
	if s.pipes.Reader, err = cmd.StdoutPipe(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd, s.exited = cmd, make(chan struct{})
	go func(gone chan struct{}) {
		defer close(gone)
		_ = cmd.Wait() // killed, mostly
	}(s.exited)
	return nil
}

var endpoint = regexp.MustCompile(`endpoint +(http://\S+)\n`)

// connect connects an MCP client. It fails if the process does not live long
// enough.
func (s *server) connect(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var transport mcp.Transport = s.pipes
	if s.transport != "stdio" {
		var url []byte
		err := eventually(ctx, func() (bool, error) {
			if m := endpoint.FindSubmatch(s.stderr.Bytes()); m != nil {
				url = m[1]
				return true, nil
			}
			if s.gone() {
				return false, errors.New("the process has ended")
			}
			return false, nil
		})
		if err != nil {
			return err
		}
		transport = &mcp.StreamableClientTransport{Endpoint: string(url), MaxRetries: -1}
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "invoice-test", Version: "1"}, nil)
	s.session, err = client.Connect(ctx, transport, nil)
	return err
}

// kill is kill -9, and waits until the process is gone.
func (s *server) kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // it may have been killed before
	<-s.exited
	if s.session != nil {
		_ = s.session.Close()
	}
	if bad := trouble.Find(s.stderr.Bytes()); bad != nil {
		s.t.Errorf("the %s server said %q:\n%s", s.transport, bad, s.stderr.Bytes())
	}
	s.cmd, s.session = nil, nil
}

// trouble is what no server may say, however often it is killed.
var trouble = regexp.MustCompile(`panic:|DATA RACE|level=ERROR`)

// gone reports whether the process has ended.
func (s *server) gone() bool {
	select {
	case <-s.exited:
		return true
	default:
		return false
	}
}

// toolError is an answer that says no.
type toolError struct {
	tool string
	kind string
	text string
}

func (e *toolError) Error() string { return fmt.Sprintf("%s: %s: %s", e.tool, e.kind, e.text) }

// call calls a tool. A *toolError is the server's answer; any other error
// leaves open what happened.
func (s *server) call(ctx context.Context, tool string, args map[string]any) (map[string]any, error) {
	res, err := s.raw(ctx, tool, args)
	if err != nil {
		return nil, err
	}
	out, _ := res.StructuredContent.(map[string]any)
	return out, nil
}

func (s *server) raw(ctx context.Context, tool string, args map[string]any) (*mcp.CallToolResult, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	res, err := s.session.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: args})
	if err != nil {
		return nil, err
	}
	if res.IsError {
		e := &toolError{tool: tool, text: textOf(res)}
		if out, ok := res.StructuredContent.(map[string]any); ok {
			e.kind, _ = out["type"].(string)
		}
		return nil, e
	}
	return res, nil
}

func textOf(res *mcp.CallToolResult) string {
	var text string
	for _, c := range res.Content {
		if tc, ok := c.(*mcp.TextContent); ok {
			text += tc.Text
		}
	}
	return text
}

// must calls a tool that has to work.
func (s *server) must(t *testing.T, tool string, args map[string]any) map[string]any {
	t.Helper()
	out, err := s.call(t.Context(), tool, args)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// begin starts an invoice and gives its ids.
func (s *server) begin(t *testing.T, invoice any) map[string]any {
	t.Helper()
	out := s.must(t, "process_invoice", map[string]any{"invoice": invoice})
	return map[string]any{"workflow_id": out["workflow_id"], "run_id": out["run_id"]}
}

// await waits until an invoice has a status.
func (s *server) await(t *testing.T, ids map[string]any, want string) {
	t.Helper()
	var got any
	err := eventually(t.Context(), func() (bool, error) {
		out, err := s.call(t.Context(), "invoice_status", ids)
		got = out["value"]
		return got == want, err
	})
	if err != nil {
		t.Fatalf("invoice %v: got status %v, want %s: %v", ids["workflow_id"], got, want, err)
	}
}

// eventually waits until ok, at most a minute.
func eventually(ctx context.Context, ok func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		done, err := ok()
		if done || err != nil {
			return err
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("it did not come in time: %w", err)
		}
	}
}

// sample is testdata/invoice_acme.json as a client sends it, under an id.
func sample(t *testing.T, id string) map[string]any {
	t.Helper()
	var inv map[string]any
	if err := json.Unmarshal(acme, &inv); err != nil {
		t.Fatal(err)
	}
	inv["invoice_id"] = id
	return inv
}

// with is a copy of a map with one more entry.
func with(m map[string]any, name string, v any) map[string]any {
	out := maps.Clone(m)
	out[name] = v
	return out
}

// checkBook holds the gateway's book against what should have been paid: each
// description once, each key once.
func checkBook(t *testing.T, book string, want ...string) {
	t.Helper()
	booked, err := readBook(book)
	if err != nil {
		t.Fatal(err)
	}
	keys, paid := map[string]int{}, map[string]int{}
	for _, p := range booked {
		keys[p.Key]++
		paid[p.Description]++
	}
	for key, n := range keys {
		if n != 1 || key == "" {
			t.Errorf("key %q is booked %d times", key, n)
		}
	}
	for _, d := range want {
		if paid[d] != 1 {
			t.Errorf("%q was paid %d times, want once", d, paid[d])
		}
		delete(paid, d)
	}
	for d, n := range paid {
		t.Errorf("%q was paid %d times, want never", d, n)
	}
}
