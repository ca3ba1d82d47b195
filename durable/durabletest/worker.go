package durabletest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/internal/pace"
)

// workerEnv is set in the processes that execute scenarios for another one.
const workerEnv = "DURABLETEST_WORKER"

// Serve makes this process execute scenarios if the kit started it for that,
// and does not return then. Otherwise it does nothing. Call it first in
// TestMain, with the engines that are given to [TestEngine] and have a Client.
func Serve(engines ...Engine) {
	if os.Getenv(workerEnv) == "" {
		return
	}
	s := &server{engines: engines, open: map[string]*durable.Engine{}, out: json.NewEncoder(os.Stdout)}
	s.serve(os.Stdin)
	os.Exit(0)
}

// order is what a worker is told, and reply what it says.
type order struct {
	ID       int    `json:"id"`
	Op       string `json:"op"` // open, close
	Engine   string `json:"engine"`
	Mode     string `json:"mode"`
	Scenario string `json:"scenario"`
	Place    string `json:"place"`
	Version  int    `json:"version"`

	Hour time.Duration `json:"hour"`
}

type reply struct {
	ID  int    `json:"id"`
	Err string `json:"err,omitempty"`
}

// server is a worker, seen from inside.
type server struct {
	engines []Engine
	busy    sync.WaitGroup

	mu   sync.Mutex // guards what follows
	open map[string]*durable.Engine
	out  *json.Encoder
}

func (s *server) serve(in io.Reader) {
	dec := json.NewDecoder(in)
	for {
		var o order
		if dec.Decode(&o) != nil {
			break // whoever started us is gone
		}
		s.busy.Go(func() {
			r := reply{ID: o.ID}
			if err := s.do(o); err != nil {
				r.Err = err.Error()
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			_ = s.out.Encode(r)
		})
	}
	s.busy.Wait()
}

func (s *server) do(o order) error {
	if o.Op == "close" {
		s.mu.Lock()
		e := s.open[o.Place]
		delete(s.open, o.Place)
		s.mu.Unlock()
		if e == nil {
			return nil
		}
		return e.Close(context.Background())
	}
	ei := slices.IndexFunc(s.engines, func(e Engine) bool { return e.Name == o.Engine })
	mi := slices.IndexFunc(ContractModes(), func(m Mode) bool { return m.Name == o.Mode })
	all := Scenarios()
	si := slices.IndexFunc(all, func(s Scenario) bool { return s.Name == o.Scenario })
	if ei < 0 || mi < 0 || si < 0 {
		return fmt.Errorf("the worker does not know engine %q, mode %q or scenario %q", o.Engine, o.Mode, o.Scenario)
	}
	e, m := s.engines[ei], ContractModes()[mi]
	e.Hour = o.Hour
	p := all[si].New(&Env{hour: e.Hour, notes: ledgerAt(o.Place)})
	eng, err := e.Open(pace.With(context.Background(), e.pace(m)), o.Place, m.options(p), p.version(o.Version)...)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[o.Place] = eng
	return nil
}

func ledgerAt(place string) notes { return &ledger{path: filepath.Join(place, "notes")} }

// worker is another process of this binary, seen from outside.
type worker struct {
	cmd *exec.Cmd
	in  io.WriteCloser

	mu    sync.Mutex // guards what follows
	enc   *json.Encoder
	last  int
	waits map[int]chan reply
	gone  error
}

func startWorker(env []string) (*worker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	w := &worker{cmd: exec.Command(self), waits: map[int]chan reply{}}
	w.cmd.Env = append(append(os.Environ(), env...), workerEnv+"=1")
	w.cmd.Stderr = os.Stderr
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.enc = json.NewEncoder(w.in)
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	go w.read(out) // until the process ends, which stop and kill wait for
	return w, nil
}

func (w *worker) read(out io.Reader) {
	dec := json.NewDecoder(bufio.NewReader(out))
	for {
		var r reply
		err := dec.Decode(&r)
		w.mu.Lock()
		if err != nil {
			w.gone = fmt.Errorf("the worker is gone: %w", err)
			for id, ch := range w.waits {
				ch <- reply{ID: id, Err: w.gone.Error()}
			}
			w.waits = nil
			w.mu.Unlock()
			return
		}
		ch := w.waits[r.ID]
		delete(w.waits, r.ID)
		w.mu.Unlock()
		if ch != nil {
			ch <- r
		}
	}
}

// tell gives an order and waits until it is carried out.
func (w *worker) tell(o order) error {
	ch := make(chan reply, 1)
	w.mu.Lock()
	err := w.gone
	if err == nil {
		w.last++
		o.ID = w.last
		w.waits[o.ID] = ch
		err = w.enc.Encode(o)
	}
	w.mu.Unlock()
	if err != nil {
		return err
	}
	if r := <-ch; r.Err != "" {
		return errors.New(r.Err)
	}
	return nil
}

// stop lets the process end.
func (w *worker) stop() error {
	_ = w.in.Close()
	return w.cmd.Wait()
}

// kill makes it end, without a word.
func (w *worker) kill() {
	_ = w.cmd.Process.Kill()
	_ = w.cmd.Wait() // it says that it was killed
}

// remote is a program in another process. Clients come through
// [Engine.Client].
type remote struct {
	e      Engine
	m      Mode
	s      Scenario
	place  string
	shared *worker // with other scenarios
	own    *worker // of a scenario that kills
	client *durable.Engine
}

func (r *remote) order(op string, version int) order {
	return order{Op: op, Engine: r.e.Name, Mode: r.m.Name, Scenario: r.s.Name, Place: r.place, Version: version, Hour: r.e.Hour}
}

func (r *remote) worker() *worker {
	if r.own != nil {
		return r.own
	}
	return r.shared
}

func (r *remote) open(ctx context.Context, p *Play, version int) (_ *durable.Engine, err error) {
	if r.own == nil && (r.shared == nil || slices.Contains(r.s.Needs, Killing)) {
		if r.own, err = startWorker(r.e.Env); err != nil {
			return nil, err
		}
	}
	if err := r.worker().tell(r.order("open", version)); err != nil {
		return nil, err
	}
	r.client, err = r.e.Client(context.WithoutCancel(ctx), r.place, r.m.options(p), p.version(version)...)
	return r.client, err
}

func (r *remote) closeClient() error {
	if r.client == nil {
		return nil
	}
	c := r.client
	r.client = nil
	return c.Close(context.Background())
}

func (r *remote) close() error {
	err := r.closeClient()
	if w := r.worker(); w != nil {
		err = errors.Join(err, w.tell(r.order("close", 0)))
	}
	if r.own != nil {
		err = errors.Join(err, r.own.stop())
		r.own = nil
	}
	return err
}

func (r *remote) kill() error {
	if r.own == nil {
		return errors.New("the scenario kills: it needs the ability Killing")
	}
	r.own.kill()
	r.own = nil
	return r.closeClient()
}
