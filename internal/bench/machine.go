package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// head prints what the figures were taken on.
func (b *bench) head() error {
	took, err := b.probe()
	if err != nil {
		return err
	}
	fmt.Printf("- machine: %d cores, %s, %s/%s\n", runtime.NumCPU(), cpuName(), runtime.GOOS, runtime.GOARCH)
	fmt.Printf("- Go %s, SQLite driver modernc.org/sqlite %s\n", strings.TrimPrefix(runtime.Version(), "go"), moduleVersion("modernc.org/sqlite"))
	fmt.Printf("- file system: %s\n", fileSystem(b.dir))
	fmt.Printf("- load at the start: %s\n", load())
	fmt.Printf("- one flush (8 KB written and fsynced), at the start: %s\n", short(took))
	fmt.Printf("- rounds: %d, on %s\n\n", b.rounds, time.Now().UTC().Format("2006-01-02 15:04 UTC"))
	return nil
}

// foot prints what changed meanwhile.
func (b *bench) foot() error {
	took, err := b.probe()
	if err != nil {
		return err
	}
	fmt.Printf("\n- one flush, at the end: %s; load: %s\n", short(took), load())
	return nil
}

// probe is the median of some flushes of the size of a lone step's commit.
func (b *bench) probe() (time.Duration, error) {
	f, err := b.newFlush(8 << 10)
	if err != nil {
		return 0, err
	}
	defer f.close()
	var all times
	for range b.size(400) {
		d, err := f.stretch(1)
		if err != nil {
			return 0, err
		}
		all = append(all, d)
	}
	return all.median(), nil
}

// cpuName is empty where the system does not tell in this way.
func cpuName() string {
	raw, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "processor unknown"
	}
	for line := range strings.Lines(string(raw)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "processor unknown"
}

func load() string {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(raw))[:3], " ")
}

func moduleVersion(path string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == path {
				return m.Version
			}
		}
	}
	return "unknown"
}

// mount is the mount point that holds a directory, from /proc/mounts.
func mount(dir string) (device, kind, options string) {
	raw, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return "", "unknown", ""
	}
	longest := -1
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		if len(f) < 4 {
			continue
		}
		at := f[1]
		if at == "/" || dir == at || strings.HasPrefix(dir, at+"/") {
			if len(at) > longest {
				longest, device, kind, options = len(at), f[0], f[2], f[3]
			}
		}
	}
	return device, kind, options
}

func fileSystem(dir string) string {
	device, kind, options := mount(dir)
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", kind, device, options))
}

// onDisk refuses to measure where a flush does nothing.
func (b *bench) onDisk() error {
	if _, kind, _ := mount(b.dir); kind == "tmpfs" || kind == "ramfs" {
		return fmt.Errorf("%s is on %s, which flushes nothing: name a directory on a disk with -dir", b.dir, kind)
	}
	return nil
}
