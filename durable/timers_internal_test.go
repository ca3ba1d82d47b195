package durable

import (
	"testing"
	"testing/synctest"
	"time"
)

// A timer that was stopped does not fire, and nothing is left of it: a run that
// is woken again and again would leave one each time.
func TestAStoppedTimerIsGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ts := newTimers()
		go ts.loop(t.Context())
		fired := ""
		add := func(after time.Duration, name string) *timer {
			return ts.add(time.Now().Add(after).UnixMicro(), func() { fired += name })
		}
		add(3*time.Second, "c")
		a, b := add(time.Second, "a"), add(2*time.Second, "b")
		b.stop()
		b.stop()
		ts.mu.Lock()
		if n := len(ts.heap); n != 2 {
			t.Errorf("%d timers are kept, want 2", n)
		}
		ts.mu.Unlock()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		a.stop()
		if fired != "ac" {
			t.Errorf("%q have fired", fired)
		}
	})
}
