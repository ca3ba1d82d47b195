package mcpserve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Endpoint is the path under which [Server.ListenAndServe] serves.
const Endpoint = "/mcp"

const (
	drainTime = 10 * time.Second // for calls under way, when serving ends
	maxBody   = 16 << 20         // bytes of a request
	farFuture = 24 * time.Hour   // end of a token that has none
)

// Handler serves MCP over streamable HTTP wherever it is mounted, for clients
// of all revisions: with sessions up to 2025-11-25, without from 2026-07-28.
//
// It refuses what ListenAndServe would refuse: web pages of other origins,
// foreign host names, and connections from other machines unless there is
// [Options.Authenticate], a token that the SDK's middleware around the handler
// has accepted, or [Options.AllowRemote]. [Server.Close] ends its sessions.
func (s *Server) Handler() http.Handler {
	l := s.listen()
	return l.handler()
}

// listener is one way of serving HTTP: the SDK's server and its two handlers,
// because the SDK keeps the two eras of the protocol apart.
type listener struct {
	s        *Server
	mcp      *mcp.Server
	sessions http.Handler  // up to 2025-11-25
	single   http.Handler  // from 2026-07-28
	done     chan struct{} // closed when serving ends

	mu     sync.Mutex
	closed bool
	calls  int           // POST requests under way
	idle   chan struct{} // closed when serving ends and there are none
}

func (s *Server) listen() *listener {
	l := &listener{s: s, mcp: s.newMCP(), done: make(chan struct{}), idle: make(chan struct{})}
	get := func(*http.Request) *mcp.Server { return l.mcp }
	logger := slog.New(quiet{s.log.Handler()})
	l.sessions = mcp.NewStreamableHTTPHandler(get, &mcp.StreamableHTTPOptions{
		Logger: logger, SessionTimeout: s.opts.SessionTimeout, MaxRequestBodyBytes: maxBody, DisableLocalhostProtection: s.opts.AllowRemote,
	})
	l.single = mcp.NewStreamableHTTPHandler(get, &mcp.StreamableHTTPOptions{
		Stateless: true, Logger: logger, MaxRequestBodyBytes: maxBody, DisableLocalhostProtection: s.opts.AllowRemote,
		PropagateRequestCancellation: true,
	})
	s.mu.Lock()
	s.closers[l] = struct{}{}
	s.mu.Unlock()
	return l
}

// close lets the calls that wait hand over, and then ends the sessions.
func (l *listener) close() {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.done)
		if l.calls == 0 {
			close(l.idle)
		}
	}
	l.mu.Unlock()
	late := time.NewTimer(drainTime)
	defer late.Stop()
	select {
	case <-l.idle:
	case <-late.C:
	}
	for ss := range l.mcp.Sessions() {
		_ = ss.Close()
	}
	l.s.mu.Lock()
	delete(l.s.closers, l)
	l.s.mu.Unlock()
	l.s.drop(l.mcp)
}

// begin counts a request; false when serving has ended.
func (l *listener) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.calls++
	}
	return !l.closed
}

func (l *listener) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls--; l.closed && l.calls == 0 {
		close(l.idle)
	}
}

// handler puts the guards before the two eras.
func (l *listener) handler() http.Handler {
	var h http.Handler = http.HandlerFunc(l.serve)
	if l.s.opts.Authenticate != nil {
		h = auth.RequireBearerToken(l.s.verify, nil)(h)
	}
	return l.s.web.Handler(h)
}

func (l *listener) serve(w http.ResponseWriter, r *http.Request) {
	if !l.s.opts.AllowRemote && l.s.opts.Authenticate == nil && auth.TokenInfoFromContext(r.Context()) == nil && !local(r) {
		http.Error(w, "Forbidden: this server has no authentication and serves its own machine only", http.StatusForbidden)
		return
	}
	if r.Method == http.MethodPost { // a GET of a session ends with the session
		if !l.begin() {
			http.Error(w, "the server is shutting down", http.StatusServiceUnavailable)
			return
		}
		defer l.end()
	}
	r = r.WithContext(withDrain(r.Context(), l.done))
	if sessionless(r) {
		l.single.ServeHTTP(w, r)
		return
	}
	l.sessions.ServeHTTP(w, r)
}

// local reports whether a request came over the machine's own interface.
func local(r *http.Request) bool {
	a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return true // no connection: a test's recorder
	}
	t, ok := a.(*net.TCPAddr)
	return !ok || t.IP.IsLoopback() // other kinds, unix sockets, are local
}

// sessionless tells the era of a request: by the header that says its
// revision, else by the revision that its body says it has, which is a mistake
// that the handler of that era explains best.
func sessionless(r *http.Request) bool {
	if v := r.Header.Get("Mcp-Protocol-Version"); v != "" {
		return v >= modern
	}
	if r.Header.Get("Mcp-Session-Id") != "" || r.Method != http.MethodPost || r.Body == nil {
		return false
	}
	head, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), r.Body), r.Body}
	if err != nil {
		return false
	}
	var msg struct {
		Params struct {
			Meta map[string]any `json:"_meta"`
		} `json:"params"`
	}
	if json.Unmarshal(head, &msg) != nil {
		return false
	}
	v, _ := msg.Params.Meta[mcp.MetaKeyProtocolVersion].(string)
	return v >= modern
}

// verify is Options.Authenticate as the SDK's middleware wants it.
func (s *Server) verify(ctx context.Context, token string, _ *http.Request) (*auth.TokenInfo, error) {
	id, err := s.opts.Authenticate(ctx, token)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", auth.ErrInvalidToken, err)
	}
	if id == nil {
		return nil, auth.ErrInvalidToken
	}
	t := &auth.TokenInfo{Expiration: id.Expires, UserID: string(mustJSON(id.Actor)), Extra: map[string]any{actorKey: id.Actor}}
	if t.Expiration.IsZero() {
		t.Expiration = time.Now().Add(farFuture)
	}
	return t, nil
}

// ListenAndServe serves streamable HTTP at addr, under [Endpoint], until ctx
// ends. It then lets calls hand their runs over, and returns nil. Addresses
// that other machines can reach are refused without [Options.Authenticate] or
// [Options.AllowRemote].
func (s *Server) ListenAndServe(ctx context.Context, addr string) error {
	ta, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return fmt.Errorf("mcpserve: listen at %q: %w", addr, err)
	}
	if err := s.guarded(ta); err != nil {
		return err
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", ta.String())
	if err != nil {
		return fmt.Errorf("mcpserve: listen at %q: %w", addr, err)
	}
	return s.Serve(ctx, ln)
}

// guarded refuses addresses that would be open to everybody.
func (s *Server) guarded(a net.Addr) error {
	t, ok := a.(*net.TCPAddr)
	if !ok || t.IP.IsLoopback() || s.opts.Authenticate != nil || s.opts.AllowRemote {
		return nil
	}
	return fmt.Errorf("mcpserve: %s can be reached from other machines, and the server has no authentication: set Options.Authenticate, or Options.AllowRemote if a gateway authenticates, or listen at 127.0.0.1", a)
}

// Serve is [Server.ListenAndServe] on a listener of the caller's, which it
// closes.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	if err := s.guarded(ln.Addr()); err != nil {
		_ = ln.Close()
		return err
	}
	l := s.listen()
	defer l.close()
	mux := http.NewServeMux()
	mux.Handle(Endpoint, l.handler())
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	ended := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { ended <- srv.Serve(ln) })
	defer wg.Wait()
	s.log.InfoContext(ctx, "serving MCP", "server", s.name, "url", "http://"+ln.Addr().String()+Endpoint)
	select {
	case err := <-ended:
		return fmt.Errorf("mcpserve: %w", err)
	case <-ctx.Done():
	case <-s.closing:
	}
	l.close()
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	err := srv.Shutdown(after)
	if err != nil {
		err = errors.Join(fmt.Errorf("mcpserve: requests were still under way after %v", drainTime), srv.Close())
	}
	<-ended
	return err
}
