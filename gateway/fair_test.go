// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
)

// TestOneStreamHoldsUpNoOther: of two streams of one connection, one takes all that it can get, or stops reading altogether, and the other one
// is answered all the same.
func TestOneStreamHoldsUpNoOther(t *testing.T) {
	const echoes = 50
	for _, reads := range []bool{true, false} {
		var flooded atomic.Int64 // by the endpoint
		s := newScene(t, nil)
		s.configure(nil)
		s.add(s.tcp(1, func(nc *net.TCPConn) { // floods who says so, and echoes others
			line, err := bufio.NewReader(io.LimitReader(nc, 6)).ReadString('\n')
			if err == nil && line == "flood\n" {
				block := make([]byte, 64<<10)
				for err == nil {
					var n int
					n, err = nc.Write(block)
					flooded.Add(int64(n))
				}
				return
			}
			_, _ = io.Copy(nc, io.MultiReader(strings.NewReader(line), nc))
		}))
		outer := s.outer(15008, clientID)
		open := func(say string) *hbone.Stream {
			stream := s.open(outer)
			if _, err := io.WriteString(stream, say); err != nil {
				t.Fatal(err)
			}
			return stream
		}
		greedy := open("flood\n")
		_ = greedy.SetDeadline(time.Time{}) // it is to last as long as the test
		var drained atomic.Int64
		if reads {
			go func() {
				for p := make([]byte, 64<<10); ; {
					n, err := greedy.Read(p)
					if drained.Add(int64(n)); err != nil {
						return // the test is over
					}
				}
			}()
		}
		s.until("the flood has come", func() bool { return flooded.Load() > 1<<20 && (!reads || drained.Load() > 1<<20) })
		small := open("hello\n")
		if _, err := io.ReadFull(small, make([]byte, 6)); err != nil {
			t.Fatalf("reads %v: %v", reads, err)
		}
		for i := range echoes {
			_ = small.SetDeadline(time.Now().Add(patience)) // each is promised an answer; on a busy machine, many take a while
			if err := echo(small, "x"); err != nil {
				t.Fatalf("reads %v: %d of %d echoes came: %v", reads, i, echoes, err)
			}
		}
		greedy.Close()
	}
}
