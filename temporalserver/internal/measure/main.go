// Command measure measures the command temporalserver: how long it takes to
// start, what it takes when idle, how late its timers are and how long a
// workflow takes. From the root of the repository:
//
//	go -C temporalserver run ./internal/measure
//
// Arguments after -- go to the server, on top of those of each row.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

func main() {
	path := flag.String("server", "", "`executable` of the server; without it, go builds it")
	runs := flag.Int("n", 100, "runs of each workflow, one after the other")
	idle := flag.Duration("idle", 10*time.Second, "how long the server is left alone before its memory is read")
	flag.Parse()
	if err := measure(*path, *runs, *idle, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
}

func measure(path string, runs int, idle time.Duration, more []string) error {
	if path == "" {
		out, err := exec.Command("go", "tool", "-n", "temporalserver").Output()
		if err != nil {
			return fmt.Errorf("build the server: %w", err)
		}
		path = strings.TrimSpace(string(out))
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "measure")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Printf("executable: %d MB\n\n", info.Size()/1_000_000)
	fmt.Println("| | ready | first run done | idle: memory, CPU | memory after the runs | timer of 10 ms late (p50, p95, max) | 1 step (p50, p95) | 10 steps (p50) | stops |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|")
	for _, row := range [][]string{
		{"memory"},
		{"file, full", "-db", filepath.Join(dir, "full.db")},
		{"the same, again", "-db", filepath.Join(dir, "full.db")},
		{"file, normal", "-db", filepath.Join(dir, "normal.db"), "-synchronous", "normal"},
	} {
		args := slices.Concat([]string{"-port", "0", "-exit-with-parent"}, row[1:], more)
		if err := measureOne(row[0], path, args, runs, idle); err != nil {
			return fmt.Errorf("%s: %w", row[0], err)
		}
	}
	return nil
}

func measureOne(name, path string, args []string, runs int, idle time.Duration) (err error) {
	begin := time.Now()
	cmd := exec.Command(path, args...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		stdin.Close()
		err = errors.Join(err, cmd.Wait())
	}()
	var ready struct{ Address, Namespace string }
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read its line: %w", err)
	}
	if err := json.Unmarshal(line, &ready); err != nil {
		return err
	}
	took := time.Since(begin)
	memory, cpu := watch(cmd.Process.Pid, idle)

	ctx := context.Background()
	c, err := client.DialContext(ctx, client.Options{
		HostPort: ready.Address, Namespace: ready.Namespace,
		Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
	if err != nil {
		return err
	}
	defer c.Close()
	w := worker.New(c, "measure", worker.Options{})
	w.RegisterWorkflow(steps)
	w.RegisterWorkflow(sleep)
	w.RegisterActivity(step)
	if err := w.Start(); err != nil {
		return err
	}
	defer w.Stop()

	run := func(workflow, input any) (d, result time.Duration, err error) {
		start := time.Now()
		r, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{TaskQueue: "measure", EnableEagerStart: true}, workflow, input)
		if err == nil {
			err = r.Get(ctx, &result)
		}
		return time.Since(start), result, err
	}
	series := func(workflow, input any) (d, results []time.Duration, err error) {
		for range runs {
			took, result, err := run(workflow, input)
			if err != nil {
				return nil, nil, err
			}
			d, results = append(d, took), append(results, result)
		}
		slices.Sort(d)
		slices.Sort(results)
		return d, results, nil
	}
	if _, _, err := run(steps, 1); err != nil {
		return err
	}
	first := time.Since(begin) - idle
	_, late, err := series(sleep, 10*time.Millisecond)
	if err != nil {
		return err
	}
	one, _, err := series(steps, 1)
	if err != nil {
		return err
	}
	ten, _, err := series(steps, 10)
	if err != nil {
		return err
	}
	loaded, _ := watch(cmd.Process.Pid, 0)

	begin = time.Now()
	w.Stop()
	c.Close()
	stdin.Close()
	io.Copy(io.Discard, stdout)
	fmt.Printf("| %s | %v | %v | %s, %s | %s | %v, %v, %v | %v, %v | %v | %v |\n", name, ms(took), ms(first), memory, cpu, loaded,
		ms(at(late, 0.5)), ms(at(late, 0.95)), ms(late[len(late)-1]), ms(at(one, 0.5)), ms(at(one, 0.95)), ms(at(ten, 0.5)), ms(time.Since(begin)))
	return nil
}

func at(sorted []time.Duration, q float64) time.Duration { return sorted[int(q*float64(len(sorted)))] }

func ms(d time.Duration) string {
	return strconv.FormatFloat(float64(d.Microseconds())/1000, 'f', 0, 64) + " ms"
}

// watch leaves the process alone for a while and reads what it takes, where
// the system has /proc.
func watch(pid int, d time.Duration) (memory, cpu string) {
	ticks := func() (n int) {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if _, after, ok := strings.Cut(string(stat), ") "); ok {
			fields := strings.Fields(after)
			user, _ := strconv.Atoi(fields[11])
			system, _ := strconv.Atoi(fields[12])
			n = user + system
		}
		return n
	}
	before := ticks()
	time.Sleep(d)
	after := ticks()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "?", "?"
	}
	for line := range strings.Lines(string(status)) {
		if kb, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, _ := strconv.Atoi(strings.Fields(kb)[0])
			memory = fmt.Sprintf("%d MB", n/1000)
		}
	}
	// A tick is 10 ms on every Linux.
	return memory, fmt.Sprintf("%.1f %%", float64(after-before)*float64(10*time.Millisecond)/max(float64(d), 1)*100)
}

// steps runs n activities, one after the other.
func steps(ctx workflow.Context, n int) (time.Duration, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	for range n {
		if err := workflow.ExecuteActivity(ctx, step).Get(ctx, nil); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

func step(context.Context) error { return nil }

// sleep tells how late its timer was.
func sleep(ctx workflow.Context, d time.Duration) (time.Duration, error) {
	start := workflow.Now(ctx)
	err := workflow.Sleep(ctx, d)
	return workflow.Now(ctx).Sub(start) - d, err
}
