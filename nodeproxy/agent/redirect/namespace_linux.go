// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Inside runs f on a thread that is in the network namespace netns. f must not start goroutines that need the namespace. If the
// thread cannot be brought back, it is given up with its goroutine, so that no other code ever runs in the wrong namespace.
func Inside(netns *os.File, f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		own, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			result <- fmt.Errorf("open the own network namespace: %w", err)
			return
		}
		defer own.Close()
		if err := unix.Setns(int(netns.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			result <- fmt.Errorf("enter network namespace %s: %w", netns.Name(), err)
			return
		}
		err = f()
		if unix.Setns(int(own.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		result <- err
	}()
	return <-result
}

// loopbackIPv6 is the parameter by which lo has no IPv6.
const loopbackIPv6 = "net/ipv6/conf/lo/disable_ipv6"

// PrepareIPv6 says whether a namespace has IPv6, which is what the twins of the rules are for. Where other devices have it and lo has not, it is switched on there: what is captured is led over lo,
// and without the twins all of IPv6 would pass by the proxy.
func PrepareIPv6(netns *os.File) (bool, error) {
	var has bool
	err := Inside(netns, func() error {
		// The kernel resolves this path by the network namespace of the thread that opens it.
		b, err := os.ReadFile("/proc/sys/" + loopbackIPv6)
		if os.IsNotExist(err) {
			return nil // a kernel without IPv6
		}
		if has = strings.TrimSpace(string(b)) == "0"; has || err != nil {
			return err
		}
		found, err := interfaceAddresses()
		if has = slices.ContainsFunc(found, func(a netip.Addr) bool { return a.Is6() && !a.IsLoopback() }); has {
			err = setParameter(loopbackIPv6, "0")
		}
		return err
	})
	return has, err
}

// Holds says whether one of the addresses is assigned to a device in the namespace.
func Holds(netns *os.File, want []netip.Addr) (bool, error) {
	all, err := addresses(netns)
	return slices.ContainsFunc(all, func(a netip.Addr) bool {
		return slices.ContainsFunc(want, func(w netip.Addr) bool { return w.Unmap() == a })
	}), err
}

// Addresses gives those in the namespace by which others may reach it.
func Addresses(netns *os.File) ([]netip.Addr, error) {
	all, err := addresses(netns)
	return slices.DeleteFunc(all, func(a netip.Addr) bool { return !a.IsGlobalUnicast() }), err
}

func addresses(netns *os.File) (all []netip.Addr, err error) {
	err = Inside(netns, func() (err error) {
		all, err = interfaceAddresses()
		return err
	})
	return all, err
}

// interfaceAddresses are those of the thread's namespace.
func interfaceAddresses() (all []netip.Addr, err error) {
	found, err := net.InterfaceAddrs()
	for _, a := range found {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			all = append(all, p.Addr().Unmap())
		}
	}
	return all, err
}

// Same says whether two files are of the same namespace.
func Same(a, b *os.File) (bool, error) {
	x, err := a.Stat()
	if err != nil {
		return false, err
	}
	y, err := b.Stat()
	if err != nil {
		return false, err
	}
	return os.SameFile(x, y), nil
}
