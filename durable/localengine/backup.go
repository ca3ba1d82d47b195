package localengine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Backup copies a file to dst, which must not exist yet, while its owner goes
// on working, or with no owner. The copy is one consistent moment, complete
// in itself and on disk when Backup returns.
//
// Opening the copy executes its unfinished runs, steps and all, as if the
// process had died at that moment: do not open both.
func Backup(ctx context.Context, path, dst string) (err error) {
	if path, err = clean(path); err != nil {
		return err
	}
	if dst, err = clean(dst); err != nil {
		return err
	}
	state, err := inspect(path)
	if err == nil && state == fileAbsent {
		err = fmt.Errorf("%w: there is nothing to copy", fs.ErrNotExist)
	}
	if err != nil {
		return fmt.Errorf("back up %s: %w", path, err)
	}
	if _, err := os.Lstat(dst); err == nil {
		return fmt.Errorf("back up %s to %s: %w: remove it or choose another name", path, dst, fs.ErrExist)
	}
	part := dst + ".part"
	if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("back up %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("back up %s to %s: %w", path, dst, err)
			_ = os.Remove(part)
		}
	}()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := copyTo(path, part); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// A link fails if somebody was faster; where there are none, rename.
	if err := os.Link(part, dst); err == nil {
		err = os.Remove(part)
		return errors.Join(err, syncDir(filepath.Dir(dst)))
	} else if errors.Is(err, fs.ErrExist) {
		return err
	}
	return errors.Join(os.Rename(part, dst), syncDir(filepath.Dir(dst)))
}

func copyTo(path, part string) (err error) {
	c, err := dialReader(path)
	if err != nil {
		return explain(path, err)
	}
	err = c.exec("PRAGMA query_only = 0") // it counts the copy as a write
	if err == nil {
		err = c.exec("VACUUM INTO ?", part)
	}
	if err = errors.Join(err, c.close()); err != nil {
		return err
	}
	// Requests under way belong to the original, and so does the owner.
	if c, err = dial(part, "mode=rw&_synchronous=FULL&_pragma=fullfsync(1)"); err != nil {
		return err
	}
	err = c.script("BEGIN; DELETE FROM requests; UPDATE owner SET clean = 1; COMMIT")
	if err = errors.Join(err, c.close()); err != nil {
		return err
	}
	f, err := os.OpenFile(part, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// syncDir makes a new name durable, where directories can be synced.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	_ = d.Sync() // not possible on Windows
	return d.Close()
}
