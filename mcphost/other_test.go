//go:build !linux

package mcphost_test

import "syscall"

func ownSession() *syscall.SysProcAttr { return nil }

func beHost() {}
