package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
)

// record is one thing that the world outside of the engine remembers.
type record struct {
	Kind    string `json:"k"` // start and end of an effect; ack, seen of a client; log
	Life    int    `json:"life"`
	Key     string `json:"key,omitempty"` // of the effect; of what was acknowledged: its id
	What    string `json:"what"`          // which effect it is, whatever its key; the value that came with the ack
	Attempt int    `json:"n,omitempty"`
}

// book is the world outside: what steps did there, what clients were told,
// what was logged. It survives every death. What happens after the death of
// the process that writes it never happened.
type book struct {
	mu   sync.Mutex
	dead atomic.Bool
	recs []record
	f    *os.File // of processes that are killed; nil: in memory only
}

// errDead is what code of a dead process gets: it goes nowhere.
var errDead = errors.New("the process is dead")

// openBook opens the book of a process: one line a record, appended in one
// write, so that a kill leaves whole lines.
func openBook(path string) (*book, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &book{f: f}, nil
}

func (b *book) note(r record) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dead.Load() {
		return errDead
	}
	if b.f == nil {
		b.recs = append(b.recs, r)
		return nil
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = b.f.Write(append(line, '\n'))
	return err
}

// die ends the process, as far as the world can see.
func (b *book) die() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dead.Store(true)
}

// next is the book for the next life.
func (b *book) next() *book {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &book{recs: b.recs[:len(b.recs):len(b.recs)], f: b.f}
}

// readBook reads the book of processes that were killed.
func readBook(path string) ([]record, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []record
	in := bufio.NewScanner(f)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var r record
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("line %d of %s: %w", len(out)+1, path, err)
		}
		out = append(out, r)
	}
	return out, in.Err()
}
