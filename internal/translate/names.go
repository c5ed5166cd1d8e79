// SPDX-License-Identifier: Apache-2.0

package translate

import "github.com/isthmus-mesh/isthmus/internal/world"

// serviceName names a service across clusters: namespace sameness.
type serviceName struct{ Namespace, Name string }

func nameOf(k world.Key) serviceName { return serviceName{k.Namespace, k.Name} }

func (n serviceName) in(c world.Cluster) world.Key {
	return world.Key{Cluster: c, Namespace: n.Namespace, Name: n.Name}
}

func compareNames(a, b serviceName) int {
	return world.Key{Namespace: a.Namespace, Name: a.Name}.Compare(world.Key{Namespace: b.Namespace, Name: b.Name})
}

// podName names a pod in its cluster.
type podName struct{ Namespace, Name string }

func (n podName) in(c world.Cluster) world.Key {
	return world.Key{Cluster: c, Namespace: n.Namespace, Name: n.Name}
}
