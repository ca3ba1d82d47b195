package durable

import (
	"testing"
	"time"
)

// Healthy runs were called blocked where the processors were taken for seconds:
// the watchdog went by the time that had passed, and had not been there either.
func TestAWatchdogThatWasAwayAccusesNobody(t *testing.T) {
	t.Parallel()
	const limit, every = time.Second, time.Second / 4
	began := time.Unix(1_800_000_000, 0)
	for name, c := range map[string]struct {
		late []time.Duration // of each tick
		want int             // the tick that finds the run stuck; 0: none does
	}{
		"in time":             {make([]time.Duration, 8), 5},
		"a little late":       {[]time.Duration{time.Millisecond, time.Millisecond, 0, 2 * time.Millisecond, time.Millisecond, 0}, 5},
		"asleep for an hour":  {[]time.Duration{time.Hour, 0, 0, 0}, 0},
		"asleep, and stuck":   {[]time.Duration{time.Hour, 0, 0, 0, 0}, 5},
		"starved all the way": {[]time.Duration{time.Second, time.Second, time.Second, time.Second}, 0},
	} {
		e := &entry{}
		e.turning.Store(began.UnixMicro())
		o := outstanding{every: every, turns: map[*entry]*outing{}}
		now, found := began, 0
		for i, late := range c.late {
			o.since = now
			now = now.Add(every + late)
			if stuck := o.count(now, e, limit); len(stuck) > 0 {
				if found != 0 {
					t.Errorf("%s: it is found a second time", name)
				}
				found = i + 1
			}
		}
		if found != c.want {
			t.Errorf("%s: tick %d finds it, want %d", name, found, c.want)
		}
		e.turning.Store(0)
		if o.count(now, e, limit); len(o.turns) > 0 {
			t.Errorf("%s: it is kept in mind", name)
		}
	}
}

// A turn is counted from its own beginning, not from that of the one before.
func TestEachTurnHasItsOwnTime(t *testing.T) {
	t.Parallel()
	const limit, every = time.Second, time.Second / 4
	now := time.Unix(1_800_000_000, 0)
	e := &entry{}
	o := outstanding{every: every, turns: map[*entry]*outing{}}
	for range 40 {
		o.since = now
		now = now.Add(every)
		e.turning.Store(now.Add(-10 * time.Millisecond).UnixMicro())
		if stuck := o.count(now, e, limit); len(stuck) > 0 {
			t.Fatal("turns that take ten milliseconds are called stuck")
		}
	}
}
