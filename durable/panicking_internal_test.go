package durable

import "testing"

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
