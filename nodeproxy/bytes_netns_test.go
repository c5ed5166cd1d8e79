// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy_test

import "testing"

// TestBytesOfOpenConnections: what a connection carries is counted while it is open, and not again when it ends.
func TestBytesOfOpenConnections(t *testing.T) {
	w := newWorld(t)
	const size = 1 << 20
	nc, err := w.client.dial("10.77.0.3:8080")
	must(t, err)
	defer nc.Close()
	_, err = nc.Write(make([]byte, size))
	must(t, err)
	counted := func() (received, closed float64) {
		all, err := w.east.metrics.Gather()
		must(t, err)
		for _, f := range all {
			for _, m := range f.GetMetric() {
				switch f.GetName() {
				case "istio_tcp_received_bytes_total":
					received += m.GetCounter().GetValue()
				case "istio_tcp_connections_closed_total":
					closed += m.GetCounter().GetValue()
				}
			}
		}
		return received, closed
	}
	wait(t, "the bytes of both ends of an open connection", func() bool {
		received, closed := counted()
		if closed > 0 {
			t.Fatal("the connection has ended")
		}
		return received == 2*size
	})
	nc.Close()
	wait(t, "the end of both", func() bool { _, closed := counted(); return closed == 2 })
	if received, _ := counted(); received != 2*size {
		t.Errorf("%v bytes were received in all, want %v", received, 2*size)
	}
}
