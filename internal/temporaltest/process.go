package temporaltest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// process is one life of a server.
type process struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	stderr *tail
	ended  chan struct{} // closed when err is set
	err    error
}

// ready is what the command prints when it serves.
type ready struct{ Address, Namespace, UI string }

// launch starts the command and waits for its line.
func launch(ctx context.Context, path string, args []string) (*process, ready, error) {
	p := &process{cmd: exec.Command(path, args...), stderr: &tail{}, ended: make(chan struct{})}
	p.cmd.Stderr = p.stderr
	// It is our end of this pipe that the server's life hangs on.
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, ready{}, err
	}
	p.stdin = stdin
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, ready{}, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, ready{}, err
	}
	lines := make(chan []byte, 1)
	go func() {
		line, _ := bufio.NewReader(stdout).ReadBytes('\n')
		lines <- line
		io.Copy(io.Discard, stdout)
		p.err = p.cmd.Wait()
		close(p.ended)
	}()

	ctx, cancel := context.WithTimeoutCause(ctx, startWithin, fmt.Errorf("it does not serve after %v", startWithin))
	defer cancel()
	var line []byte
	select {
	case line = <-lines:
	case <-ctx.Done():
		p.kill()
		return nil, ready{}, fmt.Errorf("%w: %s", context.Cause(ctx), p.stderr)
	}
	var r ready
	if err := json.Unmarshal(line, &r); err != nil {
		p.kill()
		return nil, ready{}, fmt.Errorf("it ended (%v): %s", p.cmd.ProcessState, p.stderr)
	}
	return p, r, nil
}

// kill ends the process at once, and returns when it has ended.
func (p *process) kill() {
	p.cmd.Process.Kill() // fails if it has ended
	<-p.ended
}

// stop asks the process to end.
func (p *process) stop() error {
	if err := p.stdin.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	timeout := time.NewTimer(stopWithin)
	defer timeout.Stop()
	select {
	case <-p.ended:
	case <-timeout.C:
		p.kill()
		return fmt.Errorf("it did not end within %v, and was killed: %s", stopWithin, p.stderr)
	}
	if p.err != nil {
		return fmt.Errorf("%w: %s", p.err, p.stderr)
	}
	return nil
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailLength = 16 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if n := len(t.text) - tailLength; n > 0 {
		t.text = append(t.text[:0], t.text[n:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
