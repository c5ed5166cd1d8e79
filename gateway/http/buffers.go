// SPDX-License-Identifier: Apache-2.0

package http

import (
	"log"
	"strings"
	"sync"

	"github.com/go-logr/logr"
)

// bufferSize is how much of a body is copied at once, in bytes: two records of TLS.
const bufferSize = 32 << 10

// buffers lends the proxy what it copies bodies with.
type buffers struct{ pool sync.Pool }

func newBuffers() *buffers {
	return &buffers{sync.Pool{New: func() any { return new([bufferSize]byte) }}}
}

// Get implements httputil.BufferPool.
func (b *buffers) Get() []byte { return b.pool.Get().(*[bufferSize]byte)[:] }

// Put implements httputil.BufferPool.
func (b *buffers) Put(p []byte) { b.pool.Put((*[bufferSize]byte)(p)) }

// quietLog takes what the library says of clients, which is of use to nobody unless asked for.
func quietLog(to logr.Logger) *log.Logger { return log.New(quiet{to}, "", 0) }

type quiet struct{ to logr.Logger }

// Write implements io.Writer.
func (q quiet) Write(p []byte) (int, error) {
	q.to.V(1).Info("net/http", "message", strings.TrimSpace(string(p)))
	return len(p), nil
}
