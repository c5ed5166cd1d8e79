// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"strings"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// crowd is a Gateway with one listener, and sets of which each has as many as wanted, numbered from its first one on; the earlier is the older one.
type crowd []struct {
	namespace     string
	first, wanted int
}

// hostNumbered is a listener that has nothing of others but its port, and portNumbered one that has a port of its own.
func hostNumbered(n int) world.Listener {
	return world.Listener{Port: 80, Protocol: protocolHTTP, Hostname: fmt.Sprintf("h%d.example.com", n)}
}

func portNumbered(n int) world.Listener {
	return world.Listener{Port: uint16(n), Protocol: protocolTCP}
}

// heavyNumbered has two certificates with a MiB in all.
func heavyNumbered(n int) world.Listener {
	ref := world.SecretRef{Kind: string(world.KindSecret), Namespace: "demo", Name: "large"}
	other := ref
	other.Name = "other"
	return world.Listener{Port: 443, Protocol: protocolHTTPS, HasTLS: true, TLSMode: tlsTerminate, Hostname: hostNumbered(n).Hostname, Certificates: []world.SecretRef{ref, other}}
}

// served counts those of each set that are served, and those that are refused for a reason.
func (c crowd) served(t *testing.T, numbered func(int) world.Listener, reason gatewayv1.ListenerConditionReason, own ...world.Listener) (served, tooMany []int) {
	t.Helper()
	x := newIndex(testConfig)
	d := world.NewDelta()
	d.Put(&world.ReferenceGrant{Key: inDemo("all"), From: []world.GrantFrom{
		{Group: gatewayv1.GroupName, Kind: "ListenerSet", Namespace: "a"}, {Group: gatewayv1.GroupName, Kind: "ListenerSet", Namespace: "b"},
	}, To: []world.GrantTo{{Kind: "Secret"}}})
	for _, name := range []string{"large", "other"} {
		d.Put(&world.Secret{Key: inDemo(name), Chain: strings.Repeat("c", 500<<10), PrivateKey: strings.Repeat("k", 10<<10)})
	}
	d.Put(&world.GatewayClass{Key: world.Key{Cluster: "east", Name: ClassEastWest}, Controller: ControllerName})
	g := &world.Gateway{
		Key: world.Key{Cluster: "east", Namespace: "demo", Name: "gw"}, Class: ClassEastWest, SetsFrom: string(gatewayv1.NamespacesFromAll),
		Listeners: append([]world.Listener{{Name: "own", Port: 1024, Protocol: protocolTCP}}, own...),
	}
	d.Put(g)
	of := map[string]int{}
	for i, s := range c {
		set := &world.ListenerSet{Key: world.Key{Cluster: "east", Namespace: s.namespace, Name: fmt.Sprint("set", i)}, Created: int64(i + 1), Gateway: g.Key}
		for j := range s.wanted {
			l := numbered(s.first + j)
			l.Name = fmt.Sprint("l", j)
			set.Listeners = append(set.Listeners, l)
		}
		of[set.Name] = i
		d.Put(set)
	}
	x.fold(d, newTouched())
	served, tooMany = make([]int, len(c)), make([]int, len(c))
	all, mine, bytes, ports := 0, 0, 0, set[uint16]{}
	for _, v := range x.judgeAll([]*world.Gateway{g}, set[world.ObjectRef]{}).gateways[g.Key].verdicts {
		if v.reason == "" {
			all++
			for _, c := range v.certificates {
				bytes += len(c.Chain) + len(c.Key)
			}
			if v.set != nil && v.listener.Port != 1024 {
				ports.add(v.listener.Port)
			}
		}
		if v.set == nil {
			if v.reason == "" {
				mine++
			}
			continue
		}
		switch i := of[v.set.Name]; v.reason {
		case "":
			served[i]++
		case reason:
			tooMany[i]++
		}
	}
	if all > maxMergedListeners || bytes > maxListenerLoad || len(ports) > maxSetPorts {
		t.Errorf("%d listeners are served at %d ports of sets, with %d bytes of certificates", all, len(ports), bytes)
	}
	if want := min(1+len(own), 1+maxListenerLoad>>20); mine != want { // heavy ones, if any
		t.Errorf("%d of the Gateway's own listeners are served, want %d", mine, want)
	}
	return served, tooMany
}

// Nobody's sets, however old, keep another namespace from its share of a Gateway's listeners, and none that is not served takes any of it.
func TestShareOfMergedListeners(t *testing.T) {
	for name, tc := range map[string]struct {
		crowd           crowd
		served, tooMany []int
	}{
		"as many as may be": {crowd{{"a", 2000, 500}, {"b", 3000, 11}}, []int{500, 11}, []int{0, 0}},
		"the old one grows": {crowd{{"a", 2000, 600}, {"b", 3000, 5}}, []int{506, 5}, []int{94, 0}},
		"several sets of one namespace": {
			crowd{{"a", 2000, 300}, {"a", 3000, 300}, {"b", 4000, 20}}, []int{300, 191, 20}, []int{0, 109, 0},
		},
		"all want more than there is":      {crowd{{"a", 2000, 400}, {"b", 3000, 400}, {"c", 4000, 10}}, []int{250, 250, 10}, []int{150, 150, 0}},
		"who is not served does not count": {crowd{{"a", 2000, 64}, {"b", 2000, 64}, {"b", 1900, 900}, {"c", 4000, 30}}, []int{64, 0, 417, 30}, nil},
		// What a may not have, b could have: not to the loss of c.
		"a listener that is one too many keeps nobody out, and lets nobody in either": {
			crowd{{"a", 2000, 600}, {"b", 2500, 120}, {"c", 4000, 10}}, []int{481, 20, 10}, []int{119, 100, 0},
		},
	} {
		served, tooMany := tc.crowd.served(t, hostNumbered, tooManyListeners)
		if fmt.Sprint(served) != fmt.Sprint(tc.served) {
			t.Errorf("%s: served are %v, want %v", name, served, tc.served)
		}
		if tc.tooMany != nil && fmt.Sprint(tooMany) != fmt.Sprint(tc.tooMany) {
			t.Errorf("%s: too many are %v, want %v", name, tooMany, tc.tooMany)
		}
	}
}

// A load balancer has few ports: the sets of a namespace have a few of them, and those of all not many. Ports that are there anyway are free.
func TestShareOfPorts(t *testing.T) {
	for name, tc := range map[string]struct {
		crowd           crowd
		served, tooMany []int
	}{
		"as many as may be":              {crowd{{"a", 2000, 16}, {"b", 3000, 16}, {"c", 4000, 16}, {"d", 5000, 16}}, []int{16, 16, 16, 16}, []int{0, 0, 0, 0}},
		"one namespace has more":         {crowd{{"a", 2000, 10}, {"a", 3000, 10}, {"b", 4000, 1}}, []int{10, 6, 1}, []int{0, 4, 0}},
		"all have more":                  {crowd{{"a", 2000, 16}, {"b", 3000, 16}, {"c", 4000, 16}, {"d", 5000, 16}, {"e", 6000, 20}, {"f", 7000, 4}}, []int{12, 12, 12, 12, 12, 4}, []int{4, 4, 4, 4, 8, 0}},
		"where the Gateway's own one is": {crowd{{"a", 1024, 17}}, []int{16}, []int{0}}, // it is in conflict
	} {
		served, tooMany := tc.crowd.served(t, portNumbered, gatewayv1.ListenerReasonPortUnavailable)
		if fmt.Sprint(served) != fmt.Sprint(tc.served) || fmt.Sprint(tooMany) != fmt.Sprint(tc.tooMany) {
			t.Errorf("%s: served are %v and refused %v, want %v and %v", name, served, tooMany, tc.served, tc.tooMany)
		}
	}
	// Ports that another namespace's sets have are those of both.
	host := func(n int) world.Listener {
		return world.Listener{Port: uint16(2000 + n%100), Protocol: protocolHTTP, Hostname: fmt.Sprintf("h%d.example.com", n)}
	}
	if served, _ := (crowd{{"a", 100, 16}, {"b", 200, 16}, {"c", 300, 16}, {"d", 400, 16}, {"e", 500, 16}}).served(t, host, gatewayv1.ListenerReasonPortUnavailable); fmt.Sprint(served) != "[16 16 16 16 16]" {
		t.Errorf("at the same ports: %v", served)
	}
}

// Certificates are told for each listener that has them: the Gateway's own ones come first, and those of a namespace's sets take no more than its share of what they leave.
func TestShareOfCertificates(t *testing.T) {
	for name, tc := range map[string]struct {
		crowd           crowd
		own             int
		served, tooMany []int
	}{
		"few":                             {crowd{{"a", 2000, 10}, {"b", 3000, 5}}, 0, []int{10, 5}, []int{0, 0}},
		"the old one has many":            {crowd{{"a", 2000, 60}, {"b", 3000, 5}}, 0, []int{11, 5}, []int{49, 0}},
		"the Gateway's namespace as well": {crowd{{"demo", 2000, 60}, {"b", 3000, 5}}, 4, []int{7, 5}, []int{53, 0}},
		"its own alone are too many":      {crowd{{"demo", 2000, 2}, {"b", 3000, 5}}, 40, []int{0, 0}, []int{2, 5}},
		"another namespace has many":      {crowd{{"b", 2000, 60}}, 14, []int{2}, []int{58}},
		"what is too large has its place": {crowd{{"b", 38, 4}}, 40, []int{0}, []int{2}}, // h38 and h39 are the Gateway's
	} {
		var own []world.Listener
		for i := range tc.own {
			l := heavyNumbered(i)
			l.Name = fmt.Sprint("own", i)
			own = append(own, l)
		}
		served, tooMany := tc.crowd.served(t, heavyNumbered, tooManyListeners, own...)
		if fmt.Sprint(served) != fmt.Sprint(tc.served) || fmt.Sprint(tooMany) != fmt.Sprint(tc.tooMany) {
			t.Errorf("%s: served are %v and too many %v, want %v and %v", name, served, tooMany, tc.served, tc.tooMany)
		}
	}
}

// What comes into the place of a listener that is one too many may be larger than it in another respect, or need more places: all bounds hold for it, whichever of them was passed before it came.
func TestShareOfWhatComesInstead(t *testing.T) {
	// 500 that pass TLS on want most places, and their youngest keep heavy ones of another namespace out.
	light := func(n int) world.Listener {
		if n >= 5000 {
			return heavyNumbered(n - 3000)
		}
		return world.Listener{Port: 443, Protocol: protocolTLS, HasTLS: true, TLSMode: tlsPassthrough, Hostname: hostNumbered(n).Hostname}
	}
	served, _ := (crowd{{"a", 2000, 500}, {"b", 5420, 25}, {"b", 4000, 100}}).served(t, light, tooManyListeners)
	if want := []int{411, 8, 92}; fmt.Sprint(served) != fmt.Sprint(want) {
		t.Errorf("heavy ones instead of many: served are %v, want %v", served, want)
	}
	// 16 heavy ones, each at a port of its own, keep 600 of another protocol out.
	heavy := func(n int) world.Listener {
		l := heavyNumbered(n)
		switch {
		case n < 2016:
			l.Port = uint16(n)
		case n >= 3000:
			l = hostNumbered(n)
			l.Port = uint16(2008 + n%8)
		}
		return l
	}
	var own []world.Listener
	for i := range 8 {
		l := heavyNumbered(i)
		l.Name = fmt.Sprint("own", i)
		own = append(own, l)
	}
	served, _ = (crowd{{"a", 2000, 16}, {"b", 3000, 600}, {"b", 2900, 1}}).served(t, heavy, tooManyListeners, own...)
	if want := []int{7, 244, 0}; fmt.Sprint(served) != fmt.Sprint(want) {
		t.Errorf("many instead of heavy ones: served are %v, want %v", served, want)
	}
}
