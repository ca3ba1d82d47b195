package localengine

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/internal/plainjson"
)

const (
	// maxRequests is how many requests of clients are carried out at once.
	maxRequests = 1000
	// requestTTL is how long a reply is kept for a client that does not
	// fetch it.
	requestTTL = time.Minute
)

// request is a row of the table requests.
type request struct {
	seq      int64
	pid      int
	host     string
	deadline time.Time
	body     []byte
}

// inbox carries out what the clients of the file ask for. It belongs to the
// owner. A request that was not answered when its owner ended is carried out
// again by the next one: requests have ids, so that has no second effect.
type inbox struct {
	st   *store
	w    *committer
	exec durable.Backend
	quit context.CancelFunc
	done chan struct{}
	wg   sync.WaitGroup
	sem  chan struct{}
	max  time.Duration // between two looks
}

func newInbox(st *store, exec durable.Backend, quiet time.Duration) *inbox {
	ctx, quit := context.WithCancel(context.Background())
	in := &inbox{st: st, w: st.committer(), exec: exec, quit: quit, done: make(chan struct{}), sem: make(chan struct{}, maxRequests), max: max(pollMax, quiet)}
	go in.run(ctx) // close waits for it
	return in
}

func (in *inbox) run(ctx context.Context) {
	defer close(in.done)
	defer in.wg.Wait()
	every, seen := pollMin, int64(0)
	cleaned := time.Time{}
	for {
		reqs, err := in.fetch(seen)
		for _, r := range reqs {
			seen = r.seq
			select {
			case in.sem <- struct{}{}:
			case <-ctx.Done():
				return
			}
			in.wg.Go(func() {
				defer func() { <-in.sem }()
				in.serve(ctx, r)
			})
		}
		if every = min(every*5/4, in.max); len(reqs) > 0 {
			every = pollMin
		}
		if now := time.Now(); err == nil && now.Sub(cleaned) > requestTTL/4 {
			cleaned = now
			in.clean(ctx, now)
		}
		if sleep(ctx, every) != nil {
			return
		}
	}
}

func (in *inbox) fetch(after int64) (reqs []*request, err error) {
	err = in.st.read(func(c *conn) error {
		return c.query("SELECT seq, pid, host, deadline, body FROM requests WHERE seq > ? AND replied = 0 ORDER BY seq LIMIT 256", func(v []driver.Value) error {
			reqs = append(reqs, &request{seq: asInt(v[0]), pid: int(asInt(v[1])), host: asString(v[2]), deadline: micros(asInt(v[3])), body: asBytes(v[4])})
			return nil
		}, after)
	})
	return reqs, err
}

// clean deletes replies that nobody fetched.
func (in *inbox) clean(ctx context.Context, now time.Time) {
	var n int64
	old := now.Add(-requestTTL).UnixMicro()
	err := in.st.read(func(c *conn) (err error) {
		n, err = c.int64("SELECT count(*) FROM requests WHERE replied > 0 AND replied < ?", old)
		return err
	})
	if err == nil && n > 0 {
		_ = in.w.own(ctx, func(c *conn) error { return c.exec("DELETE FROM requests WHERE replied > 0 AND replied < ?", old) })
	}
}

// serve carries out one request and writes the reply.
func (in *inbox) serve(ctx context.Context, r *request) {
	if r.host == self().Host && !alive(r.pid) {
		// Whoever asked is gone, perhaps long ago, and was told nothing.
		_ = in.w.own(ctx, func(c *conn) error { return c.exec("DELETE FROM requests WHERE seq = ?", r.seq) })
		return
	}
	if !r.deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, r.deadline)
		defer cancel()
	}
	var req durable.Request
	var rep *durable.Reply
	err := json.Unmarshal(r.body, &req)
	if err != nil {
		err = fmt.Errorf("the request does not fit this version of the program: %w", err)
	} else {
		rep, err = in.exec.Do(ctx, &req)
	}
	switch {
	case err == nil:
	case ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded), errors.Is(err, durable.ErrShutdown), errors.Is(err, durable.ErrClosed),
		errors.Is(err, errClosed), errors.Is(err, ErrDead), errors.Is(err, ErrFenced):
		return // the next owner does it
	default:
		rep = durable.ErrorReply(req.Ref, err)
	}
	body, err := plainjson.Marshal(rep)
	if err != nil {
		body, err = plainjson.Marshal(durable.ErrorReply(req.Ref, fmt.Errorf("the reply can't be encoded: %w", err)))
		if err != nil {
			return
		}
	}
	// A withdrawn request has no row any more; then nothing happens.
	_ = in.w.own(context.WithoutCancel(ctx), func(c *conn) error {
		return c.exec("UPDATE requests SET reply = ?, body = NULL, replied = ? WHERE seq = ?", text(body), time.Now().UnixMicro(), r.seq)
	})
}

// close stops taking requests. Those at work are given up, unanswered: another
// owner answers them.
func (in *inbox) close() {
	in.quit()
	<-in.done
}
