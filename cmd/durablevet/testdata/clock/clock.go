// Package clock reads what a replay would read differently: the time, random
// numbers, the environment, files and the network.
package clock

import (
	"bufio"
	"context"
	crand "crypto/rand"
	"database/sql"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand"
	randv2 "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

var pay = durable.NewWorkflow("pay", func(ctx context.Context, n int) (int, error) {
	_ = time.Now()              // want `time.Now in workflow code gives another time in a replay: use durable.Now\(ctx\) \(workflow pay → time.Now\)`
	_ = time.Since(time.Time{}) // want `use durable.Now\(ctx\).Sub\(t\)`
	_ = time.Until(time.Time{}) // want `time.Until`
	time.Sleep(1)               // want `use durable.Sleep`
	_ = time.NewTimer(1)        // want `time.NewTimer`
	time.AfterFunc(1, nil)      // want `time.AfterFunc`
	_ = time.Tick(1)            // want `time.Tick`
	helper()
	return n, nil
}, nil)

func helper() { inner() }

func inner() {
	now := time.Now // want `time.Now in workflow code gives another time in a replay: use durable.Now\(ctx\) \(workflow pay → helper → inner → time.Now\)`
	_ = now
}

// notReached is not workflow code.
func notReached() time.Time {
	return time.Now()
}

var random = durable.NewWorkflow("random", randomly, nil)

func randomly(ctx context.Context, n int) (int, error) {
	_ = rand.Intn(3)                            // want `rand.Intn in workflow code gives another value in a replay: use durable.Rand or durable.UUID \(workflow random → rand.Intn\)`
	_ = randv2.N(3)                             // want `rand.N `
	_ = randv2.New(randv2.NewPCG(1, 2)).IntN(3) // seeded
	_ = rand.New(rand.NewSource(1)).Intn(3)
	_, _ = crand.Read(nil)                // want `rand.Read`
	_, _ = io.ReadFull(crand.Reader, nil) // want `rand.Reader`
	_ = durable.Rand(ctx, "x").IntN(3)
	_ = durable.UUID(ctx, "x")
	_ = durable.Now(ctx).Add(time.Hour).Format(time.RFC3339)
	return n, durable.Sleep(ctx, time.Second)
}

type world struct{ db *sql.DB }

func (w *world) run(ctx context.Context, n int) (int, error) {
	_ = os.Getenv("HOME")                   // want `os.Getenv in workflow code may differ in a replay: read it in main and pass it in, or use durable.SideEffect \(workflow world → os.Getenv\)`
	_ = os.Args[0]                          // want `os.Args`
	_, _ = os.ReadFile("x")                 // want `os.ReadFile in workflow code is done again in each replay: do it in a step`
	_, _ = exec.Command("true").Output()    // want `exec.Command` `exec.Cmd.Output`
	_, _ = http.Get("http://example.com")   // want `http.Get`
	_, _ = http.DefaultClient.Do(nil)       // want `http.Client.Do`
	_, _ = net.Dial("tcp", "example.com:1") // want `net.Dial`
	_ = net.ParseIP("127.0.0.1")
	_ = http.StatusText(200)
	_ = os.IsNotExist(nil)
	_, _ = w.db.QueryContext(ctx, "select 1") // want `sql.DB.QueryContext`
	_ = bufio.NewScanner(os.Stdin)            // want `os.Stdin`
	var conn net.Conn
	_, _ = conn.Read(nil) // want `net.Conn.Read`
	w.logs(ctx)
	return n, nil
}

func (w *world) logs(ctx context.Context) {
	log.Println("x")             // want `log.Println in workflow code is written again in each replay: use durable.Logger\(ctx\), which does not repeat itself in a replay \(workflow world → world.logs → log.Println\)`
	slog.InfoContext(ctx, "x")   // want `slog.InfoContext`
	fmt.Println("x")             // want `fmt.Println`
	fmt.Fprintln(os.Stderr, "x") // want `os.Stderr`
	println("x")                 // want `println`
	durable.Logger(ctx).Info("x")
	_ = fmt.Sprint("x")
}

func define(w *world) *durable.Workflow[int, int] {
	return durable.NewWorkflow("world", w.run, nil)
}

// Interfaces and function values are not followed.
type asker interface{ ask() time.Time }

type real struct{}

func (real) ask() time.Time { return time.Now() }

var unseen = durable.NewWorkflow("unseen", func(ctx context.Context, n int) (int, error) {
	var a asker = real{}
	a.ask()
	return n, nil
}, nil)

// A literal that is called, deferred or handed on is part of the workflow.
var closures = durable.NewWorkflow("closures", func(ctx context.Context, n int) (int, error) {
	func() {
		_ = time.Now() // want `time.Now`
	}()
	f := func() {
		_ = time.Now() // want `time.Now`
	}
	defer f()
	each(func() {
		_ = time.Now() // want `time.Now`
	})
	return n, nil
}, nil)

func each(f func()) { f() }

// The function may come from a variable or from another function.
func indirect() {
	fn := func(ctx context.Context, n int) (int, error) {
		_ = time.Now() // want `workflow variable → time.Now`
		return n, nil
	}
	_ = durable.NewWorkflow("variable", fn, nil)
	_ = durable.NewWorkflow("made", mk(3), nil)
	_ = durable.NewWorkflow("generic", generic[int], nil)
	_ = wrap("wrapped", func(ctx context.Context, n int) (int, error) {
		_ = time.Now() // want `workflow wrapped → time.Now`
		return n, nil
	})
}

func mk(m int) func(context.Context, int) (int, error) {
	return func(ctx context.Context, n int) (int, error) {
		_ = time.Now() // want `workflow made → time.Now`
		return n + m, nil
	}
}

func generic[T any](ctx context.Context, in T) (T, error) {
	_ = time.Now() // want `workflow generic → time.Now`
	return in, nil
}

func wrap(name string, fn func(context.Context, int) (int, error)) *durable.Workflow[int, int] {
	return durable.NewWorkflow(name, func(ctx context.Context, n int) (int, error) { return fn(ctx, n) }, nil)
}
