package durabletest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"
)

// notes is what was recorded in a scenario.
type notes interface {
	add(kind, text string) int
	list(kind string) []string
	wait(ctx context.Context, kind string, n int) error
}

// sheet is notes within one process.
type sheet struct {
	mu      sync.Mutex // guards what follows
	byKind  map[string][]string
	changed chan struct{} // closed at the next note
}

func newSheet() *sheet { return &sheet{byKind: map[string][]string{}, changed: make(chan struct{})} }

func (s *sheet) add(kind, text string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byKind[kind] = append(s.byKind[kind], text)
	close(s.changed)
	s.changed = make(chan struct{})
	return len(s.byKind[kind])
}

func (s *sheet) list(kind string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.byKind[kind]...)
}

func (s *sheet) wait(ctx context.Context, kind string, n int) error {
	for {
		s.mu.Lock()
		have, changed := len(s.byKind[kind]), s.changed
		s.mu.Unlock()
		if have >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ledger is notes in a file, for several processes.
type ledger struct {
	path string
	mu   sync.Mutex // one note of this process at a time
}

type note struct{ Kind, Text string }

func (l *ledger) add(kind, text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, err := json.Marshal(note{kind, text})
	if err == nil {
		err = appendTo(l.path, append(b, '\n'))
	}
	if err != nil {
		panic(fmt.Sprintf("durabletest: note down %q: %v", kind, err))
	}
	return len(l.list(kind))
}

// appendTo writes at the end of a file with one call, so that lines of several
// processes do not mix.
func appendTo(path string, line []byte) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(line); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

func (l *ledger) list(kind string) (out []string) {
	b, err := os.ReadFile(l.path)
	if err != nil && !os.IsNotExist(err) {
		panic(fmt.Sprintf("durabletest: read the notes: %v", err))
	}
	for line := range bytes.Lines(b) {
		var n note
		if json.Unmarshal(line, &n) == nil && n.Kind == kind {
			out = append(out, n.Text)
		}
	}
	return out
}

func (l *ledger) wait(ctx context.Context, kind string, n int) error {
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	for {
		if len(l.list(kind)) >= n {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
