//go:build unix

package app

import (
	"errors"
	"os"
	"syscall"
)

// lockFile waits for the lock of an open file. Closing the file, or the death
// of the process, lets go of it.
func lockFile(f *os.File) error {
	for {
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
