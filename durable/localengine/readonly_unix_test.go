//go:build unix

package localengine_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mcpagent/mcpagent/durable/localengine"
)

// A file whose index of the log cannot be made, as in a directory that cannot
// be written, is read as it stands if it has no log.
func TestAFileIsReadWhereNothingCanBeMade(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	ours(t, path)
	// Not the rights of the directory: nobody refuses them to root.
	if err := os.Symlink("nowhere", path+"-shm"); err != nil {
		t.Fatal(err)
	}
	if n, err := localengine.FileNumber(path, "SELECT count(*) FROM runs"); n != 1 || err != nil {
		t.Errorf("%d runs, %v", n, err)
	}
}
