// Package temporalserver runs a Temporal server inside a Go process: frontend,
// history, matching and worker services, with SQLite in memory or in a file.
// It is for development and for tests. It is a module of its own, because it
// brings some 450 others: a program that runs on a real cluster needs only its
// address.
//
// # Errors
//
//	bad Options                                     *OptionError
//	the address is taken                            ErrAddressInUse
//	another server has the database file            ErrFileInUse
//	the file is no database of this server version  ErrNotOurs
package temporalserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"go.temporal.io/server/temporal"
)

// Sentinels of [Start].
var (
	ErrAddressInUse = errors.New("address already in use")
	ErrFileInUse    = errors.New("file is used by another server")
	ErrNotOurs      = errors.New("not a database of this version of temporalserver")
)

// closeWithin bounds Close.
const closeWithin = 15 * time.Second

// Options of [Start]. The zero value is a server in memory on a free port of
// the loopback interface.
type Options struct {
	// File is the SQLite database; it is made when it is not there. Empty means
	// in memory.
	File string
	// Synchronous is SQLite's setting: "full" (each commit is on the disk before
	// it is acknowledged) or "normal" (what was acknowledged outlives the process,
	// perhaps not the machine). Empty means full for a file.
	Synchronous string

	// IP and Port are where the frontend listens. Empty means 127.0.0.1; zero
	// means a free port. There is no authentication: whoever reaches the address
	// may do everything.
	IP   string
	Port int
	// UI serves the web interface too, on the same IP; UIPort zero means a free
	// port.
	UI     bool
	UIPort int

	// Namespace is created if it is not there. Empty means "default". Others are
	// registered through the API.
	Namespace string
	// Retention is how long the namespace keeps closed runs, at least an hour,
	// when this start creates it. Zero means seven days.
	Retention time.Duration
	// SearchAttributes are the custom search attributes of the namespace: name
	// and type (Bool, Datetime, Double, Int, Keyword, KeywordList, Text).
	SearchAttributes map[string]string

	// DynamicConfig sets the server's dynamic configuration, over the settings
	// that [Defaults] lists. Values are what YAML has; durations are strings.
	DynamicConfig map[string]any

	// Logger takes what the server has to say. Nil means nothing is said. It says
	// much: warnings when it starts and when it stops are normal.
	Logger *slog.Logger
}

// Server is a running server. Its methods may be called by many goroutines.
type Server struct {
	namespace string
	address   string
	server    temporal.Server // or nil
	database  *database       // or nil
	ui        *ui             // or nil

	close    sync.Once
	closeErr error
}

// Start starts a server and returns when it serves. It stops waiting when the
// context ends; the context has no part in the server's life after that.
func Start(ctx context.Context, options *Options) (*Server, error) {
	o, err := options.complete()
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("start: %w", context.Cause(ctx))
	}
	if o.Port, err = checkPort(o.IP, o.Port); err != nil {
		return nil, fmt.Errorf("listen for the frontend: %w", err)
	}
	s := &Server{namespace: o.Namespace, address: net.JoinHostPort(o.IP, strconv.Itoa(o.Port))}
	if err := s.start(ctx, o); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Server) start(ctx context.Context, o *Options) (err error) {
	if s.database, err = openDatabase(o); err != nil {
		return err
	}
	if o.UI {
		if s.ui, err = openUI(o); err != nil {
			return err
		}
	}
	if s.server, err = build(o, s.database); err != nil {
		return err
	}
	// It takes no context, and to leave it behind half started would be a panic
	// later on. It takes half a second.
	if err := s.server.Start(); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := s.ready(ctx); err != nil {
		return err
	}
	if o.UI {
		return s.ui.serve(o, s.address)
	}
	return nil
}

// Addr is the address of the frontend, as host:port.
func (s *Server) Addr() string { return s.address }

// Namespace is the namespace that exists.
func (s *Server) Namespace() string { return s.namespace }

// UI is the address of the web interface, as a URL, or empty.
func (s *Server) UI() string {
	if s.ui == nil {
		return ""
	}
	return s.ui.url
}

// Close stops the server. It takes at most some fifteen seconds; if the server
// has not stopped by then, Close says so, and leaves it behind in this process. What was acknowledged is in the file, whether or not Close ran.
func (s *Server) Close() error {
	s.close.Do(func() {
		var errs []error
		if s.ui != nil {
			errs = append(errs, s.ui.close())
		}
		stopped := true
		if s.server != nil {
			if err := s.stop(); err != nil {
				stopped = !errors.Is(err, errNotStopped)
				errs = append(errs, fmt.Errorf("stop: %w", err))
			}
		}
		if s.database != nil && stopped {
			errs = append(errs, s.database.close())
		}
		s.closeErr = errors.Join(errs...)
	})
	return s.closeErr
}

var errNotStopped = fmt.Errorf("the server has not stopped after %v; its goroutines and its file are left behind", closeWithin)

// stop stops the server, which takes no context, and leaves it behind when
// that takes too long.
func (s *Server) stop() error {
	done := make(chan error, 1)
	go func() { done <- s.server.Stop() }()
	timeout := time.NewTimer(closeWithin)
	defer timeout.Stop()
	select {
	case err := <-done:
		return err
	case <-timeout.C:
		return errNotStopped
	}
}
