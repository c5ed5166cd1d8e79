// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// ConditionConflicted is on a Service while other clusters that share it define it differently. All of them keep working; the
// message says what is used.
const ConditionConflicted = "isthmus.dev/Conflicted"

// ReasonDefinitionsDiffer goes with conditions about conflicts.
const ReasonDefinitionsDiffer = "DefinitionsDiffer"

// clashes collects what differs between clusters' definitions of one service.
type clashes struct {
	clusters []world.Cluster
	messages []string
}

// add notes one difference. Nobody listens to a nil collector.
func (c *clashes) add(message string, clusters ...world.Cluster) {
	if c == nil {
		return
	}
	c.clusters = append(c.clusters, clusters...)
	c.messages = append(c.messages, message)
}

// speaks notes a port that has another protocol in a cluster than in the one whose definition is used.
func (c *clashes) speaks(port uint16, used world.Cluster, as mesh.AppProtocol, other world.Cluster, otherwise mesh.AppProtocol) {
	if c == nil {
		return
	}
	a, b := fmt.Sprintf("%s in %s", protocolNames[as], used), fmt.Sprintf("%s in %s", protocolNames[otherwise], other)
	if other < used { // both clusters tell it in the same words
		a, b = b, a
	}
	c.add(fmt.Sprintf("port %d speaks %s and %s; %s's definition is used here", port, a, b, used), used, other)
}

// missing notes a port that only some definitions have.
func (c *clashes) missing(port uint16, definitions []*world.Service) {
	if c == nil {
		return
	}
	var with, without []string
	for _, s := range definitions {
		c.clusters = append(c.clusters, s.Cluster)
		if slices.ContainsFunc(s.Ports, func(p world.ServicePort) bool { return p.Port == port }) {
			with = append(with, string(s.Cluster))
		} else {
			without = append(without, string(s.Cluster))
		}
	}
	slices.Sort(with)
	slices.Sort(without)
	c.messages = append(c.messages, fmt.Sprintf("port %d is missing in %s: it leads to pods of %s only", port, strings.Join(without, ", "), strings.Join(with, ", ")))
}

// differences notes settings of other definitions that are not as in our own one, and definitions that do not count because they are
// of a kind that has no endpoints.
func (x *index) differences(n serviceName, own *world.Service, sorted []*world.Service, c *clashes) {
	for _, s := range sorted {
		if s == own {
			continue
		}
		if s.Headless != own.Headless {
			c.add(fmt.Sprintf("it is headless in only one of %s and %s", own.Cluster, s.Cluster), own.Cluster, s.Cluster)
		}
		if a, b := x.distribution(own), x.distribution(s); a != b {
			c.add(fmt.Sprintf("trafficDistribution is %q in %s and %q in %s; each cluster's clients follow their own", a, own.Cluster, b, s.Cluster), own.Cluster, s.Cluster)
		}
		if s.NodeLocal != own.NodeLocal {
			c.add(fmt.Sprintf("internalTrafficPolicy is Local in only one of %s and %s; each cluster's clients follow their own", own.Cluster, s.Cluster), own.Cluster, s.Cluster)
		}
		if s.NotReady != own.NotReady {
			c.add(fmt.Sprintf("publishNotReadyAddresses is set in only one of %s and %s; each cluster's clients follow their own", own.Cluster, s.Cluster), own.Cluster, s.Cluster)
		}
		mine, _ := x.wishFor(own.Labels, own.Cluster, own.Namespace)
		theirs, _ := x.wishFor(s.Labels, s.Cluster, s.Namespace)
		if mine.wanted() != theirs.wanted() {
			c.add(fmt.Sprintf("a waypoint is asked for in only one of %s and %s; each cluster's clients follow their own", own.Cluster, s.Cluster), own.Cluster, s.Cluster)
		}
	}
	others := make([]world.Cluster, 0, len(x.clustersOf[n]))
	for other := range x.clustersOf[n] {
		others = append(others, other)
	}
	slices.Sort(others)
	for _, other := range others {
		s := x.state.Services[n.in(other)]
		if other == own.Cluster || usable(s) || !namespaceAllowed(x.limits[other], n.Namespace) || x.decideIn(other, s).verdict != global {
			continue
		}
		what := "has no TCP port"
		if s.ExternalName {
			what = "is of type ExternalName"
		}
		c.add(fmt.Sprintf("it %s in %s, whose definition is left out", what, other), own.Cluster, other)
	}
}

// conflict is what was collected; nil: nothing.
func (c *clashes) conflict(n serviceName) *Conflict {
	if len(c.messages) == 0 {
		return nil
	}
	slices.Sort(c.clusters)
	clusters := slices.Compact(c.clusters)
	if len(clusters) > MaxConflicts {
		clusters = clusters[:MaxConflicts]
	}
	return &Conflict{Namespace: n.Namespace, Name: n.Name, Clusters: clusters, Message: shorten(strings.Join(c.messages, "; "))}
}

// finding is the conflict on our own cluster's Service.
func (c *Conflict) finding() Finding {
	return Finding{Type: ConditionConflicted, Status: isTrue, Reason: ReasonDefinitionsDiffer, Message: c.Message}
}

// maxMessage keeps a message within what conditions and the CRD take, in bytes.
const maxMessage = 1000

func shorten(s string) string {
	if len(s) > maxMessage {
		return strings.ToValidUTF8(s[:maxMessage], "") + "…"
	}
	return s
}
