// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/inner"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Headers of an outer CONNECT and its answer by which a gateway tells pods apart (docs/hbone.md §13). What they say is a gateway's word: it decides which session is
// used, never whom is believed.
const (
	headerEndpoint  = "x-isthmus-endpoint"
	headerEndpoints = "x-isthmus-endpoints"
	headerAvoid     = "x-isthmus-avoid"
	headerGone      = "x-isthmus-gone"
)

// HeaderNetwork is only on the inner CONNECT of a double tunnel: the network that the source says it is in. It is a claim.
const HeaderNetwork = "x-forwarded-network"

const (
	// innerProbeAfter and innerProbeTimeout are how soon a pod that does not answer is given up for another one. They are shorter than those of a tunnel that is
	// not nested, because there is another pod behind the same gateway: the retransmission of a lost packet takes 200 ms and a round trip, the second one twice that.
	innerProbeAfter   = 500 * time.Millisecond
	innerProbeTimeout = time.Second
	// heardWithin is how long a gateway may owe a sign of life before whoever has no more time takes it for silent. By way of a satellite an
	// answer takes 600 ms: there it may be the gateway that is blamed for its pod.
	heardWithin = 400 * time.Millisecond
	// longWay is from which round trip to the gateway on streams are spread over several TCP connections, and maxLanes over how many. One connection carries no more in a round trip than the
	// kernel keeps for it, 4 MiB on most machines, and all streams in it wait for each packet that was lost. With 200 ms and 0, 1 and 5 % lost, eight streams at once
	// carry 0.68, 0.37 and 0.17 of what eight TCP connections do over one, and 1.06, 1.11 and 0.86 over four. With 50 ms and up to 1 % lost it is 0.94 and more over one, where none of them is ever
	// served much less than the others; over several it is left to TCP how they share the line (the scoreboard's row ew-link).
	longWay  = 100 * time.Millisecond
	maxLanes = 4
	// maxEndpointName bounds the name of an endpoint, in bytes. Ours have 16.
	maxEndpointName = 64
	// endpointLetters are those of a name.
	endpointLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	// maxEndpoints bounds how many endpoints are believed to be there.
	maxEndpoints = 1 << 20
)

// outerError is a failure that happened before there was anything of the inner tunnel.
type outerError struct{ Failure }

func (e *outerError) Error() string { return e.Refusal.Error() }
func (e *outerError) Unwrap() error { return e.Refusal }

// dialDouble opens a stream to the last hop, in an inner tunnel that goes through a stream of the outer one. Inner tunnels are shared among the pod's connections as
// far as the gateway says which of its pods each one reaches.
func (t *Tunnels) dialDouble(ctx context.Context, source mesh.Identity, plan Plan, h hbone.Header, network string) (*Conn, *Failure) {
	asked := false
	key := inner.Key{Source: source, Gateway: plan.Gateway, Dial: plan.Dial.String(), Authority: plan.Target}
	ask := inner.Request{
		Authority: plan.Target, Header: append(h, hbone.Field{Name: HeaderNetwork, Value: network}), Last: plan.Last, Next: plan.Next,
		Expected: t.o.Certificates.Expected,
		Capacity: plan.Behind,
		Dial: func(ctx context.Context, wish inner.Wish) (inner.Session, error) {
			s, err := t.dialInner(ctx, source, plan, h, wish)
			if wish.Beside {
				if err != nil {
					t.o.Unwidened(err)
				}
				return s, err
			}
			outer, ok := errors.AsType[*outerError](err)
			asked = asked || !ok || !outer.Gateway
			return s, err
		},
	}
	if plan.Endpoint != nil {
		key.Network = plan.Endpoint.Network
	}
	stream, err := t.inners.Open(ctx, key, ask)
	if outer, ok := errors.AsType[*outerError](err); ok {
		failure := outer.Failure // the error is that of all who waited for the session
		return nil, &failure
	}
	if err != nil {
		_, answered := errors.AsType[*hbone.RefusedError](err)
		return nil, &Failure{Unheard: !asked && !answered, Refusal: RefusalOf(fmt.Errorf("inner tunnel through %v for %s: %w", plan.Dial, plan.Target, err))}
	}
	return &Conn{Conn: stream.Stream, Peer: stream.Peer, Answer: stream.Answer, Tunnel: stream.Conn(), Leaving: stream.Leaving, Finish: stream.Done}, nil
}

// dialInner makes an inner tunnel as it is wished.
func (t *Tunnels) dialInner(ctx context.Context, source mesh.Identity, plan Plan, h hbone.Header, wish inner.Wish) (inner.Session, error) {
	// What is proved with the certificate of now must not outlast it. It may be renewed between here and the handshake, which only makes it look older than it is.
	own, err := t.o.Certificates.Certificate(ctx, source)
	if err != nil {
		return inner.Session{}, &outerError{Failure{Refusal: RefusalOf(&HopError{Reason: ReasonIdentity, Err: err})}}
	}
	if wish.Avoid != "" {
		h = append(h[:len(h):len(h)], hbone.Field{Name: headerAvoid, Value: wish.Avoid})
	}
	inner.Opening(ctx, func() error {
		if unheard := t.outer.Unheard(outerKey(source, plan, wish.Lane), heardWithin); unheard != nil {
			return &outerError{Failure{Refusal: RefusalOf(fmt.Errorf("tunnel to %v for %s: %w", plan.Dial, plan.Target, unheard)), Gateway: true}}
		}
		return nil
	})
	outer, answer, refusal := t.open(ctx, source, plan, h, wish.Lane)
	if refusal != nil {
		return inner.Session{}, &outerError{Failure{Refusal: refusal, Gateway: !lives(refusal) && refusal.Reason != ReasonIdentity}}
	}
	s := inner.Session{Pod: endpointName(answer.Get(headerEndpoint)), Ready: endpointCount(answer.Get(headerEndpoints)), Gone: goneNames(answer.Get(headerGone))}
	lost := func() error {
		if !outer.Conn().Silent(heardWithin) {
			return nil
		}
		why := outer.Conn().Err()
		if why == nil {
			why = hbone.ErrSilent
		}
		outer.Conn().Drain() // nothing new goes through it, and what runs may survive a short outage
		return &outerError{Failure{Refusal: unavailable(ReasonTunnel, "gateway %v: %w", plan.Dial, why), Gateway: true}}
	}
	s.Carrier = func(ctx context.Context) error {
		ask, cancel := context.WithTimeout(ctx, innerProbeTimeout)
		defer cancel()
		if outer.Conn().Answers(ask) {
			return nil
		}
		return lost()
	}
	inner.Opening(ctx, lost)
	asking := time.AfterFunc(innerProbeAfter, outer.Conn().Ask) // so that it is known whose silence it was when the time is over
	defer asking.Stop()
	failed := func(err error) (inner.Session, error) {
		if s.Pod != "" {
			err = &inner.PodError{Pod: s.Pod, Ready: s.Ready, Err: err}
		}
		return inner.Session{}, err
	}
	t.o.Handshaking("inner")
	secured := tls.Client(hbone.NewTransport(outer), t.o.Certificates.Client(source, plan.Last))
	shaking := ctx
	if wish.Patience > 0 && s.Pod != "" && s.Ready > 1 {
		var cancel context.CancelFunc
		shaking, cancel = context.WithTimeout(ctx, wish.Patience)
		defer cancel()
	}
	if err := secured.HandshakeContext(shaking); err != nil {
		broken := lost()
		if broken == nil && shaking.Err() != nil && ctx.Err() == nil {
			broken = s.Carrier(ctx)
		}
		outer.Close()
		if broken != nil {
			return inner.Session{}, broken
		}
		return failed(TLSError(err))
	}
	settings := t.o.Settings
	settings.ProbeAfter, settings.ProbeTimeout = innerProbeAfter, innerProbeTimeout
	if s.Conn, err = hbone.NewClient(secured, settings); err != nil {
		secured.Close()
		return failed(err)
	}
	s.Ended = t.o.Certificates.Guard(s.Conn, plan.Last...)
	s.Peer, s.Gateway = provedBy(s.Conn), provedBy(outer.Conn())
	s.Until = earliest(own.NotAfter, provedUntil(s.Conn), provedUntil(outer.Conn()))
	s.Lanes = func() int {
		if outer.Conn().RoundTrip() < longWay {
			return 1
		}
		return maxLanes
	}
	s.Outdated = func() bool {
		if outer.Conn().Draining() {
			return true // what is opened now might be cut when the gateway's drain time is over
		}
		return t.o.Certificates.Current(source) != own // it was renewed, or is not held any more
	}
	return s, nil
}

// lives says that a gateway has not failed by what came of a CONNECT: it answered, or it gives signs of life, and what it dials takes its time.
func lives(r *Refusal) bool {
	_, answered := errors.AsType[*hbone.RefusedError](r.Err)
	return answered || errors.Is(r.Err, hbone.ErrUnanswered)
}

// provedUntil is when the certificate ends that the other end of a tunnel showed.
func provedUntil(conn *hbone.Conn) time.Time {
	state, ok := conn.ConnectionState()
	if !ok || len(state.PeerCertificates) == 0 {
		return time.Time{}
	}
	return state.PeerCertificates[0].NotAfter
}

func earliest(first time.Time, others ...time.Time) time.Time {
	for _, t := range others {
		if t.Before(first) {
			first = t
		}
	}
	return first
}

// endpointName reads x-isthmus-endpoint. What is no name is none.
func endpointName(value string) string {
	if len(value) > maxEndpointName {
		return ""
	}
	if strings.ContainsFunc(value, func(r rune) bool { return !strings.ContainsRune(endpointLetters, r) }) {
		return ""
	}
	return value
}

// endpointCount reads x-isthmus-endpoints: 0 if it says nothing.
func endpointCount(value string) int {
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil {
		return 0
	}
	return int(min(n, maxEndpoints))
}

// goneNames reads x-isthmus-gone: the first maxGone names. What is none is passed over.
func goneNames(value string) (names []string) {
	for name := range strings.SplitSeq(value, ",") {
		if name = endpointName(strings.Trim(name, " \t")); name != "" {
			names = append(names, name)
		}
		if len(names) == maxGone {
			break
		}
	}
	return names
}

// maxGone bounds how many endpoints one answer may name as gone: as many as a CONNECT may name.
const maxGone = 64
