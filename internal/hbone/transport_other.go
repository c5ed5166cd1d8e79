// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package hbone

import "net"

// rawWriterOf knows no way here to write to a socket without waiting.
func rawWriterOf(net.Conn) interface{ tryWrite([]byte) (int, error) } { return nil }
