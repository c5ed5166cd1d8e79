// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"golang.org/x/net/http2/hpack"
)

func (s *deputyStage) proof(name string) *proof {
	for i := range s.proofs {
		if s.proofs[i].name == name {
			return &s.proofs[i]
		}
	}
	panic("no proof " + name)
}

// generate makes an attempt: each of its parts is as it should be, or one of the others.
func (s *deputyStage) generate(rng *rand.Rand, id uint64) deputyAttempt {
	want := []string{deputyCart, deputyVault}[rng.IntN(2)]
	right := claim{fmt.Sprintf("%s.demo.svc.cluster.local:%d", want, deputyPorts[want]), want}
	a := deputyAttempt{id: id, outer: s.proof("friend"), inner: s.proof("friend"), outerTo: right, innerTo: right, deliveredMost: 1}
	if want == deputyCart && rng.IntN(2) == 0 {
		a.outer, a.inner = s.proof("stranger"), s.proof("stranger")
	}
	if rng.Float64() < deputyHonest {
		a.way, a.honest = "honest", true
		return a
	}
	a.way = []string{"forged", "forged", "forged", "direct", "reused", "replayed", "resumed"}[rng.IntN(7)]
	if a.way == "direct" {
		a.direct = []string{deputyCart, deputyVault, deputySecret}[rng.IntN(3)]
		a.innerTo = claim{fmt.Sprintf("%s:%d", s.pods[a.direct].Address, deputyPorts[a.direct]), "pod " + a.direct}
	}
	// At least one part is not as it should be.
	for must := rng.IntN(6); must >= 0; must-- {
		switch rng.IntN(6) {
		case 0:
			a.outer = &s.proofs[rng.IntN(len(s.proofs))]
		case 1:
			a.inner = &s.proofs[rng.IntN(len(s.proofs))]
		case 2:
			a.outerTo = s.authorities[rng.IntN(len(s.authorities))]
		case 3:
			a.innerTo = s.authorities[rng.IntN(len(s.authorities))]
		case 4:
			a.outerHeaders = s.forgedHeaders(rng)
		case 5:
			a.innerHeaders = s.forgedHeaders(rng)
		}
	}
	switch rng.IntN(20) {
	case 0:
		a.outerStrange = true
	case 1:
		a.innerStrange = true
	}
	return a
}

// forgedHeaders are some that claim to come from somebody else, or to mean something else.
func (s *deputyStage) forgedHeaders(rng *rand.Rand) (out []hpack.HeaderField) {
	values := map[string][]string{
		"x-istio-source":      {"waypoint", "gateway", "sidecar", "ztunnel", ""},
		"x-istio-attributes":  {friendURI},
		"forwarded":           {`for="10.77.0.9:1";host=vault.demo.svc.cluster.local`, `for="127.0.0.1:1";by=` + friendURI, "for=unknown;host=" + deputySecret},
		"baggage":             {"k8s.namespace.name=demo,k8s.deployment.name=friend,service.name=friend", "k8s.cluster.name=west"},
		"x-forwarded-network": {"west", "east", ""},
		"x-forwarded-client-cert": {
			`By=spiffe://cluster.local/ns/demo/sa/vault;Hash=0;URI=` + friendURI,
		},
		"x-forwarded-for": {s.pods[deputyVault].Address.String(), "127.0.0.1"}, "x-isthmus-endpoint": {"AAAAAAAAAAAAAAAA"}, "x-isthmus-avoid": {"AAAAAAAAAAAAAAAA", "*", ","},
		"x-isthmus-endpoints": {"1"}, "x-isthmus-reason": {"none"}, "host": {"vault.demo.svc.cluster.local:8090", "secret.demo.svc.cluster.local:8070"},
		"x-envoy-original-dst-host": {fmt.Sprintf("%s:%d", s.pods[deputySecret].Address, deputyPorts[deputySecret])}, "authorization": {"Bearer " + friendURI},
		":authority-override": {"secret.demo.svc.cluster.local:8070"}, "traceparent": {"00-00000000000000000000000000000000-0000000000000000-00"},
	}
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	for range 1 + rng.IntN(4) {
		name := names[rng.IntN(len(names))]
		out = append(out, hpack.HeaderField{Name: name, Value: values[name][rng.IntN(len(values[name]))]})
	}
	return out
}

// request is the header list of a CONNECT or, if it is to be strange, of something like it that asks for one of the services in another way.
func request(rng *rand.Rand, to claim, headers []hpack.HeaderField, strange bool) []hpack.HeaderField {
	list := []hpack.HeaderField{{Name: ":method", Value: "CONNECT"}, {Name: ":authority", Value: to.text}}
	if strange {
		other := hpack.HeaderField{Name: ":authority", Value: "secret.demo.svc.cluster.local:8070"}
		switch rng.IntN(7) {
		case 0:
			list = append(list, other)
		case 1:
			list = []hpack.HeaderField{list[0], other, list[1]}
		case 2:
			list[0].Value = "GET"
		case 3:
			list = append(list, hpack.HeaderField{Name: ":path", Value: "/"}, hpack.HeaderField{Name: ":scheme", Value: "https"})
		case 4:
			list = append(list, hpack.HeaderField{Name: ":protocol", Value: "connect-tcp"})
		case 5:
			list = []hpack.HeaderField{list[0], {Name: "host", Value: to.text}}
		case 6:
			list[0].Value = "connect"
		}
	}
	return append(list, headers...)
}

// client is a TLS client that shows a proof and believes everything.
func (p *proof) client(cache tls.ClientSessionCache) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}, InsecureSkipVerify: true, ClientSessionCache: cache, ServerName: "x"} //nolint:gosec // an attacker
	if p.cert != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return p.cert, nil }
	}
	return c
}

// try carries an attempt out. An error is why it did not get through, as far as one can tell. again says that a TLS session was resumed, which nobody may.
func (s *deputyStage) try(ctx context.Context, rng *rand.Rand, a deputyAttempt) (again bool, err error) {
	from, to := s.outside, net.JoinHostPort(s.gateway.Address.String(), "15008")
	if a.direct != "" {
		from, to = s.inside, net.JoinHostPort(s.pods[a.direct].Address.String(), "15008")
	}
	dial := func() (*recordedConn, error) {
		c, err := from.Dial(ctx, "tcp4", to)
		if err != nil {
			return nil, err
		}
		return &recordedConn{Conn: c}, c.SetDeadline(time.Now().Add(deputyPatience))
	}
	nc, err := dial()
	if err != nil {
		return false, err
	}
	defer nc.Close()
	var cache tls.ClientSessionCache
	if a.way == "resumed" {
		cache = tls.NewLRUClientSessionCache(4)
		if again, err := s.resume(ctx, nc, dial, cache); again || err != nil {
			return again, err
		}
		if nc, err = dial(); err != nil {
			return false, err
		}
		defer nc.Close()
	}
	if a.direct != "" {
		return false, s.last(rng, nc, a)
	}
	outer, err := newRawTunnels(tls.Client(nc, a.outer.client(nil)))
	if err != nil {
		return false, err
	}
	stream, err := outer.open(request(rng, a.outerTo, a.outerHeaders, a.outerStrange))
	if err != nil {
		return false, err
	}
	inner := &recordedConn{Conn: stream}
	if err = s.last(rng, inner, a); a.way == "replayed" {
		s.replay(rng, a, outer, inner, nc, dial)
	}
	return false, err
}

// last is the tunnel to the last hop, through what leads there.
func (s *deputyStage) last(rng *rand.Rand, through net.Conn, a deputyAttempt) error {
	tunnels, err := newRawTunnels(tls.Client(through, a.inner.client(nil)))
	if err != nil {
		return err
	}
	if a.way == "reused" {
		// The session is one for what is allowed, and what is not is asked for later in it.
		if _, err := tunnels.open(request(rng, a.outerTo, nil, false)); err != nil {
			return err
		}
	}
	stream, err := tunnels.open(request(rng, a.innerTo, a.innerHeaders, a.innerStrange))
	if err != nil {
		return err
	}
	return say(stream, a.id)
}

// say tells an application the attempt's number, and waits until it has it.
func say(c io.ReadWriter, id uint64) error {
	b := binary.BigEndian.AppendUint64(nil, id)
	if _, err := c.Write(b); err != nil {
		return err
	}
	_, err := io.ReadFull(c, b)
	return err
}

// replay sends again what was sent: the inner bytes in other streams, and the outer ones on another connection. None of it may arrive.
func (s *deputyStage) replay(rng *rand.Rand, a deputyAttempt, outer *rawTunnels, inner, nc *recordedConn, dial func() (*recordedConn, error)) {
	for _, to := range []claim{a.outerTo, s.authorities[rng.IntN(len(s.authorities))]} {
		if stream, err := outer.open(request(rng, to, nil, false)); err == nil {
			exhaust(stream, inner.written.Bytes())
		}
	}
	if c, err := dial(); err == nil {
		exhaust(c, nc.written.Bytes())
		c.Close()
	}
}

// exhaust sends bytes, and reads until there is nothing more to hear or the other side has had time to act.
func exhaust(c net.Conn, b []byte) {
	if _, err := c.Write(b); err != nil {
		return
	}
	heard := make(chan struct{})
	go func() { // ends with the connection
		_, _ = io.Copy(io.Discard, c)
		close(heard)
	}()
	select {
	case <-heard:
	case <-time.After(50 * time.Millisecond):
	}
}

// resume gets the friend's session tickets, if there are any, and shows them as a stranger.
func (s *deputyStage) resume(ctx context.Context, nc net.Conn, dial func() (*recordedConn, error), cache tls.ClientSessionCache) (again bool, err error) {
	first := tls.Client(nc, s.proof("friend").client(cache))
	if err := first.HandshakeContext(ctx); err != nil {
		return false, err
	}
	exhaust(first, nil) // tickets come behind the handshake
	second, err := dial()
	if err != nil {
		return false, err
	}
	defer second.Close()
	c := tls.Client(second, s.proof("stranger").client(cache))
	if err := c.HandshakeContext(ctx); err != nil {
		return false, err
	}
	return c.ConnectionState().DidResume, nil
}
