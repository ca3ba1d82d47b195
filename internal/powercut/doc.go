// Package powercut lies between SQLite and the file system and knows what a
// power cut would take: of each file it keeps the bytes that are on disk for
// certain, and the writes since the last fsync, which may be there or not.
//
//	disk, err := powercut.Watch(dir)
//	defer disk.Close()
//	eng, err := localengine.Open(ctx, filepath.Join(dir, "a.db"), nil, defs)
//	…
//	disk.Cut()                                // from here on nothing is written
//	disk.Image(other, powercut.Torn(rnd))     // what the next start finds
//
// It is a SQLite VFS that wraps the one of the system: programs need no seam
// for it. It becomes the default of its process for good, and is transparent
// for files of directories that nobody watches. So it belongs into tests.
//
// # What a cut leaves
//
// The bytes of the last fsync of each file are there. Of each later write,
// any of its parts of 512 bytes may be there, in any order; a later truncation
// may have happened or not; the file may have grown without the data that it
// grew for. A file whose directory was not synced since it was made may be
// gone, one that was deleted without that may be back. The index of the log
// ("-shm") and lock files are gone: nobody relies on them.
//
// A write does not hurt the bytes beside it: SQLite relies on that
// (SQLITE_IOCAP_POWERSAFE_OVERWRITE), as does every disk of this century.
//
// # Faults
//
// A hook sees each operation before it happens. It may cut the power there,
// say that the disk is full, or let an fsync fail: then what it should have
// written is lost for good, though it can still be read, as on Linux: each
// descriptor that was open then hears of it once, and after that an fsync says
// that all is well.
package powercut
