// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Watch is told by the kernel of changes in one network namespace. It holds two sockets and, while nothing changes, costs no time.
type Watch struct {
	sockets []*os.File
	running sync.WaitGroup
}

// groups are what is listened to: changes of nftables, and of routes and rules of both families. The numbers are those of
// linux/netfilter/nfnetlink.h (NFNLGRP_NFTABLES) and linux/rtnetlink.h; bit n-1 stands for group n.
var groups = []struct {
	protocol int
	mask     uint32
}{
	{unix.NETLINK_NETFILTER, 1 << (unix.NFNLGRP_NFTABLES - 1)},
	{unix.NETLINK_ROUTE, 1<<(unix.RTNLGRP_IPV4_ROUTE-1) | 1<<(unix.RTNLGRP_IPV4_RULE-1) | 1<<(unix.RTNLGRP_IPV6_ROUTE-1) | 1<<(unix.RTNLGRP_IPV6_RULE-1)},
}

// NewWatch calls changed after each change of rules or routes in the namespace, ours included, from a goroutine of its own; it should
// return soon. Several changes may be one call. What was changed, and by whom, is not said: Damage tells whether it matters.
func NewWatch(netns *os.File, changed func()) (*Watch, error) {
	w := &Watch{}
	if err := Inside(netns, func() error {
		for _, g := range groups {
			fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, g.protocol)
			if err != nil {
				return os.NewSyscallError("socket", err)
			}
			w.sockets = append(w.sockets, os.NewFile(uintptr(fd), "netlink"))
			if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: g.mask}); err != nil {
				return os.NewSyscallError("bind", err)
			}
		}
		return nil
	}); err != nil {
		w.Close()
		return nil, fmt.Errorf("watch a network namespace: %w", err)
	}
	for _, s := range w.sockets {
		w.running.Go(func() { read(s, changed) })
	}
	return w, nil
}

func read(socket *os.File, changed func()) {
	// Messages are only counted, so what does not fit may be cut off.
	buf := make([]byte, 64)
	for {
		_, err := socket.Read(buf)
		switch {
		case err == nil, errors.Is(err, unix.ENOBUFS): // some were lost, which is a change as well
			changed()
		default:
			return // closed
		}
	}
}

// Close ends the watch and waits for the last call.
func (w *Watch) Close() {
	for _, s := range w.sockets {
		s.Close()
	}
	w.running.Wait()
}
