// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package hbone

import "net"

// rawWriterOf knows no way here to write to a socket without waiting.
func rawWriterOf(net.Conn) tryWriter { return nil }
