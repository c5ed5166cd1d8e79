// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxStock is how many sockets are made in one go at most. What of a new connection's time goes into sending a thread to a namespace and back is an eighth then; more
	// would save little, and lie about in each pod that once had many connections.
	maxStock = 8
	// stockLasts is within what time a batch is used up if the next one is to be twice as large: who connects less often than that has no sockets in stock.
	stockLasts = time.Second
)

// stock are TCP sockets of a namespace and a family that were made before they are needed, marked and not yet bound to anything.
type stock struct {
	mu     sync.Mutex // held while a batch is made: who comes meanwhile has its share of it
	fds    []int
	batch  int       // how many the last batch had
	made   time.Time // when
	closed bool
}

// take gives a socket, for which it has a batch made if there is none.
func (k *stock) take(s *sockets, n *Namespace, domain int) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return -1, os.ErrClosed
	}
	if len(k.fds) == 0 {
		now, want := time.Now(), 1
		if now.Sub(k.made) < stockLasts {
			want = min(2*k.batch, maxStock)
		}
		fds, err := s.batch(n, domain, unix.SOCK_STREAM, want)
		if err != nil {
			return -1, err
		}
		k.fds, k.batch, k.made = fds, want, now
	}
	last := len(k.fds) - 1
	fd := k.fds[last]
	k.fds = k.fds[:last]
	return fd, nil
}

// close closes what is in stock, and has nothing made any more.
func (k *stock) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	discardAll(k.fds)
	k.fds = nil
}

// batch makes marked, non-blocking sockets: as many as asked for or, if the system gives no more, at least one.
func (s *sockets) batch(n *Namespace, domain, kind, want int) ([]int, error) {
	var fds []int
	err := s.within(n, func() error {
		for range want {
			fd, err := unix.Socket(domain, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return os.NewSyscallError("socket", err)
			}
			fds = append(fds, fd)
		}
		return nil
	})
	if len(fds) == 0 {
		return nil, err
	}
	for _, fd := range fds {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, packetMark); err != nil {
			discardAll(fds)
			return nil, os.NewSyscallError("setsockopt SO_MARK", err)
		}
	}
	return fds, nil
}

func discardAll(fds []int) {
	for _, fd := range fds {
		discard(fd)
	}
}
