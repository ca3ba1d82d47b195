// Package npmtest installs packages of npm for tests: programs that others
// published and ours has to get along with. Versions are pinned by a lock file
// beside the test; each set is installed once a machine and shared.
package npmtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// mu keeps the tests of one binary from installing the same set at once.
// Those of several may: the first to finish wins.
var mu sync.Mutex

// Dir installs what the package.json and package-lock.json in dir say, without
// running scripts of packages, and gives the directory that has node_modules.
// It needs node and npm; what can't be installed fails the test.
func Dir(t testing.TB, dir string) string {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	installed, err := install(dir)
	if err != nil {
		t.Fatalf("npmtest: %s: %v", dir, err)
	}
	return installed
}

// Node is the command and the arguments that start a script of an installed
// package, given by its path below node_modules.
func Node(t testing.TB, dir, script string) (command string, args []string) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatalf("npmtest: %v: install Node.js 20 or newer", err)
	}
	return node, []string{filepath.Join(Dir(t, dir), "node_modules", filepath.FromSlash(script))}
}

func install(dir string) (string, error) {
	h := sha256.New()
	files := map[string][]byte{}
	for _, name := range []string{"package.json", "package-lock.json"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return "", err
		}
		files[name] = b
		fmt.Fprintf(h, "%d:%s", len(b), b)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	root := filepath.Join(cache, "mcpagent-npm")
	to := filepath.Join(root, hex.EncodeToString(h.Sum(nil))[:20])
	if _, err := os.Stat(to); err == nil {
		return to, nil
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", fmt.Errorf("%w: install Node.js 20 or newer with npm", err)
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", err
	}
	part, err := os.MkdirTemp(root, "part-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(part)
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(part, name), b, 0o644); err != nil {
			return "", err
		}
	}
	var out bytes.Buffer
	cmd := exec.Command(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
	cmd.Dir, cmd.Stdout, cmd.Stderr = part, &out, &out
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("npm ci: %w\n%s", err, out.Bytes())
	}
	if err := os.Rename(part, to); err != nil {
		if _, there := os.Stat(to); there == nil {
			return to, nil // somebody else was faster
		}
		return "", err
	}
	return to, nil
}
