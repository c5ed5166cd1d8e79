// SPDX-License-Identifier: Apache-2.0

//go:build linux

package line

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Kind is what a device carries.
type Kind uint16

const (
	// TUN devices carry IP packets.
	TUN Kind = unix.IFF_TUN
	// TAP devices carry Ethernet frames.
	TAP Kind = unix.IFF_TAP
)

// Open makes a device in the calling thread's network namespace, which is down still. Each Read and Write of the file is of one packet. The device goes when the file is
// closed, which ends a Read that waits.
func Open(name string, kind Kind) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(uint16(kind) | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make device %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
