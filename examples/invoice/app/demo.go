package app

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

//go:embed testdata/invoice_acme.json
var acme []byte

// demo is the whole story in a few seconds: this program serves itself as an
// MCP client would have it served, kills that server twice, and counts what
// was paid. All that it leaves is on the cluster, if that is where the runs are.
func demo(ctx context.Context, w io.Writer, f *Flags, choose Choose) (err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "invoice-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var inv Invoice
	if err := json.Unmarshal(acme, &inv); err != nil {
		return err
	}
	engine, where := []string{"-db", filepath.Join(dir, "invoice.db")}, ""
	if f.Config != "" {
		// The file's engine, where this demonstration is alone.
		name := filepath.Base(dir)
		inv.ID += strings.TrimPrefix(name, "invoice-demo")
		for key, value := range map[string]string{
			"LOCAL__PATH":                 filepath.Join(dir, "invoice.db"),
			"TEMPORAL__TASK_QUEUE":        name,
			"TEMPORAL__HEARTBEAT_SECONDS": "2", // so soon a worker is missed
		} {
			if err := os.Setenv("MCP_AGENT__"+key, value); err != nil {
				return err
			}
		}
		e, err := choose(f)
		switch {
		case err != nil:
			return err
		case e.Runs == "":
			return fmt.Errorf("%s says that runs are in memory, so there is nothing that survives: -demo needs execution_engine: local or temporal", f.Config)
		}
		engine, where = []string{"-config", f.Config}, "Runs: "+e.Runs+"\n"
	}
	s := &story{w: w, began: time.Now(), book: filepath.Join(dir, "payments.jsonl"),
		args: append(engine, "-stdio", "-payments", filepath.Join(dir, "payments.jsonl"), "-pay-delay", "1s")}
	defer func() {
		s.stop()
		if err != nil {
			err = fmt.Errorf("%w\n--- what the server said\n%s", err, s.stderr.Bytes())
		}
	}()

	fmt.Fprintf(w, "An invoice, a person, and kill -9\n%s\n", where)
	if err := s.start(ctx, "a server"); err != nil {
		return err
	}
	run, err := s.call(ctx, "process_invoice", map[string]any{"invoice": inv})
	if err != nil {
		return err
	}
	s.say("process_invoice", "%s, %s, %d lines: run %s", inv.ID, inv.Customer, len(inv.Lines), run["workflow_id"])
	ids := map[string]any{"workflow_id": run["workflow_id"], "run_id": run["run_id"]}
	if err := s.status(ctx, ids, "PENDING-APPROVAL"); err != nil {
		return err
	}
	if err := s.kill("while the run waits for a person"); err != nil {
		return err
	}

	if err := s.start(ctx, "another one, where the runs are"); err != nil {
		return err
	}
	if err := s.question(ctx); err != nil {
		return err
	}
	if _, err := s.call(ctx, "approve_invoice", ids); err != nil {
		return err
	}
	s.say("approve_invoice", "yes")
	booked, err := s.firstPayment(ctx)
	if err != nil {
		return err
	}
	if err := s.kill(fmt.Sprintf("in mid-payment: %d booked by the gateway, none reported to the run", booked)); err != nil {
		return err
	}

	if err := s.start(ctx, "another one, where the runs are"); err != nil {
		return err
	}
	if err := s.status(ctx, ids, "PAID"); err != nil {
		return err
	}
	return s.ledger(len(inv.Lines))
}

// story tells what happens, and holds the server that it happens to.
type story struct {
	w     io.Writer
	began time.Time
	book  string
	args  []string
	kills int

	cmd     *exec.Cmd
	session *mcp.ClientSession
	stderr  output
}

// output collects what a process writes.
type output struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

// Bytes is what has been written so far.
func (o *output) Bytes() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Clone(o.b.Bytes())
}

func (s *story) say(what, format string, args ...any) {
	fmt.Fprintf(s.w, "%5.1fs  %-16s %s\n", time.Since(s.began).Seconds(), what, fmt.Sprintf(format, args...))
}

// start starts a server, as an MCP host does.
func (s *story) start(ctx context.Context, what string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	s.cmd = exec.Command(self, s.args...)
	s.cmd.Stderr = &s.stderr
	client := mcp.NewClient(&mcp.Implementation{Name: "invoice-demo", Version: "1"}, nil)
	s.session, err = client.Connect(ctx, &mcp.CommandTransport{Command: s.cmd}, nil)
	if err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	s.say("start", "%s, pid %d", what, s.cmd.Process.Pid)
	return nil
}

// kill ends the server as the power would: no handler, no clean-up.
func (s *story) kill(when string) error {
	s.say("kill -9", "%s", when)
	s.kills++
	if err := s.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill the server: %w", err)
	}
	s.stop()
	return nil
}

// stop lets go of the server. How it ended is of no interest.
func (s *story) stop() {
	if s.session != nil {
		_ = s.session.Close()
		s.session = nil
	}
}

// call calls a tool and gives its structured result.
func (s *story) call(ctx context.Context, tool string, args map[string]any) (map[string]any, error) {
	res, err := s.session.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: args})
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", tool, err)
	}
	if err := res.GetError(); err != nil {
		return nil, fmt.Errorf("call %s: %w", tool, err)
	}
	out, ok := res.StructuredContent.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("call %s: the result is a %T", tool, res.StructuredContent)
	}
	return out, nil
}

// status waits until the invoice has a status, and tells it.
func (s *story) status(ctx context.Context, ids map[string]any, want string) error {
	for {
		out, err := s.call(ctx, "invoice_status", ids)
		if err != nil {
			return err
		}
		switch got := out["value"]; got {
		case want:
			s.say("invoice_status", "%s", got)
			return nil
		case "FAILED", "REJECTED":
			return fmt.Errorf("the invoice is %s instead of %s", got, want)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("the invoice is %v, not yet %s: %w", out["value"], want, err)
		}
	}
}

// question tells what the run asks.
func (s *story) question(ctx context.Context) error {
	out, err := s.call(ctx, "workflows-questions", nil)
	if err != nil {
		return err
	}
	asked, _ := out["questions"].([]any)
	if len(asked) != 1 {
		return fmt.Errorf("%d questions are open, not one", len(asked))
	}
	q, _ := asked[0].(map[string]any)
	s.say("the run asks", "%v", q["text"])
	return nil
}

// firstPayment waits until money has moved.
func (s *story) firstPayment(ctx context.Context) (int, error) {
	for {
		booked, err := readBook(s.book)
		if err != nil {
			return 0, err
		}
		if len(booked) > 0 {
			return len(booked), nil
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return 0, fmt.Errorf("nothing has been paid yet: %w", err)
		}
	}
}

// ledger shows what the gateway has booked, and fails if that is not each line
// once.
func (s *story) ledger(want int) error {
	booked, err := readBook(s.book)
	if err != nil {
		return err
	}
	paid, doubled := map[string]bool{}, 0
	var list []string
	for _, p := range booked {
		if paid[p.Description] {
			doubled++
		}
		paid[p.Description] = true
		list = append(list, fmt.Sprintf("%s %s", p.Description, p.Amount))
	}
	fmt.Fprintf(s.w, "\nledger\n  payments  %d of %d   %s\n  doubled   %d\n  kills     %d\n", len(paid), want, strings.Join(list, ", "), doubled, s.kills)
	if len(paid) != want || doubled > 0 {
		return errors.New("the ledger is wrong")
	}
	return nil
}
