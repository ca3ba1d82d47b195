//go:build !linux

package mcphost

import "os/exec"

// launcher starts processes.
type launcher struct{}

func newLauncher() *launcher                { return &launcher{} }
func (*launcher) start(cmd *exec.Cmd) error { return cmd.Start() }
func (*launcher) close()                    {}
