//go:build amd64 || arm64

package durable

// getg identifies the current goroutine: the address of its descriptor, which
// no other living goroutine has. Two nanoseconds.
func getg() uintptr

// getpanic reads the field of the goroutine's descriptor that points to the
// innermost panic: 0 if none unwinds it. The linker relies on its place
// (runtime2.go, "offset known to liblink"); [panicking] tries it out before it
// does.
func getpanic() uintptr
