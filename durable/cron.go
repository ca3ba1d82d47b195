package durable

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// cron is a set of minutes: those whose wall clock in a zone matches five
// fields. Where the clock is put forward, minutes that do not come are not in
// it; where it is put back, a minute that comes twice is in it twice.
type cron struct {
	minute, hour, dom, month, dow uint64 // bits
	anyDay                        bool   // a restricted day of the month or of the week is enough
	loc                           *time.Location
}

var (
	monthNames = []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}
	dayNames   = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}
)

// parseCron reads "minute hour day-of-month month day-of-week": numbers, names
// of months and days, ranges, lists, steps and "*"; 7 is Sunday too. Where
// both days are restricted, one of them is enough.
func parseCron(s, zone string) (*cron, error) {
	f := strings.Fields(s)
	if len(f) != 5 {
		return nil, fmt.Errorf("cron %q has %d fields, not the five of minute, hour, day of the month, month, day of the week", s, len(f))
	}
	c := &cron{loc: time.UTC}
	var err error
	for i, x := range []struct {
		to       *uint64
		what     string
		min, max int
		names    []string
	}{
		{&c.minute, "minute", 0, 59, nil}, {&c.hour, "hour", 0, 23, nil}, {&c.dom, "day of the month", 1, 31, nil},
		{&c.month, "month", 1, 12, monthNames}, {&c.dow, "day of the week", 0, 7, dayNames},
	} {
		if *x.to, err = cronField(f[i], x.min, x.max, x.names); err != nil {
			return nil, fmt.Errorf("cron %q: %s %q: %w", s, x.what, f[i], err)
		}
	}
	if c.dow&(1<<7) != 0 {
		c.dow |= 1
	}
	c.anyDay = f[2][0] != '*' && f[4][0] != '*'
	if zone != "" {
		if c.loc, err = time.LoadLocation(zone); err != nil {
			return nil, fmt.Errorf("time zone %q is not known here: use a name such as Europe/Berlin, and see that the system or the program (time/tzdata) has the time zones: %w", zone, err)
		}
	}
	if c.next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, fmt.Errorf("cron %q never comes", s)
	}
	return c, nil
}

func cronField(s string, min, max int, names []string) (bits uint64, err error) {
	number := func(s string) (int, error) {
		for i, n := range names {
			if strings.EqualFold(s, n) {
				return i + min, nil
			}
		}
		n, err := strconv.Atoi(s)
		if err != nil || n < min || n > max || s[0] == '+' {
			return 0, fmt.Errorf("%q is not a number from %d to %d", s, min, max)
		}
		return n, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		span, every, stepped := strings.Cut(part, "/")
		from, to, step := min, max, 1
		if stepped {
			if step, err = strconv.Atoi(every); err != nil || step < 1 || step > max || every[0] == '+' {
				return 0, fmt.Errorf("%q is not a step from 1 to %d", every, max)
			}
		}
		if span != "*" {
			a, b, ranged := strings.Cut(span, "-")
			if from, err = number(a); err != nil {
				return 0, err
			}
			switch {
			case ranged:
				if to, err = number(b); err != nil {
					return 0, err
				}
			case !stepped:
				to = from
			}
			if to < from {
				return 0, fmt.Errorf("the range %q is backwards", span)
			}
		} else if max == 7 {
			to = 6 // Sunday is 0 and 7
		}
		for n := from; n <= to; n += step {
			bits |= 1 << n
		}
	}
	return bits, nil
}

// next is the first minute of the set after a moment; zero if none comes in
// the next forty years.
func (c *cron) next(after time.Time) time.Time {
	t := after.Truncate(time.Minute).Add(time.Minute)
	for end := after.AddDate(40, 0, 0); t.Before(end); {
		l := t.In(c.loc)
		y, m, d := l.Date()
		to := t
		switch {
		case c.month&(1<<m) == 0:
			to = time.Date(y, m+1, 1, 0, 0, 0, 0, c.loc)
		case !c.day(l):
			to = time.Date(y, m, d+1, 0, 0, 0, 0, c.loc)
		case c.hour&(1<<l.Hour()) == 0:
			// Not at once to the next hour: the clock may be put meanwhile.
			to = t.Add(time.Duration(15-l.Minute()%15) * time.Minute)
		case c.minute&(1<<l.Minute()) == 0:
			to = t.Add(time.Minute)
		default:
			return t.UTC()
		}
		if !to.After(t) { // a midnight that does not exist may lie before it
			to = t.Add(time.Minute)
		}
		t = to
	}
	return time.Time{}
}

func (c *cron) day(l time.Time) bool {
	dom, dow := c.dom&(1<<l.Day()) != 0, c.dow&(1<<l.Weekday()) != 0
	if c.anyDay {
		return dom || dow
	}
	return dom && dow
}
