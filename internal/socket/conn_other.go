// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package socket

import (
	"net"
	"time"
)

// Conn is a TCP connection; there is none here, see Of.
type Conn struct{ *net.TCPConn }

// TryWrite is never called here.
func (*Conn) TryWrite([]byte) (int, error) { return 0, net.ErrClosed }

// RoundTrip is never called here.
func (*Conn) RoundTrip() time.Duration { return 0 }

// Of gives nil: here all system calls are made in the runtime's way.
func Of(net.Conn) *Conn { return nil }
