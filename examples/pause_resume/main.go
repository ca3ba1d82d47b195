// Command pause_resume is a workflow that waits until somebody resumes it,
// from this process or from another one; where nobody does within a minute, it
// fails with SignalTimeout. Kill it and start it again: it goes on waiting.
//
//	go run ./examples/pause_resume                             # starts it, and waits for its end
//	go run ./examples/pause_resume -resume pause-1 -by alex    # from another terminal
//
// With -config FILE, both on the engine and with the telemetry that the file
// names: on a Temporal cluster the second command may be on another machine.
// -wait 5s waits for five seconds.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/engines"
	"github.com/mcpagent/mcpagent/telemetry"
)

// Pause is what a run is started with.
type Pause struct {
	Message     string  `json:"message"`
	WaitSeconds float64 `json:"wait_seconds"`
}

// Resume is the payload of the signal.
type Resume struct {
	ApprovedBy string `json:"approved_by"`
}

var (
	errSignalTimeout = durable.NewErrorType("SignalTimeout")

	resume      = durable.NewSignal[Resume]("resume")
	pauseResume = durable.NewWorkflow("pause_resume", waitForResume, &durable.WorkflowOptions{Accepts: []durable.Accepted{resume}})
)

func waitForResume(ctx context.Context, p Pause) (string, error) {
	wait := time.Duration(p.WaitSeconds * float64(time.Second))
	r, err := resume.ReceiveTimeout(ctx, wait)
	if errors.Is(err, durable.ErrTimeout) {
		return "", errSignalTimeout.New("nobody sent the signal resume within %v", wait)
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("resumed by %s: %s", r.ApprovedBy, p.Message), nil
}

func main() {
	db := flag.String("db", "pause_resume.db", "keep the runs in `FILE`; with :memory:, Enter resumes")
	config := flag.String("config", "", "take engine and telemetry from `FILE`, mcp_agent.config.yaml say")
	id := flag.String("id", "pause-1", "start the run `ID`, or go on with it")
	wait := flag.Duration("wait", time.Minute, "start a run that waits so long")
	to := flag.String("resume", "", "resume the run `ID`")
	by := flag.String("by", "somebody", "`NAME` of who resumes it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *config, *db, *id, *to, *by, *wait); err != nil {
		fmt.Fprintln(os.Stderr, "pause_resume:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, config, db, id, to, by string, wait time.Duration) (err error) {
	cfg := &engines.Config{Engine: "local", Local: engines.Local{Path: db}}
	otel := &telemetry.Config{}
	if config != "" {
		cfg, err = engines.Load(config, &engines.LoadOptions{Sections: map[string]any{"otel": otel}})
		if err != nil {
			return err
		}
	}
	tel, err := telemetry.Open(ctx, otel)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tel.Close(context.WithoutCancel(ctx))) }()
	eng, err := engines.Open(ctx, cfg, &engines.Options{Engine: durable.Options{
		Observer: tel.Observer(), Logger: slog.New(tel.Handler(slog.Default().Handler())),
	}}, pauseResume)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, eng.Close(context.WithoutCancel(ctx))) }()
	tel.Watch(eng)
	if to != "" {
		return resume.Send(ctx, eng.Run(to, ""), Resume{by}, nil)
	}
	r, err := pauseResume.Start(ctx, eng, Pause{"hello", wait.Seconds()}, &durable.StartOptions{ID: id, Reuse: durable.ReuseAllow})
	if err != nil {
		return err
	}
	if cfg.Engine == "memory" || db == ":memory:" {
		fmt.Println(id, "waits for", wait, "at most: press Enter to resume it")
		go onEnter(func() error { return resume.Send(ctx, r, Resume{by}, nil) })
	} else {
		fmt.Println(id, "waits for", wait, "at most: go run ./examples/pause_resume -resume", id)
	}
	out, err := pauseResume.Result(ctx, r)
	if err == nil {
		fmt.Println(out)
	}
	return err
}

// onEnter does something when Enter is pressed.
func onEnter(do func() error) {
	_, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err == nil {
		err = do()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		fmt.Fprintln(os.Stderr, "pause_resume:", err)
	}
}
