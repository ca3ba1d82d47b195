package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/internal/journal"
	"github.com/mcpagent/mcpagent/durable/localengine"
)

// place is where runs live from one process to the next.
type place interface {
	// open starts a process.
	open(ctx context.Context, defs durable.Set, o *durable.Options) (*durable.Engine, error)
	// die takes away what the process that is there writes from now on; it is
	// closed afterwards.
	die() error
	// close cleans up.
	close() error
}

// memory is a store that outlives its engines. What faults gives is put
// between: below the executor and above it.
type memory struct {
	st     journal.Store
	faults faults
	cur    *mortal
}

type faults struct {
	store   func(journal.Store) journal.Store     // nil: none
	backend func(durable.Backend) durable.Backend // nil: none
}

func newMemory(f faults) *memory { return &memory{st: journal.NewMemory(), faults: f} }

func (m *memory) open(ctx context.Context, set durable.Set, o *durable.Options) (*durable.Engine, error) {
	defs, err := durable.NewDefinitions(set)
	if err != nil {
		return nil, err
	}
	m.cur = &mortal{Store: m.st}
	var st journal.Store = m.cur
	if m.faults.store != nil {
		st = m.faults.store(st)
	}
	b, err := durable.NewExecutor(ctx, st, defs, o)
	if err != nil {
		return nil, err
	}
	if m.faults.backend != nil {
		b = m.faults.backend(b)
	}
	return durable.NewEngine(b, defs, o), nil
}

func (m *memory) die() error   { m.cur.kill(); return nil }
func (m *memory) close() error { return nil }

// mortal is a store that stops writing.
type mortal struct {
	journal.Store
	mu   sync.Mutex
	dead bool
}

var errDied = errors.New("the process died")

func (s *mortal) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = true
}

// Commit implements [journal.Store].
func (s *mortal) Commit(ctx context.Context, tx *journal.Tx) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return errDied
	}
	return s.Store.Commit(ctx, tx)
}

// local is a file. A death is a copy of it: what the old process still writes
// goes elsewhere.
type local struct {
	dir string
	n   int
}

func newLocal(dir string) (*local, error) {
	dir, err := os.MkdirTemp(dir, "simulate")
	return &local{dir: dir}, err
}

func (l *local) path(n int) string { return filepath.Join(l.dir, fmt.Sprintf("%d.db", n)) }

func (l *local) open(ctx context.Context, defs durable.Set, o *durable.Options) (*durable.Engine, error) {
	return localengine.Open(ctx, l.path(l.n), &localengine.Options{Engine: *o}, defs)
}

func (l *local) die() error {
	for _, suffix := range []string{"", "-wal"} {
		if err := copyFile(l.path(l.n)+suffix, l.path(l.n+1)+suffix); err != nil {
			return err
		}
	}
	l.n++
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func (l *local) close() error { return os.RemoveAll(l.dir) }

// play runs a program on an engine, inside a bubble of synctest, and tells
// what could be seen.
func play(ctx context.Context, p *Program, at place, paranoid bool) (out string, err error) {
	w := newWorld(p)
	o := &durable.Options{MaxDeaths: -1, Logger: slog.New(slog.DiscardHandler)}
	if paranoid {
		o.MaxAwake = -1
	}
	d := &driver{w: w, p: p, at: at, o: o, log: make([]string, len(p.Script))}
	if d.eng, err = at.open(ctx, w.defs, o); err != nil {
		return "", err
	}
	d.closing = w.closing
	defer func() { err = errors.Join(err, d.end(ctx)) }()
	for i, a := range p.Script {
		time.Sleep(time.Until(w.epoch.Add(a.At)))
		if err := d.act(ctx, i, a); err != nil {
			return "", fmt.Errorf("action %d: %w", i, err)
		}
	}
	time.Sleep(time.Until(w.epoch.Add(p.End)))
	synctest.Wait()
	return d.look(ctx)
}

// driver plays the clients.
type driver struct {
	w       *world
	p       *Program
	at      place
	o       *durable.Options
	eng     *durable.Engine
	closing chan struct{}
	wg      sync.WaitGroup

	mu  sync.Mutex // guards log
	log []string
}

func (d *driver) said(i int, format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log[i] = fmt.Sprintf(format, args...)
}

// end closes the engine of the moment.
func (d *driver) end(ctx context.Context) error {
	c := d.closing
	t := time.AfterFunc(grace, func() { close(c) })
	defer t.Stop()
	err := d.eng.Close(ctx)
	d.wg.Wait()
	synctest.Wait()
	return err
}

// next is the next process.
func (d *driver) next(ctx context.Context, clean bool, down time.Duration) error {
	back := time.Now().Add(down)
	synctest.Wait()
	if !clean {
		if err := d.at.die(); err != nil {
			return err
		}
	}
	if err := d.end(ctx); err != nil {
		return err
	}
	time.Sleep(time.Until(back))
	d.closing = d.w.revive()
	var err error
	d.eng, err = d.at.open(ctx, d.w.defs, d.o)
	synctest.Wait()
	return err
}

func word(f *Fault) string {
	if f == nil {
		return "ok"
	}
	return f.Kind
}

func (d *driver) act(ctx context.Context, i int, a *Action) error {
	r := d.eng.Run(a.To, "")
	raw := json.RawMessage(fmt.Sprint(a.Val))
	ok := func(err error) { d.said(i, "%s", word(faultOf(err))) }
	switch a.Do {
	case DoStart:
		in, err := json.Marshal(&Input{Val: a.Val})
		if err != nil {
			return err
		}
		o := &durable.StartOptions{ID: a.To, Delay: a.D, Timeout: a.Limit, Reuse: durable.ReusePolicy(a.Reuse)}
		if a.Also != "" {
			o.Signal = &durable.SignalWithStart{Name: a.Also, ID: a.ID, Payload: raw}
		}
		got, err := d.eng.Start(ctx, "f0", in, o)
		switch {
		case err != nil:
			ok(err)
		case got.Existing:
			d.said(i, "existing")
		default:
			d.said(i, "new")
		}
	case DoSignal:
		ok(r.Signal(ctx, a.Name, raw, &durable.SendOptions{ID: a.ID}))
	case DoUpdate:
		in, err := json.Marshal(Update{a.Val})
		if err != nil {
			return err
		}
		d.wg.Go(func() {
			out, err := r.Update(ctx, a.Name, in, &durable.SendOptions{ID: a.ID})
			if err != nil {
				d.said(i, "%s @%d", word(faultOf(err)), d.w.since())
				return
			}
			d.said(i, "%s @%d", strings.TrimSpace(string(out)), d.w.since())
		})
	case DoQuery:
		dump, err := d.dump(ctx, r)
		if err != nil {
			ok(err)
		} else {
			d.said(i, "%s", firstLine(dump))
		}
	case DoPause:
		ok(r.Pause(ctx, nil))
	case DoResume:
		ok(r.Resume(ctx, nil))
	case DoCancel:
		ok(r.Cancel(ctx, ""))
	case DoTerminate:
		ok(r.Terminate(ctx, ""))
	case DoAnswer:
		qs, err := d.eng.Questions(ctx, &durable.QuestionFilter{WorkflowID: a.To})
		switch {
		case err != nil:
			ok(err)
		case len(qs) == 0:
			d.said(i, "none open")
		default:
			ok(d.eng.Answer(ctx, qs[0].ID, raw, nil))
		}
	case DoComplete, DoFailCall:
		desc, err := r.Describe(ctx)
		if err != nil {
			ok(err)
			return nil
		}
		var token string
		if err := json.Unmarshal(desc.Status["token"], &token); err != nil {
			d.said(i, "no token")
			return nil
		}
		if a.Do == DoComplete {
			ok(d.eng.Complete(ctx, token, raw))
		} else {
			ok(d.eng.Fail(ctx, token, boom.New("by a client")))
		}
	case DoDescribe:
		desc, err := r.Describe(ctx)
		if err != nil {
			ok(err)
			return nil
		}
		d.said(i, "%s %s", shown(desc), status(desc))
	case DoRestart, DoDie:
		if err := d.next(ctx, a.Do == DoRestart, a.D); err != nil {
			return err
		}
		d.said(i, "ok")
	}
	synctest.Wait()
	return nil
}

func shown(d *durable.Description) string {
	s := string(d.State)
	if d.Problem != nil {
		s += " (" + d.Problem.Kind + ": " + d.Problem.Text + ")"
	}
	return s
}

func status(d *durable.Description) string {
	var s string
	_ = json.Unmarshal(d.Status["x"], &s)
	return s
}

func (d *driver) dump(ctx context.Context, r *durable.Run) (string, error) {
	raw, err := r.Query(ctx, "dump", json.RawMessage("0"))
	if err != nil {
		return "", err
	}
	var s string
	err = json.Unmarshal(raw, &s)
	return s, err
}

// look is what is there at the end.
func (d *driver) look(ctx context.Context) (string, error) {
	t := &transcript{}
	d.mu.Lock()
	t.actions = append(t.actions, d.log...)
	d.mu.Unlock()
	d.w.mu.Lock()
	t.effects = append(t.effects, d.w.effects...)
	t.bad = append(t.bad, d.w.bad...)
	d.w.mu.Unlock()
	page, err := d.eng.List(ctx, &durable.Filter{Limit: 1000})
	if err != nil {
		return "", err
	}
	byID := map[string]int{}
	last := map[string]int{}
	for i := len(page.Runs) - 1; i >= 0; i-- {
		x := page.Runs[i]
		byID[x.WorkflowID]++
		last[x.WorkflowID] = len(t.runs)
		desc, err := d.eng.Run(x.WorkflowID, x.RunID).Describe(ctx)
		if err != nil {
			return "", err
		}
		v := view{id: x.WorkflowID, n: byID[x.WorkflowID], state: shown(desc), status: status(desc)}
		switch {
		case desc.State == durable.Completed:
			v.end = strings.TrimSpace(string(desc.Result))
		case desc.Failure != nil:
			v.end = kindOf(desc.Failure)
		}
		for _, q := range desc.Questions {
			if q.State == "open" {
				v.questions++
			}
		}
		t.runs = append(t.runs, v)
	}
	for id, i := range last {
		v := &t.runs[i]
		r := d.eng.Run(id, "")
		if v.dump, err = d.dump(ctx, r); err != nil {
			if !errors.Is(err, durable.ErrNoHandler) {
				v.dump = "query: " + err.Error()
			}
			continue
		}
		// The stream of the whole chain begins with its first run.
		x := page.Runs[len(page.Runs)-1-i]
		soon, cancel := context.WithTimeout(ctx, time.Microsecond)
		for e, err := range d.eng.Run(id, x.Chain).Stream(soon, "log", 0) {
			if err != nil {
				break // it goes on, but not for us
			}
			var line string
			if err := json.Unmarshal(e.Value, &line); err != nil {
				v.stream = append(v.stream, err.Error())
			}
			if int(e.Offset) != len(v.stream) {
				v.stream = append(v.stream, fmt.Sprintf("offset %d", e.Offset))
			}
			v.stream = append(v.stream, line)
		}
		cancel()
	}
	return t.String(), nil
}
