// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"errors"
	"net"
	"os"
	"syscall"
)

// rawWriter writes to a socket without waiting. Its user locks.
type rawWriter struct {
	raw   syscall.RawConn
	write func(fd uintptr) bool // once, so that no write allocates
	p     []byte
	more  bool
	n     int
	err   error
}

// rawWriterOf gives the writer of a TCP connection, or nil.
func rawWriterOf(nc net.Conn) tryWriter {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	w := &rawWriter{raw: raw}
	w.write = func(fd uintptr) bool {
		w.once(int(fd))
		return true // whatever came of it: we do not wait
	}
	return w
}

// once writes until the socket takes no more.
func (w *rawWriter) once(fd int) {
	for w.n < len(w.p) {
		n, err := w.send(fd, w.p[w.n:])
		switch {
		case err == nil:
			w.n += n
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return
		default:
			w.err = os.NewSyscallError("write", err)
			return
		}
	}
}

// send lets TCP wait for more before it makes packets of p, if there is more to come: four records travel as one, which saves the network stack of both ends
// a good part of its work.
func (w *rawWriter) send(fd int, p []byte) (int, error) {
	if w.more {
		return syscall.SendmsgN(fd, p, nil, nil, syscall.MSG_MORE)
	}
	return syscall.Write(fd, p)
}

func (w *rawWriter) tryWrite(p []byte, more bool) (int, error) {
	w.p, w.more, w.n, w.err = p, more, 0, nil
	err := w.raw.Write(w.write)
	w.p = nil
	if w.err != nil {
		err = w.err
	}
	return w.n, err
}
