// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// crowd is a Gateway with one listener, and sets of which each has as many as wanted, all with ports of their own from its first one on; the earlier is the older one.
type crowd []struct {
	namespace     string
	first, wanted int
}

// served counts those of each set that are served, and those that are told that they are too many.
func (c crowd) served(t *testing.T) (served, tooMany []int) {
	t.Helper()
	x := newIndex(testConfig)
	d := world.NewDelta()
	d.Put(&world.GatewayClass{Key: world.Key{Cluster: "east", Name: ClassEastWest}, Controller: ControllerName})
	g := &world.Gateway{
		Key: world.Key{Cluster: "east", Namespace: "demo", Name: "gw"}, Class: ClassEastWest, SetsFrom: string(gatewayv1.NamespacesFromAll),
		Listeners: []world.Listener{{Name: "own", Port: 1024, Protocol: protocolTCP}},
	}
	d.Put(g)
	of := map[string]int{}
	for i, s := range c {
		set := &world.ListenerSet{Key: world.Key{Cluster: "east", Namespace: s.namespace, Name: fmt.Sprint("set", i)}, Created: int64(i + 1), Gateway: g.Key}
		for j := range s.wanted {
			set.Listeners = append(set.Listeners, world.Listener{Name: fmt.Sprint("l", j), Port: uint16(s.first + j), Protocol: protocolTCP})
		}
		of[set.Name] = i
		d.Put(set)
	}
	x.fold(d, newTouched())
	served, tooMany = make([]int, len(c)), make([]int, len(c))
	all := 0
	for _, v := range x.judgeAll([]*world.Gateway{g}, set[world.ObjectRef]{}).listeners[g.Key] {
		if v.reason == "" {
			all++
		}
		if v.set == nil {
			continue
		}
		switch i := of[v.set.Name]; v.reason {
		case "":
			served[i]++
		case gatewayv1.ListenerConditionReason(gatewayv1.ListenerEntryReasonTooManyListeners):
			tooMany[i]++
		}
	}
	if all > maxMergedListeners {
		t.Errorf("%d listeners are served, more than %d", all, maxMergedListeners)
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
		served, tooMany := tc.crowd.served(t)
		if fmt.Sprint(served) != fmt.Sprint(tc.served) {
			t.Errorf("%s: served are %v, want %v", name, served, tc.served)
		}
		if tc.tooMany != nil && fmt.Sprint(tooMany) != fmt.Sprint(tc.tooMany) {
			t.Errorf("%s: too many are %v, want %v", name, tooMany, tc.tooMany)
		}
	}
}
