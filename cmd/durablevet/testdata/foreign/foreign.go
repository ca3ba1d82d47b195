// Package foreign is of another module, and knows nothing of workflows.
package foreign

import (
	"os"
	"sync"
	"time"
)

var debug = os.Getenv("FOREIGN_DEBUG")

var cache = map[string]int{}

// Compute has its ways, which are nobody's affair.
func Compute() int {
	if debug != "" || os.Getenv("FOREIGN_DEBUG") != "" {
		println("computing")
	}
	var wg sync.WaitGroup
	wg.Go(func() {})
	wg.Wait()
	cache["x"]++
	return 1
}

// Ago reads the clock.
func Ago(t time.Time) string { return time.Since(t).String() }

// Read reads a file.
func Read() { _, _ = os.ReadFile("x") }
