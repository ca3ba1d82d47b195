//go:build race

package agent_test

// Under the race detector everything takes ten times as long: the sweep and the
// random models are shorter. Go run ./internal/check plays them so; a plain go
// test plays all.
func init() { *turns, *seeds = 2, 40 }
