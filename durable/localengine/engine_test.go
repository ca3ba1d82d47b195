package localengine_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/durabletest"
	"github.com/mcpagent/mcpagent/durable/localengine"
)

func TestMain(m *testing.M) {
	durabletest.Serve(clientEngine())
	if path := os.Getenv("LOCALENGINE_HELPER"); path != "" {
		helper(path)
		return
	}
	goleak.VerifyTestMain(m)
}

// The workflow of these tests: it takes a step, waits for a signal, takes
// another step.
var (
	goOn  = durable.NewSignal[string]("go")
	where = durable.NewStatus[string]("where")
	bump  = durable.NewUpdate[int, int]("bump")
	work  = durable.NewStep("work", func(ctx context.Context, in string) (string, error) { return "did " + in, nil }, nil)
	job   = durable.NewWorkflow("job", func(ctx context.Context, in string) (string, error) {
		n := 0
		err := bump.Handle(ctx, func(_ context.Context, by int) (int, error) { n += by; return n, nil }, nil)
		if err != nil {
			return "", err
		}
		first, err := work.Do(ctx, in)
		if err != nil {
			return "", err
		}
		where.Set(ctx, "waiting")
		s, err := goOn.Receive(ctx)
		if err != nil {
			return "", err
		}
		second, err := work.Do(ctx, s)
		return fmt.Sprintf("%s, %s, %d", first, second, n), err
	}, &durable.WorkflowOptions{Accepts: []durable.Accepted{goOn, where, bump}})
)

// helper is another process: it opens the file, says so, and serves until it
// is killed.
func helper(path string) {
	ctx := context.Background()
	eng, err := localengine.Open(ctx, path, nil, job, work)
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	h, err := eng.Health(ctx)
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println("role:", h.Role)
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		switch cmd, arg, _ := strings.Cut(in.Text(), " "); cmd {
		case "start":
			if _, err := job.Start(ctx, eng, arg, &durable.StartOptions{ID: arg}); err != nil {
				fmt.Println("error:", err)
			} else {
				fmt.Println("started:", arg)
			}
		case "close":
			if err := eng.Close(ctx); err != nil {
				fmt.Println("error:", err)
			}
			fmt.Println("closed")
			return
		}
	}
}

type process struct {
	t   *testing.T
	cmd *exec.Cmd
	in  interface{ Write([]byte) (int, error) }
	out *bufio.Scanner
}

// spawn starts a helper and returns it with what it said first.
func spawn(t *testing.T, path string) (*process, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "LOCALENGINE_HELPER="+path)
	cmd.Stderr = os.Stderr
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
	p := &process{t, cmd, in, bufio.NewScanner(out)}
	t.Cleanup(p.kill)
	return p, p.line()
}

func (p *process) line() string {
	p.t.Helper()
	if !p.out.Scan() {
		p.t.Fatalf("the helper ended: %v", p.out.Err())
	}
	return p.out.Text()
}

func (p *process) say(s string) string {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.in, s); err != nil {
		p.t.Fatal(err)
	}
	return p.line()
}

// kill is kill -9.
func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

func openEngine(t *testing.T, path string, o *localengine.Options) *durable.Engine {
	t.Helper()
	eng, err := localengine.Open(t.Context(), path, o, job, work)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := eng.Close(context.Background()); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return eng
}

func waitStatus(t *testing.T, r *durable.Run) {
	t.Helper()
	waitFor(t, "the run to wait for its signal", func() bool {
		d, err := r.Describe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return string(d.Status["where"]) == `"waiting"`
	})
}

func result(t *testing.T, r *durable.Run, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	got, err := job.Result(ctx, r)
	if err != nil || got != want {
		t.Errorf("result %q, %v; want %q", got, err, want)
	}
}

func TestReopen(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	eng, err := localengine.Open(t.Context(), path, nil, job, work)
	if err != nil {
		t.Fatal(err)
	}
	r, err := job.Start(t.Context(), eng, "x", &durable.StartOptions{ID: "one"})
	if err != nil {
		t.Fatal(err)
	}
	waitStatus(t, r)
	if err := eng.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Describe(t.Context()); !errors.Is(err, durable.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	eng = openEngine(t, path, nil)
	r = eng.Run("one", "")
	if err := goOn.Send(t.Context(), r, "y", nil); err != nil {
		t.Fatal(err)
	}
	result(t, r, "did x, did y, 0")
}

// Two engines on one file: the second is a client, for everything.
func TestClient(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	owner := openEngine(t, path, nil)
	client := openEngine(t, path, nil)
	h, err := client.Health(t.Context())
	if err != nil || !strings.HasPrefix(h.Role, "client of process") || !h.OK {
		t.Errorf("Health = %+v, %v", h, err)
	}
	t.Log(h.Role)
	r, err := job.Start(t.Context(), client, "x", &durable.StartOptions{ID: "one"})
	if err != nil {
		t.Fatal(err)
	}
	waitStatus(t, r)
	if n, err := bump.Send(t.Context(), r, 5, nil); n != 5 || err != nil {
		t.Errorf("update = %d, %v", n, err)
	}
	if n, err := bump.Send(t.Context(), r, 2, &durable.SendOptions{ID: "u"}); n != 7 || err != nil {
		t.Errorf("update = %d, %v", n, err)
	}
	if n, err := bump.Send(t.Context(), r, 2, &durable.SendOptions{ID: "u"}); n != 7 || err != nil {
		t.Errorf("the same update = %d, %v", n, err)
	}
	if _, err := r.Update(t.Context(), "nothing", json.RawMessage("1"), nil); !errors.Is(err, durable.ErrNotAccepted) && !errors.Is(err, durable.ErrNoHandler) {
		t.Errorf("an update that nobody handles: %v", err)
	}
	if _, err := job.Start(t.Context(), client, "other", &durable.StartOptions{ID: "one"}); !errors.Is(err, durable.ErrIDTaken) {
		t.Errorf("start with another input: %v", err)
	}
	page, err := client.List(t.Context(), nil)
	if err != nil || len(page.Runs) != 1 {
		t.Errorf("List = %+v, %v", page, err)
	}
	done := make(chan error, 1)
	go func() {
		got, err := job.Result(t.Context(), r) // waits in the client
		if err == nil && got != "did x, did y, 7" {
			err = fmt.Errorf("result %q", got)
		}
		done <- err
	}()
	if err := goOn.Send(t.Context(), client.Run("one", ""), "y", nil); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	result(t, owner.Run("one", ""), "did x, did y, 7")
}

// requests is how many requests of clients wait in a file.
func requests(t *testing.T, path string) int64 {
	st, err := localengine.View(path)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	n, err := localengine.Number(st, "SELECT count(*) FROM requests WHERE replied = 0")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// An owner that closes hands over too.
func TestHandOver(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	first, err := localengine.Open(t.Context(), path, nil, job, work)
	if err != nil {
		t.Fatal(err)
	}
	second := openEngine(t, path, nil)
	r, err := job.Start(t.Context(), first, "x", &durable.StartOptions{ID: "one"})
	if err != nil {
		t.Fatal(err)
	}
	waitStatus(t, second.Run("one", ""))
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	r = second.Run("one", r.RunID)
	if n, err := bump.Send(t.Context(), r, 3, nil); n != 3 || err != nil {
		t.Errorf("update = %d, %v", n, err)
	}
	if err := goOn.Send(t.Context(), r, "y", nil); err != nil {
		t.Error(err)
	}
	result(t, r, "did x, did y, 3")
}

// kill -9 between any two moments loses nothing that was acknowledged.
func TestKill(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	acked := []string{}
	for i := range 3 {
		p, role := spawn(t, path)
		if role != "role: executor" {
			t.Fatal(role)
		}
		for j := range 5 {
			id := fmt.Sprintf("job-%d-%d", i, j)
			if got := p.say("start " + id); got != "started: "+id {
				t.Fatal(got)
			}
			acked = append(acked, id)
		}
		p.kill()
	}
	eng := openEngine(t, path, nil)
	for _, id := range acked {
		r := eng.Run(id, "")
		if err := goOn.Send(t.Context(), r, "y", nil); err != nil {
			t.Errorf("%s: %v", id, err)
			continue
		}
		result(t, r, "did "+id+", did y, 0")
	}
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	eng := openEngine(t, path, nil)
	r, err := job.Start(t.Context(), eng, "x", &durable.StartOptions{ID: "one"})
	if err != nil {
		t.Fatal(err)
	}
	waitStatus(t, r)
	view := openEngine(t, path, &localengine.Options{ReadOnly: true})
	waitStatus(t, view.Run("one", ""))
	if err := goOn.Send(t.Context(), view.Run("one", ""), "y", nil); !errors.Is(err, durable.ErrUnsupported) {
		t.Errorf("a signal through a viewer: %v", err)
	}
	if err := goOn.Send(t.Context(), r, "y", nil); err != nil {
		t.Fatal(err)
	}
	result(t, view.Run("one", ""), "did x, did y, 0")
}

// noRoom is how SQLite says that the disk is full.
type noRoom struct{}

func (noRoom) Error() string { return "database or disk is full" }
func (noRoom) Code() int     { return 13 }

// A caller waits for room on the disk as long as it wants to, and hears then
// what it waited for.
func TestCallOnAFullDisk(t *testing.T) {
	t.Parallel()
	var full atomic.Bool
	o := &localengine.Options{}
	o.SetHook(func(int) error {
		if full.Load() {
			return noRoom{}
		}
		return nil
	})
	path := filepath.Join(t.TempDir(), "a.db")
	eng := openEngine(t, path, o)
	full.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan error)
	go func() {
		_, err := job.Start(ctx, eng, "x", &durable.StartOptions{ID: "one"})
		given <- err
	}()
	waitFor(t, "Health to say that the disk is full", func() bool {
		h, err := eng.Health(t.Context())
		return err == nil && !h.OK
	})
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "disk is full") {
		t.Errorf("Start = %v, want the end of its context and the reason", err)
	}
	full.Store(false)
	r, err := job.Start(t.Context(), eng, "x", &durable.StartOptions{ID: "one"})
	if err != nil {
		t.Fatal(err)
	}
	waitStatus(t, r)
}

// A client that defines nothing works, and never takes over.
func TestClientOnly(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	if _, err := localengine.Open(t.Context(), path, &localengine.Options{Client: true}); err == nil {
		t.Fatal("a client of nothing")
	}
	owner, err := localengine.Open(t.Context(), path, nil, job, work)
	if err != nil {
		t.Fatal(err)
	}
	client, err := localengine.Open(t.Context(), path, &localengine.Options{Client: true})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close(context.Background())
	if _, err := client.Start(t.Context(), "job", json.RawMessage(`"x"`), &durable.StartOptions{ID: "one"}); err != nil {
		t.Fatal(err)
	}
	waitStatus(t, client.Run("one", ""))
	if err := owner.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err = goOn.Send(ctx, client.Run("one", ""), "y", nil)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "process") {
		t.Errorf("without an owner: %v", err)
	}
	t.Log(err)
	eng := openEngine(t, path, nil)
	if err := goOn.Send(t.Context(), client.Run("one", ""), "z", nil); err != nil {
		t.Fatal(err)
	}
	result(t, eng.Run("one", ""), "did x, did z, 0")
}

// Somebody removes one of the files of a working owner. What it acknowledged
// from then on would be lost with it.
func TestRemovedUnderUs(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"", "-wal", "-shm", "-lock"} {
		path := filepath.Join(t.TempDir(), "a.db")
		eng := openEngine(t, path, nil)
		if _, err := job.Start(t.Context(), eng, "x", nil); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path + what); err != nil {
			t.Fatal(err)
		}
		var err error
		waitFor(t, "the owner to notice", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err = job.Start(ctx, eng, "x", nil)
			return err != nil
		})
		t.Log(err)
		h, err := eng.Health(t.Context())
		if err != nil || h.OK || !strings.Contains(h.Text, "removed") {
			t.Errorf("Health = %+v, %v", h, err)
		}
	}
}

func TestRetention(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	eng := openEngine(t, path, &localengine.Options{Engine: durable.Options{Retention: time.Millisecond}})
	r, err := job.Start(t.Context(), eng, "x", &durable.StartOptions{ID: "one"})
	if err != nil {
		t.Fatal(err)
	}
	if err := goOn.Send(t.Context(), r, "y", nil); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the run to be deleted", func() bool {
		_, err := r.Describe(t.Context())
		return errors.Is(err, durable.ErrNotFound)
	})
}

func TestMemory(t *testing.T) {
	t.Parallel()
	eng := openEngine(t, ":memory:", nil)
	r, err := job.Start(t.Context(), eng, "x", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := goOn.Send(t.Context(), r, "y", nil); err != nil {
		t.Fatal(err)
	}
	result(t, r, "did x, did y, 0")
}
