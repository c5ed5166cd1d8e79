// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"time"
)

// elderLook is how often an elder looks whether the next proxy would find it.
const elderLook = time.Second

// stayFound has the next proxy find this elder until it resigns. Who empties the directory would otherwise have the next one take itself for the first: it would take connections before it is
// ready, in sockets of its own.
func (s *succession) stayFound(lend func(*net.UnixConn)) {
	for {
		pause := successionLook
		if s.found(lend) {
			pause = elderLook
		}
		select {
		case <-time.After(pause):
		case <-s.over:
			return
		}
	}
}

// found makes anew what the next proxy needs to find this elder and to ask it. False is that this failed, and is to be tried again soon.
func (s *succession) found(lend func(*net.UnixConn)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock == nil {
		return true // it is for another one to be found
	}
	if !isAt(s.lock, s.lockPath()) {
		lock, mine, err := s.seize()
		if err != nil {
			return true
		}
		if !mine { // another one was faster, and is asked from now on
			shut(lock)
			return true
		}
		s.log.Info("the directory by which proxies of this node follow each other was emptied, and has what it needs again")
		shut(s.lock)
		s.lock = lock
	}
	if s.listener != nil {
		if _, err := os.Lstat(s.socketPath()); !errors.Is(err, fs.ErrNotExist) {
			return true
		}
		shut(s.listener)
		s.listener = nil
	}
	return s.listen(lend) == nil
}
