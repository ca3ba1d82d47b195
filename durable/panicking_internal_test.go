package durable

import (
	"runtime"
	"testing"
)

func TestPanickingTellsADeferInAPanicFromAnyOther(t *testing.T) {
	t.Parallel()
	probe := func() bool { return func() bool { return panicking() }() }
	if probe() {
		t.Error("panicking without a panic")
	}
	var during, normal bool
	func() {
		defer func() { normal = probe() }()
	}()
	func() {
		defer func() { _ = recover() }()
		defer func() { during = func() bool { return probe() }() }()
		panic("x")
	}()
	if normal || !during || probe() {
		t.Errorf("in a normal defer %v, in a panic %v, after it %v; want false, true, false", normal, during, probe())
	}
}

func TestThreadLockedSeesTheLock(t *testing.T) {
	t.Parallel()
	for range 2 {
		done := make(chan [4]bool)
		go func() {
			var got [4]bool
			got[0] = threadLocked() || saysLocked()
			runtime.LockOSThread()
			runtime.LockOSThread()
			got[1] = threadLocked() && saysLocked()
			runtime.UnlockOSThread()
			got[2] = threadLocked() && saysLocked()
			runtime.UnlockOSThread()
			got[3] = threadLocked() || saysLocked()
			done <- got
		}()
		if got := <-done; got != [4]bool{false, true, true, false} {
			t.Errorf("before, locked twice, once, not any more: %v", got)
		}
	}
}
