// SPDX-License-Identifier: Apache-2.0

//go:build netns

package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/internal/zds"
)

// member is one of several proxies of a node.
type member struct {
	*process
	ready string
}

// join starts another proxy on the node, with keys of its own as each pod has them.
func (s *stage) join(t *testing.T, env string, command ...string) *member {
	t.Helper()
	m := &member{ready: free(t)}
	m.process = launchAs(t, env, slices.Concat(command, s.args, []string{
		"--ready-address=" + m.ready, "--metrics-address=" + free(t), "--admin-address=" + free(t), "--keys-dir=",
	}))
	return m
}

// lacksCertificates says that certificates are all that it waits for.
func (m *member) lacksCertificates() error {
	response, err := (&http.Client{Timeout: 2 * time.Second}).Get("http://" + m.ready + "/healthz/ready")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && (response.StatusCode == http.StatusOK || !strings.HasPrefix(string(body), "waiting for: certificates of 2 identities") || !strings.Contains(string(body), "Unavailable")) {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return err
}

func (m *member) isReady() error { return get("http://"+m.ready+"/healthz/ready", "ready") }

// end tells it to end and waits until it has.
func (m *member) end(t *testing.T) {
	t.Helper()
	if err := m.cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := m.cmd.Wait(); err != nil {
		t.Errorf("a proxy that was told to end: %v", err)
	}
}

// visits are calls from till to cart without a pause. None may be refused; others may fail while crashing is set.
type visits struct {
	stop     func()
	count    atomic.Int64
	crashing atomic.Bool
}

func (s *stage) visits(t *testing.T) *visits {
	v := &visits{}
	done := make(chan struct{})
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := s.call(); errors.Is(err, unix.ECONNREFUSED) || err != nil && !v.crashing.Load() {
					t.Errorf("visit %d: %v", v.count.Load(), err)
				}
				v.count.Add(1)
			}
		})
	}
	v.stop = sync.OnceFunc(func() { close(done); running.Wait() })
	return v
}

// more waits for visits that begin from here on.
func (v *visits) more(t *testing.T, when string) {
	t.Helper()
	before := v.count.Load()
	eventually(t, "visits "+when, func() error {
		if n := v.count.Load() - before; n < 30 {
			return fmt.Errorf("there were %d", n)
		}
		return nil
	})
}

// TestProcessesFollowEachOther upgrades the proxy of a node several times under traffic, with processes that can crash, while certificates are not to be had for a time of each
// upgrade. No connection is refused, and of those that are made none is lost but with a process that serves and crashes.
func TestProcessesFollowEachOther(t *testing.T) {
	s := newStage(t)
	oldest := s.join(t, asProcess+"=1")
	s.addPods(t)
	eventually(t, "an answer", s.call)
	eventually(t, "readiness", oldest.isReady)
	v := s.visits(t)
	defer v.stop() // while there are proxies
	v.more(t, "in the beginning")
	for _, happens := range []string{"upgrade", "the newer one crashes before it is ready", "upgrade", "the older one crashes", "the older one crashes before the newer one is ready", "upgrade"} {
		s.plane.away.Store(true)
		next := s.join(t, asProcess+"=1")
		eventually(t, "a newer one that lacks certificates", next.lacksCertificates)
		v.more(t, "beside one that is not ready")
		if strings.Contains(next.String(), `"direction"`) {
			t.Fatalf("%s: one that is not ready took connections", happens)
		}
		switch happens {
		case "the newer one crashes before it is ready":
			// A pod that comes meanwhile, for all that the agent says, is served by whoever is left.
			if err := s.agent.Del(t.Context(), "till"); err != nil {
				t.Fatal(err)
			}
			if err := s.agent.Add(t.Context(), zds.Workload{UID: "till", Name: "till-0", Namespace: "shop", ServiceAccount: "till"}, s.till); err != nil {
				t.Fatal(err)
			}
			next.kill()
			v.more(t, "after the crash")
			s.plane.away.Store(false)
			continue
		case "the older one crashes before the newer one is ready":
			v.crashing.Store(true)
			oldest.kill()
			oldest = next
			eventually(t, "the newer one takes over as it is", func() error {
				if !strings.Contains(next.String(), `"taking connections"`) {
					return errors.New("it does not")
				}
				return next.lacksCertificates()
			})
			s.plane.away.Store(false)
			eventually(t, "readiness", next.isReady)
			eventually(t, "an answer", s.call)
			v.more(t, "which failed without certificates")
			v.crashing.Store(false)
			v.more(t, "after the crash")
			continue
		}
		s.plane.away.Store(false)
		eventually(t, "readiness", next.isReady)
		v.more(t, "with two")
		if happens == "upgrade" {
			oldest.end(t)
		} else {
			v.crashing.Store(true)
			oldest.kill()
			v.more(t, "with the crash")
			v.crashing.Store(false)
		}
		oldest = next
		v.more(t, "after: "+happens)
	}
	v.stop()
	t.Logf("%d visits", v.count.Load())
}
