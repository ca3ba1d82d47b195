//go:build !amd64 && !arm64

package durable

import (
	"bytes"
	"runtime"
	"strconv"
)

// getg identifies the current goroutine by the number in its stack trace.
func getg() uintptr {
	var buf [64]byte
	b := bytes.TrimPrefix(buf[:runtime.Stack(buf[:], false)], []byte("goroutine "))
	if i := bytes.IndexByte(b, ' '); i > 0 {
		b = b[:i]
	}
	n, _ := strconv.ParseUint(string(b), 10, 64)
	return uintptr(n)
}

// getpanic is not known here, which [panicking] finds out.
func getpanic() uintptr { return 0 }

// threadLocked reports whether the goroutine is locked to a thread.
func threadLocked() bool { return saysLocked() }
