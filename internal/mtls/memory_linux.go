// SPDX-License-Identifier: Apache-2.0

package mtls

import (
	"fmt"
	"syscall"
)

// Kinds of file systems that have no disk (linux/magic.h).
const (
	tmpfsMagic = 0x01021994
	ramfsMagic = 0x858458f6
)

// inMemory makes sure that what is written to a directory stays in memory.
func inMemory(dir string) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return err
	}
	if kind := uint32(fs.Type); kind != tmpfsMagic && kind != ramfsMagic {
		return fmt.Errorf("%s is not in memory (file system %#x): mount a tmpfs there", dir, kind)
	}
	return nil
}
