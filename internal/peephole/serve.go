// SPDX-License-Identifier: Apache-2.0

package peephole

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

const (
	// maxConnections is how many are open at once, at about 20 KiB each: a kubelet and two Prometheus need three.
	maxConnections = 256
	// asking is how long a question may take to come, and how long after it the next one may.
	asking, idle = 5 * time.Second, time.Minute
	// MaxAnswer is how long an answer may take, with the reader's time: a profile of 30 s fits.
	MaxAnswer = time.Minute
	// maxHeader bounds the header of a question, in bytes.
	maxHeader = 16 << 10
)

// Serve answers who connects to l, which it owns, until ctx ends; then it cuts answers off and gives nil. Otherwise it gives what ended it.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{
		Handler: h, ReadTimeout: asking, WriteTimeout: MaxAnswer, IdleTimeout: idle, MaxHeaderBytes: maxHeader,
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // nobody waits for an answer of a process that ends
	defer stop()
	err := server.Serve(&crowd{Listener: l, most: maxConnections})
	if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
