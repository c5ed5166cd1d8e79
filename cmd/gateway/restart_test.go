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
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
)

// beGateway in the environment makes the test program the command.
const beGateway = "ISTHMUS_TEST_BE_GATEWAY"

func TestMain(m *testing.M) {
	if os.Getenv(beGateway) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestCrashWithoutController kills a gateway while no controller answers. The next process of the container serves as the one before did: the same service to
// the same peers, and nobody else.
func TestCrashWithoutController(t *testing.T) {
	p := startPlane(t)
	identity := mesh.Identity{TrustDomain: "cluster.local", Namespace: "edge", ServiceAccount: "west"}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(identity.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	state, err := os.MkdirTemp("/dev/shm", "isthmus-test-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	pod := netip.MustParseAddr("127.15.8.9")
	echoAt(t, pod)
	bind, readiness, metrics, admin := freePort(t), freePort(t), freePort(t), freePort(t)
	p.server.Update(inTheShop(pod, exporting(bind, "till")))
	p.server.SetReady()

	start := func() *exec.Cmd {
		t.Helper()
		c := exec.CommandContext(t.Context(), os.Args[0], "--gateway=edge/west", "--cluster-id=west-1", "--network=west", "--controller="+p.address,
			"--root-cert="+p.root, "--token="+token, "--state-dir="+state, "--settle=0s", "--drain=0s", fmt.Sprintf("--readiness-address=127.0.0.1:%d", readiness),
			fmt.Sprintf("--metrics-address=127.0.0.1:%d", metrics), fmt.Sprintf("--admin-address=127.0.0.1:%d", admin))
		c.Env = append(os.Environ(), beGateway+"=1")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
		return c
	}
	measured := func(want string) func() error {
		return func() error {
			r, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", metrics))
			if err != nil {
				return err
			}
			defer r.Body.Close()
			body, err := io.ReadAll(r.Body)
			if err == nil && !strings.Contains(string(body), want) {
				err = fmt.Errorf("no %q in the metrics", want)
			}
			return err
		}
	}
	// ask is one stream of a client, its answer included.
	ask := func(account string) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		nc, err := new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", bind))
		if err != nil {
			return err
		}
		client := mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: account}
		conn, err := hbone.NewClient(tls.Client(nc, p.source(t).Client(client, []mesh.Identity{identity})), hbone.Settings{})
		if err != nil {
			return err
		}
		defer conn.Close()
		stream, _, err := conn.Open(ctx, hostname+":80", nil)
		if err != nil {
			return err
		}
		defer stream.Close()
		_ = stream.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(stream, "hello"); err != nil {
			return err
		}
		_, err = io.ReadFull(stream, make([]byte, 5))
		return err
	}

	first := start()
	eventually(t, "it serves", func() error { return ask("till") })
	eventually(t, "it has kept what it knows", measured("isthmus_snapshot_writes_total 1"))
	eventually(t, "and its certificate", func() error {
		if found, err := filepath.Glob(filepath.Join(state, "keys", "*.pem")); err != nil || len(found) == 0 {
			return fmt.Errorf("%v, %w", found, err)
		}
		return nil
	})
	p.stop()
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait() // it was killed

	start()
	eventually(t, "it serves again", func() error { return ask("till") })
	if err := measured("isthmus_snapshot_restored 1")(); err != nil {
		t.Error(err)
	}
	refused, ok := errors.AsType[*hbone.RefusedError](ask("clerk"))
	if !ok || refused.Status != http.StatusUnauthorized {
		t.Errorf("whom the policy keeps out: %v", refused)
	}
}

// eventually waits until f gives no error.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s: %v", what, err)
		}
	}
}

// TestStateThatCannotBe names a directory that is no good: nothing is kept there, it says so, and the rest goes on.
func TestStateThatCannotBe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a-file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		dir  string
		says string
	}{{"", ""}, {file, "outlive"}} {
		var said strings.Builder
		o := mtls.SourceOptions{Log: funcr.New(func(_, args string) { said.WriteString(args) }, funcr.Options{})}
		if path := keepIn(test.dir, &o, prometheus.NewRegistry()); path != "" || o.Vault != nil {
			t.Errorf("%q: the configuration is kept in %q, certificates in %v", test.dir, path, o.Vault)
		}
		if (said.Len() > 0) != (test.says != "") || !strings.Contains(said.String(), test.says) {
			t.Errorf("%q: it said %q", test.dir, said.String())
		}
	}
}
