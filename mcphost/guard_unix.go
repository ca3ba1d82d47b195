//go:build unix

package mcphost

import (
	"errors"
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
	ended chan struct{} // closed when it has ended
	pids  map[int]bool  // that it watches
	none  error         // why there is none
	again int           // how often it was started anew
	over  bool          // it is not needed any more
}

// maxGuards is how often a guard that somebody ended is started anew.
const maxGuards = 20

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
	if g.pids == nil {
		g.pids = map[int]bool{}
	}
	g.pids[pid] = true
	switch {
	case g.cmd == nil:
		g.none = g.start()
	case !g.gone():
		g.none = g.say("+", pid)
	} // or it is started anew already
}

// forget ends that.
func (g *guard) forget(pid int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.pids, pid)
	if !g.gone() {
		_ = g.say("-", pid) // a new guard will not hear of it
	}
}

// gone reports whether there is no guard, or not any more.
func (g *guard) gone() bool {
	if g.cmd == nil {
		return true
	}
	select {
	case <-g.ended:
		return true
	default:
		return false
	}
}

func (g *guard) say(op string, pid int) error {
	_ = g.pipe.SetWriteDeadline(time.Now().Add(time.Second))
	_, err := fmt.Fprintf(g.pipe, "%s %d\n", op, pid)
	return err
}

// start starts a guard, and tells it whom to watch.
func (g *guard) start() error {
	if g.pipe != nil {
		_ = g.pipe.Close()
	}
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
		g.cmd, g.pipe = nil, nil
		return fmt.Errorf("start the guard of processes: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
		g.renew(cmd)
	}()
	g.cmd, g.pipe, g.ended = cmd, w, ended
	if _, err := fmt.Fprintf(w, "%s=%s\n", tagVar, g.tag); err != nil {
		return err
	}
	for pid := range g.pids {
		if err := g.say("+", pid); err != nil {
			return err
		}
	}
	return nil
}

// renew starts a guard in the place of one that ended before its time.
func (g *guard) renew(old *exec.Cmd) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cmd != old || g.over {
		return
	}
	if g.again++; g.again > maxGuards {
		g.none = errors.New("the guard of processes ends again and again")
		return
	}
	g.none = g.start()
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
	g.over = true
	if g.cmd == nil {
		return
	}
	_ = g.pipe.Close()
	select {
	case <-g.ended:
	case <-time.After(2 * time.Second):
		_ = g.cmd.Process.Kill()
		<-g.ended
	}
}
