// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

const overlapping = string(gatewayv1.ListenerConditionOverlappingTLSConfig)

// noteOverlaps finds the listeners of a Gateway, with those of its sets, that share names at a port where clients speak TLS: a client that has a connection for one of them may use it for
// what is another one's. Only who is served is looked at. Each names one other: the next wider one, or else the first that is narrower.
func noteOverlaps(g *world.Gateway, all []listenerVerdict) {
	type names struct {
		port   uint16
		suffix string // of all of them, without the dot in front; empty: they are any names
	}
	wide := map[names]*listenerVerdict{}
	var ends []*listenerVerdict
	for i := range all {
		v := &all[i]
		if p := servedProtocols[v.listener.Protocol]; v.reason != "" || p != mesh.ListenerHTTPS && !p.TLS() {
			continue
		}
		ends = append(ends, v)
		if suffix, wild := strings.CutPrefix(v.listener.Hostname, "*."); wild || suffix == "" {
			wide[names{v.listener.Port, suffix}] = v
		}
	}
	for _, v := range ends {
		for rest := v.listener.Hostname; rest != ""; {
			_, rest, _ = strings.Cut(rest, ".")
			if other := wide[names{v.listener.Port, rest}]; other != nil && other != v {
				v.overlaps = v.overlapsWith(other, g)
				if other.overlaps == "" {
					other.overlaps = other.overlapsWith(v, g)
				}
				break // what is wider still overlaps with that one, too, and is found from there
			}
		}
	}
}

// overlapsWith says so to whoever reads about the listener. Of those that are not of the same object it says no more than whose they are, as for conflicts.
func (v *listenerVerdict) overlapsWith(other *listenerVerdict, g *world.Gateway) string {
	whose := "a listener of another ListenerSet"
	switch {
	case other.set == v.set && other.listener.Hostname == "":
		whose = fmt.Sprintf("listener %s, which has all", other.listener.Name)
	case other.set == v.set:
		whose = fmt.Sprintf("listener %s (%s)", other.listener.Name, other.listener.Hostname)
	case other.set == nil:
		whose = fmt.Sprintf("a listener of Gateway %s/%s", g.Namespace, g.Name)
	case v.set == nil:
		whose = "a listener of a ListenerSet"
	}
	return fmt.Sprintf("port %d: hostnames are in common with %s: clients may send what is for one on a connection that was made for the other", v.listener.Port, whose)
}
