// Command durablevet finds code that can run in a workflow and would not do
// the same again in a replay, or escapes the run: clocks, random numbers, I/O,
// goroutines, channels, foreign contexts, locks held over durable calls and
// more. See docs/durablevet.md for the rules.
//
//	go vet -vettool=$(which durablevet) ./...
//	durablevet ./...
//
// A finding that is none is silenced by a comment on its line, with a reason:
//
//	start := time.Now() //durablevet:ignore measured for a log line only
package main

import "golang.org/x/tools/go/analysis/singlechecker"

func main() { singlechecker.Main(analyzer) }
