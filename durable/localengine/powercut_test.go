package localengine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/mcpagent/mcpagent/durable/localengine"
	"github.com/mcpagent/mcpagent/internal/powercut"
)

// A file that was being made when the power went, or the process, can be
// opened: it is there, or it is made anew.
func TestPowerCutWhileTheFileIsMade(t *testing.T) {
	t.Parallel()
	// made opens a file for the first time, until the power goes at operation
	// n, and reports whether it did.
	made := func(n int, keep powercut.Keep) bool {
		dir, after := t.TempDir(), t.TempDir()
		disk, err := powercut.Watch(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer disk.Close()
		var at string
		disk.Hook(func(op powercut.Op) powercut.Verdict {
			if n--; n != 0 {
				return powercut.Go
			}
			at = op.String()
			return powercut.CutHere
		})
		eng, err := localengine.Open(t.Context(), filepath.Join(dir, "a.db"), nil, job, work)
		if err == nil {
			_ = eng.Close(context.Background()) // without power it can't be clean
		}
		if err := disk.Image(after, keep); err != nil {
			t.Fatal(err)
		}
		next, err := powercut.Watch(after) // so that it need not flush
		if err != nil {
			t.Fatal(err)
		}
		defer next.Close()
		eng, err = localengine.Open(t.Context(), filepath.Join(after, "a.db"), nil, job, work)
		if err != nil {
			t.Errorf("the power went at %s: %v", at, err)
			return at != ""
		}
		if _, err := eng.List(t.Context(), nil); err != nil {
			t.Errorf("the power went at %s: %v", at, err)
		}
		if err := eng.Close(t.Context()); err != nil {
			t.Errorf("the power went at %s: close: %v", at, err)
		}
		left, err := os.ReadDir(after)
		if err != nil || len(left) != 2 {
			t.Errorf("the power went at %s: %v lie about, %v", at, left, err)
		}
		return at != ""
	}
	n := 1
	for made(n, powercut.All()) {
		made(n, powercut.None())
		made(n, powercut.Torn(rand.New(rand.NewPCG(uint64(n), 0))))
		n++
	}
	if n < 20 {
		t.Error(fmt.Sprint("only ", n, " operations"))
	}
}
