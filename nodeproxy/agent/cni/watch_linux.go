// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"os"

	"golang.org/x/sys/unix"
)

// watch is told by the kernel when files in some directories are written, renamed or removed. A nil watch is never told anything.
type watch struct {
	inotify *os.File
	wake    chan struct{} // of capacity 1: several changes are one
	ended   chan struct{}
}

func newWatch() (*watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	w := &watch{inotify: os.NewFile(uintptr(fd), "inotify"), wake: make(chan struct{}, 1), ended: make(chan struct{})}
	go w.read()
	return w, nil
}

// add watches directories, if they are there; one that is watched already is fine. It is to be called again from time to time: a
// directory that is replaced is another one.
func (w *watch) add(directories ...string) {
	if w == nil {
		return
	}
	raw, err := w.inotify.SyscallConn()
	if err != nil {
		return // closed
	}
	_ = raw.Control(func(fd uintptr) {
		for _, dir := range directories {
			_, _ = unix.InotifyAddWatch(int(fd), dir, unix.IN_CLOSE_WRITE|unix.IN_MOVED_TO|unix.IN_MOVED_FROM|unix.IN_DELETE|unix.IN_CREATE|unix.IN_ATTRIB|unix.IN_ONLYDIR)
		}
	})
}

// changed gives a channel that has something after a change.
func (w *watch) changed() <-chan struct{} {
	if w == nil {
		return nil
	}
	return w.wake
}

func (w *watch) read() {
	defer close(w.ended)
	buf := make([]byte, 16<<10) // the events are not looked at
	for {
		if _, err := w.inotify.Read(buf); err != nil {
			return // closed
		}
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

func (w *watch) close() {
	w.inotify.Close()
	<-w.ended
}
