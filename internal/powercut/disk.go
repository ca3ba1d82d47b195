package powercut

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Op is what SQLite is about to do to a file.
type Op struct {
	Kind string // write, sync, truncate, delete
	File string // db, wal, journal, or the name of another file
	N    int    // which one of this kind and file it is, from 1
	Size int    // of a write
}

// String is the name of the operation, as a point of a sweep.
func (o Op) String() string { return fmt.Sprintf("%s.%s#%d", o.File, o.Kind, o.N) }

// Verdict is what becomes of an operation.
type Verdict int

// Verdicts.
const (
	Go      Verdict = iota
	CutHere         // the power goes: a write may be there in parts, an fsync has done nothing
	CutThen         // the power goes as soon as it is done
	Full            // no space on the device; of an fsync: as Fail
	Fail            // an I/O error; of an fsync: what it should have written is lost
)

// Disk remembers the files of a directory.
type Disk struct {
	dir string

	mu    sync.Mutex // guards what follows
	hook  func(Op) Verdict
	off   bool
	lies  bool
	files map[string]*file // by name
	opens map[*handle]bool // whether its next fsync reports the failure of another's
	count map[string]int
}

// file is what is known of a file. pending came after the last fsync.
type file struct {
	entry   bool // its name is on disk
	exists  bool
	data    []byte
	pending []change
}

// change is a write, or a truncation where data is nil.
type change struct {
	at   int64
	data []byte
}

// ErrWatched is returned where the directory is watched already.
var ErrWatched = errors.New("the directory is watched")

// Watch remembers what happens to the files in dir from now on. What is there
// counts as synced.
func Watch(dir string) (*Disk, error) {
	if err := install(); err != nil {
		return nil, err
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	d := &Disk{dir: dir, files: map[string]*file{}, opens: map[*handle]bool{}, count: map[string]int{}}
	all, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		if !e.Type().IsRegular() || gone(e.Name()) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		d.files[e.Name()] = &file{entry: true, exists: true, data: b}
	}
	if _, there := disks.LoadOrStore(dir, d); there {
		return nil, fmt.Errorf("watch %s: %w", dir, ErrWatched)
	}
	return d, nil
}

// Close forgets the directory.
func (d *Disk) Close() { disks.CompareAndDelete(d.dir, d) }

// gone says whether a file is not there after a cut.
func gone(name string) bool {
	return strings.HasSuffix(name, "-shm") || strings.HasSuffix(name, "-lock")
}

// Hook is asked about each operation from now on, one at a time; it must not
// wait for SQLite. Nil: all pass.
func (d *Disk) Hook(h func(Op) Verdict) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hook = h
}

// Lie makes fsync do nothing and report success, as a disk does whose cache
// has no battery.
func (d *Disk) Lie() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lies = true
}

// Cut is the power cut: nothing that comes later is written.
func (d *Disk) Cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
}

// Off reports whether the power is cut.
func (d *Disk) Off() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.off
}

// Unsynced is how many writes no fsync has covered.
func (d *Disk) Unsynced() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, f := range d.files {
		n += len(f.pending)
	}
	return n
}

// Keep decides what of the unsynced is there after a cut.
type Keep struct {
	rnd *rand.Rand // nil: all
	p   float64
}

// All keeps everything that was written, synced or not: what the death of a
// process leaves.
func All() Keep { return Keep{} }

// None keeps only what was synced.
func None() Keep { return Keep{rnd: rand.New(rand.NewPCG(0, 0)), p: -1} }

// Torn keeps a random part.
func Torn(rnd *rand.Rand) Keep { return Keep{rnd: rnd, p: rnd.Float64()} }

func (k Keep) yes() bool {
	return k.rnd == nil || k.p >= 0 && k.rnd.Float64() < k.p
}

// Image writes into dir what the disk holds after the cut.
func (d *Disk) Image(dir string, keep Keep) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
	names := make([]string, 0, len(d.files))
	for name := range d.files {
		names = append(names, name)
	}
	slices.Sort(names) // a seed makes the same image
	for _, name := range names {
		f := d.files[name]
		exists := f.exists
		if f.entry != f.exists && !keep.yes() {
			exists = f.entry // its name was not synced
		}
		if !exists {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), f.after(keep), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Restart copies what a new process would find on the same machine into dir,
// and watches it there: what was written can be read, but no more of it is
// synced than was. The power of the old directory is off.
func (d *Disk) Restart(dir string) (*Disk, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
	for name, f := range d.files {
		if !f.exists {
			continue
		}
		b, err := os.ReadFile(filepath.Join(d.dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed by others than SQLite
		}
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return nil, err
		}
	}
	n, err := Watch(dir)
	if err != nil {
		return nil, err
	}
	n.lies = d.lies
	n.files = map[string]*file{}
	for name, f := range d.files {
		c := *f
		c.data, c.pending = slices.Clone(f.data), slices.Clone(f.pending)
		n.files[name] = &c
	}
	return n, nil
}

const sector = 512

// after is the content of the file after a cut.
func (f *file) after(keep Keep) []byte {
	b := slices.Clone(f.data)
	for _, c := range f.pending {
		if c.data == nil {
			if keep.yes() {
				b = resize(b, c.at)
			}
			continue
		}
		for off := int64(0); off < int64(len(c.data)); {
			n := min(sector-(c.at+off)%sector, int64(len(c.data))-off)
			if keep.yes() {
				b = put(b, c.at+off, c.data[off:off+n])
			} else if end := c.at + off + n; end > int64(len(b)) && keep.yes() {
				b = resize(b, end) // it grew, and that is all
			}
			off += n
		}
	}
	return b
}

func resize(b []byte, size int64) []byte {
	if size <= int64(len(b)) {
		return b[:size:size]
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}

func put(b []byte, at int64, data []byte) []byte {
	if end := at + int64(len(data)); end > int64(len(b)) {
		b = resize(b, end)
	}
	copy(b[at:], data)
	return b
}

// file finds the file at a path of SQLite.
func (d *Disk) file(name string) *file {
	f := d.files[name]
	if f == nil {
		f = &file{}
		d.files[name] = f
	}
	return f
}

// opened notes that a file is there.
func (d *Disk) opened(h *handle) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name := h.name
	d.opens[h] = false
	if d.off {
		return // what the process does now did not happen
	}
	f := d.files[name]
	if f == nil {
		f = d.renamed(name)
	}
	if !f.exists {
		// What comes now is another file than the one that was deleted; its
		// bytes may still come back with the old name.
		f.exists = true
		f.pending = append(f.pending, change{at: 0})
	}
}

func (d *Disk) closed(h *handle) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.opens, h)
}

// renamed finds a file of which nothing is known yet: a new one, or one that
// had another name. Whoever renames a file syncs the directory, which is not
// seen here and taken for granted.
func (d *Disk) renamed(name string) *file {
	for was, f := range d.files {
		if !f.exists || was == name {
			continue
		}
		if _, err := os.Stat(filepath.Join(d.dir, was)); errors.Is(err, fs.ErrNotExist) {
			delete(d.files, was)
			d.files[name] = f
			d.syncDir()
			return f
		}
	}
	return d.file(name)
}

func kindOf(name string) string {
	for _, k := range []string{"wal", "journal", "shm", "lock"} {
		if strings.HasSuffix(name, "-"+k) {
			return k
		}
	}
	if ext := filepath.Ext(name); ext == ".db" || ext == ".db-new" {
		return "db"
	}
	return name
}

// ask asks the hook. d.mu is held.
func (d *Disk) ask(kind, name string, size int) Verdict {
	op := Op{Kind: kind, File: kindOf(name), Size: size}
	d.count[op.File+kind]++
	op.N = d.count[op.File+kind]
	if d.hook == nil {
		return Go
	}
	return d.hook(op)
}

// Each of the following is told what SQLite does, and does it by fn, unless
// the power is off or the hook says no. It returns SQLite's result code.

func (d *Disk) write(name string, at int64, data []byte, fn func() int32) int32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return ioErrWrite
	}
	v := d.ask("write", name, len(data))
	switch v {
	case Full:
		return full
	case Fail:
		return ioErrWrite
	}
	f := d.file(name)
	f.pending = append(f.pending, change{at: at, data: slices.Clone(data)})
	if v == CutHere || v == CutThen {
		d.off = true
	}
	if v == CutHere {
		return ioErrWrite
	}
	return fn()
}

func (d *Disk) truncate(name string, size int64, fn func() int32) int32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return ioErrTruncate
	}
	v := d.ask("truncate", name, 0)
	if v == Full || v == Fail {
		return ioErrTruncate
	}
	f := d.file(name)
	f.pending = append(f.pending, change{at: size})
	if v == CutHere || v == CutThen {
		d.off = true
	}
	if v == CutHere {
		return ioErrTruncate
	}
	return fn()
}

// sync is told how long the file is now, which others than SQLite may have
// changed.
func (d *Disk) sync(h *handle, size func() int64) int32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return ioErrSync
	}
	name := h.name
	if d.opens[h] {
		d.opens[h] = false
		return ioErrSync
	}
	v := d.ask("sync", name, 0)
	f := d.file(name)
	switch v {
	case CutHere:
		d.off = true
		return ioErrSync
	case Full, Fail:
		f.pending = nil // the system has forgotten that they are dirty
		for other := range d.opens {
			d.opens[other] = d.opens[other] || other != h && other.name == name
		}
		return ioErrSync
	}
	if !d.lies {
		for _, c := range f.pending {
			if c.data == nil {
				f.data = resize(f.data, c.at)
			} else {
				f.data = put(f.data, c.at, c.data)
			}
		}
		f.pending = nil
		if n := size(); n > int64(len(f.data)) {
			f.data = resize(f.data, n) // grown ahead, with zeros
		}
		if h.dirSync {
			d.syncDir()
		}
	}
	if v == CutThen {
		d.off = true
		return ioErrSync
	}
	return 0
}

// syncDir makes names durable. d.mu is held.
func (d *Disk) syncDir() {
	for name, f := range d.files {
		if f.entry = f.exists; !f.exists {
			delete(d.files, name)
		}
	}
}

func (d *Disk) remove(name string, dir bool, fn func() int32) int32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return ioErrDelete
	}
	v := d.ask("delete", name, 0)
	if v == Full || v == Fail {
		return ioErrDelete
	}
	if v == CutHere || v == CutThen {
		d.off = true
	}
	if v == CutHere {
		return ioErrDelete
	}
	rc := fn()
	if f := d.files[name]; f != nil && rc == 0 {
		f.exists = false
		if dir && !d.lies && v != CutThen {
			d.syncDir()
		}
	}
	return rc
}
