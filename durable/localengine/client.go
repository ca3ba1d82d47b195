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

// client sends requests to the process that owns the file, through the file.
type client struct {
	path string
	st   *store
	w    *watcher
	me   Owner

	mu sync.Mutex
	c  *conn // writes requests
}

func newClient(st *store, w *watcher, me Owner) (*client, error) {
	c, err := dialWriter(st.path, "NORMAL")
	if err != nil {
		return nil, explain(st.path, err)
	}
	return &client{path: st.path, st: st, w: w, me: me, c: c}, nil
}

// do puts a request into the file and waits for its reply. It does not care
// who answers: when the owner ends, the next one does, which may be this very
// process.
func (cl *client) do(ctx context.Context, req *durable.Request) (*durable.Reply, error) {
	body, err := plainjson.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	seq, err := cl.put(ctx, req.Op, body)
	if err != nil {
		return nil, err
	}
	for {
		soon := cl.w.soon()
		reply, found, err := cl.look(seq)
		switch {
		case err != nil:
			return nil, err
		case !found:
			// Swept, because this process was thought dead, or the file came
			// from a backup: ask again. The id makes that harmless.
			if seq, err = cl.put(ctx, req.Op, body); err != nil {
				return nil, err
			}
		case reply != nil:
			cl.drop(seq)
			var rep durable.Reply
			if err := json.Unmarshal(reply, &rep); err != nil {
				return nil, fmt.Errorf("the owner of %s sent a reply that this program does not understand; both should be of one version: %w", cl.path, err)
			}
			return &rep, nil
		}
		if err := cl.st.intact(); err != nil {
			return nil, fmt.Errorf("%s: %w", req.Op, err)
		}
		if err := cl.w.wait(ctx, soon); err != nil {
			if ctx.Err() == nil {
				return nil, fmt.Errorf("%s: %w", req.Op, durable.ErrClosed)
			}
			cl.drop(seq)
			return nil, fmt.Errorf("%s: no answer yet from the owner of %s (%v): %w", req.Op, cl.path, holder(cl.path), ctx.Err())
		}
	}
}

func (cl *client) put(ctx context.Context, op durable.Op, body []byte) (int64, error) {
	var deadline int64
	if t, ok := ctx.Deadline(); ok {
		deadline = t.UnixMicro()
	}
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.c == nil {
		return 0, fmt.Errorf("%s: %w", op, durable.ErrClosed)
	}
	for {
		res, err := cl.c.execResult("INSERT INTO requests (pid, host, created, deadline, replied, op, body) VALUES (?,?,?,?,0,?,?)",
			cl.me.PID, cl.me.Host, time.Now().UnixMicro(), deadline, string(op), text(body))
		if err == nil {
			return res.LastInsertId()
		}
		if classify(err) != faultBusy {
			return 0, fmt.Errorf("send the request through %s: %w", cl.path, err)
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
}

// look finds the reply, nil if there is none yet.
func (cl *client) look(seq int64) (reply []byte, found bool, err error) {
	err = cl.st.read(func(c *conn) error {
		return c.query("SELECT reply FROM requests WHERE seq = ?", func(v []driver.Value) error {
			reply, found = asBytes(v[0]), true
			return nil
		}, seq)
	})
	if errors.Is(err, errClosed) {
		err = durable.ErrClosed
	}
	return reply, found, err
}

// drop deletes a request that is done with. If that fails, the owner sweeps.
func (cl *client) drop(seq int64) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.c != nil {
		_ = cl.c.exec("DELETE FROM requests WHERE seq = ?", seq)
	}
}

func (cl *client) close() error {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.c == nil {
		return nil
	}
	err := cl.c.close()
	cl.c = nil
	return err
}
