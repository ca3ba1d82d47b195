//go:build unix && !linux

package mcphost

import (
	"syscall"
	"time"
)

func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

// onlyZombies can't be told here; what init adopts it reaps.
func (g *group) onlyZombies() bool { return false }

// killStragglers finds nobody: what left its group can't be found here.
func (g *group) killStragglers(string, time.Time) int { return 0 }
