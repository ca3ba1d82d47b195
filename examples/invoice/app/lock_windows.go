package app

import (
	"os"

	"golang.org/x/sys/windows"
)

// lockFile waits for the lock of an open file. Closing the file, or the death
// of the process, lets go of it. The locked byte lies far behind the end,
// because others can't read a locked range.
func lockFile(f *os.File) error {
	return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK, 0, 1, 0, &windows.Overlapped{OffsetHigh: 1})
}
