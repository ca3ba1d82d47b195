package localengine_test

import (
	"os"
	"path/filepath"
	"testing"
)

// What mutation showed that no test looked at; docs/mutation.md.

// The log is grown ahead of what is written, once something is.
func TestTheLogIsGrownAhead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	st := storeAt(t, path, nil)
	start(t, st, newRun(1, "a"))
	waitFor(t, "a log of 8 MB", func() bool {
		fi, err := os.Stat(path + "-wal")
		return err == nil && fi.Size() >= 8<<20
	})
}
