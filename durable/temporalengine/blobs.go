package temporalengine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mcpagent/mcpagent/durable"
)

// Blobs keeps content that is too large for a history, under its digest (hex).
// Both methods are safe for concurrent use; Get of what isn't there is
// [durable.ErrNotFound]. What is stored has been through the codec.
type Blobs interface {
	Put(digest string, stored []byte) error
	Get(digest string) ([]byte, error)
}

// Dir keeps blobs as files in a directory that all workers see.
type Dir string

// Put implements [Blobs]. It may run many times.
func (d Dir) Put(digest string, stored []byte) error {
	name, err := d.name(digest)
	if err != nil {
		return err
	}
	if _, err := os.Stat(name); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return fmt.Errorf("put blob %s: %w", digest, err)
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return fmt.Errorf("put blob %s: %w", digest, err)
	}
	_, err = f.Write(stored)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("put blob %s: %w", digest, err)
	}
	return nil
}

// Get implements [Blobs].
func (d Dir) Get(digest string) ([]byte, error) {
	name, err := d.name(digest)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("blob %s: %w in %s", digest, durable.ErrNotFound, string(d))
	}
	return b, err
}

func (d Dir) name(digest string) (string, error) {
	for _, c := range digest {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", fmt.Errorf("blob %q: %w: not a digest", digest, durable.ErrNotFound)
		}
	}
	if len(digest) < 3 {
		return "", fmt.Errorf("blob %q: %w: not a digest", digest, durable.ErrNotFound)
	}
	return filepath.Join(string(d), digest[:2], digest), nil
}

// PutBlob keeps content beyond the run.
func (h *shared) PutBlob(digest string, stored []byte) error {
	if h.blobs == nil {
		return fmt.Errorf("put a blob on Temporal: %w without a store: set Options.Blobs (temporal.external_storage in the file)", durable.ErrUnsupported)
	}
	return h.blobs.Put(digest, stored)
}

// GetBlob reads it.
func (h *shared) GetBlob(digest string) ([]byte, error) {
	if h.blobs == nil {
		return nil, fmt.Errorf("blob %s: %w in this run, and there is no store beyond it: set Options.Blobs (temporal.external_storage in the file)", digest, durable.ErrNotFound)
	}
	return h.blobs.Get(digest)
}
