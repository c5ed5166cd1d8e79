// SPDX-License-Identifier: Apache-2.0

//go:build netns

package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// customers is how many clients send requests at once, each on a connection that it keeps.
const customers = 8

// buying is clients in a pod that send requests all the time, each once: whether it is tried again is up to what is between.
type buying struct {
	mu      sync.Mutex
	answers []string // in the order in which they came
	lost    []error  // requests without an answer, and with another status than 200
	slowest time.Duration

	stop    context.CancelFunc
	running sync.WaitGroup
}

// buy begins; what has begun when it is to stop goes on to its end.
func buy(ctx context.Context, from *Pod, url string) *buying {
	b := &buying{}
	ctx, b.stop = context.WithCancel(ctx)
	for range customers {
		b.running.Go(func() {
			transport := &http.Transport{DialContext: from.Dial}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport, Timeout: patience}
			for ctx.Err() == nil {
				began := time.Now()
				word, err := once(client, url)
				b.mu.Lock()
				if err == nil {
					b.answers, b.slowest = append(b.answers, word), max(b.slowest, time.Since(began))
				} else if len(b.lost) < maxFaults {
					b.lost = append(b.lost, err)
				}
				b.mu.Unlock()
			}
		})
	}
	return b
}

// end waits for all requests to end.
func (b *buying) end() { b.stop(); b.running.Wait() }

func once(client *http.Client, url string) (string, error) {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	answer, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s, %s: %.100s", answer.Status, answer.Header.Get("x-isthmus-reason"), body)
	}
	return string(body), err
}

// from waits until as many answers in a row as settled come from these clusters, and from each of them.
func (b *buying) from(ctx context.Context, clusters ...string) (took time.Duration, err error) {
	want := map[string]bool{}
	for _, c := range clusters {
		want[c] = true
	}
	b.mu.Lock()
	begun := len(b.answers)
	b.mu.Unlock()
	for began := time.Now(); ; {
		b.mu.Lock()
		answers := b.answers[begun:]
		b.mu.Unlock()
		seen, inARow := map[string]int{}, 0
		for i := len(answers) - 1; i >= 0 && want[answers[i]]; i-- {
			seen[answers[i]]++
			inARow++
		}
		if inARow >= settled && len(seen) == len(want) {
			return time.Since(began), nil
		}
		if time.Since(began) > patience || ctx.Err() != nil {
			return 0, fmt.Errorf("the last %d answers are %v, want ones from each of %v", inARow, seen, clusters)
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// trading are two clusters with a service of one pod each, and clients in east that send it requests which a route leads there: at a Gateway of east, or at the waypoint of the service.
type trading struct {
	*waypointed
	shops map[string]*shop
	edges map[string]*Gateway
	url   string
	logs  []string
}

// retries are those of a rule: requests that get 503 or no answer in two seconds are tried again.
func retries(to gatewayv1.HTTPBackendRef) []gatewayv1.HTTPRouteRule {
	return []gatewayv1.HTTPRouteRule{{
		BackendRefs: []gatewayv1.HTTPBackendRef{to},
		Timeouts:    &gatewayv1.HTTPRouteTimeouts{BackendRequest: ptr.To[gatewayv1.Duration]("2s")},
		Retry:       &gatewayv1.HTTPRouteRetry{Attempts: ptr.To(3), Backoff: ptr.To[gatewayv1.Duration]("10ms"), Codes: []gatewayv1.HTTPRouteRetryStatusCode{http.StatusServiceUnavailable}},
	}}
}

func newTrading(t *testing.T, waypoint bool) (*trading, context.Context) {
	t.Helper()
	r, ctx := newRig(t)
	s := &trading{waypointed: &waypointed{t: t, ctx: ctx, rig: r, cluster: map[string]*Cluster{}, proxy: map[string]*Proxy{}}, shops: map[string]*shop{}, edges: map[string]*Gateway{}}
	var ready []interface{ Ready(context.Context) error }
	for _, name := range []string{"east", "west"} {
		c := r.Cluster(name)
		s.cluster[name] = c
		front, back := must1(c.Node())(t), must1(c.Node())(t)
		must(t, front.Masquerade(ctx))
		s.proxy[name] = must1(back.StartProxy(ctx, ProxyOptions{Drain: time.Second}))(t)
		s.edges[name] = must1(front.StartGateway(ctx, "edge"))(t)
		s.logs = append(s.logs, s.edges[name].Log)
		cart := must1(back.EnrolledPod(ctx, "cart"))(t)
		s.shops[name] = openShop(ctx, t, cart, name)
		labels := map[string]string{world.LabelGlobal: "true"}
		if waypoint && name == "east" {
			labels[world.LabelUseWaypoint], labels[world.LabelUseWaypointNamespace] = "waypoint", SystemNamespace
		}
		at := c.webService(Namespace, "cart", labels, cart)
		ready = append(ready, s.proxy[name], s.edges[name])
		if name == "west" {
			continue
		}
		s.cart = at
		if !waypoint {
			s.client = must1(front.Pod("visitor"))(t)
			s.url = fmt.Sprintf("http://%s:8080/", s.edges[name].Pod.Address)
			r.Put(
				&world.Gateway{
					Key: c.key(SystemNamespace, "edge"), Class: "eastwest", Network: name, ServiceAccount: "edge", Created: 1,
					Listeners: []world.Listener{{Name: "web", Port: 8080, Protocol: "HTTP"}},
					Status:    []world.GatewayAddress{{Type: "IPAddress", Value: s.edges[name].Address.String()}},
				},
				&world.HTTPRoute{
					Key: c.key(SystemNamespace, "cart"), Parents: []world.RouteParent{{Group: gatewayv1.GroupName, Kind: "Gateway", Namespace: SystemNamespace, Name: "edge"}},
					Rules: retries(toImport(Namespace, "cart")),
				},
				&world.ReferenceGrant{
					Key:  c.key(Namespace, "edge"),
					From: []world.GrantFrom{{Group: gatewayv1.GroupName, Kind: "HTTPRoute", Namespace: SystemNamespace}}, To: []world.GrantTo{{Group: "multicluster.x-k8s.io", Kind: "ServiceImport"}},
				},
			)
			continue
		}
		ready = append(ready, must1(front.StartProxy(ctx, ProxyOptions{}))(t))
		s.client = must1(front.EnrolledPod(ctx, "till"))(t)
		s.url = fmt.Sprintf("http://%s/", netip.AddrPortFrom(s.cart, 80))
		w := must1(front.StartWaypoint(ctx, "waypoint"))(t)
		s.logs, ready = append(s.logs, w.Log), append(ready, w)
		r.Put(
			&world.HTTPRoute{Key: c.key(Namespace, "cart"), Parents: []world.RouteParent{atService(Namespace, "cart")}, Rules: retries(toService(Namespace, "cart"))},
			&world.ReferenceGrant{Key: c.key(Namespace, "waypoint"), From: []world.GrantFrom{{Group: gatewayv1.GroupName, Kind: "HTTPRoute", Namespace: Namespace}}, To: []world.GrantTo{{Kind: "Service"}}},
		)
	}
	r.Publish()
	for _, one := range ready {
		must(t, one.Ready(ctx))
	}
	// Ready says that the port is bound, not that a route came with it.
	for end := time.Now().Add(patience); ; {
		if word, err := s.client.Get(ctx, s.url); err == nil {
			return s, ctx
		} else if time.Now().After(end) {
			t.Fatalf("%q, %v", word, err)
		}
	}
}

// Requests of many clients at once go to the pods of two clusters. Whatever dies, or falls sick, in one of them, every request is answered: those that were under way are tried again in the other
// cluster. And what comes back is used again. No control plane tells anybody of a loss.
func TestNoRequestIsLost(t *testing.T) {
	for name, waypoint := range map[string]bool{"at a Gateway, to a ServiceImport": false, "at a waypoint, to a Service": true} {
		t.Run(name, func(t *testing.T) {
			s, _ := newTrading(t, waypoint)
			ctx, cancel := context.WithTimeout(t.Context(), 8*patience) // the programs were built by the other one's time
			t.Cleanup(cancel)
			east, west := s.shops["east"], s.shops["west"]
			b := buy(ctx, s.client, s.url)
			t.Cleanup(b.end)
			revive := func(cluster string) {
				s.proxy[cluster] = must1(s.cluster[cluster].Nodes[1].StartProxy(ctx, ProxyOptions{Drain: time.Second}))(t)
				must(t, s.proxy[cluster].Ready(ctx))
			}
			for _, step := range []struct {
				what string
				do   func()
				want []string
			}{
				{"all is well", func() {}, []string{"east", "west"}},
				{"the application here answers 503", func() { east.sick.Store(true) }, []string{"west"}},
				{"it is well again", func() { east.sick.Store(false) }, []string{"east", "west"}},
				{"the application here is killed", func() {
					for deadline := time.Now().Add(patience); ; { // at a moment when it has requests
						was := east.broken.Load()
						for east.busy.Load() == 0 { // after it died without one it is asked again in a while
							if time.Now().After(deadline) {
								t.Fatal("the application never had a request when it died")
							}
							runtime.Gosched()
						}
						if east.die(); east.broken.Load() > was {
							return
						}
						east.open(ctx, t)
					}
				}, []string{"west"}},
				{"it is back", func() { east.open(ctx, t) }, []string{"east", "west"}},
				{"the proxy of the pods there is killed, and their gateway lives", func() { must(t, s.proxy["west"].Kill()) }, []string{"east"}},
				{"it is back", func() { revive("west") }, []string{"east", "west"}},
				{"the gateway there is killed", func() { must(t, s.edges["west"].Kill()) }, []string{"east"}},
				{"it is back", func() { must(t, errors.Join(s.edges["west"].Restart(ctx), s.edges["west"].Ready(ctx))) }, []string{"east", "west"}},
				{"the pod here falls silent", func() { must(t, east.Swallow(ctx, "eth0", true)) }, []string{"west"}},
				{"it speaks", func() { must(t, east.Swallow(ctx, "eth0", false)) }, []string{"east", "west"}},
				{"the application there is killed", west.die, []string{"east"}},
			} {
				step.do()
				took, err := b.from(ctx, step.want...)
				b.mu.Lock()
				lost := len(b.lost)
				b.mu.Unlock()
				if err != nil || lost > 0 {
					for _, log := range s.logs {
						text, _ := os.ReadFile(log)
						t.Logf("%s:\n%s", log, text[max(0, len(text)-8000):])
					}
					t.Fatalf("%s: %v; lost %v", step.what, err, b.lost)
				}
				t.Logf("%s: %v after %.2f s", step.what, step.want, took.Seconds())
			}
			b.end()
			for _, err := range b.lost {
				t.Errorf("a request was lost: %v", err)
			}
			t.Logf("%d requests, %d lost, the slowest took %.2f s; %d were under way when the application here died", len(b.answers), len(b.lost), b.slowest.Seconds(), east.broken.Load())
		})
	}
}
