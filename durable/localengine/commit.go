package localengine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/internal/journal"
)

const (
	// A batch is closed when its statements take about this long, so that a
	// lone run is not held up by a thousand others.
	batchTime = 5 * time.Millisecond
	// batchBytes bounds the payloads of a batch of more than one.
	batchBytes = 16 << 20
	// The files are looked for this often, at most: what is acknowledged must
	// not be in one that somebody removed.
	identEvery = 10 * time.Millisecond
)

// op is what one caller wants committed: a transaction of the executor, or
// work of the engine's own.
type op struct {
	tx   *journal.Tx
	fn   func(*conn) error
	done chan struct{} // nil while its caller flushes it
	err  error         // read after done is closed

	// Guarded by committer.mu.
	flying bool // in a flush: its outcome must be awaited
	gaveUp bool // the caller's context has ended
}

func (o *op) bytes() int {
	if o.tx == nil {
		return 0
	}
	n := 0
	for _, w := range o.tx.Writes {
		if w.Row != nil {
			n += len(w.Row.Head) + len(w.Row.Data)
		}
		for _, r := range w.Before {
			n += len(r.Head) + len(r.Data)
		}
	}
	for _, b := range o.tx.Blobs {
		n += len(b.Data)
	}
	return n
}

// committer is the one that writes to the file. Callers queue their
// transactions; its goroutine takes all that wait and commits them with one
// flush. A caller who is alone flushes for itself: waking a goroutine and
// being woken by it costs as much as the statements.
type committer struct {
	path   string
	intact func() error // of the store
	epoch  int64

	// Of whoever flushes: the goroutine run, or a caller.
	c       *conn
	row     int64 // the last journal id given
	undo    []undo
	dirty   bool // statements of the transaction being applied were carried out
	pace    pace
	looked  time.Time              // for the file
	version uint32                 // of the file's content, after our last COMMIT
	known   map[int64]*journal.Run // some of the unfinished runs, as they are in the file
	one     [1]*op                 // the batch of a caller
	hooks   hooks
	seen    durable.Observer

	keeper *keeper
	gate   sync.Mutex // held in each flush, and for the last stretch of a checkpoint

	mu      sync.Mutex
	queue   []*op
	depth   atomic.Int64 // len(queue)
	busy    bool         // somebody flushes
	lone    bool         // the last flush was of one operation, and nobody waited behind it
	handed  []*op        // a caller's batch that the goroutine has to finish
	wake    chan struct{}
	closing bool
	dead    error // nothing can be written any more
	trouble error // what the current retries are about
	stopped chan struct{}
}

// commit queues an operation and waits until it is on disk. When ctx ends it
// is withdrawn, unless a flush has it: then its outcome is awaited.
func (w *committer) commit(ctx context.Context, o *op) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w.mu.Lock()
	switch {
	case w.dead != nil:
		defer w.mu.Unlock()
		return w.dead
	case w.closing:
		defer w.mu.Unlock()
		return errClosed
	}
	if w.lone && !w.busy && len(w.queue) == 0 {
		w.busy, o.flying = true, true
		w.mu.Unlock()
		if w.alone(o) {
			return o.err
		}
	} else {
		o.done = make(chan struct{})
		w.queue = append(w.queue, o)
		w.depth.Store(int64(len(w.queue)))
		w.mu.Unlock()
		w.rouse()
	}
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
	}
	w.mu.Lock()
	o.gaveUp = true
	if !o.flying {
		for i, q := range w.queue {
			if q == o {
				w.queue = append(w.queue[:i:i], w.queue[i+1:]...)
				w.depth.Store(int64(len(w.queue)))
				err := w.withdrawn(ctx.Err())
				w.mu.Unlock()
				return err
			}
		}
	}
	w.mu.Unlock()
	<-o.done
	if o.err == errGaveUp {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.withdrawn(ctx.Err())
	}
	return o.err
}

// hooks are seams of the tests of this package.
type hooks struct {
	commit func(ops int) error // before each COMMIT; its error is taken for that of COMMIT
	// claim is called before the COMMIT of a claim; its error is taken for its
	// own.
	claim func() error
	// probe looks why a write failed; nil: by writing beside the file.
	probe func(path string) error
	// quiet makes what looks at the file over and over, for clients and for
	// its being taken away, do so this rarely: virtual time is full of polls.
	// The log is not grown ahead.
	quiet time.Duration
	// grown is the fsync of the log when it is grown ahead; nil: of the file.
	grown func(*os.File) error
}

var errGaveUp = errors.New("withdrawn")

// withdrawn tells why an operation had to wait so long. w.mu is held.
func (w *committer) withdrawn(err error) error {
	if w.trouble != nil {
		return fmt.Errorf("not written: %w: %w", err, w.trouble)
	}
	return err
}

// rouse sees to it that the goroutine run looks what there is to do.
func (w *committer) rouse() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run is the committer's goroutine.
func (w *committer) run() {
	defer close(w.stopped)
	for {
		batch := w.next()
		if batch == nil {
			return
		}
		w.flush(batch)
	}
}

// next takes the next batch, nil at the end.
func (w *committer) next() []*op {
	w.mu.Lock()
	for w.busy && w.handed == nil || !w.busy && len(w.queue) == 0 {
		if w.closing && !w.busy {
			w.mu.Unlock()
			return nil
		}
		w.mu.Unlock()
		<-w.wake
		w.mu.Lock()
	}
	if batch := w.handed; batch != nil {
		w.handed = nil
		w.mu.Unlock()
		return batch
	}
	w.busy = true
	if want := w.pace.patience(len(w.queue)); want > 0 && !w.closing {
		// Runs that the last flush released are on their way back. A timer is
		// too coarse for these few microseconds.
		w.mu.Unlock()
		for n := 0; n < want && w.pace.more(n, time.Now()); n = int(w.depth.Load()) {
			runtime.Gosched()
		}
		w.mu.Lock()
		w.pace.waited(len(w.queue))
	}
	n, size := 0, 0
	for limit := w.pace.limit(); n < len(w.queue) && n < limit; n++ {
		if size += w.queue[n].bytes(); size > batchBytes && n > 0 {
			break
		}
	}
	batch := make([]*op, n)
	copy(batch, w.queue)
	clear(w.queue[:n])
	if w.queue = w.queue[n:]; len(w.queue) == 0 {
		w.queue = nil
	}
	w.depth.Store(int64(len(w.queue)))
	for _, o := range batch {
		o.flying = true
	}
	w.mu.Unlock()
	return batch
}

// alone makes one operation durable, on its caller's goroutine. It returns
// false if that takes retries: then the goroutine run has it.
func (w *committer) alone(o *op) bool {
	w.one[0] = o
	start := time.Now()
	bad, err := w.attempt(w.one[:], start)
	w.one[0] = nil
	switch f := classify(err); {
	case err == nil && bad == nil:
		w.settled(nil, 1, start, time.Now())
	case err == nil:
		w.release(false)
	case f == faultFull || f == faultBusy:
		o.done = make(chan struct{})
		w.mu.Lock()
		w.handed = []*op{o}
		w.mu.Unlock()
		w.rouse()
		return false
	default:
		o.err = w.die(err, nil)
		w.release(false)
	}
	return true
}

// flush makes a batch durable and tells its callers. On a full disk it tries
// the same batch again until there is room, or nobody wants it any more.
func (w *committer) flush(batch []*op) {
	for backoff := 5 * time.Millisecond; len(batch) > 0; {
		start := time.Now()
		bad, err := w.attempt(batch, start)
		switch {
		case bad != nil:
			close(bad.done)
			batch = without(batch, bad)
		case err == nil:
			w.settled(batch, len(batch), start, time.Now())
			return
		default:
			if f := classify(err); f != faultFull && f != faultBusy {
				_ = w.die(err, batch)
				batch = nil
				break
			}
			batch = w.park(batch, err, backoff)
			backoff = min(2*backoff, time.Second)
		}
	}
	w.release(false)
}

// attempt tries a batch once.
func (w *committer) attempt(batch []*op, now time.Time) (bad *op, err error) {
	w.gate.Lock()
	defer w.gate.Unlock()
	if err = w.look(now); err == nil {
		bad, err = w.try(batch)
	}
	if bad == nil && err == nil {
		w.keeper.wrote(w.c)
	}
	return bad, w.quota(err)
}

// settled tells the callers of a batch that it is on disk.
func (w *committer) settled(batch []*op, n int, start, end time.Time) {
	w.mu.Lock()
	w.trouble = nil
	left := len(w.queue)
	w.mu.Unlock()
	w.pace.flushed(n, left, start, end)
	w.release(n == 1 && left == 0)
	for _, o := range batch {
		close(o.done)
	}
	if w.seen != nil {
		w.seen.Observe(durable.Observation{Kind: "flush", At: end, Since: start, Took: end.Sub(start), Count: n})
	}
}

// release lets somebody else flush.
func (w *committer) release(lone bool) {
	w.mu.Lock()
	w.busy, w.lone = false, lone
	more := len(w.queue) > 0 || w.closing
	w.mu.Unlock()
	if more {
		w.rouse()
	}
}

func without(batch []*op, o *op) []*op {
	rest := make([]*op, 0, len(batch))
	for _, b := range batch {
		if b != o {
			rest = append(rest, b)
		}
	}
	return rest
}

// park waits before a batch is tried again. Callers may give up meanwhile;
// park returns those that did not.
func (w *committer) park(batch []*op, err error, d time.Duration) []*op {
	w.mu.Lock()
	if classify(err) == faultFull {
		w.trouble = fmt.Errorf("%s: the disk is full, or the file has reached its limit: nothing is acknowledged until there is room again; free some space (%w)", w.path, err)
	} else {
		w.trouble = fmt.Errorf("%s: another program keeps the file locked: nothing is acknowledged until it ends its transaction (%w)", w.path, err)
	}
	closing := w.closing
	w.mu.Unlock()
	for end := time.Now().Add(d); !closing && time.Now().Before(end); {
		t := time.NewTimer(min(d, 20*time.Millisecond))
		<-t.C
		w.mu.Lock()
		closing = w.closing
		gone := true
		for _, o := range batch {
			gone = gone && o.gaveUp
		}
		w.mu.Unlock()
		if gone {
			break
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	rest := batch[:0:0]
	for _, o := range batch {
		switch {
		case o.gaveUp:
			o.err = errGaveUp
			close(o.done)
		case closing:
			o.err = w.trouble
			close(o.done)
		default:
			rest = append(rest, o)
		}
	}
	return rest
}

// die ends writing for good, and gives the error that all get from now on.
func (w *committer) die(err error, batch []*op) error {
	if !errors.Is(err, ErrFenced) && !errors.Is(err, ErrDead) {
		err = &FileError{Path: w.path, Err: ErrDead, Cause: err, Text: "a write could not be made durable, and nothing that follows could be trusted; " +
			"what was acknowledged is kept and can be read; check the disk, then start the program again"}
	}
	w.mu.Lock()
	w.dead = err
	batch = append(batch, w.queue...)
	w.queue = nil
	w.depth.Store(0)
	w.mu.Unlock()
	for _, o := range batch {
		o.err = err
		close(o.done)
	}
	return err
}

// kill ends writing from outside.
func (w *committer) kill(err error) { _ = w.die(err, nil) }

// look makes sure that the files are still those at their paths.
func (w *committer) look(now time.Time) error {
	w.mu.Lock()
	dead := w.dead
	w.mu.Unlock()
	if dead != nil {
		return dead
	}
	if now.Sub(w.looked) < identEvery {
		return nil
	}
	w.looked = now
	return w.intact()
}

// sameFile says that a file was removed or replaced under us.
func sameFile(path string, ident os.FileInfo, what string) error {
	fi, err := os.Stat(path)
	if err == nil && os.SameFile(fi, ident) || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	how := "replaced by another file"
	if err != nil {
		how = "removed or renamed"
	}
	return &FileError{Path: path, Err: ErrFenced, Text: fmt.Sprintf("%s was %s while this process worked on it; nothing more is written from here; start the program again", what, how)}
}

func (w *committer) health() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.dead != nil:
		return w.dead
	case w.trouble != nil:
		return w.trouble
	}
	return w.keeper.health()
}

// close writes what is queued and ends the goroutines.
func (w *committer) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = w.own(ctx, func(c *conn) error { return c.exec("UPDATE owner SET clean = 1 WHERE id = 1") })
	w.mu.Lock()
	w.closing = true
	w.mu.Unlock()
	w.rouse()
	<-w.stopped
	w.keeper.stop()
	return nil
}

// finish closes the connections.
func (w *committer) finish() error {
	return errors.Join(w.keeper.close(), w.c.close())
}
