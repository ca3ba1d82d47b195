package mcphost

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// overHTTP is the transport to an address.
func (l *link) overHTTP(life context.Context) (mcp.Transport, *roundTripper) {
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.DialContext = (&net.Dialer{Timeout: l.s.Timeouts.HTTP, KeepAlive: 30 * time.Second}).DialContext
	base.TLSHandshakeTimeout = l.s.Timeouts.HTTP
	base.MaxIdleConnsPerHost = 100 // one host is all there is
	rt := &roundTripper{base: base, s: l.s, life: life, limit: int64(l.h.maxMessage())}
	client := &http.Client{Transport: rt, CheckRedirect: sameOrigin}
	if l.s.SSE {
		return &mcp.SSEClientTransport{Endpoint: l.s.URL, HTTPClient: client, MaxEventSize: l.h.maxMessage()}, rt
	}
	return &mcp.StreamableClientTransport{Endpoint: l.s.URL, HTTPClient: client, MaxEventSize: l.h.maxMessage()}, rt
}

// sameOrigin follows redirects only where the credentials may go too.
func sameOrigin(req *http.Request, via []*http.Request) error {
	if len(via) >= 5 {
		return fmt.Errorf("too many redirects")
	}
	if from := via[0].URL; req.URL.Host != from.Host || req.URL.Scheme != from.Scheme && req.URL.Scheme != "https" {
		return fmt.Errorf("a redirect to another server, %s, is not followed", req.URL.Host)
	}
	return nil
}

// roundTripper adds the headers, ends with the connection, bounds answers and
// notes what became of a request.
type roundTripper struct {
	base  *http.Transport
	s     *Server
	life  context.Context
	limit int64
}

// RoundTrip implements [http.RoundTripper].
func (rt *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method == http.MethodDelete && rt.s.KeepSession {
		return &http.Response{StatusCode: http.StatusNoContent, Status: "204 No Content", Body: http.NoBody, Request: req, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}}, nil
	}
	ctx, cancel := context.WithCancel(req.Context())
	stop := context.AfterFunc(rt.life, cancel)
	end := func() { stop(); cancel() }
	var j *journey
	if req.Method == http.MethodPost {
		j = journeyOf(ctx)
	}
	if j != nil {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { j.left.Store(true) }})
	}
	req = req.Clone(ctx)
	for name, v := range rt.s.Headers {
		req.Header.Set(name, v.Reveal())
	}
	if !rt.s.APIKey.IsZero() {
		req.Header.Set("Authorization", "Bearer "+rt.s.APIKey.Reveal())
	}
	res, err := rt.base.RoundTrip(req)
	if err != nil {
		end()
		return nil, err
	}
	if j != nil {
		j.answered(res)
	}
	body := &boundedBody{ReadCloser: res.Body, end: end, left: -1}
	if !strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
		body.left = rt.limit
	}
	res.Body = body
	return res, nil
}

// boundedBody is an answer that may not be larger than the limit, and frees
// what its request held.
type boundedBody struct {
	io.ReadCloser
	end  func()
	left int64 // negative: no limit
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left >= 0 {
		if b.left -= int64(n); b.left < 0 {
			return 0, fmt.Errorf("an answer above the limit: %w", durable.ErrTooLarge)
		}
	}
	return n, err
}

func (b *boundedBody) Close() error {
	err := b.ReadCloser.Close()
	b.end()
	return err
}

// journey tells what became of a request, so that one that did not get to the
// server can be made again whatever the tool is.
type journey struct {
	begun  atomic.Bool  // somebody watches it
	left   atomic.Bool  // it left this process
	status atomic.Int32 // of HTTP, with which it was answered
	after  atomic.Int64 // Retry-After, in nanoseconds
}

type journeyKey struct{}

// journeyOf gives the journey of the request that a context is for, once. What
// the SDK sends with the same context afterwards, to cancel the request or to
// go on reading its answer, says nothing about it.
func journeyOf(ctx context.Context) *journey {
	j, _ := ctx.Value(journeyKey{}).(*journey)
	if j == nil || j.begun.Swap(true) {
		return nil
	}
	return j
}

// answered notes the status. Those that say that the request was not carried
// out take back that it left.
func (j *journey) answered(res *http.Response) {
	j.status.Store(int32(res.StatusCode))
	if s := res.StatusCode; s >= 400 && s < 500 || s == http.StatusServiceUnavailable {
		j.left.Store(false)
		if v := res.Header.Get("Retry-After"); v != "" {
			if sec, err := strconv.Atoi(v); err == nil && sec >= 0 {
				j.after.Store(int64(sec) * int64(time.Second))
			} else if at, err := http.ParseTime(v); err == nil {
				j.after.Store(int64(max(time.Until(at), 0)))
			}
		}
	}
}
