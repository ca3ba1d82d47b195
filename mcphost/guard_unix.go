//go:build unix

package mcphost

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// guard is a small process that outlives this one by a moment: it holds the
// reading end of a pipe, and when the pipe ends, by our death in whatever way,
// it kills what the host's servers left. The kernel's own signal for the death
// of a parent reaches only the servers, not what they started, and there is
// none on other systems.
type guard struct {
	tag string

	mu    sync.Mutex // guards what follows
	cmd   *exec.Cmd
	pipe  *os.File
	none  error // why there is none
	ended bool
}

// guardScript reads lines "+ GROUP" and "- GROUP". At the end of its input it
// kills the groups that are left, and, where processes can be looked into, all
// that carry the host's tag.
const guardScript = `trap '' HUP INT QUIT TERM
read -r tag
groups=
while read -r op id; do
	case $op in
	+) groups="$groups $id" ;;
	-) rest=
		for g in $groups; do [ "$g" = "$id" ] || rest="$rest $g"; done
		groups=$rest ;;
	esac
done
for g in $groups; do kill -9 "-$g"; done
[ -r /proc/self/environ ] || exit 0
n=0
while [ $n -lt 50 ]; do
	found=$(grep -alsF -- "$tag" /proc/[0-9]*/environ)
	[ "$found" ] || exit 0
	for f in $found; do p=${f#/proc/}; kill -9 "${p%%/*}"; done
	n=$((n + 1))
done
`

// watch makes the guard responsible for a process and its group.
func (g *guard) watch(pid int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cmd == nil && g.none == nil {
		g.none = g.start()
	}
	g.say("+", pid)
}

// forget ends that.
func (g *guard) forget(pid int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.say("-", pid)
}

func (g *guard) say(op string, pid int) {
	if g.pipe != nil {
		_ = g.pipe.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := fmt.Fprintf(g.pipe, "%s %d\n", op, pid); err != nil {
			g.none = err
		}
	}
}

func (g *guard) start() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command("/bin/sh", "-c", guardScript)
	cmd.Stdin, cmd.Env, cmd.Dir = r, []string{"PATH=/usr/bin:/bin"}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no signal of a terminal is meant for it
	if err := cmd.Start(); err != nil {
		_ = w.Close()
		return fmt.Errorf("start the guard of processes: %w", err)
	}
	g.cmd, g.pipe = cmd, w
	_, err = fmt.Fprintf(w, "%s=%s\n", tagVar, g.tag)
	return err
}

// missing tells why there is no guard, if one is needed.
func (g *guard) missing() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.none
}

// close ends the guard.
func (g *guard) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cmd == nil || g.ended {
		return
	}
	g.ended = true
	_ = g.pipe.Close()
	g.pipe = nil
	done := make(chan struct{})
	go func() { _ = g.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(2 * time.Second):
		_ = g.cmd.Process.Kill()
		<-done
	}
}
