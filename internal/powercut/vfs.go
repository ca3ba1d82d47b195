package powercut

import (
	"fmt"
	"path/filepath"
	"sync"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// Result codes.
const (
	full          = sqlite3.SQLITE_FULL
	ioErrWrite    = sqlite3.SQLITE_IOERR_WRITE
	ioErrTruncate = sqlite3.SQLITE_IOERR_TRUNCATE
	ioErrSync     = sqlite3.SQLITE_IOERR_FSYNC
	ioErrDelete   = sqlite3.SQLITE_IOERR_DELETE
)

// SQLite's list of file systems is one for the process, and so is this.
var (
	disks sync.Map // directory → *Disk
	opens sync.Map // address of a sqlite3_file → *handle
	under *sqlite3.Tsqlite3_vfs
	over  sqlite3.Tsqlite3_vfs

	tables   sync.Map // methods of the wrapped file system → address of ours
	vfsName  = []byte("powercut\x00")
	install1 = sync.OnceValue(register)
)

func install() error { return install1() }

// handle is an open file.
type handle struct {
	d       *Disk
	name    string
	methods *sqlite3.Tsqlite3_io_methods // of the wrapped file system
	dirSync bool                         // its first fsync is one of the directory too
}

// register makes a copy of the system's file system with our functions in it
// the default.
func register() error {
	tls := libc.NewTLS()
	defer tls.Close()
	p := sqlite3.Xsqlite3_vfs_find(tls, 0)
	if p == 0 {
		return fmt.Errorf("powercut: SQLite has no file system")
	}
	under = at[sqlite3.Tsqlite3_vfs](p)
	over = *under
	over.FpNext = 0
	over.FzName = uintptr(unsafe.Pointer(&vfsName[0]))
	over.FxOpen = fp(open)
	over.FxDelete = fp(remove)
	if rc := sqlite3.Xsqlite3_vfs_register(tls, uintptr(unsafe.Pointer(&over)), 1); rc != 0 {
		return fmt.Errorf("powercut: register the file system: result code %d", rc)
	}
	return nil
}

// at is the object at an address of SQLite's.
func at[T any](p uintptr) *T { return *(**T)(unsafe.Pointer(&p)) }

// fp is a function as SQLite's tables hold it. Only functions of the package,
// which are never collected, may be in there.
func fp[F any](f F) uintptr { return *(*uintptr)(unsafe.Pointer(&f)) }

// fn is a function of SQLite's tables.
func fn[F any](p uintptr) F { return *(*F)(unsafe.Pointer(&p)) }

func diskOf(path uintptr) (*Disk, string) {
	if path == 0 {
		return nil, ""
	}
	full := libc.GoString(path)
	d, ok := disks.Load(filepath.Dir(full))
	if !ok || gone(full) {
		return nil, ""
	}
	return d.(*Disk), filepath.Base(full)
}

func open(tls *libc.TLS, _ uintptr, path uintptr, file uintptr, flags int32, out uintptr) int32 {
	d, name := diskOf(path)
	creates := flags&sqlite3.SQLITE_OPEN_CREATE != 0
	if d != nil && creates && d.Off() {
		return sqlite3.SQLITE_CANTOPEN
	}
	base := uintptr(unsafe.Pointer(under))
	rc := fn[func(*libc.TLS, uintptr, uintptr, uintptr, int32, uintptr) int32](under.FxOpen)(tls, base, path, file, flags, out)
	if rc != 0 || d == nil {
		return rc
	}
	f := at[sqlite3.Tsqlite3_file](file)
	h := &handle{d: d, name: name, methods: at[sqlite3.Tsqlite3_io_methods](f.FpMethods),
		dirSync: creates && flags&(sqlite3.SQLITE_OPEN_WAL|sqlite3.SQLITE_OPEN_MAIN_JOURNAL) != 0}
	d.opened(h)
	opens.Store(file, h)
	t, ok := tables.Load(f.FpMethods)
	if !ok {
		// In SQLite's memory, for good: Go's would look lost to checkptr.
		p := libc.Xcalloc(tls, 1, libc.Tsize_t(unsafe.Sizeof(*h.methods)))
		if p == 0 {
			closeFile(tls, file)
			return sqlite3.SQLITE_NOMEM
		}
		ours := at[sqlite3.Tsqlite3_io_methods](p)
		*ours = *h.methods
		ours.FxClose = fp(closeFile)
		ours.FxWrite = fp(write)
		ours.FxTruncate = fp(truncate)
		ours.FxSync = fp(syncFile)
		t, _ = tables.LoadOrStore(f.FpMethods, p)
	}
	f.FpMethods = t.(uintptr)
	return rc
}

func opened(file uintptr) *handle {
	h, _ := opens.Load(file)
	return h.(*handle)
}

func closeFile(tls *libc.TLS, file uintptr) int32 {
	h := opened(file)
	opens.Delete(file)
	h.d.closed(h)
	return fn[func(*libc.TLS, uintptr) int32](h.methods.FxClose)(tls, file)
}

func write(tls *libc.TLS, file uintptr, buf uintptr, n int32, off int64) int32 {
	h := opened(file)
	data := unsafe.Slice(at[byte](buf), int(n))
	return h.d.write(h.name, off, data, func() int32 {
		return fn[func(*libc.TLS, uintptr, uintptr, int32, int64) int32](h.methods.FxWrite)(tls, file, buf, n, off)
	})
}

func truncate(tls *libc.TLS, file uintptr, size int64) int32 {
	h := opened(file)
	return h.d.truncate(h.name, size, func() int32 {
		return fn[func(*libc.TLS, uintptr, int64) int32](h.methods.FxTruncate)(tls, file, size)
	})
}

// syncFile does not call the system: a sweep has thousands of these, and what
// they mean is in the books.
func syncFile(tls *libc.TLS, file uintptr, flags int32) int32 {
	h := opened(file)
	rc := h.d.sync(h, func() int64 {
		size := tls.Alloc(8)
		defer tls.Free(8)
		if rc := fn[func(*libc.TLS, uintptr, uintptr) int32](h.methods.FxFileSize)(tls, file, size); rc != 0 {
			return 0
		}
		return *at[int64](size)
	})
	if rc == 0 {
		h.dirSync = false
	}
	return rc
}

func remove(tls *libc.TLS, _ uintptr, path uintptr, dirSync int32) int32 {
	call := func() int32 {
		base := uintptr(unsafe.Pointer(under))
		return fn[func(*libc.TLS, uintptr, uintptr, int32) int32](under.FxDelete)(tls, base, path, dirSync)
	}
	d, name := diskOf(path)
	if d == nil {
		return call()
	}
	return d.remove(name, dirSync != 0, call)
}
