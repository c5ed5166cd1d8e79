// SPDX-License-Identifier: Apache-2.0

package http

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// A client that asks and asks and takes no answer is left, also if each answer is so small that the library sends it after the request is over.
func TestAnswersNobodyTakes(t *testing.T) {
	s := newScene(t, Limits{StallTime: 100 * time.Millisecond}, listener("web", ""))
	conn, _ := s.dial()
	conn.SetDeadline(time.Now().Add(patience))
	requests := strings.Repeat("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1000)
	var err error
	for err == nil {
		_, err = io.WriteString(conn, requests)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection was kept for %v", patience)
	}
}

// The time for an answer is not that of the next one.
func TestPauseBetweenRequests(t *testing.T) { inMemory(t, testPauseBetweenRequests) }

func testPauseBetweenRequests(t *testing.T, in network) {
	const stall = 50 * time.Millisecond
	s := newSceneIn(t, in, Limits{StallTime: stall}, listener("web", ""))
	conn, from := s.dial()
	for range 2 {
		s.asks(conn, from, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		time.Sleep(2 * stall)
	}
}
