package mcphost

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"os/exec"
)

// processAttributes make the kernel kill the command when the thread that
// started it ends, which is why there is a launcher.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// launcher starts processes on one thread, which lives as long as the host
// has processes: a signal that was asked for the death of the parent comes when
// the thread that started the process ends, and threads of a Go program end
// at times that nobody controls.
type launcher struct {
	starts chan launch
	done   chan struct{}
}

type launch struct {
	cmd *exec.Cmd
	err chan error
}

func newLauncher() *launcher {
	l := &launcher{starts: make(chan launch), done: make(chan struct{})}
	go func() {
		defer close(l.done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread() // the thread goes on to live
		for s := range l.starts {
			s.err <- s.cmd.Start()
		}
	}()
	return l
}

func (l *launcher) start(cmd *exec.Cmd) error {
	s := launch{cmd, make(chan error, 1)}
	l.starts <- s
	return <-s.err
}

// close ends the launcher. Nothing may be started any more.
func (l *launcher) close() {
	close(l.starts)
	<-l.done
}

// onlyZombies reports whether all that is left of the group has ended, and
// only waits to be noticed by a parent that may not care.
func (g *group) onlyZombies() bool {
	for _, pid := range processes() {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			continue
		}
		// pid (name) state ppid pgrp …; the name may hold anything.
		i := bytes.LastIndexByte(b, ')')
		if i < 0 {
			continue
		}
		f := bytes.Fields(b[i+1:])
		if len(f) < 3 || string(f[2]) != strconv.Itoa(g.id) {
			continue
		}
		if s := f[0][0]; s != 'Z' && s != 'X' {
			return false
		}
	}
	return true
}

// killStragglers kills what carries the server's tag and left the group, and
// tells how many that were.
func (g *group) killStragglers(tag string, deadline time.Time) int {
	mark := []byte("\x00" + tagVar + "=" + tag + "\x00")
	killed := map[int]bool{}
	for {
		found := false
		for _, pid := range processes() {
			b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
			if err != nil || len(b) == 0 {
				continue // others', or ended
			}
			if bytes.Contains(append([]byte{0}, b...), mark) {
				found = true
				pgid, _ := syscall.Getpgid(pid)
				if syscall.Kill(pid, syscall.SIGKILL) == nil && pgid != g.id {
					killed[pid] = true
				}
			}
		}
		if !found || time.Now().After(deadline) {
			return len(killed)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// processes are the ids of all processes that can be seen.
func processes() []int {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	var out []int
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			out = append(out, pid)
		}
	}
	return out
}
