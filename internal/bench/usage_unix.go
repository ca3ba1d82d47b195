//go:build unix

package main

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is what this process has used of the processors, in the kernel too.
func cpuTime() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, err
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// nap blocks the thread for so long, as a system call does that waits for a
// disk: the runtime's own timers are a millisecond off.
func nap(d time.Duration) {
	if d > 0 {
		left := unix.NsecToTimeval(int64(d))
		_, _ = unix.Select(0, nil, nil, nil, &left) // cut short by a signal: so be it
	}
}
