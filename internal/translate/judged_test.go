// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"slices"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// gatesOfAStranger are Gateways with 64 listeners each, to which nothing is attached.
func gatesOfAStranger(d *world.Delta, n int) {
	for i := range n {
		g := &world.Gateway{Key: foreign(fmt.Sprint("gate", i)), Class: ClassEastWest, SetsFrom: string(gatewayv1.NamespacesFromAll)}
		for j := range 64 {
			g.Listeners = append(g.Listeners, world.Listener{Name: fmt.Sprint("l", j), Port: uint16(7000 + j), Protocol: protocolTCP})
		}
		d.Put(g)
	}
}

// TestWhoIsJudgedAnew: of hundreds of Gateways those alone whose listeners a change may mean something else to.
func TestWhoIsJudgedAnew(t *testing.T) {
	secret := func(name string) world.SecretRef {
		return world.SecretRef{Kind: string(world.KindSecret), Namespace: "web", Name: name}
	}
	proving := func(at world.Key, certificates ...world.SecretRef) *world.Gateway {
		return &world.Gateway{Key: at, Class: ClassEastWest, Listeners: []world.Listener{{Name: "web", Port: 443, Protocol: protocolHTTPS, HasTLS: true, TLSMode: tlsTerminate, Certificates: certificates}}}
	}
	set := &world.ListenerSet{Key: foreign("set"), Gateway: foreign("choosy"), Listeners: []world.Listener{{Name: "l", Port: 80, Protocol: protocolHTTP}}}
	choosy := &world.Gateway{Key: foreign("choosy"), Class: ClassEastWest, SetsFrom: string(gatewayv1.NamespacesFromSelector), SetNamespaces: &world.Selector{MatchLabels: map[string]string{"team": "blue"}},
		Listeners: []world.Listener{{Name: "own", Port: 8080, Protocol: protocolHTTP}}}
	asks := proving(foreign("asks"), secret("theirs"))
	d := quietShop()
	gatesOfAStranger(&d, 100)
	proves := proving(world.Key{Cluster: "east", Namespace: "web", Name: "proves"}, secret("cert"))
	for _, o := range []world.Object{choosy, set, proves, asks} {
		d.Put(o)
	}
	for _, name := range []string{"cert", "theirs"} {
		d.Put(&world.Secret{Key: world.Key{Cluster: "east", Namespace: "web", Name: name}, Chain: "chain", PrivateKey: "key"})
	}
	e := NewEngine(testConfig)
	e.Apply(d)

	waysIn := &world.Gateway{Key: foreign("gate7"), Class: ClassEastWest, Listeners: []world.Listener{{Name: "other", Port: 9000, Protocol: protocolTCP}}}
	for _, c := range []struct {
		what string
		put  world.Object
		want int
	}{
		{"a route", manyRoute("route-more"), 0},
		{"a Secret that nobody refers to", &world.Secret{Key: foreign("unused"), Absent: true}, 0},
		{"a Secret", &world.Secret{Key: world.Key{Cluster: "east", Namespace: "web", Name: "cert"}, Chain: "another", PrivateKey: "key"}, 1},
		{"a grant that lets one refer", &world.ReferenceGrant{Key: world.Key{Cluster: "east", Namespace: "web", Name: "grant"},
			From: []world.GrantFrom{{Group: gatewayv1.GroupName, Kind: string(world.KindGateway), Namespace: "mallory"}}, To: []world.GrantTo{{Kind: string(world.KindSecret)}}}, 1},
		{"a grant that lets nobody refer who did not", &world.ReferenceGrant{Key: world.Key{Cluster: "east", Namespace: "web", Name: "another"},
			From: []world.GrantFrom{{Group: gatewayv1.GroupName, Kind: string(world.KindGateway), Namespace: "mallory"}}, To: []world.GrantTo{{Kind: string(world.KindSecret)}}}, 0},
		{"a label by which a set is let in", &world.Namespace{Key: world.Key{Cluster: "east", Name: "mallory"}, Labels: map[string]string{"team": "blue"}}, 1},
		{"another label", &world.Namespace{Key: world.Key{Cluster: "east", Name: "mallory"}, Labels: map[string]string{"team": "blue", "mood": "good"}}, 0},
		{"a set", &world.ListenerSet{Key: foreign("set2"), Gateway: foreign("gate3"), Listeners: []world.Listener{{Name: "l", Port: 80, Protocol: protocolHTTP}}}, 1},
		{"a set of a Gateway that is not there", &world.ListenerSet{Key: foreign("set3"), Gateway: foreign("nowhere")}, 0},
		{"a Gateway", waysIn, 1},
		{"its Service", &world.Service{Key: foreign("gate7"), Labels: map[string]string{LabelManagedBy: ManagedBy, LabelGatewayName: "gate7"}, Ports: []world.ServicePort{{Name: "other", Port: 9000}}}, 1},
		{"a Service of nobody's", &world.Service{Key: foreign("other"), Ingress: []string{"192.0.2.1"}}, 0},
	} {
		before := e.x.judgings
		d := world.NewDelta()
		d.Put(c.put)
		e.Apply(d)
		if got := e.x.judgings - before; got != c.want {
			t.Errorf("%s: %d Gateways are judged anew, want %d", c.what, got, c.want)
		}
	}
	for _, of := range []struct {
		ref  world.ObjectRef
		kind string
	}{{asks.Ref(), string(gatewayv1.GatewayConditionResolvedRefs)}, {set.Ref(), accepted}} {
		if !slices.ContainsFunc(e.Output().Findings[of.ref], func(f Finding) bool { return f.Listener == "" && f.Type == of.kind && f.Status == isTrue }) {
			t.Errorf("%v is told %+v", of.ref, e.Output().Findings[of.ref])
		}
	}
}

// TestSecretsOfTooManyGateways: those are not judged anew either to which nothing happens while all refer to more Secrets than are read.
func TestSecretsOfTooManyGateways(t *testing.T) {
	e := NewEngine(testConfig)
	e.x.maxSecrets = 10
	gate := func(i int, secrets string) *world.Gateway {
		return &world.Gateway{Key: foreign(fmt.Sprint("gate", i)), Created: int64(i + 1), Class: ClassEastWest, Listeners: []world.Listener{{Name: "web", Port: 443, Protocol: protocolHTTPS, HasTLS: true, TLSMode: tlsTerminate,
			Certificates: []world.SecretRef{{Kind: string(world.KindSecret), Namespace: "mallory", Name: fmt.Sprint(secrets, i)}}}}}
	}
	const gates = 30
	d := quietShop()
	for i := range gates {
		d.Put(gate(i, "cert"))
		d.Put(&world.Secret{Key: foreign(fmt.Sprint("cert", i)), Chain: "chain", PrivateKey: "key"})
	}
	e.Apply(d)
	apply := func(what string, want int, o world.Object) {
		t.Helper()
		before := e.x.judgings
		d := world.NewDelta()
		d.Put(o)
		e.Apply(d)
		if got := e.x.judgings - before; got != want {
			t.Errorf("%s: %d judgings, want %d", what, got, want)
		}
	}
	proved := func() (n int) {
		for i := range gates {
			for _, f := range e.Output().Findings[gate(i, "").Ref()] {
				if f.Listener == "web" && f.Type == resolvedRefs && f.Status == isTrue {
					n++
				}
			}
		}
		return n
	}
	apply("a route", 0, manyRoute("route-more"))
	if n := proved(); n != 10 {
		t.Errorf("%d Gateways prove what they are, want 10", n)
	}
	first := gate(0, "cert")
	first.Listeners[0].Certificates[0].Name = "cert1"
	apply("a Gateway that wants what another one has, so that there is room for a third one's", 3, first) // the first one in both looks
	if n := proved(); n != 11 {
		t.Errorf("%d Gateways prove what they are, want 11", n)
	}
}

// TestGatewaysOfAStranger: what is said of Gateways, their listeners and ListenerSets is remembered, too, and allocated once.
func TestGatewaysOfAStranger(t *testing.T) {
	alone := allocationsOfARoute(quietShop())
	const n = 100
	sets := func(g string, listeners int) func(*world.Delta) {
		return func(d *world.Delta) {
			d.Put(&world.Gateway{Key: foreign("closed"), Class: ClassEastWest, Listeners: []world.Listener{{Name: "http", Port: 8080, Protocol: protocolHTTP}}})
			for i := range n {
				s := &world.ListenerSet{Key: foreign(fmt.Sprint("set", i)), Created: int64(i + 1), Gateway: foreign(g)}
				for j := range listeners {
					l := hostNumbered(64*i + j)
					l.Name = fmt.Sprint("l", j)
					s.Listeners = append(s.Listeners, l)
				}
				d.Put(s)
			}
		}
	}
	for name, c := range map[string]struct {
		add  func(*world.Delta)
		most float64 // for a route more and one less
	}{
		"Gateways with many listeners":             {func(d *world.Delta) { gatesOfAStranger(d, n) }, 64 * n}, // one for each listener would be twice as many
		"sets that are let in":                     {func(d *world.Delta) { gatesOfAStranger(d, 1); sets("gate0", 10)(d) }, 2 * n},
		"sets that are not let in":                 {sets("closed", 1), n},
		"sets of a Gateway that there is not":      {sets("nowhere", 1), n},
		"sets that are not looked at, as too many": {func(d *world.Delta) { gatesOfAStranger(d, 1); sets("gate0", 64)(d) }, 10 * n},
	} {
		t.Run(name, func(t *testing.T) {
			d := quietShop()
			c.add(&d)
			beside := allocationsOfARoute(d)
			t.Logf("%v allocations, and %v alone", beside, alone)
			if beside > alone+c.most {
				t.Errorf("a route more and one less are %v allocations, and %v alone", beside, alone)
			}
		})
	}
}

// TestAnotherGatewayOfTheName is one that was deleted and made again as it was, between two looks: what is found of it is said of this one.
func TestAnotherGatewayOfTheName(t *testing.T) {
	e := NewEngine(testConfig)
	for _, uid := range []string{"earlier", "now"} {
		d := world.NewDelta()
		g := &world.Gateway{Key: foreign("gate"), UID: uid, Generation: 1, Class: ClassEastWest, Listeners: []world.Listener{{Name: "web", Port: 80, Protocol: protocolHTTP}}}
		if d.Put(g); uid == "earlier" {
			d.Put(&world.GatewayClass{Key: world.Key{Cluster: "east", Name: ClassEastWest}, Controller: ControllerName})
		}
		found := e.Apply(d).Findings[g.Ref()]
		if len(found) == 0 {
			t.Errorf("nothing is said of the Gateway of UID %q", uid)
		}
		for _, f := range found {
			if f.UID != uid {
				t.Errorf("of the Gateway of UID %q is said %+v", uid, f)
			}
		}
	}
}
