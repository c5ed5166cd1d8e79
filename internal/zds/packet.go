// SPDX-License-Identifier: Apache-2.0

package zds

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// network is what the net package calls AF_UNIX with SOCK_SEQPACKET.
const network = "unixpacket"

// maxDescriptors is how many descriptors one packet may bring before the kernel truncates them. One is legal; room for a few more
// lets us see and close the surplus instead of losing count.
const maxDescriptors = 8

// ProtocolError says that the other side broke the protocol. The connection it came from is of no more use.
type ProtocolError struct{ Reason string }

func (e *ProtocolError) Error() string { return "zds protocol error: " + e.Reason }

func protocolErrorf(format string, a ...any) error {
	return &ProtocolError{Reason: fmt.Sprintf(format, a...)}
}

// readPacket reads one packet into buf, which must hold MaxPacket bytes, and gives its bytes and the descriptors that came along,
// close-on-exec and owned by the caller. A closed peer is io.EOF; a packet that is too long is a *ProtocolError.
func readPacket(c *net.UnixConn, buf []byte) (packet []byte, files []*os.File, err error) {
	oob := make([]byte, unix.CmsgSpace(4*maxDescriptors))
	n, oobn, flags, _, err := c.ReadMsgUnix(buf[:MaxPacket], oob)
	// Whatever came is opened first, so that nothing leaks on any of the paths below.
	files, fileErr := openDescriptors(oob[:oobn])
	switch {
	case err != nil:
	case fileErr != nil:
		err = fileErr
	case flags&unix.MSG_TRUNC != 0:
		err = protocolErrorf("packet of more than %d bytes", MaxPacket)
	case flags&unix.MSG_CTRUNC != 0:
		err = protocolErrorf("packet with more than %d descriptors", maxDescriptors)
	case n == 0:
		err = io.EOF
	}
	if err != nil {
		closeAll(files)
		return nil, nil, err
	}
	return buf[:n], files, nil
}

func openDescriptors(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	controls, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, protocolErrorf("control message: %v", err)
	}
	var files []*os.File
	for i := range controls {
		if controls[i].Header.Level != unix.SOL_SOCKET || controls[i].Header.Type != unix.SCM_RIGHTS {
			continue
		}
		fds, err := unix.ParseUnixRights(&controls[i])
		if err != nil {
			return files, protocolErrorf("descriptors: %v", err)
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "netns"))
		}
	}
	return files, nil
}

// writePacket writes one packet, with at most one descriptor, which stays the caller's.
func writePacket(c *net.UnixConn, packet []byte, file *os.File) error {
	if len(packet) > MaxPacket {
		return fmt.Errorf("message of %d bytes is longer than %d", len(packet), MaxPacket)
	}
	if file == nil {
		_, _, err := c.WriteMsgUnix(packet, nil, nil)
		return err
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var writeErr error
	if err := raw.Control(func(fd uintptr) {
		_, _, writeErr = c.WriteMsgUnix(packet, unix.UnixRights(int(fd)), nil)
	}); err != nil {
		return err
	}
	return writeErr
}

// duplicate gives another descriptor for the same open file, close-on-exec.
func duplicate(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var dupErr error
	if err := raw.Control(func(old uintptr) {
		fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
	}); err != nil {
		return nil, err
	}
	if dupErr != nil {
		return nil, os.NewSyscallError("fcntl", dupErr)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// gone says whether an error means that the peer is no longer there, as opposed to being slow or wrong.
func gone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}
