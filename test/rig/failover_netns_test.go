// SPDX-License-Identifier: Apache-2.0

//go:build netns

package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

const (
	// choosers are how many clients ask at once, each on a new connection each time.
	choosers = 8
	// chooseEvery is how often each one asks, and choosePatience after how long it asks again.
	chooseEvery, choosePatience = 25 * time.Millisecond, 5 * time.Second
	// chooseLost is when a question counts as lost, with all its attempts.
	chooseLost = 40 * time.Second
	// settled is how many questions in a row, asked one after the other by all clients, must be answered by the same cluster for it to be the one that is used.
	settled = 80
)

// choosing is clients in a pod that ask a service which cluster answers, all the time, and again when nobody does.
type choosing struct {
	mu      sync.Mutex
	answers []string      // in the order in which they came
	lost    []error       // questions that nobody answered in the end
	slowest time.Duration // of the answered ones
}

// choose asks until ctx ends; what has begun by then is asked to the end. It is to be called in a goroutine.
func (c *choosing) choose(ctx context.Context, from *Pod, to string) {
	for ctx.Err() == nil {
		began := time.Now()
		var name string
		err := errors.New("not asked")
		for err != nil && time.Since(began) < chooseLost {
			name, err = who(from, to)
		}
		c.mu.Lock()
		if err != nil {
			c.lost = append(c.lost, err)
		} else {
			c.answers, c.slowest = append(c.answers, name), max(c.slowest, time.Since(began))
		}
		c.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(chooseEvery):
		}
	}
}

// who asks once.
func who(from *Pod, to string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), choosePatience)
	defer cancel()
	c, err := from.Dial(ctx, "tcp", to)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(choosePatience)); err != nil {
		return "", err
	}
	name, err := io.ReadAll(c)
	if err == nil && len(name) == 0 {
		err = io.ErrUnexpectedEOF
	}
	return string(name), err
}

// tell has a pod say a name to whoever connects.
func tell(ctx context.Context, t *testing.T, p *Pod, address, name string) {
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
			fmt.Fprint(c, name)
			c.Close()
		}
	})
	t.Cleanup(func() { l.Close(); running.Wait() })
}

// site is one of the clusters of TestOrderedFailover.
type site struct {
	*Cluster
	node    *Node // of its pods of the service
	proxy   *Proxy
	gateway *Gateway // none where the client is
	pods    []*Pod
}

func (s *site) revive(ctx context.Context, t *testing.T) {
	t.Helper()
	s.proxy = must1(s.node.StartProxy(ctx, ProxyOptions{}))(t)
	must(t, s.proxy.Ready(ctx))
}

func (s *site) swallow(ctx context.Context, t *testing.T, on bool) {
	t.Helper()
	if s.gateway != nil {
		must(t, s.gateway.Pod.Swallow(ctx, "fabric", on))
		return
	}
	for _, p := range s.pods {
		must(t, p.Swallow(ctx, "eth0", on))
	}
}

// A service that wants to be near has pods in the client's cluster, in another one of its region, and in a third one of another region. Whatever is lost, and in whichever way, connections
// go to the nearest of what is left; they come back to what comes back; and who asks again is answered. No control plane tells anybody of a loss.
func TestOrderedFailover(t *testing.T) {
	r, ctx := newRig(t)
	sites := map[string]*site{}
	var ready []interface{ Ready(context.Context) error }
	var client *Pod
	var cart netip.Addr
	for _, at := range []struct{ name, region, zone string }{{"here", "r1", "z1"}, {"near", "r1", "z2"}, {"far", "r2", "z3"}} {
		s := &site{Cluster: r.Cluster(at.name)}
		sites[at.name] = s
		node := func() *Node {
			n := must1(s.Node())(t)
			r.Put(&world.Node{Key: s.key("", n.Name), Locality: mesh.Locality{Region: at.region, Zone: at.zone}})
			return n
		}
		if at.name == "here" { // with a node of its own, so that the client's proxy lives
			front := node()
			must(t, front.Masquerade(ctx))
			ready = append(ready, must1(front.StartProxy(ctx, ProxyOptions{}))(t))
			client = must1(front.EnrolledPod(ctx, "client"))(t)
		}
		s.node = node()
		s.proxy = must1(s.node.StartProxy(ctx, ProxyOptions{}))(t)
		ready = append(ready, s.proxy)
		for i := range 2 {
			pod := must1(s.node.EnrolledPod(ctx, fmt.Sprintf("cart-%d", i)))(t)
			tell(ctx, t, pod, "0.0.0.0:8080", at.name)
			s.pods = append(s.pods, pod)
		}
		vip := s.Service("cart", map[string]string{world.LabelGlobal: "true"}, []uint16{8080}, s.pods...)
		service := *r.state.Services[s.key(Namespace, "cart")]
		service.Distribution = "PreferClose"
		r.Put(&service)
		if at.name == "here" {
			cart = vip
			continue
		}
		s.gateway = must1(s.node.StartGateway(ctx, "edge"))(t)
		ready = append(ready, s.gateway)
		// Where a gateway's pods are tells how near it is.
		key := s.key(SystemNamespace, translate.ResourceName("edge"))
		r.Put(&world.EndpointSlice{
			Key: s.key(SystemNamespace, key.Name+"-1"), Service: key.Name, Ports: []world.EndpointPort{{Name: "mesh", Port: gatewayPort}},
			Endpoints: []world.Endpoint{{Pod: s.gateway.Pod.Name, Addresses: []netip.Addr{s.gateway.Pod.Address}, Node: s.node.Name, Ready: true}},
		})
	}
	r.Publish()
	for _, one := range ready {
		must(t, one.Ready(ctx))
	}
	here, near, far := sites["here"], sites["near"], sites["far"]
	ctx, cancel := context.WithTimeout(t.Context(), 8*patience) // the programs were built by the other one's time
	t.Cleanup(cancel)

	var c choosing
	asking, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	t.Cleanup(func() { stop(); running.Wait() })
	for range choosers {
		running.Go(func() { c.choose(asking, client, netip.AddrPortFrom(cart, 8080).String()) })
	}
	began := time.Now()
	for _, step := range []struct {
		what string
		do   func()
		want string
	}{
		{"all is well", func() {}, "here"},
		{"the proxy of the pods here is killed", func() { must(t, here.proxy.Kill()) }, "near"},
		{"the near gateway is killed, too", func() { must(t, near.gateway.Kill()) }, "far"},
		{"the near gateway is back", func() {
			must(t, near.gateway.Restart(ctx))
			must(t, near.gateway.Ready(ctx))
		}, "near"},
		{"the proxy of the near pods is killed, and their gateway lives", func() { must(t, near.proxy.Kill()) }, "far"},
		{"the far gateway falls silent, and all near pods are back", func() {
			far.swallow(ctx, t, true)
			near.revive(ctx, t)
		}, "near"},
		{"all is back", func() {
			far.swallow(ctx, t, false)
			here.revive(ctx, t)
		}, "here"},
		{"the pods here fall silent", func() { here.swallow(ctx, t, true) }, "near"},
		{"the near gateway falls silent, too", func() { near.swallow(ctx, t, true) }, "far"},
		{"the near gateway speaks", func() { near.swallow(ctx, t, false) }, "near"},
		{"the pods here speak", func() { here.swallow(ctx, t, false) }, "here"},
		{"the others are killed, which nobody here needs", func() {
			must(t, errors.Join(near.gateway.Kill(), far.gateway.Kill()))
		}, "here"},
	} {
		c.mu.Lock()
		from := len(c.answers)
		c.mu.Unlock()
		changed := time.Now()
		step.do()
		for {
			c.mu.Lock()
			answers, slowest, lost := c.answers[from:], c.slowest, len(c.lost)
			c.mu.Unlock()
			inARow := 0
			for i := len(answers) - 1; i >= 0 && answers[i] == step.want; i-- {
				inARow++
			}
			if inARow >= settled {
				t.Logf("%6.2f s: %s: %s answers after %.2f s, the slowest answer so far took %.2f s", time.Since(began).Seconds(), step.what, step.want, time.Since(changed).Seconds(), slowest.Seconds())
				break
			}
			if ctx.Err() != nil || time.Since(changed) > patience {
				tally := map[string]int{}
				for _, a := range answers[max(0, len(answers)-settled):] {
					tally[a]++
				}
				t.Fatalf("%s: of the last answers %v, want %q; %d are lost", step.what, tally, step.want, lost)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	stop()
	running.Wait()
	for _, err := range c.lost {
		t.Errorf("a question was lost: %v", err)
	}
	t.Logf("%d questions, %d lost, the slowest took %.2f s", len(c.answers)+len(c.lost), len(c.lost), c.slowest.Seconds())
}
