package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

// maxRefusals is at which attempt a refusal is final.
const maxRefusals = 3

// gateway pays for real, as far as the program is concerned. Its book is a
// file of its own that knows nothing of runs: one JSON line for each payment
// that really happened. A key that it has booked it does not pay again.
type gateway struct {
	book  string        // file
	fail  string        // a code that all payments fail with
	delay time.Duration // half of it before a payment is booked, half before the caller hears of it

	mu sync.Mutex // taken before the lock of the file, which holds a thread for each that waits
}

// payment is a line of the book.
type payment struct {
	Key         string      `json:"idempotency_key"`
	Description string      `json:"description"`
	Amount      json.Number `json:"amount"`
	PaidAt      time.Time   `json:"paid_at"`
}

// errBooked is the gateway's answer to a key that it has seen.
var errBooked = errors.New("this idempotency key is booked")

// Pay is the step invoice.pay. It runs on a worker, and runs again if the
// process dies while it is at work; the call's key is the same then, so the
// money moves once.
func (g *gateway) Pay(ctx context.Context, l Line) (string, error) {
	call, _ := durable.StepInfoOf(ctx)
	if g.fail != "" {
		err := durable.NewErrorType(g.fail).New("the gateway refused to pay %s for %s", l.Amount, l.Description)
		if call.Attempt >= maxRefusals {
			err = durable.Permanent(err) // it was told so; nothing has been paid
		}
		return "", err
	}
	if err := pause(ctx, g.delay/2); err != nil {
		return "", err
	}
	err := g.transfer(payment{Key: call.Key, Description: l.Description, Amount: l.Amount, PaidAt: time.Now().UTC()})
	if errors.Is(err, errBooked) {
		return "paid before", nil // by an attempt that did not live to tell
	}
	if err != nil {
		return "", err
	}
	_ = pause(ctx, g.delay/2) // the money has moved, whatever happens now
	return "paid", nil
}

// transfer books one payment. Processes may call it side by side.
func (g *gateway) transfer(p payment) (err error) {
	if p.Key == "" {
		return durable.Permanent(errors.New("the gateway needs an idempotency key; run the workflow on an engine"))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	f, err := os.OpenFile(g.book, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open the book: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }() // and so unlocks it
	if err := lockFile(f); err != nil {
		return fmt.Errorf("lock the book: %w", err)
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return fmt.Errorf("read the book: %w", err)
	}
	booked, whole, err := parseBook(data)
	if err != nil {
		return err
	}
	for _, b := range booked {
		if b.Key == p.Key {
			return errBooked
		}
	}
	line, err := json.Marshal(p)
	if err != nil {
		return err
	}
	// What follows the last whole line was torn by a power cut: it goes.
	if err := f.Truncate(int64(whole)); err != nil {
		return fmt.Errorf("write the book: %w", err)
	}
	if _, err := f.WriteAt(append(line, '\n'), int64(whole)); err != nil {
		return fmt.Errorf("write the book: %w", err)
	}
	return f.Sync()
}

// check finds out now, not when the first payment is due, that there can be no
// book.
func (g *gateway) check() error {
	_, err := readBook(g.book)
	if err == nil {
		_, err = os.Stat(filepath.Dir(g.book))
	}
	if err != nil {
		return fmt.Errorf("the payments can't be kept: %w; choose another file with -payments", err)
	}
	return nil
}

// readBook reads the payments that happened.
func readBook(path string) ([]payment, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all, _, err := parseBook(data)
	return all, err
}

// parseBook gives the payments, and how many bytes they take: a line without
// its end is no payment.
func parseBook(data []byte) (all []payment, whole int, err error) {
	for n := 1; ; n++ {
		line, _, ok := bytes.Cut(data[whole:], []byte("\n"))
		if !ok {
			return all, whole, nil
		}
		whole += len(line) + 1
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var p payment
		if err := json.Unmarshal(line, &p); err != nil {
			return nil, 0, fmt.Errorf("line %d of the book is no payment: %w", n, err)
		}
		all = append(all, p)
	}
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
