package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mcpagent/mcpagent/durable"
	"github.com/mcpagent/mcpagent/durable/localengine"
)

// processVar tells a process of this program that it is one of those which are
// killed, and how it is to live.
const processVar = "CRASHSWEEP_PROCESS"

// victim is what such a process is told.
type victim struct {
	Dir   string   `json:"dir"`
	Life  int      `json:"life"`
	Seed  uint64   `json:"seed"`
	Loads []string `json:"loads"`
}

// beVictim lives as a process that may be killed at any moment: it opens the
// file, as its owner or as a client, plays all clients, says so when they are
// done, and serves on until its input ends.
func beVictim(spec string) (err error) {
	var v victim
	if err := json.Unmarshal([]byte(spec), &v); err != nil {
		return err
	}
	ctx := context.Background()
	b, err := openBook(filepath.Join(v.Dir, "book"))
	if err != nil {
		return err
	}
	w := &world{life: v.Life, book: b}
	h := &history{seed: v.Seed, load: &workload{}}
	o := h.options(w, v.Life)
	var set durable.Set
	var loads []*workload
	for _, name := range v.Loads {
		l := workloads[slices.Index(names(), name)]
		loads = append(loads, l)
		if l.options != nil {
			l.options(&o.Engine)
		}
		set = append(set, l.defs(w))
	}
	e, err := localengine.Open(ctx, filepath.Join(v.Dir, "sweep.db"), o, set)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close(ctx)) }()
	var parts []func() error
	for _, l := range loads {
		parts = append(parts, func() error {
			if err := l.drive(ctx, w, e); err != nil {
				return fmt.Errorf("%s: %w", l.name, err)
			}
			return nil
		})
	}
	if err := both(parts...); err != nil {
		return err
	}
	fmt.Println("done")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// process is one that is killed.
type process struct {
	life  int
	cmd   *exec.Cmd
	in    io.Closer
	err   *bytes.Buffer
	done  chan struct{} // closed when its clients are done
	ended chan error    // gets what Wait says
}

func (h *history) spawn(life int) (*process, error) {
	v := victim{Dir: h.root, Life: life, Seed: h.seed}
	for _, l := range h.loads {
		v.Loads = append(v.Loads, l.name)
	}
	spec, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{life: life, cmd: exec.Command(exe), err: &bytes.Buffer{}, done: make(chan struct{}), ended: make(chan error, 1)}
	p.cmd.Env = append(os.Environ(), processVar+"="+string(spec))
	p.cmd.Stderr = p.err
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // ends with the process, for which collect waits
		s := bufio.NewScanner(out)
		for s.Scan() {
			if s.Text() == "done" {
				close(p.done)
			}
		}
		p.ended <- p.cmd.Wait()
	}()
	return p, nil
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// collect ends a process by the end of its input.
func (p *process) collect(ctx context.Context) error {
	_ = p.in.Close()
	select {
	case err := <-p.ended:
		if err != nil {
			return fmt.Errorf("process %d: %w: %s", p.life, err, tail(p.err))
		}
		return nil
	case <-ctx.Done():
		p.kill()
		return fmt.Errorf("process %d does not end: %s", p.life, tail(p.err))
	}
}

func tail(b *bytes.Buffer) string {
	s := strings.TrimSpace(b.String())
	return s[max(0, len(s)-4000):]
}

// killing is a history of processes on one file, of which each may be killed
// or stopped at any moment, the owner as well as its clients. kills says how
// many deaths there are; with none it is an undisturbed life.
func (h *history) killing(ctx context.Context, kills int) (*outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	h.rnd = rand.New(rand.NewPCG(h.seed, 2))
	var all []*process
	defer func() {
		for _, p := range all {
			p.kill()
		}
	}()
	lives := 0
	spawn := func() error {
		lives++
		p, err := h.spawn(lives)
		if err == nil {
			all = append(all, p)
		}
		return err
	}
	gone := func(i int) { all = append(all[:i], all[i+1:]...) }
	for h.kills < kills {
		for n := 1 + h.rnd.IntN(3); len(all) < n; {
			if err := spawn(); err != nil {
				return nil, err
			}
		}
		if err := pause(ctx, time.Duration(h.rnd.IntN(250))*time.Millisecond); err != nil {
			return nil, err
		}
		i := h.rnd.IntN(len(all))
		p := all[i]
		select {
		case err := <-p.ended:
			gone(i)
			return nil, fmt.Errorf("process %d ended by itself: %w: %s", p.life, err, tail(p.err))
		default:
		}
		if h.rnd.IntN(4) == 0 && suspend(p.cmd.Process) {
			// It hangs, and holds the lock if it is the owner; then it goes on,
			// or dies.
			if err := pause(ctx, time.Duration(h.rnd.IntN(200))*time.Millisecond); err != nil {
				return nil, err
			}
			if h.rnd.IntN(2) == 0 {
				resume(p.cmd.Process)
				h.logf("process %d was stopped for a while", p.life)
				continue
			}
		}
		p.kill()
		gone(i)
		h.kills++
		h.logf("process %d was killed", p.life)
	}
	if err := spawn(); err != nil {
		return nil, err
	}
	last := all[len(all)-1]
	select {
	case <-last.done:
	case err := <-last.ended:
		gone(len(all) - 1)
		return nil, fmt.Errorf("the last process ended by itself: %w: %s", err, tail(last.err))
	case <-ctx.Done():
		return nil, fmt.Errorf("the last process does not come to its end: %s", tail(last.err))
	}
	for len(all) > 0 {
		p := all[0]
		gone(0)
		if err := p.collect(ctx); err != nil {
			return nil, err
		}
	}
	records, err := readBook(filepath.Join(h.root, "book"))
	if err != nil {
		return nil, err
	}
	x := &examination{path: filepath.Join(h.root, "sweep.db"), loads: h.loads, records: records, want: h.want}
	return x.run(ctx)
}
