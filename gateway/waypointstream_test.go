// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// routed is a route at cart, so that what comes there is looked at.
func routed(g *mesh.Gateway) {
	g.ServiceRoutes = []mesh.ServiceRoutes{{Service: cartKey, Routes: []*mesh.HTTPRoute{route("shop", "r", "/", "r")}}}
}

// beginBytes opens a stream to cart, and has the pod answer.
func (s *scene) beginBytes(as mesh.Identity) *hbone.Stream {
	s.t.Helper()
	return s.beginBytesTo(authority, as)
}

func (s *scene) beginBytesTo(authority string, as mesh.Identity) *hbone.Stream {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	stream, _, err := s.outer(15008, as).Open(ctx, authority, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { stream.Close() })
	_ = stream.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(stream, "\x01ello")
	if _, err := io.ReadFull(stream, make([]byte, 5)); err != nil {
		s.t.Fatal(err)
	}
	return stream
}

// Bytes that run are judged by the policies of now, also if a route that came with them would have them looked at if they began now.
func TestWaypointJudgesBytesThatRun(t *testing.T) {
	s := newScene(t, nil)
	s.add(s.podServing(1, func(_ mesh.Identity, _ string, stream *hbone.Stream) { _, _ = io.Copy(stream, stream) }))
	s.configure(waypointOf(nil))
	till, thief := s.beginBytes(clientID), s.beginBytes(thiefID)
	s.configure(waypointOf(func(g *mesh.Gateway) {
		routed(g)
		g.ServicePolicies = guard(cartKey, policyOn("till", mesh.Allow, principal(clientID)))
	}))
	if n, err := thief.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, io.EOF) {
		t.Errorf("who is not let in any more reads %d bytes, %v", n, err)
	}
	fmt.Fprint(till, "still")
	if _, err := io.ReadFull(till, make([]byte, 5)); err != nil {
		t.Errorf("who is let in: %v", err)
	}
}

// Bytes to a workload that is behind the waypoint by itself end when a policy turns against them, not when it is behind it no more; and they count as its own.
func TestWaypointJudgesBytesToWorkloads(t *testing.T) {
	front := mesh.ServiceKey{Namespace: "edge", Hostname: "west.edge.svc.cluster.local"}
	s := newScene(t, func(o *Options) { o.Limits.StreamsPerService = 1 })
	echo := func(_ mesh.Identity, _ string, stream *hbone.Stream) { _, _ = io.Copy(stream, stream) }
	pods := []*mesh.Workload{s.podServing(1, echo), s.podServing(2, echo)}
	for _, w := range pods {
		w.Waypoint = &mesh.GatewayAddress{Hostname: front, Port: 15008}
	}
	s.add(pods...)
	s.configure(waypointOf(nil))
	var streams []*hbone.Stream
	for _, to := range []string{"10.0.0.1:8080", "10.0.0.2:8080"} { // each has a place of its own
		streams = append(streams, s.beginBytesTo(to, clientID))
	}
	if status, reason := s.refusal(s.outer(15008, clientID), "10.0.0.1:8080", nil); status != 503 || Reason(reason) != ReasonServiceOverload {
		t.Errorf("one too many is answered %d %s", status, reason)
	}
	moved := *pods[0]
	moved.Waypoint = nil
	s.add(&moved)
	s.configure(waypointOf(nil))
	if err := says(streams[0], "still"); err != nil {
		t.Errorf("to a workload that left its waypoint: %v", err)
	}
	s.configure(waypointOf(func(g *mesh.Gateway) { g.Policies = []*mesh.Policy{policyOn("thief", mesh.Allow, principal(thiefID))} }))
	if !cut(streams[0]) {
		t.Error("a policy that turned against it did not end it")
	}
}

// A workload that leaves its waypoint is served on to who has not heard of it, and some time later it is not any more. One that never was behind it is nobody's to ask for.
func TestWorkloadThatLeavesItsWaypoint(t *testing.T) {
	front := mesh.ServiceKey{Namespace: "edge", Hostname: "west.edge.svc.cluster.local"}
	echo := func(_ mesh.Identity, _ string, stream *hbone.Stream) { _, _ = io.Copy(stream, stream) }
	for _, lasts := range []time.Duration{time.Hour, time.Millisecond} {
		s := newScene(t, func(o *Options) { o.Parting = lasts })
		w, stranger := s.podServing(1, echo), s.podServing(2, echo)
		w.Waypoint = &mesh.GatewayAddress{Hostname: front, Port: 15008}
		s.add(w, stranger)
		s.configure(waypointOf(nil))
		moved := *w
		moved.Waypoint = nil
		s.add(&moved)
		refused := func(to string) func() bool {
			return func() bool {
				status, reason := s.refusal(s.outer(15008, clientID), to, nil)
				return status == 503 && Reason(reason) == ReasonNotBehind
			}
		}
		s.until("a workload that never was behind it is refused", refused("10.0.0.2:8080"))
		if lasts < time.Second {
			s.until("long after, new streams are refused", refused("10.0.0.1:8080"))
			s.add(w)
			s.until("it is back", func() bool { return !refused("10.0.0.1:8080")() })
			continue
		}
		if err := says(s.beginBytesTo("10.0.0.1:8080", clientID), "late"); err != nil {
			t.Errorf("who has not heard: %v", err)
		}
		s.configure(waypointOf(func(g *mesh.Gateway) { g.Policies = []*mesh.Policy{policyOn("thief", mesh.Allow, principal(thiefID))} }))
		if status, reason := s.refusal(s.outer(15008, clientID), "10.0.0.1:8080", nil); status != 401 || Reason(reason) != ReasonDenied {
			t.Errorf("whom the waypoint's policies keep out is answered %d %s", status, reason)
		}
	}
}

// says has an echo say a word.
func says(stream *hbone.Stream, word string) error {
	_ = stream.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(stream, word); err != nil {
		return err
	}
	_, err := io.ReadFull(stream, make([]byte, len(word)))
	return err
}

// cut waits for a stream's end, and says whether it was none in order.
func cut(stream *hbone.Stream) bool {
	_ = stream.SetDeadline(time.Now().Add(patience))
	n, err := stream.Read(make([]byte, 1))
	return n == 0 && err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded)
}

// A side that breaks is not taken for one that ends, by the other one: half of what was sent must not look whole.
func TestWaypointPassesResetsOn(t *testing.T) {
	for name, change := range map[string]func(*mesh.Gateway){"looked at": routed, "not looked at": nil} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, nil)
			ended := make(chan error, 1)
			breaks := make(chan struct{})
			s.add(s.podServing(1, func(_ mesh.Identity, _ string, stream *hbone.Stream) {
				first := make([]byte, 5)
				if _, err := io.ReadFull(stream, first); err != nil {
					ended <- err
					return
				}
				_, _ = stream.Write(first)
				select {
				case <-breaks:
					_ = stream.Reset(0xa)
				default:
					_, err := io.ReadAll(stream)
					ended <- err
				}
			}))
			s.configure(waypointOf(change))
			if err := s.beginBytes(clientID).Reset(0xa); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; err == nil {
				t.Error("the pod takes the client's reset for its end")
			}
			close(breaks)
			if _, err := io.ReadAll(s.beginBytes(clientID)); err == nil {
				t.Error("the client takes the pod's reset for its end")
			}
		})
	}
}

// A port that was another kind of listener's until a moment ago forwards nothing by a waypoint's configuration, nor the other way round.
func TestPortsOfOtherKindsForwardNothing(t *testing.T) {
	s := newScene(t, nil)
	s.add(s.podServing(1, func(_ mesh.Identity, _ string, stream *hbone.Stream) { _, _ = io.Copy(stream, stream) }))
	s.configure(waypointOf(func(g *mesh.Gateway) { g.Listeners[0].Protocol = mesh.ListenerHBONE }))
	for _, to := range []string{authority, "10.0.0.1:8080"} {
		if status, reason := s.refusal(s.outer(15008, clientID), to, nil); status != 503 {
			t.Errorf("%s is answered %d %s", to, status, reason)
		}
	}
}
