// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
	"github.com/isthmus-mesh/isthmus/nodeproxy"
)

// moody is an issuer that gives certificates when it may, and answers something else until then.
type moody struct {
	signer
	why atomic.Pointer[error]
}

func (m *moody) Issue(ctx context.Context, id mesh.Identity, csr []byte) ([]string, error) {
	if why := m.why.Load(); why != nil {
		return nil, *why
	}
	return m.signer.Issue(ctx, id, csr)
}

// refused is an issuer's word on an identity.
type refused struct{ error }

func (refused) Refused() bool { return true }

// issued gives certificates of the cluster's authority as the issuer feels, and tries often.
func issued(t *testing.T, authority map[string][]byte, why error) (*mtls.Source, *moody) {
	t.Helper()
	s, err := ca.NewSigner(authority)
	must(t, err)
	m := &moody{signer: signer{s}}
	m.why.Store(&why)
	if why == nil {
		m.why.Store(nil)
	}
	certs := mtls.NewSource(m, mtls.SourceOptions{Log: logr.Discard(), BackoffMin: 20 * time.Millisecond, BackoffMax: 20 * time.Millisecond})
	t.Cleanup(certs.Close)
	return certs, m
}

var errAway = errors.New("the issuer is away")

func lacksCertificates(x *nodeproxy.Proxy) bool {
	waits := x.Waits()
	return len(waits) == 1 && strings.HasPrefix(waits[0], "certificates of ")
}

// callers call without a pause from the client, until stop: each call must be answered.
type callers struct {
	t     *testing.T
	calls atomic.Int64
	stop  func()
}

func (w *world) callers(t *testing.T) *callers {
	c := &callers{t: t}
	done := make(chan struct{})
	var running sync.WaitGroup
	for i := range 4 {
		running.Go(func() {
			to := []string{"10.96.0.10:80", "240.240.0.5:80"}[i%2]
			for {
				select {
				case <-done:
					return
				default:
				}
				if answer, err := w.client.call(to, "x"); err != nil || !strings.HasSuffix(answer, " x") {
					t.Errorf("%s: %q, %v", to, answer, err)
				}
				c.calls.Add(1)
			}
		})
	}
	c.stop = sync.OnceFunc(func() { close(done); running.Wait() })
	t.Cleanup(c.stop)
	return c
}

// more waits for calls that begin from here on.
func (c *callers) more(when string) {
	c.t.Helper()
	before := c.calls.Load()
	wait(c.t, "calls "+when, func() bool { return c.calls.Load() > before+40 })
}

// TestUpgradesInARow replaces the proxy several times, under calls. Each newcomer is there for a while without certificates; every other upgrade is rolled back then. Nothing
// is refused, and who is not ready takes nothing.
func TestUpgradesInARow(t *testing.T) {
	w := newWorld(t)
	c := w.callers(t)
	c.more("in the beginning")
	stopOld := w.stopEast
	var ending sync.WaitGroup
	for n := range 5 {
		certs, issuer := issued(t, w.authority, errAway)
		log := &lines{}
		next, stop := w.east.begin(certs, log)
		wait(t, "a newcomer that lacks certificates alone", func() bool { return lacksCertificates(next) })
		c.more("beside one that is not ready")
		if text := log.String(); strings.Contains(text, `"direction"`) {
			t.Fatalf("upgrade %d: one that is not ready took connections:\n%s", n, text)
		}
		if n%2 == 1 {
			stop()
			c.more("after a roll-back")
			continue
		}
		issuer.why.Store(nil)
		wait(t, "the newcomer to be ready", func() bool { return len(next.Waits()) == 0 })
		c.more("with two")
		ending.Go(stopOld)
		stopOld = stop
		c.more("while the old one ends")
		ending.Wait()
		c.more("after the old one")
		if !strings.Contains(log.String(), `"direction":"outbound"`) || !strings.Contains(log.String(), `"direction":"inbound"`) {
			t.Errorf("upgrade %d: the new one took nothing", n)
		}
	}
	c.stop()
	stopOld()
	t.Logf("%d calls", c.calls.Load())
	if nc, err := w.client.dial("240.240.0.5:80"); err == nil {
		nc.Close()
		t.Error("without a proxy, connections are accepted")
	}
}

// TestNewcomerThatIsLeftAlone has the older proxy end before the newer one is ready: it serves what it can at once, and says what it lacks.
func TestNewcomerThatIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	certs, issuer := issued(t, w.authority, errAway)
	next, _ := w.east.begin(certs, w.east.log)
	wait(t, "a newcomer that lacks certificates alone", func() bool { return lacksCertificates(next) })
	w.stopEast()
	// These need none.
	for to, from := range map[string]*space{"10.77.0.4:9000": w.client, "10.77.0.3:8080": w.plain} {
		if answer, err := from.call(to, "x"); err != nil || !strings.HasSuffix(answer, " x") {
			t.Errorf("%s: %q, %v", to, answer, err)
		}
	}
	if waits := next.Waits(); len(waits) != 1 || !strings.Contains(waits[0], errAway.Error()) || !strings.Contains(waits[0], "spiffe://cluster.local/ns/demo/sa/") {
		t.Errorf("waits for %q", waits)
	}
	issuer.why.Store(nil)
	wait(t, "a call by certificates", func() bool { _, err := w.client.call("240.240.0.5:80", "x"); return err == nil })
}

// TestReadinessAndTheIssuer: only what an issuer says of an identity settles it, or a certificate.
func TestReadinessAndTheIssuer(t *testing.T) {
	w := newWorld(t)
	w.stopEast()
	certs, issuer := issued(t, w.authority, errAway)
	x, _ := w.east.begin(certs, w.east.log)
	wait(t, "an answer of the issuer about each identity", func() bool {
		states := certs.States()
		for _, s := range states {
			if s.Err == nil {
				return false
			}
		}
		return len(states) == 2
	})
	// The agent's snapshot may end after that.
	wait(t, "a newcomer that lacks certificates alone", func() bool { return lacksCertificates(x) })
	said := error(refused{errors.New("no such pod")})
	issuer.why.Store(&said)
	wait(t, "readiness", func() bool { return len(x.Waits()) == 0 })
}

// TestPodThatStartsDuringARollBack: a pod that starts beside an older and a newer proxy is served by whichever is left.
func TestPodThatStartsDuringARollBack(t *testing.T) {
	w := newWorld(t)
	certs, _ := issued(t, w.authority, errAway)
	next, stop := w.east.begin(certs, w.east.log)
	wait(t, "a newcomer that lacks certificates alone", func() bool { return lacksCertificates(next) })
	late := w.east.pod("late", "10.77.0.5", &mesh.Workload{ServiceAccount: "client"})
	calls := func(when string) {
		t.Helper()
		if got, err := late.call("10.77.0.3:8080", "x"); err != nil || got != "east-server 10.77.0.5 x" {
			t.Errorf("%s: %q, %v", when, got, err)
		}
	}
	calls("with both")
	stop()
	calls("after the roll-back")
}
