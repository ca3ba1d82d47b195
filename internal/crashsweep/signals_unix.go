//go:build unix

package main

import (
	"os"
	"syscall"
)

// suspend stops a process, which holds what it holds.
func suspend(p *os.Process) bool { return p.Signal(syscall.SIGSTOP) == nil }

func resume(p *os.Process) { _ = p.Signal(syscall.SIGCONT) }
