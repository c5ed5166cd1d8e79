// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// acceptMarks is the kernel's setting by which what a listener without a mark of its own accepts has the mark of the packet that asked for it. It is a namespace's own.
const acceptMarks = "net/ipv4/tcp_fwmark_accept" // IPv6's, too

// Every number but 0 turns the setting on. Ours tells that it was we: a pod that had it on before keeps it.
const (
	acceptOff  = "0"
	acceptOurs = "111"
)

// AcceptMarks has the application's ends of the connections that the proxy opens to it carry MarkReply, given to them by rule m3. So the kernel finds the way of its answers when the connection
// begins, which is lo, and with it how much a packet may hold; without, it takes the way to the caller, with packets of that device's MTU, and looks for the right one at each answer, by rule m2.
// The traffic goes where it should either way, only with less work: where the kernel has no such setting, or does not let us, that is an error that one can live with. Release and
// Remove turn the setting off if it was turned on here.
func AcceptMarks(pod *os.File) error { return switchAccept(pod, acceptOff, acceptOurs) }

// forgetMarks is the contrary.
func forgetMarks(pod *os.File) error {
	if err := switchAccept(pod, acceptOurs, acceptOff); !errors.Is(err, fs.ErrNotExist) { // a kernel without it has nothing to forget
		return err
	}
	return nil
}

func switchAccept(pod *os.File, from, to string) error {
	err := Inside(pod, func() error {
		// The kernel resolves the path by the network namespace of the thread that opens it.
		now, err := os.ReadFile("/proc/sys/" + acceptMarks)
		if err != nil || strings.TrimSpace(string(now)) != from {
			return err
		}
		return setParameter(acceptMarks, to)
	})
	if err != nil {
		return fmt.Errorf("set %s: %w", strings.ReplaceAll(acceptMarks, "/", "."), err)
	}
	return nil
}

// setParameter sets a parameter of the thread's namespace.
func setParameter(name, value string) error {
	err := os.WriteFile("/proc/sys/"+name, []byte(value), 0)
	if errors.Is(err, unix.EROFS) { // as containers have it
		err = writeParameter(name, value)
	}
	return err
}

// writeParameter sets a parameter of the kernel by a mount of /proc that nobody else sees, and that ends with it. What may be written there is the same as ever: container runtimes make
// their /proc/sys read-only so that those may not who have the right by accident.
func writeParameter(name, value string) error {
	kind, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(kind)
	if err := unix.FsconfigCreate(kind); err != nil {
		return os.NewSyscallError("fsconfig", err)
	}
	mount, err := unix.Fsmount(kind, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return os.NewSyscallError("fsmount", err)
	}
	defer unix.Close(mount)
	fd, err := unix.Openat(mount, "sys/"+name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("openat", err)
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
