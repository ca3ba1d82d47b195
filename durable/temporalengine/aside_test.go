package temporalengine

import (
	"sync"
	"testing"
)

// A function's panic was read from a stack that another function had by then:
// the problem of one run was that of another, or none at all.
func TestAsidePanicsAreTheirOwn(t *testing.T) {
	t.Parallel()
	var a asides
	defer a.close()
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 500 {
				want := worker*500 + i
				func() {
					defer func() {
						if p := recover(); p != want {
							t.Errorf("panic %d is the panic %v", want, p)
						}
					}()
					a.run(func() { panic(want) })
				}()
			}
		})
	}
	wg.Wait()
}
