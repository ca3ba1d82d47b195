package temporalserver

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// stubborn is a server that does not stop while the channel is open.
type stubborn chan struct{}

func (s stubborn) Start() error { return nil }
func (s stubborn) Stop() error  { <-s; return errors.New("stopped after all") }

func TestCloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := make(stubborn)
		s := &Server{server: end}
		start := time.Now()
		if err := s.Close(); !errors.Is(err, errNotStopped) || time.Since(start) != closeWithin {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		close(end)
		if err := s.Close(); !errors.Is(err, errNotStopped) {
			t.Errorf("closed again: %v", err)
		}
		s = &Server{server: end}
		if err := s.Close(); err == nil || errors.Is(err, errNotStopped) {
			t.Errorf("a server that stops with an error: %v", err)
		}
	})
}
