package localengine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

const (
	// takeoverEvery is how often a client looks whether the owner has ended.
	takeoverEvery = 50 * time.Millisecond
	// guardEvery is how often the owner looks whether the lock is still its.
	guardEvery = 500 * time.Millisecond
	// readyTime is how long a file may take to be made by another process.
	readyTime = 10 * time.Second
)

// backend is the engine behind one open file: its owner, or a client that
// becomes the owner when there is none.
type backend struct {
	path  string
	opts  Options
	defs  *durable.Definitions
	me    Owner
	st    *store
	watch *watcher
	read  durable.Backend // the reading operations, for a client
	ask   *client

	quit   context.CancelFunc
	done   chan struct{}
	writes sync.WaitGroup

	mu      sync.RWMutex
	closing bool
	exec    durable.Backend // nil: a client
	in      *inbox
	lk      *lock
}

func openBackend(ctx context.Context, path string, o Options, defs *durable.Definitions) (_ *backend, err error) {
	b := &backend{path: path, opts: o, defs: defs, me: self(), done: make(chan struct{})}
	lk, err := b.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.release())
		}
	}()
	b.lk = lk
	if b.st, err = openStore(path); err != nil {
		return nil, err
	}
	b.st.seen = o.Engine.Observer
	if b.watch, err = newWatcher(path); err != nil {
		return nil, err
	}
	b.read = durable.NewReader(b.st, defs, &b.opts.Engine, b.watch.watch)
	if lk != nil {
		err = b.lead(ctx, lk)
	} else if err = b.st.current(); err == nil {
		b.ask, err = newClient(b.st, b.watch, b.me)
	}
	if err != nil {
		return nil, err
	}
	life, quit := context.WithCancel(context.Background())
	b.quit = quit
	go b.run(life) // Close waits for it
	return b, nil
}

// enter takes the lock, or finds that another process of this host has it.
// Either way there is a file afterwards.
func (b *backend) enter(ctx context.Context) (*lock, error) {
	state, err := inspect(b.path)
	if err != nil {
		return nil, err
	}
	if b.opts.Client {
		if state == fileAbsent {
			return nil, fmt.Errorf("open %s as a client: %w: start the program that owns it first", b.path, fs.ErrNotExist)
		}
		return nil, b.checkHost()
	}
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	for {
		lk, err := tryLock(b.path, b.me)
		if err != nil {
			return nil, err
		}
		if lk != nil {
			if state, err = inspect(b.path); err == nil && state == fileAbsent {
				err = create(b.path)
			}
			if err != nil {
				return nil, errors.Join(err, lk.release())
			}
			return lk, nil
		}
		if err := b.checkHost(); err != nil {
			return nil, err
		}
		if state, err = inspect(b.path); err != nil || state == fileOurs {
			return nil, err
		}
		// The other one is just making the file, or died over it.
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			return nil, &LockedError{Path: b.path, Owner: holder(b.path), Text: "it has made no file yet; try again"}
		}
	}
}

// checkHost refuses to be a client of an owner on another host: SQLite's
// shared memory does not reach there, so what is read would be wrong.
func (b *backend) checkHost() error {
	if o := holder(b.path); o.Host != "" && o.Host != b.me.Host {
		return &LockedError{Path: b.path, Owner: o, Text: "a client must run on the owner's host: run this program there, or stop that one"}
	}
	return nil
}

// lead makes this process the owner: the lock is held.
func (b *backend) lead(ctx context.Context, lk *lock) error {
	b.me.Since = time.Now()
	if err := b.st.claim(b.me, b.opts.hooks); err != nil {
		return err
	}
	exec, err := durable.NewExecutor(ctx, b.st, b.defs, &b.opts.Engine)
	if err != nil {
		return errors.Join(explain(b.path, err), b.st.disclaim())
	}
	in := newInbox(b.st, exec, b.opts.hooks.quiet)
	b.mu.Lock()
	b.exec, b.in, b.lk = exec, in, lk
	b.mu.Unlock()
	return nil
}

// run guards the lock of an owner and clears away what is too old, or waits
// for the place of an owner.
func (b *backend) run(ctx context.Context) {
	defer close(b.done)
	log := b.opts.log()
	var warned time.Time
	sick := false
	for {
		b.mu.RLock()
		lk := b.lk
		b.mu.RUnlock()
		every := takeoverEvery
		if lk != nil {
			every = max(guardEvery, b.opts.hooks.quiet)
		}
		if sleep(ctx, every) != nil {
			return
		}
		switch {
		case lk != nil:
			w := b.st.committer()
			if err := w.health(); err != nil && !sick {
				sick = true
				log.Warn("nothing can be written", "err", err)
			} else if err == nil && sick {
				sick = false
				log.Info("the file can be written again", "file", b.path)
			}
			if err := errors.Join(lk.check(), b.st.intact()); err != nil && w.health() == nil {
				log.Error("the file was taken away", "err", err)
				w.kill(err)
			}
		case !b.opts.Client:
			if err := b.takeOver(ctx); err != nil && ctx.Err() == nil && time.Since(warned) > time.Minute {
				warned = time.Now()
				log.Error("the owner has ended, and this process could not take over", "file", b.path, "err", err)
			}
		}
	}
}

// takeOver makes a client the owner if there is none.
func (b *backend) takeOver(ctx context.Context) error {
	lk, err := tryLock(b.path, b.me)
	if lk == nil {
		return err
	}
	if err := b.st.intact(); err != nil {
		return errors.Join(err, lk.release())
	}
	if err := b.lead(ctx, lk); err != nil {
		return errors.Join(err, lk.release())
	}
	b.opts.log().Info("the owner has ended; this process took over", "file", b.path)
	return nil
}

// Do implements [durable.Backend].
func (b *backend) Do(ctx context.Context, req *durable.Request) (*durable.Reply, error) {
	b.mu.RLock()
	exec, closing := b.exec, b.closing
	b.mu.RUnlock()
	switch {
	case closing:
		return nil, fmt.Errorf("%s: %w", req.Op, durable.ErrClosed)
	case exec != nil && !req.Reads() && ctx.Done() != nil:
		return b.write(ctx, exec, req)
	case exec != nil:
		return exec.Do(ctx, req)
	case req.Reads():
		return b.read.Do(ctx, req)
	case req.Op == durable.OpHealth:
		return b.health(ctx, req)
	}
	return b.ask.do(ctx, req)
}

// write lets a caller go, when its time is up, who would wait for room on the
// disk. The operation is not called off: it may be half way through already.
func (b *backend) write(ctx context.Context, exec durable.Backend, req *durable.Request) (*durable.Reply, error) {
	var late *durable.Reply
	var lateErr error
	done := make(chan struct{})
	b.mu.RLock()
	closing := b.closing
	if !closing {
		b.writes.Go(func() { defer close(done); late, lateErr = exec.Do(ctx, req) })
	}
	b.mu.RUnlock()
	if closing {
		return nil, fmt.Errorf("%s: %w", req.Op, durable.ErrClosed)
	}
	select {
	case <-done:
		return late, lateErr
	case <-ctx.Done():
	}
	if trouble := b.st.Health(); trouble != nil {
		return nil, fmt.Errorf("%s: not acknowledged, though it may still take effect: %w: %w", req.Op, ctx.Err(), trouble)
	}
	<-done
	return late, lateErr
}

// health asks the owner, and says it where that one does not answer.
func (b *backend) health(ctx context.Context, req *durable.Request) (*durable.Reply, error) {
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	rep, err := b.ask.do(short, req)
	owner := holder(b.path)
	switch {
	case err == nil && rep.Health != nil:
		rep.Health.Role = fmt.Sprintf("client of %v", owner)
		return rep, nil
	case err == nil:
		return rep, nil
	case ctx.Err() != nil:
		return nil, err
	}
	return &durable.Reply{Health: &durable.Health{Role: fmt.Sprintf("client of %v", owner), Text: fmt.Sprintf(
		"the owner does not answer: it hangs or is stopped, or has just ended and nobody took over: %v", err)}}, nil
}

// Close implements [durable.Backend].
func (b *backend) Close(ctx context.Context) error {
	b.mu.Lock()
	if b.closing {
		b.mu.Unlock()
		return nil
	}
	b.closing = true
	b.mu.Unlock()
	b.quit()
	<-b.done // now nobody takes over any more
	var err error
	if b.in != nil {
		b.in.close()
	}
	if b.exec != nil {
		err = b.exec.Close(ctx)
	}
	return errors.Join(err, b.release())
}

// release closes what openBackend opened, the lock last.
func (b *backend) release() error {
	var errs []error
	if b.ask != nil {
		errs = append(errs, b.ask.close())
	}
	if b.watch != nil {
		errs = append(errs, b.watch.close())
	}
	if b.st != nil {
		errs = append(errs, b.st.Close())
	}
	b.writes.Wait() // the store has told them all
	if b.lk != nil {
		errs = append(errs, b.lk.release())
	}
	return errors.Join(errs...)
}

// viewer is a file that is only looked at.
type viewer struct {
	durable.Backend
	st    *store
	watch *watcher
}

func openViewer(path string, o Options, defs *durable.Definitions) (*viewer, error) {
	state, err := inspect(path)
	if err == nil && state == fileAbsent {
		err = fmt.Errorf("open %s: %w: there is nothing to look at", path, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	st, err := openStore(path)
	if err == nil {
		if err = st.current(); err != nil {
			err = errors.Join(err, st.Close())
		}
	}
	if err != nil {
		return nil, err
	}
	w, err := newWatcher(path)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return &viewer{durable.NewReader(st, defs, &o.Engine, w.watch), st, w}, nil
}

// Do implements [durable.Backend].
func (v *viewer) Do(ctx context.Context, req *durable.Request) (*durable.Reply, error) {
	if req.Op == durable.OpHealth {
		return &durable.Reply{Health: &durable.Health{OK: true, Role: "viewer"}}, nil
	}
	return v.Backend.Do(ctx, req)
}

// Close implements [durable.Backend].
func (v *viewer) Close(context.Context) error { return errors.Join(v.watch.close(), v.st.Close()) }
