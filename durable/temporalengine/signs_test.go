package temporalengine

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestSignsOfLife: there are none before the first is due, unless the step has
// something to say; and what it said last is said again with each that
// follows.
func TestSignsOfLife(t *testing.T) {
	t.Parallel()
	const every = 5 * time.Second
	for _, c := range []struct {
		what    string
		attempt func(*signs)
		want    []string
	}{
		{"a short attempt", func(*signs) { time.Sleep(every / 2) }, nil},
		{"a long one", func(*signs) { time.Sleep(every * 5 / 2) }, []string{"", ""}},
		{"one that says something", func(s *signs) {
			for _, details := range []json.RawMessage{json.RawMessage("1"), nil, json.RawMessage("2")} {
				s.give(details)
				time.Sleep(every / 5)
			}
			time.Sleep(every)
		}, []string{"1", "1", "2", "2"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var heard []string
				s := signsOfLife(t.Context(), every, func(_ context.Context, details json.RawMessage) { heard = append(heard, string(details)) })
				c.attempt(s)
				s.end()
				s.give(json.RawMessage("3"))
				synctest.Wait()
				if !slices.Equal(heard, c.want) {
					t.Errorf("heard %q, want %q", heard, c.want)
				}
			})
		})
	}
}
