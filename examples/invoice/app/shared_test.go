package app

import (
	"fmt"
	"testing"
)

// TestTwoProcessesOneFile has two hosts start the same stdio server. One of
// the two executes, the other is its client; whichever is killed, the other
// one finishes the work.
func TestTwoProcessesOneFile(t *testing.T) {
	for _, tt := range []struct {
		name     string
		survivor int
	}{
		{"the owner is killed", 1},
		{"the client is killed", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			both := []*server{
				started(t, "stdio", dir, "-pay-delay", "400ms"),
				started(t, "stdio", dir, "-pay-delay", "400ms"),
			}
			survivor, victim := both[tt.survivor], both[1-tt.survivor]

			// Each does half of the talking, about runs of the other, too.
			var runs []map[string]any
			var want []string
			for i := range 4 {
				inv := sample(t, fmt.Sprintf("S-%d", i))
				for n, l := range inv["lines"].([]any) {
					d := fmt.Sprintf("S-%d line %d", i, n)
					l.(map[string]any)["description"] = d
					want = append(want, d)
				}
				runs = append(runs, both[i%2].begin(t, inv))
			}
			for i, ids := range runs {
				both[i%2].await(t, ids, "PENDING-APPROVAL")
				both[(i+1)%2].must(t, "approve_invoice", ids)
			}
			for _, ids := range runs {
				victim.await(t, ids, "PAYING")
			}
			victim.kill()
			for _, ids := range runs {
				survivor.await(t, ids, "PAID")
			}
			// The survivor takes new work as well.
			ids := survivor.begin(t, sample(t, "S-last"))
			survivor.await(t, ids, "PENDING-APPROVAL")
			survivor.must(t, "approve_invoice", ids)
			survivor.await(t, ids, "PAID")
			checkBook(t, survivor.book(), append(want, "Widget A", "Widget B")...)
		})
	}
}

// TestStdioAndHTTPOnOneFile has a person approve over HTTP what a host has
// started over stdio.
func TestStdioAndHTTPOnOneFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	host := started(t, "stdio", dir)
	desk := started(t, "http", dir)
	ids := host.begin(t, sample(t, "INV-1"))
	desk.await(t, ids, "PENDING-APPROVAL")
	desk.must(t, "approve_invoice", with(ids, "note", "fine"))
	host.await(t, ids, "PAID")
	checkBook(t, host.book(), "Widget A", "Widget B")
}
