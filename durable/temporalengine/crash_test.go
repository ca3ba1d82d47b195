package temporalengine_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/worker"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/temporalengine"
)

var crashPoints = flag.Int("crash.points", 4, "at how many points a worker is killed, of those that there are")

// deaths are the points at which a worker can be killed, the telling ones
// first.
var deaths = []string{"pay after", "draft after", "code", "child after", "pay before", "draft before", "last before", "last after", "update"}

const (
	crashAddr, crashQueue = "TEST_CRASH_ADDR", "TEST_CRASH_QUEUE"
	crashWorld, crashAt   = "TEST_CRASH_WORLD", "TEST_CRASH_AT"
)

// world is what the steps change: a file that outlives the worker, with a line
// for each effect.
type world struct{ file, at string }

// point kills this process, as kill -9 does, where it is to die.
func (w world) point(name string) {
	if name != w.at {
		return
	}
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		_ = p.Kill()
	}
	select {}
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
	add     *durable.Update[int, int]
	defs    durable.Set
}

func newBill(w world) *bill {
	b := &bill{approve: durable.NewSignal[string]("approve"), add: durable.NewUpdate[int, int]("add")}
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
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{b.approve, b.add}})
	b.defs = durable.Set{b.flow, child, draft, pay, inner, last}
	return b
}

// TestCrashWorker is the worker that TestCrash kills: a process of its own.
func TestCrashWorker(t *testing.T) {
	addr := os.Getenv(crashAddr)
	if addr == "" {
		return // nobody asked for it
	}
	b := newBill(world{os.Getenv(crashWorld), os.Getenv(crashAt)})
	e, err := temporalengine.Open(t.Context(), &temporalengine.Options{HostPort: addr, TaskQueue: os.Getenv(crashQueue), Heartbeat: 2 * time.Second,
		Engine: durable.Options{Logger: quietLog}, Worker: worker.Options{StickyScheduleToStartTimeout: time.Second, WorkerStopTimeout: time.Second}}, b.defs)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = os.Stdin.Read(make([]byte, 1)) // ends when whoever started it does
	if err := e.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestCrash kills a worker at points of a workload and starts another one:
// what was acknowledged is there, what may happen at most once did, and the
// result is that of a life without harm.
func TestCrash(t *testing.T) {
	t.Parallel()
	addr := anyServer(t)
	for _, at := range append([]string{"nowhere"}, deaths[:min(*crashPoints, len(deaths))]...) {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			ctx := within(t, 90*time.Second)
			file := filepath.Join(t.TempDir(), "effects")
			b := newBill(world{})
			e := on(t, temporalengine.Options{HostPort: addr, ClientOnly: true}, b.defs)
			live := func(at string) *exec.Cmd {
				cmd := exec.CommandContext(ctx, os.Args[0], "-test.run", "^TestCrashWorker$")
				cmd.Env = append(os.Environ(), crashAddr+"="+addr, crashQueue+"="+queue(t), crashWorld+"="+file, crashAt+"="+at)
				stdin, err := cmd.StdinPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = stdin.Close() })
				return cmd
			}
			run, err := b.flow.Start(ctx, e, "bill", &durable.StartOptions{ID: id(t)})
			if err != nil {
				t.Fatal(err)
			}
			if err := b.approve.Send(ctx, run, "alex", &durable.SendOptions{ID: "acked"}); err != nil {
				t.Fatal(err)
			}
			first := live(at)
			added := make(chan error, 1)
			go func() { // its worker may die with it
				for {
					_, err := b.add.Send(ctx, run, 5, &durable.SendOptions{ID: "add"})
					if err == nil || ctx.Err() != nil {
						added <- err
						return
					}
				}
			}()
			if at != "nowhere" {
				if err := first.Wait(); err == nil || first.ProcessState.ExitCode() != -1 {
					t.Fatalf("the worker did not die: %v", err)
				}
				last := live("nowhere")
				t.Cleanup(func() { _ = last.Wait() })
			}
			got, err := b.flow.Result(ctx, run)
			if err != nil {
				t.Fatal(err)
			}
			if err := <-added; err != nil {
				t.Errorf("the update: %v", err)
			}
			want := "bill draft alex pay 5 child last"
			if strings.HasPrefix(at, "pay") {
				want = "bill draft alex unknown 5 child last"
			}
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			effects, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			paid := strings.Count(string(effects), "pay\n")
			if paid > 1 || at != "pay before" && paid == 0 {
				t.Errorf("paid %d times:\n%s", paid, effects)
			}
		})
	}
}
