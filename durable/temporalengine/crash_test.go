package temporalengine_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/worker"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/temporalengine"
	"github.com/mcpagent/mcpagent/internal/temporaltest"
)

var crashPoints = flag.Int("crash.points", 5, "at how many points a worker is killed, of those that there are")

// deaths are the points at which a worker can be killed, the telling ones
// first.
var deaths = []string{"pay after", "draft after", "answered", "code", "child after", "pay before", "draft before", "last before", "last after", "update"}

// outages are the points at which the server is killed, and started again on
// its file, while the worker is there: code in the middle of a turn, and a step
// whose effect nobody has heard of.
var outages = []string{"answered", "pay after"}

const (
	crashAddr, crashQueue = "TEST_CRASH_ADDR", "TEST_CRASH_QUEUE"
	crashWorld, crashAt   = "TEST_CRASH_WORLD", "TEST_CRASH_AT"
	crashHold             = "TEST_CRASH_HOLD"
)

// world is what the steps change: a file that outlives the worker, with a line
// for each effect.
type world struct {
	file, at string
	hold     func() // nil: where it is to die
}

// point kills this process, as kill -9 does, where it is to die, or holds it.
func (w world) point(name string) {
	switch {
	case name != w.at:
		return
	case w.hold != nil:
		w.hold()
		return
	}
	if p, err := os.FindProcess(os.Getpid()); err == nil { //durablevet:ignore the death that the test is for
		_ = p.Kill() //durablevet:ignore the death that the test is for
	}
	select {} //durablevet:ignore until it is dead
}

func (w world) effect(name string) error {
	w.point(name + " before")
	f, err := os.OpenFile(w.file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(name + "\n")
	if err = errors.Join(err, f.Close()); err == nil {
		w.point(name + " after")
	}
	return err
}

type bill struct {
	flow    *durable.Workflow[string, string]
	approve *durable.Signal[string]
	ask     *durable.Question[bool]
	add     *durable.Update[int, int]
	defs    durable.Set
}

func newBill(w world) *bill {
	b := &bill{approve: durable.NewSignal[string]("approve"), ask: durable.NewQuestion[bool]("sure"), add: durable.NewUpdate[int, int]("add")}
	step := func(name string, once bool) *durable.Step[string, string] {
		return durable.NewStep(name, func(_ context.Context, in string) (string, error) { return in + " " + name, w.effect(name) },
			&durable.StepOptions{AtMostOnce: once})
	}
	draft, pay, inner, last := step("draft", false), step("pay", true), step("child", false), step("last", false)
	child := durable.NewWorkflow("bill.child", func(ctx context.Context, in string) (string, error) { return inner.Do(ctx, in) }, nil)
	b.flow = durable.NewWorkflow("bill", func(ctx context.Context, in string) (string, error) {
		if strings.Contains(in, "child") { // continued
			return last.Do(ctx, in)
		}
		sum := 0
		if err := b.add.Handle(ctx, func(_ context.Context, n int) (int, error) {
			w.point("update")
			sum += n
			return sum, nil
		}, nil); err != nil {
			return "", err
		}
		out, err := draft.Do(ctx, in)
		if err != nil {
			return "", err
		}
		w.point("code")
		if err := durable.Sleep(ctx, 10*time.Millisecond); err != nil {
			return "", err
		}
		by, err := b.approve.Receive(ctx)
		if err != nil {
			return "", err
		}
		sure, err := b.ask.Ask(ctx, "Pay?", nil)
		if err != nil {
			return "", err
		}
		w.point("answered")
		if !sure.Value {
			return "", errors.New("nobody is sure")
		}
		if err := durable.Await(ctx, func() bool { return sum > 0 }); err != nil {
			return "", err
		}
		paid, err := pay.Do(ctx, out+" "+by)
		switch {
		case errors.Is(err, durable.ErrOutcomeUnknown):
			paid = out + " " + by + " unknown"
		case err != nil:
			return "", err
		}
		if paid, err = child.Run(ctx, fmt.Sprint(paid, " ", sum)); err != nil {
			return "", err
		}
		return "", durable.ContinueAsNew(paid)
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{b.approve, b.add, b.ask}})
	b.defs = durable.Set{b.flow, child, draft, pay, inner, last}
	return b
}

// held is what a worker says that is held at a point.
const held = "the worker is held"

// TestCrashWorker is a worker of TestCrash: a process of its own, which ends
// when the one that started it does.
func TestCrashWorker(t *testing.T) {
	addr := os.Getenv(crashAddr)
	if addr == "" {
		return // nobody asked for it
	}
	w, goOn := world{file: os.Getenv(crashWorld), at: os.Getenv(crashAt)}, make(chan bool, 1)
	if os.Getenv(crashHold) != "" {
		w.hold = sync.OnceFunc(func() { // a replay comes by again
			fmt.Println(held)
			<-goOn
		})
	}
	b := newBill(w)
	e, err := temporalengine.Open(t.Context(), &temporalengine.Options{HostPort: addr, TaskQueue: os.Getenv(crashQueue), Heartbeat: 2 * time.Second,
		Engine: durable.Options{Logger: quietLog}, Worker: worker.Options{StickyScheduleToStartTimeout: time.Second, WorkerStopTimeout: time.Second}}, b.defs)
	if err != nil {
		t.Fatal(err)
	}
	for one := make([]byte, 1); ; {
		if _, err := os.Stdin.Read(one); err != nil {
			break
		}
		goOn <- true
	}
	if err := e.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// hand is such a worker, seen from the test.
type hand struct {
	*exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Scanner
}

// TestCrash kills a worker at points of a workload and starts another one, or
// kills the server and starts it again: what was acknowledged is there, what
// may happen at most once did, and the result is that of a life without harm.
func TestCrash(t *testing.T) {
	t.Parallel()
	addr := anyServer(t)
	t.Run("nowhere", func(t *testing.T) {
		t.Parallel()
		paid := newStage(t, addr).play(func(s *stage) { s.worker("", false) })
		if paid != "bill draft alex pay 5 child last" {
			t.Errorf("got %q", paid)
		}
	})
	for _, at := range deaths[:min(*crashPoints, len(deaths))] {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			got := newStage(t, addr).play(func(s *stage) {
				first := s.worker(at, false)
				for first.stdout.Scan() { // until it is dead
				}
				if err := first.Wait(); err == nil || first.ProcessState.ExitCode() != -1 {
					t.Fatalf("the worker did not die: %v", err)
				}
				s.worker("", false)
			})
			want := "bill draft alex pay 5 child last"
			if strings.HasPrefix(at, "pay") {
				want = "bill draft alex unknown 5 child last"
			}
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
	for _, at := range outages {
		t.Run("server "+at, func(t *testing.T) {
			t.Parallel()
			server := temporaltest.New(t, &temporaltest.Options{File: filepath.Join(t.TempDir(), "temporal.db")})
			got := newStage(t, server.Addr()).play(func(s *stage) {
				first := s.worker(at, true)
				for first.stdout.Scan() && first.stdout.Text() != held {
				}
				server.Kill()
				if _, err := first.stdin.Write([]byte("\n")); err != nil { // it goes on, and can tell nobody
					t.Fatal(err)
				}
				if err := server.Restart(s.ctx); err != nil {
					t.Fatal(err)
				}
			})
			// A step that is silent for as long as the server was away may
			// count as lost.
			if got != "bill draft alex pay 5 child last" && (at != "pay after" || got != "bill draft alex unknown 5 child last") {
				t.Errorf("got %q", got)
			}
		})
	}
}

// stage is what a workload is played on: a server, a client, and the world.
type stage struct {
	t    *testing.T
	ctx  context.Context
	addr string
	file string // of the world
}

func newStage(t *testing.T, addr string) *stage {
	return &stage{t, within(t, 90*time.Second), addr, filepath.Join(t.TempDir(), "effects")}
}

// worker starts a worker that dies or is held at a point.
func (s *stage) worker(at string, hold bool) *hand {
	s.t.Helper()
	h := &hand{Cmd: exec.CommandContext(s.ctx, os.Args[0], "-test.run", "^TestCrashWorker$")}
	h.Env = append(os.Environ(), crashAddr+"="+s.addr, crashQueue+"="+queue(s.t), crashWorld+"="+s.file, crashAt+"="+at)
	if hold {
		h.Env = append(h.Env, crashHold+"=1")
	}
	stdout, err := h.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	h.stdout = bufio.NewScanner(stdout)
	if h.stdin, err = h.StdinPipe(); err != nil {
		s.t.Fatal(err)
	}
	if err := h.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = h.stdin.Close()
		_ = h.Wait() // it may have been waited for
	})
	return h
}

// play sends a bill through its life, with harm, and gives the result.
func (s *stage) play(harm func(*stage)) string {
	s.t.Helper()
	t, ctx := s.t, s.ctx
	b := newBill(world{})
	e := on(t, temporalengine.Options{HostPort: s.addr, ClientOnly: true}, b.defs)
	run, err := b.flow.Start(ctx, e, "bill", &durable.StartOptions{ID: id(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.approve.Send(ctx, run, "alex", &durable.SendOptions{ID: "acked"}); err != nil {
		t.Fatal(err)
	}
	told := make(chan error, 2)
	go func() {
		told <- persist(ctx, func() error {
			_, err := b.add.Send(ctx, run, 5, &durable.SendOptions{ID: "add"})
			return err
		})
	}()
	go func() {
		told <- persist(ctx, func() error {
			open, err := e.Questions(ctx, &durable.QuestionFilter{WorkflowID: run.WorkflowID})
			if err != nil || len(open) == 0 {
				return errors.Join(err, errors.New("no question is open"))
			}
			return b.ask.Answer(ctx, e, open[0].ID, true, &durable.AnswerOptions{ID: "yes"})
		})
	}()
	harm(s)
	var got string
	if err := persist(ctx, func() error {
		var err error
		got, err = b.flow.Result(ctx, run)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-told; err != nil {
			t.Errorf("the update or the answer: %v", err)
		}
	}
	effects, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	if paid := strings.Count(string(effects), "pay\n"); paid > 1 || paid == 0 && !strings.Contains(got, "unknown") {
		t.Errorf("paid %d times, and got %q:\n%s", paid, got, effects)
	}
	return got
}

// persist tries again what a worker or a server that dies may fail.
func persist(ctx context.Context, try func() error) error {
	for {
		err := try()
		var over *durable.RunError
		if err == nil || errors.As(err, &over) || errors.Is(err, durable.ErrFinished) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}
