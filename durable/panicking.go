package durable

import (
	"bytes"
	"runtime"
	"strings"
	"sync"
)

// panicking reports whether a panic, or runtime.Goexit, unwinds the goroutine:
// the caller is, or was called by, a deferred function that it runs.
func panicking() bool {
	if quickPanicking() {
		return getpanic() != 0
	}
	site := panicSite()
	var pcs [24]uintptr
	for _, pc := range pcs[:runtime.Callers(3, pcs[:])] {
		if pc == site {
			return true
		}
	}
	return false
}

// quickPanicking reports whether getpanic tells the truth: tried on the ways
// in which a deferred function can be called.
var quickPanicking = sync.OnceValue(func() bool {
	var during, after, normal, looped uintptr
	func() {
		defer func() { _ = recover() }()
		defer func() { during = getpanic() }()
		panic("durable: trying out getpanic")
	}()
	after = getpanic()
	func() {
		defer func() { normal = getpanic() }()
	}()
	func() {
		for range 2 { // not open-coded
			defer func() { looped |= getpanic() }()
		}
	}()
	return during != 0 && after == 0 && normal == 0 && looped == 0
})

// panicSite is the address in runtime.gopanic from which deferred functions
// are called: it is on the stack of a goroutine exactly while a panic unwinds
// it. Finding it costs one panic, once.
var panicSite = sync.OnceValue(func() (site uintptr) {
	defer func() { _ = recover() }()
	defer func() {
		var pcs [16]uintptr
		frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs[:])])
		for i := 0; ; i++ {
			f, more := frames.Next()
			if strings.HasSuffix(f.Function, "runtime.gopanic") {
				site = f.PC + 1 // Callers gives return addresses
				return
			}
			if !more {
				return
			}
		}
	}()
	panic("durable: finding runtime.gopanic")
})

// saysLocked reports whether the runtime says that the goroutine is locked to
// a thread. It takes some microseconds.
func saysLocked() bool {
	var buf [64]byte
	head, _, _ := bytes.Cut(buf[:runtime.Stack(buf[:], false)], []byte("]"))
	return bytes.Contains(head, []byte("locked to thread"))
}
