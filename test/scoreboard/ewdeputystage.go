// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"

	"github.com/isthmus-mesh/isthmus/internal/world"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

// The services of the stage, by name: cart is for everybody in all clusters, the vault for the friend only, and the secret for this cluster only.
const (
	deputyCart, deputyVault, deputySecret = "cart", "vault", "secret"
)

var deputyPorts = map[string]uint16{deputyCart: 8080, deputyVault: 8090, deputySecret: 8070}

// deputyStage is a cluster with a gateway, a node proxy and three services, as shipped, and an attacker before and one behind the gateway.
type deputyStage struct {
	rig             *rig.Rig
	gateway         *rig.Gateway
	outside, inside *rig.Space
	pods            map[string]*rig.Pod
	vips            map[string]netip.Addr
	proofs          []proof
	authorities     []claim

	mu        sync.Mutex
	delivered map[uint64][]string // by attempt: the services that got it
}

// claim is an authority, and which service it is a name of, if any: what it means is told by who wrote it, not by a parser.
type claim struct{ text, names string }

func newDeputyStage(ctx context.Context) (s *deputyStage, err error) {
	r, err := rig.New()
	if err != nil {
		return nil, err
	}
	s = &deputyStage{rig: r, pods: map[string]*rig.Pod{}, vips: map[string]netip.Addr{}, delivered: map[uint64][]string{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	c := r.Cluster("west")
	n, err := c.Node()
	if err != nil {
		return nil, err
	}
	proxy, err := n.StartProxy(ctx, rig.ProxyOptions{})
	if err != nil {
		return nil, err
	}
	for name, port := range deputyPorts {
		if s.pods[name], err = n.EnrolledPod(ctx, name); err != nil {
			return nil, err
		}
		labels := map[string]string{"istio.io/global": "true"}
		if name == deputySecret {
			labels = nil
		}
		s.vips[name] = c.Service(name, labels, []uint16{port}, s.pods[name])
		if err := s.serve(ctx, name, port); err != nil {
			return nil, err
		}
	}
	stranger := []world.PolicyRule{{From: []world.PolicySource{{NotPrincipals: []string{friendURI[len("spiffe://"):]}}}}}
	atPod := []world.PolicyRule{{From: stranger[0].From, To: []world.PolicyOperation{{Ports: []string{fmt.Sprint(deputyPorts[deputyVault])}}}}}
	key := func(name string) world.Key {
		return world.Key{Cluster: world.Cluster(c.Name), Namespace: rig.Namespace, Name: name}
	}
	r.Put(
		&world.AuthorizationPolicy{Key: key("at-gateway"), Action: "DENY", Rules: stranger, HasTargets: true, Targets: []world.PolicyTarget{{Kind: "Service", Name: deputyVault}}},
		&world.AuthorizationPolicy{Key: key("at-pod"), Action: "DENY", Rules: atPod},
	)
	if s.gateway, err = n.StartGateway(ctx, "eastwest"); err != nil {
		return nil, err
	}
	if s.outside, err = r.NewSpace(); err != nil {
		return nil, err
	}
	if _, err := r.OnFabric(s.outside, "fabric"); err != nil {
		return nil, err
	}
	mallory, err := n.Pod("mallory")
	if err != nil {
		return nil, err
	}
	s.inside = mallory.Space
	r.Publish()
	if s.proofs, err = newProofs(r.Authority()); err != nil {
		return nil, err
	}
	s.authorities = s.claims()
	return s, errors.Join(proxy.Ready(ctx), s.gateway.Ready(ctx))
}

// serve has a pod note which attempts reach it.
func (s *deputyStage) serve(ctx context.Context, name string, port uint16) error {
	l, err := s.pods[name].Listen(ctx, "tcp4", fmt.Sprintf("0.0.0.0:%d", port))
	if err != nil {
		return err
	}
	go func() { // ends with the listener, which ends with this process
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				var id [8]byte
				if _, err := io.ReadFull(c, id[:]); err != nil {
					return
				}
				s.mu.Lock()
				n := binary.BigEndian.Uint64(id[:])
				s.delivered[n] = append(s.delivered[n], name)
				s.mu.Unlock()
				_, _ = c.Write(id[:])
			}()
		}
	}()
	return nil
}

// reached gives the services that an attempt has reached so far.
func (s *deputyStage) reached(id uint64) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.delivered[id]
}

// claims lists authorities in all forms.
func (s *deputyStage) claims() []claim {
	var out []claim
	for _, name := range []string{deputyCart, deputyVault, deputySecret} {
		port, host := deputyPorts[name], name+".demo.svc.cluster.local"
		out = append(out,
			claim{fmt.Sprintf("%s:%d", host, port), name},
			claim{fmt.Sprintf("%s:%d", upper(host), port), name},
			claim{fmt.Sprintf("%s:%d", s.vips[name], port), name},
			claim{fmt.Sprintf("[::ffff:%s]:%d", s.vips[name], port), name},
			claim{fmt.Sprintf("%s.:%d", host, port), name},
			claim{fmt.Sprintf("%s:%d", s.pods[name].Address, port), "pod " + name},
			claim{fmt.Sprintf("[::ffff:%s]:%d", s.pods[name].Address, port), "pod " + name},
			claim{fmt.Sprintf("%s:15008", s.pods[name].Address), ""},
			claim{fmt.Sprintf("127.0.0.1:%d", port), ""}, claim{fmt.Sprintf("localhost:%d", port), ""}, claim{fmt.Sprintf("[::1]:%d", port), ""},
			claim{fmt.Sprintf("0.0.0.0:%d", port), ""}, claim{host + ":0", ""}, claim{host, ""}, claim{host + ":", ""}, claim{host + ":443", ""},
			claim{fmt.Sprintf("%s:%d", host, int(port)+65536), ""}, claim{fmt.Sprintf("%s:0%d", host, port), ""}, claim{fmt.Sprintf("%s:+%d", host, port), ""},
			claim{fmt.Sprintf("%s:%d ", host, port), ""}, claim{fmt.Sprintf(" %s:%d", host, port), ""}, claim{fmt.Sprintf("%s\x00:%d", host, port), ""},
			claim{fmt.Sprintf("user@%s:%d", host, port), ""}, claim{fmt.Sprintf("%s:%d@cart.demo.svc.cluster.local:8080", host, port), ""},
			claim{fmt.Sprintf("%s:%d,cart.demo.svc.cluster.local:8080", host, port), ""}, claim{fmt.Sprintf("%s:%d/", host, port), ""},
			claim{fmt.Sprintf("%s.other.svc.cluster.local:%d", name, port), ""}, claim{fmt.Sprintf("%s:%d", name, port), ""}, claim{fmt.Sprintf("%s.demo:%d", name, port), ""},
			claim{fmt.Sprintf("*.demo.svc.cluster.local:%d", port), ""}, claim{fmt.Sprintf("%s\u3002demo.svc.cluster.local:%d", name, port), ""},
			claim{fmt.Sprintf("c\u0430rt.demo.svc.cluster.local:%d", port), ""}, claim{fmt.Sprintf("xn--%s-x.demo.svc.cluster.local:%d", name, port), ""},
			claim{fmt.Sprintf("%%76ault.demo.svc.cluster.local:%d", port), ""}, claim{fmt.Sprintf("http://%s:%d", host, port), ""},
			claim{fmt.Sprintf("[%s]:%d", host, port), ""}, claim{fmt.Sprintf("%s:%d", s.gateway.Pod.Address, port), ""}, claim{fmt.Sprintf("0x0a.0x60.0.%d:%d", s.vips[name].As4()[3], port), ""},
		)
	}
	return append(out, claim{"", ""}, claim{":", ""}, claim{":8080", ""}, claim{"..:8080", ""}, claim{"kubernetes.default.svc.cluster.local:443", ""}, claim{s.gateway.Address.String() + ":15008", ""})
}

func upper(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'a' && c <= 'z' {
			b[i] = c - 'a' + 'A'
		}
	}
	return string(b)
}
