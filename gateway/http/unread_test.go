// SPDX-License-Identifier: Apache-2.0

package http

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// A client that asks and asks and takes no answer is left, also if each answer is so small that the library sends it after the request is over.
func TestAnswersNobodyTakes(t *testing.T) {
	s := newScene(t, Limits{StallTime: 100 * time.Millisecond}, listener("web", ""))
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	requests := strings.Repeat("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1000)
	for err == nil {
		_, err = io.WriteString(conn, requests)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection was kept for %v", patience)
	}
}

// The time for an answer is not that of the next one.
func TestPauseBetweenRequests(t *testing.T) {
	s := newScene(t, Limits{StallTime: 50 * time.Millisecond}, listener("web", ""))
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	for range 2 {
		io.WriteString(conn, "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
		var got strings.Builder
		for one := make([]byte, 1); !strings.HasSuffix(got.String(), "\r\n\r\n"); {
			if _, err := conn.Read(one); err != nil {
				t.Fatalf("after %q: %v", got.String(), err)
			}
			got.Write(one)
		}
		time.Sleep(100 * time.Millisecond) // twice the time for one answer
	}
}
