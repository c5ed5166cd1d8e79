// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/isthmus-mesh/isthmus/internal/directory"
)

// slowly gathers nothing until it is let, and tells of each who waits for it.
type slowly struct{ begun, let chan struct{} }

func (s slowly) Gather() ([]*dto.MetricFamily, error) {
	s.begun <- struct{}{}
	<-s.let
	return nil, nil
}

// TestOnlookersAreBounded: everybody who reaches the node's proxy can ask it for readiness and metrics, and costs it a bounded number of connections and of answers.
func TestOnlookersAreBounded(t *testing.T) {
	const asking = 400 // at once
	addrs := map[string]string{}
	for _, name := range []string{"ready", "metrics"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addrs[name] = l.Addr().String()
		l.Close()
	}
	x := &Proxy{o: Options{View: directory.NewLive()}}
	x.pods = newPods(x)
	x.pods.connected, x.pods.complete = true, true
	metrics := slowly{make(chan struct{}, asking), make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- x.ServeAdmin(ctx, AdminOptions{Ready: addrs["ready"], Metrics: addrs["metrics"], Gatherer: metrics})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	dial := func(to string) net.Conn {
		t.Helper()
		var nc net.Conn
		var err error
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
			if nc, err = net.Dial("tcp", to); err == nil {
				t.Cleanup(func() { nc.Close() })
				nc.SetDeadline(time.Now().Add(10 * time.Second))
				return nc
			}
		}
		t.Fatal(err)
		return nil
	}

	// Each asks once, and keeps its connection.
	var kept []net.Conn
	for range asking {
		nc := dial(addrs["ready"])
		io.WriteString(nc, "GET /healthz/ready HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := nc.Read(make([]byte, 4096)); err != nil {
			t.Fatal(err)
		}
		kept = append(kept, nc)
	}
	open := 0
	for _, nc := range kept {
		io.WriteString(nc, "GET /healthz/ready HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := nc.Read(make([]byte, 4096)); err == nil {
			open++
		}
	}
	if open == 0 || open >= asking {
		t.Errorf("%d of %d connections are open", open, asking)
	}

	// Of those who ask for metrics at once, most are told to come again.
	var running sync.WaitGroup
	answers := make(chan int, 2*maxScrapes)
	for range 2 * maxScrapes {
		running.Go(func() {
			if answer, err := http.Get("http://" + addrs["metrics"] + "/metrics"); err == nil {
				answer.Body.Close()
				answers <- answer.StatusCode
			}
		})
	}
	for range maxScrapes {
		select {
		case status := <-answers:
			if status != http.StatusServiceUnavailable {
				t.Errorf("answered %d", status)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("nobody is told to come again")
		}
	}
	close(metrics.let)
	running.Wait()
	if n := len(metrics.begun); n != maxScrapes {
		t.Errorf("%d answers of metrics were made at once, want %d", n, maxScrapes)
	}
}
