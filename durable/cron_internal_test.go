package durable

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata"
)

func TestCron(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ cron, zone, after, want string }{
		{"* * * * *", "", "2026-01-01T00:00:00Z", "00:01 00:02 00:03"},
		{"*/20 * * * *", "", "2026-01-01T00:00:30Z", "00:20 00:40 01:00"},
		{"5/25 3 * * *", "", "2026-01-01T00:00:00Z", "03:05 03:30 03:55 02T03:05"},
		{"0 9-17/4 * * *", "", "2026-01-01T10:00:00Z", "13:00 17:00 02T09:00"},
		{"30 8 * * mon-fri", "", "2026-01-02T09:00:00Z", "05T08:30 06T08:30"},
		{"0 0 1,15 * SUN", "", "2026-01-01T00:00:00Z", "04T00:00 11T00:00 15T00:00 18T00:00"}, // either day
		{"0 0 */10 * 7", "", "2026-01-01T00:00:00Z", "2026-01-11T00:00 2026-02-01T00:00"},     // both
		{"0 0 31 * *", "", "2026-01-31T00:00:00Z", "2026-03-31T00:00 2026-05-31T00:00"},
		{"0 0 29 feb *", "", "2026-01-01T00:00:00Z", "2028-02-29T00:00 2032-02-29T00:00"},
		{"0 12 * * *", "Europe/Berlin", "2026-01-01T00:00:00Z", "11:00 02T11:00"},
		{"0 12 * * *", "Asia/Kathmandu", "2026-01-01T00:00:00Z", "06:15 02T06:15"},
		// The clock is put forward: 02:30 does not come on the 29th.
		{"30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", "28T01:30 30T00:30"},
		{"0 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", "01:00 02:00 03:00"},
		// It is put back: 02:30 comes twice.
		{"30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "25T00:30 25T01:30 26T01:30"},
		{"0 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", "01:00 02:00 03:00"},
		{"15,45 1 * * *", "America/New_York", "2026-11-01T05:00:00Z", "05:15 05:45 06:15 06:45 02T06:15"},
		// Half an hour, at Lord Howe.
		{"15 2 * * *", "Australia/Lord_Howe", "2026-10-02T20:00:00Z", "2026-10-04T15:15"},
		{"45 1 4,5 4 *", "Australia/Lord_Howe", "2026-04-03T20:00:00Z", "2026-04-04T14:45 2026-04-04T15:15"},
		// Midnight does not come.
		{"0 0 * * *", "Africa/Cairo", "2026-04-22T00:00:00Z", "22T22:00 24T21:00"},
		{"0 1 * * *", "Africa/Cairo", "2026-04-22T00:00:00Z", "22T23:00 23T22:00"},
	} {
		p, err := parseCron(c.cron, c.zone)
		if err != nil {
			t.Error(err)
			continue
		}
		at, err := time.Parse(time.RFC3339, c.after)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, w := range strings.Fields(c.want) {
			at = p.next(at)
			s := at.Format("2006-01-02T15:04")
			got = append(got, s[len(s)-len(w):])
		}
		if g := strings.Join(got, " "); g != c.want {
			t.Errorf("%q in %q after %s:\n got %s\nwant %s", c.cron, c.zone, c.after, g, c.want)
		}
	}
	for _, bad := range []string{"", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "*/0 * * * *",
		"5-2 * * * *", "a * * * *", "+1 * * * *", "1,,2 * * * *", "@daily", "0 0 30 feb *", "*/+2 * * * *", "- * * * *", "1- * * * *", "/ * * * *"} {
		if _, err := parseCron(bad, ""); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if _, err := parseCron("* * * * *", "Mars/Base"); err == nil || !strings.Contains(err.Error(), "Mars/Base") {
		t.Errorf("an unknown zone: %v", err)
	}
}

// FuzzCron holds next against looking at each minute.
func FuzzCron(f *testing.F) {
	for _, s := range []string{"* * * * *", "*/7 3-5 * * mon,fri", "30 2 29 2 *", "0 0 1 jan 0-6/2", "15 1 * 3,10 7"} {
		f.Add(s, int64(1774746000), uint8(1)) // 2026-03-29T01:00:00Z
		f.Add(s, int64(1792886400), uint8(2)) // 2026-10-25T00:00:00Z
	}
	zones := []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo"}
	f.Fuzz(func(t *testing.T, s string, at int64, z uint8) {
		zone := zones[int(z)%len(zones)]
		c, err := parseCron(s, zone)
		if err != nil {
			return
		}
		at = 1577836800 + (at%(20*365*86400)+20*365*86400)%(20*365*86400) // from 2020 on
		after := time.Unix(at, 0).UTC()
		got := c.next(after)
		if !got.After(after) || got.Second() != 0 {
			t.Fatalf("%q in %s after %v: %v", s, zone, after, got)
		}
		match := func(m time.Time) bool {
			l := m.In(c.loc)
			return c.minute&(1<<l.Minute()) != 0 && c.hour&(1<<l.Hour()) != 0 && c.month&(1<<l.Month()) != 0 && c.day(l)
		}
		if !match(got) {
			t.Fatalf("%q in %s after %v: %v does not match", s, zone, after, got)
		}
		for m := after.Truncate(time.Minute).Add(time.Minute); m.Before(got) && m.Before(after.AddDate(0, 0, 40)); m = m.Add(time.Minute) {
			if match(m) {
				t.Fatalf("%q in %s after %v: got %v, %v comes before", s, zone, after, got, m)
			}
		}
	})
}

// An interval has its times on both sides of its offset, and of 1970.
func TestEvery(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ d, offset, after, want int64 }{
		{10, 0, -1, 0}, {10, 0, 0, 10}, {10, 0, 9, 10}, {10, 0, -10, 0}, {10, 0, -11, -10},
		{10, 3, 2, 3}, {10, 3, 3, 13}, {10, 3, -7, 3}, {10, 3, -8, -7}, {10, 25, 0, 5}, {10, -25, 0, 5},
	} {
		if got := (every{c.d, c.offset}).next(time.UnixMicro(c.after)).UnixMicro(); got != c.want {
			t.Errorf("every %d, offset %d, after %d: %d, want %d", c.d, c.offset, c.after, got, c.want)
		}
	}
}
