// Package helper is called from workflows in other packages, and knows nothing
// of them.
package helper

import (
	"os"
	"time"
)

// Stamp reads the clock, two calls down.
func Stamp() time.Time { return stamp() }

func stamp() time.Time { return time.Now() }

// Trusted reads it where it does no harm.
func Trusted() time.Time {
	return time.Now() //durablevet:ignore for a log line
}

// Config reads a file.
type Config struct{}

// Load reads a file.
func (*Config) Load() { _, _ = os.ReadFile("x") }

// Start starts a goroutine.
func Start() { go func() {}() }

// Limit is changed by SetLimit.
var Limit = 1

// Fixed is never changed.
var Fixed = 1

// SetLimit changes Limit.
func SetLimit(n int) { Limit = n }

// Pure is harmless.
func Pure(n int) int { return n + 1 }
