// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/isthmus-mesh/isthmus/internal/zds"
	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/cni"
)

// pipes is a listener of connections within the process.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error   { close(p.closed); return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func (p pipes) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	p.conns <- theirs
	return ours, nil
}

// silence says nothing until it ends.
type silence <-chan struct{}

func (s silence) Read([]byte) (int, error) { <-s; return 0, io.EOF }

// A starting pod waits for a proxy for as long as it should, and one whose announcement does not come is not waited for longer than that takes.
func TestStartingPodWaitsForAProxy(t *testing.T) {
	event := cni.Event{Netns: "/run/netns/x", PodName: "cart-1", PodNamespace: "shop", PodUID: "1"}
	body, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		body func(done <-chan struct{}) io.Reader
		code int
		says string
		took time.Duration
	}{
		{"announced", func(<-chan struct{}) io.Reader { return bytes.NewReader(body) }, http.StatusInternalServerError, zds.ErrNoProxy.Error(), proxyPatience},
		{"announced in half", func(done <-chan struct{}) io.Reader {
			return io.MultiReader(strings.NewReader(`{"PodName":`), silence(done))
		}, http.StatusBadRequest, "timeout", askPatience},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := fake.NewClientset(
					&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{labelMode: modeAmbient}}},
					&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart-1", UID: "1"}},
				)
				server := zds.NewServer("unused", logr.Discard())
				p, err := newPods(logr.Discard(), client, "n1", "/proc", Selection{}, newEnrolment(logr.Discard(), true, server, nil), newMetrics())
				if err != nil {
					t.Fatal(err)
				}
				defer p.sink.Shutdown()
				defer p.queue.ShutDown()
				l := pipes{make(chan net.Conn), make(chan struct{})}
				agent := eventServer(t.Context(), http.HandlerFunc(p.handleAdd))
				ended := make(chan error, 1)
				go func() { ended <- agent.Serve(l) }()
				defer func() {
					if err := errors.Join(agent.Shutdown(context.Background()), <-ended); !errors.Is(err, http.ErrServerClosed) {
						t.Error(err)
					}
				}()

				transport := &http.Transport{DialContext: l.dial, DisableKeepAlives: true}
				done := make(chan struct{})
				defer close(done)
				began := time.Now()
				resp, err := (&http.Client{Transport: transport}).Post("http://agent"+cni.AddPath, "application/json", tt.body(done))
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				text, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); resp.StatusCode != tt.code || !strings.Contains(string(text), tt.says) || took != tt.took {
					t.Errorf("answered %d after %v: %s; want %d after %v", resp.StatusCode, took, text, tt.code, tt.took)
				}
			})
		})
	}
}
