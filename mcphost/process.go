package mcphost

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcpagent/mcpagent/durable"
)

// process is a server that runs as one, with everything that it starts.
type process struct {
	cmd    *exec.Cmd
	tag    string   // in its environment, and so in that of everything it starts
	stdin  *os.File // ours to write
	stdout *os.File // ours to read
	errout *os.File // ours to read, into stderr
	stderr *tail
	group  group // what dies together

	exited chan struct{} // closed when the process itself has ended
	status error         // then, how
	unread chan struct{} // closed when the connection reads no more

	pipes sync.WaitGroup // that drain what it writes
	once  sync.Once
	err   error // of close
}

// tagVar is the variable that marks what belongs to a host.
const tagVar = "MCPHOST_PROCESS"

// inherited are the variables that a server gets from this process, as the
// protocol's own SDKs choose them.
var inherited = map[bool][]string{
	false: {"HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER"},
	true: {"APPDATA", "HOMEDRIVE", "HOMEPATH", "LOCALAPPDATA", "PATH", "PATHEXT", "PROCESSOR_ARCHITECTURE",
		"SYSTEMDRIVE", "SYSTEMROOT", "TEMP", "USERNAME", "USERPROFILE"},
}

// environment is what a server gets: little, so that no secret of this
// process gets to it by accident.
func environment(own map[string]durable.Secret, tag string) []string {
	vars := map[string]string{}
	for _, name := range inherited[runtime.GOOS == "windows"] {
		// A value that begins with () is a function of a shell.
		if v, ok := os.LookupEnv(name); ok && !strings.HasPrefix(v, "()") {
			vars[name] = v
		}
	}
	for name, v := range own {
		vars[name] = v.Reveal()
	}
	vars[tagVar] = tag
	env := make([]string, 0, len(vars))
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		env = append(env, name+"="+vars[name])
	}
	return env
}

// lookPath finds a command in the PATH that the server gets.
func lookPath(command, dir string, env []string) (string, error) {
	if strings.ContainsRune(command, filepath.Separator) || strings.Contains(command, "/") {
		if dir != "" && !filepath.IsAbs(command) {
			return filepath.Join(dir, command), nil
		}
		return command, nil
	}
	path := ""
	for _, kv := range env {
		if name, v, _ := strings.Cut(kv, "="); strings.EqualFold(name, "PATH") && (name == "PATH" || runtime.GOOS == "windows") {
			path = v
		}
	}
	if path == os.Getenv("PATH") {
		return exec.LookPath(command)
	}
	for _, d := range filepath.SplitList(path) {
		if d == "" {
			continue
		}
		if found, err := exec.LookPath(filepath.Join(d, command)); err == nil {
			return found, nil
		}
	}
	return "", fmt.Errorf("%q is not in the server's PATH: %w", command, exec.ErrNotFound)
}

// start starts the command of a server.
func (h *Host) start(s *Server, tag string) (*process, error) {
	env := environment(s.Env, tag)
	path, err := lookPath(s.Command, s.Dir, env)
	if err != nil {
		return nil, err
	}
	p := &process{tag: tag, exited: make(chan struct{}), unread: make(chan struct{}), stderr: &tail{}}
	p.cmd = &exec.Cmd{Path: path, Args: append([]string{s.Command}, s.Args...), Dir: s.Dir, Env: env}
	var theirs []*os.File // the ends that the server gets
	var ours []*os.File
	pipe := func(we **os.File, flip bool) {
		if err != nil {
			return
		}
		var r, w *os.File
		if r, w, err = os.Pipe(); err != nil {
			return
		}
		if flip {
			r, w = w, r
		}
		*we = r
		ours, theirs = append(ours, r), append(theirs, w)
	}
	var stderr *os.File
	pipe(&p.stdin, true)
	pipe(&p.stdout, false)
	pipe(&stderr, false)
	if err == nil {
		p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = theirs[0], theirs[1], theirs[2]
		p.group.prepare(p.cmd)
		err = h.launcher.start(p.cmd)
	}
	for _, f := range theirs {
		_ = f.Close()
	}
	if err == nil {
		if err = p.group.adopt(p.cmd); err != nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
	}
	if err != nil {
		for _, f := range ours {
			_ = f.Close()
		}
		return nil, err
	}
	p.errout = stderr
	h.guard.watch(p.cmd.Process.Pid)
	p.pipes.Go(func() { p.stderr.drain(stderr) })
	go func() {
		err := p.cmd.Wait()
		p.status = err
		close(p.exited)
		// What the server started may hold the other ends open for ever.
		late := time.Now().Add(drainTime)
		_ = p.stdout.SetReadDeadline(late)
		_ = stderr.SetReadDeadline(late)
	}()
	return p, nil
}

// drainTime is how long is read on what a server wrote before it ended.
const drainTime = 500 * time.Millisecond

// over reports whether the process itself has ended.
func (p *process) over() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// endsSoon reports whether the process has ended, or does so in a moment: its
// end is noticed after that of what it writes.
func (p *process) endsSoon() bool {
	select {
	case <-p.exited:
		return true
	case <-time.After(100 * time.Millisecond):
		return false
	}
}

// exitStatus is how a process ended, for people.
func exitStatus(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// errKilled is in the error of a Close that had to use force.
var errKilled = errors.New("it did not end by itself")

// close ends the process and all that it started, within the budget: its
// input ends, then it is asked to end, then it is made to. now makes it short.
// Then p.err tells that it was made to.
func (p *process) close(h *Host, budget time.Duration, now <-chan struct{}) {
	p.once.Do(func() {
		_ = p.stdin.Close()
		p.pipes.Go(func() {
			<-p.unread // until then the connection reads, and drops what comes
			_, _ = io.Copy(io.Discard, p.stdout)
		})
		p.err = p.end(budget, now)
		// What was written last may not be read yet. Who reads for longer does
		// so from somebody whom nobody could kill.
		late := time.Now().Add(drainTime)
		_ = p.stdout.SetReadDeadline(late)
		_ = p.errout.SetReadDeadline(late)
		p.pipes.Wait()
		_ = p.stdout.Close()
		_ = p.errout.Close()
		if p.over() {
			h.guard.forget(p.cmd.Process.Pid)
		}
	})
}

// end makes the process end, first politely.
func (p *process) end(budget time.Duration, now <-chan struct{}) error {
	deadline := time.Now().Add(budget)
	gone := func(share time.Duration) bool {
		until := time.Now().Add(min(share, time.Until(deadline)))
		for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
			if p.over() && !p.group.alive() {
				return true
			}
			left := time.Until(until)
			if left <= 0 {
				return false
			}
			exited := p.exited
			if p.over() {
				exited = nil
			}
			select {
			case <-exited:
			case <-now:
				return false
			case <-time.After(min(pause, left)):
			}
		}
	}
	killed := false
	if !gone(budget * 2 / 5) {
		p.group.terminate()
		if !gone(budget * 3 / 10) {
			killed = true
		}
	}
	p.group.kill()
	left := p.group.killStragglers(p.tag, deadline)
	select {
	case <-p.exited:
	case <-time.After(max(time.Until(deadline), 100*time.Millisecond)):
		return fmt.Errorf("process %d can't be killed", p.cmd.Process.Pid)
	}
	switch {
	case killed:
		return fmt.Errorf("%w, neither when its input ended nor when it was asked to: killed process %d and what belonged to it", errKilled, p.cmd.Process.Pid)
	case left > 0:
		return fmt.Errorf("%w: killed %d processes that it had left behind", errKilled, left)
	}
	return nil
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const (
	tailSize  = 16 << 10
	tailShown = 1 << 10 // of it, in an error
)

// drain reads until the end.
func (t *tail) drain(r io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		t.mu.Lock()
		t.buf = append(t.buf, buf[:n]...)
		if over := len(t.buf) - tailSize; over > 0 {
			t.buf = t.buf[:copy(t.buf, t.buf[over:])]
		}
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// String is the last lines, short enough for an error.
func (t *tail) String() string {
	t.mu.Lock()
	b := bytes.Clone(bytes.TrimSpace(t.buf))
	t.mu.Unlock()
	if len(b) > tailShown {
		b = b[len(b)-tailShown:]
		if i := bytes.IndexByte(b, '\n'); i >= 0 && i < tailShown/2 {
			b = b[i+1:]
		}
		return "…" + strings.ToValidUTF8(string(b), "")
	}
	return strings.ToValidUTF8(string(b), "")
}
