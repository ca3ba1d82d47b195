package durable

import (
	"runtime"
	"strings"
	"sync"
)

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

// panicking reports whether the caller was called by a function that was
// deferred, while a panic unwinds the goroutine.
func panicking() bool {
	site := panicSite()
	var pcs [24]uintptr
	for _, pc := range pcs[:runtime.Callers(3, pcs[:])] {
		if pc == site {
			return true
		}
	}
	return false
}
