// Command temporalserver is a Temporal server in one process, for development
// and tests. From the root of the repository (the server is a module of its own,
// hence -C):
//
//	go -C temporalserver run ./cmd/temporalserver -db FILE -port 7233 -ui-port 8233
//
// Without -db it keeps everything in memory. When it serves, it prints one line
// of JSON: the address, the namespace, and the web interface's URL if there is
// one. It ends on SIGINT and SIGTERM.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/mcpagent/mcpagent/temporalserver"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// silent is above what is logged. Services that are stopped call each other's
// absence an error.
const silent = slog.LevelError + 4

// ready is the line on standard output.
type ready struct {
	Address   string `json:"address"`
	Namespace string `json:"namespace"`
	UI        string `json:"ui,omitempty"`
}

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("temporalserver", flag.ContinueOnError)
	flags.SetOutput(stderr)
	o := &temporalserver.Options{SearchAttributes: map[string]string{}, DynamicConfig: map[string]any{}}
	flags.StringVar(&o.File, "db", "", "SQLite `file`; without it, everything is in memory")
	flags.StringVar(&o.Synchronous, "synchronous", "full", "full: acknowledged is on the disk; normal: faster, and safe from kill but not from power loss")
	flags.StringVar(&o.IP, "ip", "127.0.0.1", "`address` to listen on")
	flags.IntVar(&o.Port, "port", 7233, "port of the frontend; 0 takes a free one")
	uiPort := flags.Int("ui-port", -1, "port of the web interface; 0 takes a free one, -1 means none")
	flags.StringVar(&o.Namespace, "namespace", "default", "namespace that is created")
	flags.DurationVar(&o.Retention, "retention", 7*24*time.Hour, "how long the namespace keeps closed runs")
	flags.Func("search-attribute", "custom search attribute, as `NAME=TYPE`; may be repeated", func(s string) error {
		name, kind, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return errors.New("want NAME=TYPE")
		}
		o.SearchAttributes[name] = kind
		return nil
	})
	flags.Func("dynamic-config", "setting of the server, as `KEY=VALUE`, the value in JSON or as it is; may be repeated", func(s string) error {
		key, text, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			return errors.New("want KEY=VALUE")
		}
		var value any
		if json.Unmarshal([]byte(text), &value) != nil {
			value = text
		}
		o.DynamicConfig[key] = value
		return nil
	})
	level := slog.LevelError
	flags.TextVar(&level, "log-level", level, "DEBUG, INFO, WARN or ERROR; warnings are normal")
	withParent := flags.Bool("exit-with-parent", false, "end when standard input is closed: the parent holds the other end of the pipe")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		fmt.Fprintln(stderr, "temporalserver: unexpected argument:", flags.Arg(0))
		return 2
	}
	if *uiPort >= 0 {
		o.UI, o.UIPort = true, *uiPort
	}
	var logged slog.LevelVar
	logged.Set(level)
	o.Logger = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: &logged}))

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *withParent {
		// The kernel closes the pipe however the parent ends. Linux's parent death
		// signal would come too early: when the thread ends that started us.
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		go func() {
			io.Copy(io.Discard, stdin)
			cancel()
		}()
	}
	closing := func() {
		stop() // a second signal ends the process at once
		if level == slog.LevelError {
			logged.Set(silent)
		}
	}
	if err := serve(ctx, closing, o, stdout); err != nil {
		fmt.Fprintln(stderr, "temporalserver:", err)
		return 1
	}
	return 0
}

// serve runs the server until the context ends, and calls closing then.
func serve(ctx context.Context, closing func(), o *temporalserver.Options, stdout io.Writer) error {
	s, err := temporalserver.Start(ctx, o)
	if err != nil {
		return err
	}
	line, err := json.Marshal(ready{s.Addr(), s.Namespace(), s.UI()})
	if err == nil {
		_, err = fmt.Fprintf(stdout, "%s\n", line)
	}
	if err != nil {
		return errors.Join(err, s.Close())
	}
	<-ctx.Done()
	closing()
	return s.Close()
}
