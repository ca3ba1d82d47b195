package main

import (
	"syscall"
	"time"
)

// cpuTime is what this process has used of the processors, in the kernel too.
func cpuTime() (time.Duration, error) {
	var created, ended, kernel, user syscall.Filetime
	p, err := syscall.GetCurrentProcess()
	if err != nil {
		return 0, err
	}
	if err := syscall.GetProcessTimes(p, &created, &ended, &kernel, &user); err != nil {
		return 0, err
	}
	ticks := func(f syscall.Filetime) int64 { return int64(f.HighDateTime)<<32 | int64(f.LowDateTime) }
	return time.Duration(100 * (ticks(kernel) + ticks(user))), nil
}

// nap blocks for so long, more or less.
func nap(d time.Duration) { time.Sleep(d) }
