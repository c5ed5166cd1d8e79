// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy_test

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/nodeproxy"
)

// TestPolicyCountsDuringTheDrain turns policy against a connection that the proxy only still carries because it drains.
func TestPolicyCountsDuringTheDrain(t *testing.T) {
	w := newWorld(t)
	nc, err := w.plain.dial("10.77.0.3:8080")
	must(t, err)
	defer nc.Close()
	_, err = nc.Write([]byte("x"))
	must(t, err)
	if _, err := w.plain.call("10.77.0.3:8080", "x"); err != nil {
		t.Fatal(err)
	}
	drained := make(chan struct{})
	go func() { defer close(drained); w.stopEast() }()
	wait(t, "drain", func() bool { return strings.Contains(w.east.log.String(), `"draining"`) })
	w.east.view.Apply(mesh.Delta{Policies: map[string]*mesh.Policy{"demo/strict": {
		Namespace: "demo", Name: "strict", Scope: mesh.PolicyNamespace, Action: mesh.Deny,
		Rules: []mesh.PolicyRule{{Clauses: []mesh.PolicyClause{{Matches: []mesh.PolicyMatch{{NotPrincipals: []mesh.StringMatch{{Kind: mesh.MatchPresence}}}}}}}},
	}}})
	must(t, nc.SetReadDeadline(time.Now().Add(5*time.Second)))
	if n, err := nc.Read(make([]byte, 1)); n != 0 || err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("read %d, %v; want its end", n, err)
	}
	<-drained
	w.east.log.find(t, `"reason":"POLICY_CHANGED"`, `"direction":"inbound"`)
}

// TestConnectionThatIsBeingMadeIsFinished has the proxy told to end while the way to the other cluster is cut: who had begun to connect by then is connected as soon as
// there is a way, although nobody is listening any more.
func TestConnectionThatIsBeingMadeIsFinished(t *testing.T) {
	w := newWorld(t)
	w.east.node.run("nft", "add table ip cut; add chain ip cut on { type filter hook forward priority 0 ; }; add rule ip cut on tcp dport 15008 drop")
	nc, err := w.client.dial("240.240.0.5:80")
	must(t, err)
	defer nc.Close()
	_, err = nc.Write([]byte("hello"))
	must(t, err)
	must(t, nc.CloseWrite())
	drained := make(chan struct{})
	go func() { defer close(drained); w.stopEast() }()
	wait(t, "listeners closed", func() bool {
		nc, err := w.client.dial("240.240.0.5:80")
		if err == nil {
			nc.Close()
		}
		return err != nil
	})
	w.east.node.run("nft", "delete table ip cut")
	answer, err := io.ReadAll(nc)
	if want := "west-server " + gatewayPod + " hello"; err != nil || string(answer) != want {
		t.Errorf("got %q, %v; want %q", answer, err, want)
	}
	<-drained
}

// TestAgentThatIsNotUnderstood says what no agent should: the proxy stays, is not ready, and tries again.
func TestAgentThatIsNotUnderstood(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "zds.sock")
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: socket, Net: "unixpacket"})
	must(t, err)
	var times atomic.Int32
	go func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			times.Add(1)
			c.Read(make([]byte, 1024)) // hello
			c.Write([]byte{0x7a, 0})   // an alternative that does not exist
			c.Read(make([]byte, 1024)) // until the proxy turns away
			c.Close()
		}
	}()
	defer l.Close()
	x, err := nodeproxy.New(nodeproxy.Options{Log: logr.Discard(), AccessLog: logr.Discard(), View: directory.NewLive(), Socket: socket})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); x.Run(ctx) }()
	wait(t, "another attempt", func() bool { return times.Load() >= 2 })
	select {
	case <-done:
		t.Fatal("the proxy ended")
	default:
	}
	if len(x.Waits()) == 0 {
		t.Error("the proxy says that it is ready")
	}
	cancel()
	<-done
}
