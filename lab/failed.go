// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	// failedLogTail is how much of the end of each log of a failed start is kept, in bytes.
	failedLogTail = 256 << 10
	// failedLogs is how many logs are kept: 4 clusters of 4 nodes have less.
	failedLogs = 200
)

// failed is where the logs of the last start that failed are. Down leaves it alone.
func (p places) failed() string { return filepath.Join(p.cache, "lab-failed", p.name) }

// keepLogs copies the ends of the lab's logs out of the state directory, which is about to be removed, in place of those of an earlier
// failure. What cannot be copied is left out and told.
func (p places) keepLogs() error {
	if err := os.RemoveAll(p.failed()); err != nil {
		return err
	}
	var errs []error
	kept := 0
	errs = append(errs, filepath.WalkDir(p.state(), func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the lab's processes still run
		}
		// Regular files only: a node's own links point into the node, not into this machine.
		if err != nil || !entry.Type().IsRegular() || filepath.Ext(path) != ".log" {
			return err
		}
		if kept++; kept > failedLogs {
			return fs.SkipAll
		}
		relative, err := filepath.Rel(p.state(), path)
		if err != nil {
			return err
		}
		errs = append(errs, copyTail(filepath.Join(p.failed(), relative), path))
		return nil
	}))
	return errors.Join(errs...)
}

// copyTail copies the last failedLogTail bytes of a file.
func copyTail(to, from string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	size, err := source.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	tail := io.NewSectionReader(source, max(0, size-failedLogTail), failedLogTail)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	target, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, tail)
	if err := errors.Join(err, target.Close()); err != nil {
		return fmt.Errorf("keep %s: %w", from, err)
	}
	return nil
}
