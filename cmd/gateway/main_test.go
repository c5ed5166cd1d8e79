// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

const (
	hostname = "cart.shop.svc.cluster.local"
	patience = 20 * time.Second // for things that take milliseconds
)

// TestGatewayProcess runs everything of the command but its signal handling: discovery and a certificate from a real control plane,
// a stream from a client of another network to an endpoint, and a drain.
func TestGatewayProcess(t *testing.T) {
	p := startPlane(t)
	identity := mesh.Identity{TrustDomain: "cluster.local", Namespace: "edge", ServiceAccount: "west"}
	client := mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "till"}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(identity.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// The endpoint is a workload on a loopback address of its own, whose HBONE port is the real one.
	pod := netip.MustParseAddr("127.15.8.7")
	echoAt(t, pod)

	bind, readiness, metrics, admin := freePort(t), freePort(t), freePort(t), freePort(t)
	o, err := parse([]string{
		"--gateway=edge/west", "--cluster-id=west-1", "--network=west", "--controller=" + p.address, "--root-cert=" + p.root, "--token=" + token,
		"--settle=0s", "--drain=10s", fmt.Sprintf("--readiness-address=127.0.0.1:%d", readiness),
		fmt.Sprintf("--metrics-address=127.0.0.1:%d", metrics), fmt.Sprintf("--admin-address=127.0.0.1:%d", admin),
	}, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, o, memory{}, logr.Discard()) }()

	get := func(port uint16, path string) (int, string) {
		response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", port, path))
		if err != nil {
			return 0, err.Error()
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return response.StatusCode, string(body)
	}
	until := func(what string, f func() bool) {
		t.Helper()
		for deadline := time.Now().Add(patience); !f(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				_, body := get(readiness, "/healthz/ready")
				t.Fatalf("waited in vain until %s; readiness says %s", what, body)
			}
		}
	}
	until("it says that it is not ready", func() bool {
		code, body := get(readiness, "/healthz/ready")
		return code == 500 && strings.Contains(body, "configuration")
	})

	// told gives the configuration with a policy that lets in nobody to the service but one service account of its namespace.
	told := func(account string) map[mesh.GatewayKey]*mesh.Gateway { return exporting(bind, account) }
	p.server.Update(inTheShop(pod, told("till")))
	p.server.SetReady()
	until("it is ready", func() bool { code, _ := get(readiness, "/healthz/ready"); return code == 200 })

	nc, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", bind))
	if err != nil {
		t.Fatal(err)
	}
	secure := tls.Client(nc, p.source(t).Client(client, []mesh.Identity{identity}))
	conn, err := hbone.NewClient(secure, hbone.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	open, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, header, err := conn.Open(open, hostname+":80", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if header.Get("x-isthmus-endpoints") != "1" {
		t.Errorf("header %v", header)
	}
	word := func() error {
		_ = stream.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(stream, "hello"); err != nil {
			return err
		}
		_, err := io.ReadFull(stream, make([]byte, 5))
		return err
	}
	if err := word(); err != nil {
		t.Error(err)
	}
	for _, at := range []struct {
		port uint16
		path string
		want string
	}{
		{metrics, "/metrics", "isthmus_gateway_streams_opened_total 1"},
		{metrics, "/stats/prometheus", "go_goroutines"},
		{admin, "/config_dump", `"Name": "west"`},
		{admin, "/debug/pprof/", "goroutine"},
		{readiness, "/healthz/live", "live"},
	} {
		if code, body := get(at.port, at.path); code != 200 || !strings.Contains(body, at.want) {
			t.Errorf("%s: %d, %.200s", at.path, code, body)
		}
	}

	// A policy changes: who it turns against is cut, and gets 401 from then on. Then it changes back.
	p.server.Update(mesh.Delta{Gateways: told("clerk")})
	_ = stream.SetDeadline(time.Now().Add(patience))
	if _, err := stream.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a stream that is not allowed any more goes on: %v", err)
	}
	_, _, err = conn.Open(open, hostname+":80", nil)
	if refused, ok := errors.AsType[*hbone.RefusedError](err); !ok || refused.Status != http.StatusUnauthorized || refused.Header.Get("x-isthmus-reason") != "denied_by_policy" {
		t.Errorf("a new one: %v", err)
	}
	for _, want := range []string{`isthmus_gateway_streams_closed_total{reason="policy_changed"} 1`, `isthmus_gateway_streams_refused_total{reason="denied_by_policy"} 1`} {
		until(want, func() bool { _, body := get(metrics, "/metrics"); return strings.Contains(body, want) })
	}
	if _, body := get(admin, "/config_dump"); !strings.Contains(body, `"clerk"`) {
		t.Errorf("the dump does not show the policy: %s", body)
	}
	p.server.Update(mesh.Delta{Gateways: told("till")})
	until("the policy allows it again", func() bool {
		stream, _, err = conn.Open(open, hostname+":80", nil)
		return err == nil
	})
	defer stream.Close()

	stop() // what SIGTERM does
	until("readiness says no", func() bool { code, _ := get(readiness, "/healthz/ready"); return code == 500 })
	if err := word(); err != nil {
		t.Errorf("during the drain: %v", err)
	}
	stream.Close()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
}

func TestParse(t *testing.T) {
	env := map[string]string{"GATEWAY": "edge/west", "CLUSTER_ID": "c", "NETWORK": "n", "TRUST_DOMAIN": "td.example", "POD_NAME": "west-1", "INSTANCE_IP": "10.0.0.1"}
	o, err := parse(nil, func(k string) string { return env[k] })
	if err != nil {
		t.Fatal(err)
	}
	if o.identity.String() != "spiffe://td.example/ns/edge/sa/west" || o.cluster != "c" || o.network != "n" || o.drain != 10*time.Minute {
		t.Errorf("%+v", o)
	}
	if got := o.node().ID; got != "gateway~10.0.0.1~west-1.edge~edge.svc.cluster.local" {
		t.Errorf("node id %s", got)
	}
	for _, args := range [][]string{
		nil, {"--gateway=west"}, {"--gateway=a/b/c"}, {"--gateway=/west"}, {"--gateway=a/b", "left over"}, {"--gateway=a/b", "--controller=nowhere"}, {"--gateway=a/b", "--collect-at=0"},
		{"--gateway=a/b", "--admin-address=0.0.0.0:15000"}, {"--gateway=a/b", "--admin-address=:15000"}, {"--gateway=a/b", "--drain=-1s"},
		{"--gateway=a/b", "--trust-domain=Bad Domain"}, {"--gateway=a/b", "--admin-address=x"},
	} {
		if o, err := parse(args, func(string) string { return "" }); err == nil {
			t.Errorf("%q was taken: %+v", args, o)
		}
	}
}

func TestFilesAreReadAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	token, roots := tokenIn(path), rootsIn(path, logr.Discard())
	if _, err := token(); err == nil {
		t.Error("a token that is not there")
	}
	for _, content := range []string{"", " \n"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := token(); err == nil {
			t.Error("an empty token")
		}
		if roots() != nil {
			t.Error("roots out of nothing")
		}
	}
	if err := os.WriteFile(path, []byte("one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := token(); got != "one" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}
