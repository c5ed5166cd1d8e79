// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy

import (
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/test/netspace"
)

// namespaceOf identifies the namespace that a socket is of.
func namespaceOf(t *testing.T, fd int) uint64 {
	t.Helper()
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		t.Fatal(err)
	}
	return cookie
}

// Sockets are made for connections to come only for who connects often, are of the right namespace and marked, go to one taker each, and end with the namespace.
func TestStock(t *testing.T) {
	pod, err := netspace.New()
	if err != nil {
		t.Fatal(err)
	}
	n, err := NewNamespace(pod)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSockets()
	if err != nil {
		t.Fatal(err)
	}
	defer s.own.Close()
	fd, err := s.socket(n, unix.AF_INET, unix.SOCK_STREAM)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	inside := namespaceOf(t, fd)
	take := func() int {
		t.Helper()
		fd, err := s.stocked(n, unix.AF_INET6)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	k := &n.stock6

	// Once now and then: nothing is left over.
	for range 3 {
		unix.Close(take())
		if len(k.fds) != 0 {
			t.Fatalf("%d sockets lie about", len(k.fds))
		}
		k.made = k.made.Add(-stockLasts)
	}
	// Often: each batch is twice the last one, up to the largest.
	k.made = time.Now().Add(time.Hour) // a slow machine is not to look like somebody who connects seldom
	for _, left := range []int{1, 0, 3, 2, 1, 0, 7, 6, 5, 4, 3, 2, 1, 0, 7} {
		unix.Close(take())
		if len(k.fds) != left {
			t.Fatalf("%d sockets in stock, not %d", len(k.fds), left)
		}
		k.made = time.Now().Add(time.Hour)
	}
	// Many at once: each has its own.
	var mu sync.Mutex
	taken := map[int]bool{}
	var together sync.WaitGroup
	for range 50 {
		together.Go(func() {
			fd, err := s.stocked(n, unix.AF_INET6)
			mu.Lock()
			defer mu.Unlock()
			if err != nil || taken[fd] {
				t.Errorf("socket %d, for the second time or with %v", fd, err)
			}
			taken[fd] = true
		})
	}
	together.Wait()
	for fd := range taken {
		mark, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK)
		if err != nil || mark != packetMark || namespaceOf(t, fd) != inside {
			t.Errorf("mark %#x, in namespace %d of %d; %v", mark, namespaceOf(t, fd), inside, err)
		}
		unix.Close(fd)
	}

	stocked := append([]int{take()}, k.fds...)
	unix.Close(stocked[0])
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	for _, fd := range stocked {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); !errors.Is(err, unix.EBADF) {
			t.Errorf("socket %d outlived its namespace: %v", fd, err)
		}
	}
	if fd, err := s.stocked(n, unix.AF_INET6); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a socket of a closed namespace: %d, %v", fd, err)
	}
}
