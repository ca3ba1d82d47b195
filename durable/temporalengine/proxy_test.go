package temporalengine_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// proxy is the wire between an engine and the server, which a test cuts to
// make the engine die: nothing that it does is heard any more.
type proxy struct {
	l  net.Listener
	to string

	mu    sync.Mutex
	conns map[net.Conn]bool
	cut   bool
	wg    sync.WaitGroup
}

func newProxy(to string) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{l: l, to: to, conns: map[net.Conn]bool{}}
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(c) })
		}
	})
	return p, nil
}

func (p *proxy) addr() string { return p.l.Addr().String() }

// hold keeps a connection for the cut; false if it is cut already.
func (p *proxy) hold(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut {
		c.Close()
		return false
	}
	p.conns[c] = true
	return true
}

func (p *proxy) drop(c net.Conn) {
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
	c.Close()
}

func (p *proxy) serve(from net.Conn) {
	if !p.hold(from) {
		return
	}
	defer p.drop(from)
	to, err := net.Dial("tcp", p.to)
	if err != nil || !p.hold(to) {
		return
	}
	defer p.drop(to)
	done := make(chan struct{})
	go func() { // ends with the connections
		defer close(done)
		_, _ = io.Copy(to, from)
		to.Close()
	}()
	_, _ = io.Copy(from, to)
	from.Close()
	<-done
}

// close cuts the wire, and waits until nothing goes over it.
func (p *proxy) close() {
	p.mu.Lock()
	p.cut = true
	p.l.Close()
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// wires are the proxies by place.
type wires struct {
	mu sync.Mutex
	at map[string]*proxy
}

func (w *wires) open(t testing.TB, place, to string) (*proxy, error) {
	p, err := newProxy(to)
	if err != nil {
		return nil, err
	}
	t.Cleanup(p.close)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at[place] = p
	return p, nil
}

func (w *wires) cut(place string) {
	w.mu.Lock()
	p := w.at[place]
	w.mu.Unlock()
	if p != nil {
		p.close()
	}
}
