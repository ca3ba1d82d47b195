//go:build amd64 || arm64

package durable

import (
	"runtime"
	"sync"
)

// getg identifies the current goroutine: the address of its descriptor, which
// no other living goroutine has. Two nanoseconds.
func getg() uintptr

// gword reads a word of the goroutine's descriptor. Which one means what is
// not promised to anybody: whoever asks tries it out first.
func gword(offset uintptr) uintptr

// getpanic is the innermost panic that unwinds the goroutine, 0 if none does.
// The linker relies on its place (runtime2.go, "offset known to liblink");
// [panicking] tries it out before it does.
func getpanic() uintptr { return gword(32) }

// lockWord is the place of what says that a goroutine is locked to a thread:
// the word that becomes the thread's descriptor when it is locked, and nothing
// when it is not any more. 0: it was not found.
var lockWord = sync.OnceValue(func() uintptr {
	const last, m = 400, 48 // the descriptor is longer; the thread is at 48
	found := make(chan uintptr)
	go func() { // not locked, whoever asks
		var before, during, after [last / 8]uintptr
		read := func(to *[last / 8]uintptr) {
			for i := range to {
				to[i] = gword(uintptr(i) * 8)
			}
		}
		read(&before)
		runtime.LockOSThread()
		read(&during)
		runtime.UnlockOSThread()
		read(&after)
		var at uintptr
		for i := range before {
			if before[i] == 0 && during[i] != 0 && during[i] == during[m/8] && after[i] == 0 {
				if at != 0 {
					at = 0
					break
				}
				at = uintptr(i) * 8
			}
		}
		found <- at
	}()
	return <-found
})

// threadLocked reports whether the goroutine is locked to a thread.
func threadLocked() bool {
	if at := lockWord(); at != 0 {
		return gword(at) != 0
	}
	return saysLocked()
}
