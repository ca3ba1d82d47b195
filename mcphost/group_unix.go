//go:build unix

package mcphost

import (
	"errors"
	"os/exec"
	"syscall"
)

// group is the process group of a server: it and what it starts, unless that
// leaves the group.
type group struct{ id int }

// prepare makes the command the first of a new group.
func (g *group) prepare(cmd *exec.Cmd) {
	cmd.SysProcAttr = processAttributes()
	cmd.SysProcAttr.Setpgid = true
}

// adopt takes the started command.
func (g *group) adopt(cmd *exec.Cmd) error {
	g.id = cmd.Process.Pid
	return nil
}

// alive reports whether anything of the group runs.
func (g *group) alive() bool {
	err := syscall.Kill(-g.id, 0)
	return !errors.Is(err, syscall.ESRCH) && !g.onlyZombies()
}

// terminate asks the group to end.
func (g *group) terminate() { _ = syscall.Kill(-g.id, syscall.SIGTERM) }

// kill ends the group.
func (g *group) kill() { _ = syscall.Kill(-g.id, syscall.SIGKILL) }
