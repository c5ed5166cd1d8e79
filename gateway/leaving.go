// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// maxEarly bounds what a client may say, in bytes, before there is somebody to hear it: a ClientHello that has been read whole is followed by little.
const maxEarly = 4 << 10

// whileThere gives a context that ends when the client leaves: nobody needs to be found for it then. stop ends the watch, and gives what the client said meanwhile. A
// client that says something is watched no longer, for more than that might come before its end.
func whileThere(parent context.Context, client relay.Conn) (ctx context.Context, stop func() []byte) {
	ctx, cancel := context.WithCancel(parent)
	said := make(chan []byte, 1)
	go func() {
		b := make([]byte, maxEarly)
		n, err := client.Read(b)
		if n == 0 && err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			cancel()
		}
		said <- b[:n]
	}()
	return ctx, func() []byte {
		_ = client.SetReadDeadline(time.Unix(1, 0)) // fails only on a connection that is over, on which no read waits
		b := <-said
		_ = client.SetReadDeadline(time.Time{})
		cancel()
		return b
	}
}
