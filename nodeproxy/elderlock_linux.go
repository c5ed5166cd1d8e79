// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// This file is the lock that makes a proxy the elder. It is the open file's, not its path's: who empties the directory takes the path away, and nobody's lock.

// inherit is seize for who may have waited for another one, who is waited for until it is over: the lock that it has need not be the one that is found, once somebody has emptied the directory.
func (s *succession) inherit() (lock *os.File, mine bool, err error) {
	if lock = s.awaited; lock != nil {
		if mine, err = takeLock(lock); !mine {
			return lock, false, err
		}
		s.awaited = nil
		if isAt(lock, s.lockPath()) {
			return lock, true, nil
		}
		shut(lock)
	}
	return s.seize()
}

// seize opens the lock, and takes it unless another one has it.
func (s *succession) seize() (lock *os.File, mine bool, err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, false, err
	}
	if lock, err = os.OpenFile(s.lockPath(), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, false, err
	}
	if mine, err = takeLock(lock); err != nil {
		shut(lock)
		return nil, false, err
	}
	return lock, mine, nil
}

// takeLock takes a lock unless another one has it.
func takeLock(lock *os.File) (mine bool, _ error) {
	// It is the open file's, not the process's: two in one process count as two.
	err := unix.FcntlFlock(lock.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	return err == nil, os.NewSyscallError("fcntl", err)
}

// isAt says whether a path leads to an open file.
func isAt(file *os.File, path string) bool {
	open, err := file.Stat()
	there, thereErr := os.Stat(path)
	return err == nil && thereErr == nil && os.SameFile(open, there)
}
