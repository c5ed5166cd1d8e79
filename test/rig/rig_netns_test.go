// SPDX-License-Identifier: Apache-2.0

//go:build netns

package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is for anything that may take long only because the machine is busy.
const patience = 60 * time.Second

// built are the programs, built once for all tests.
var built struct {
	sync.Once
	dir  string
	path map[string]string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(built.dir)
	os.Exit(code)
}

func newRig(t *testing.T) (*Rig, context.Context) {
	t.Helper()
	r, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(r.Dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the directory is left: %v", err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	t.Cleanup(cancel)
	built.Do(func() {
		built.path = map[string]string{}
		if built.dir, built.err = os.MkdirTemp("", "isthmus-rig-test-"); built.err != nil {
			return
		}
		for _, name := range []string{"nodeproxy", "gateway"} {
			if built.path[name], built.err = Build(ctx, built.dir, name); built.err != nil {
				return
			}
		}
	})
	must(t, built.err)
	for name, path := range built.path {
		r.Provide(name, path)
	}
	return r, ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// answer serves in a pod: whoever connects is told who it is, and sent back what it sends.
func answer(ctx context.Context, t *testing.T, p *Pod, address string) {
	t.Helper()
	l, err := p.Listen(ctx, "tcp", address)
	must(t, err)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
				fmt.Fprintln(c, host)
				io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); running.Wait() })
}

// ask connects, says a word, and gives all that is answered.
func ask(ctx context.Context, from *Pod, to, word string) (string, error) {
	c, err := from.Dial(ctx, "tcp", to)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, word); err != nil {
		return "", err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return "", err
	}
	text, err := io.ReadAll(c)
	return string(text), err
}

// TestTwoNodes has a connection pass two proxies on two nodes, and compares with what passes none; then the agents begin anew, and the proxies end.
func TestTwoNodes(t *testing.T) {
	r, ctx := newRig(t)
	east := r.Cluster("east")
	var proxies []*Proxy
	for range 2 {
		n, err := east.Node()
		must(t, err)
		p, err := n.StartProxy(ctx, ProxyOptions{Drain: time.Second})
		must(t, err)
		proxies = append(proxies, p)
	}
	pod := func(node int, name string) *Pod {
		p, err := east.Nodes[node].Pod(name)
		must(t, err)
		return p
	}
	client, server, outsider := pod(0, "client"), pod(1, "server"), pod(1, "outsider")
	must(t, client.Enrol(ctx))
	must(t, server.Enrol(ctx))
	vip := east.Service("server", nil, []uint16{8080}, server)
	r.Publish()
	for _, p := range proxies {
		must(t, p.Ready(ctx))
	}
	answer(ctx, t, server, "0.0.0.0:8080")
	answer(ctx, t, outsider, "0.0.0.0:8080")
	calls := func() {
		t.Helper()
		for _, to := range []string{server.Address.String(), vip.String(), outsider.Address.String()} {
			got, err := ask(ctx, client, to+":8080", "hello")
			if want := client.Address.String() + "\nhello"; err != nil || got != want {
				t.Errorf("%s answered %q, %v; want %q", to, got, err, want)
			}
		}
	}
	calls()
	for _, n := range east.Nodes {
		must(t, n.RestartAgent())
	}
	calls()
	for i, want := range []string{`"direction":"outbound"`, `"direction":"inbound"`} {
		usage, err := proxies[i].Usage()
		if err != nil || usage.Processor <= 0 || usage.Resident < 5<<20 {
			t.Errorf("proxy %d used %+v, %v", i, usage, err)
		}
		// A proxy writes its log beside its work: all of it is there once the proxy has ended.
		must(t, proxies[i].Stop())
		log, err := os.ReadFile(proxies[i].Log)
		must(t, err)
		var found int
		for line := range strings.Lines(string(log)) {
			if strings.Contains(line, want) && strings.Contains(line, `"tunnel":"hbone"`) && strings.Contains(line, `spiffe://cluster.local/ns/demo/sa/client`) {
				found++
			}
		}
		if found != 4 {
			t.Errorf("%d connections of proxy %d are %s in a tunnel, want 4:\n%s", found, i, want, log)
		}
	}
	for _, p := range proxies {
		must(t, p.Release())
	}
	if _, err := ask(ctx, client, server.Address.String()+":8080", "hello"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("without proxies: %v; want it refused", err)
	}
}

// TestCloseLeavesNothing closes a rig in the midst of things.
func TestCloseLeavesNothing(t *testing.T) {
	r, ctx := newRig(t)
	n, err := r.Cluster("east").Node()
	must(t, err)
	p, err := n.StartProxy(ctx, ProxyOptions{})
	must(t, err)
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := unix.Kill(p.Pid(), 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("process %d still is there: %v", p.Pid(), err)
	}
}
