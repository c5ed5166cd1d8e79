// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// kind tells the resources of one table apart: workloads and services share the Address type.
type kind uint8

const (
	kindWorkload kind = iota + 1
	kindService
	kindPolicy
	kindGateway
	kindBundle
)

// url is the type under which the kind travels.
func (k kind) url() string {
	switch k {
	case kindWorkload, kindService:
		return addressURL
	case kindPolicy:
		return authorizationURL
	case kindBundle:
		return bundleURL
	default:
		return gatewayURL
	}
}

// entry is one resource as all subscribers get it. It is never changed.
type entry struct {
	kind     kind
	name     string
	aliases  []string
	version  string        // hash of the content, also for types that travel without one
	wire     mem.Buffer    // the resource as a field of a response; shared by all responses that hold it, read only
	services []string      // of a workload: names of the services that it belongs to
	node     string        // of a workload
	owner    mesh.Identity // of a gateway: who alone may see it (without a trust domain)
}

// told is the version that travels with the resource. Authorization resources carry none (discovery.md, part 2).
func (e *entry) told() string {
	if e.kind == kindPolicy {
		return ""
	}
	return e.version
}

// version is a stable name for content: the same on every replica and after every restart.
func version(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:10]) // 80 bits: two contents of one name never meet by chance
}

func newEntry(k kind, name string, body []byte, aliases []string) (*entry, error) {
	e := &entry{kind: k, name: name, aliases: aliases, version: version(body)}
	wire, err := resourceWire(&discovery.Resource{
		Name:     name,
		Version:  e.told(),
		Aliases:  aliases,
		Resource: &anypb.Any{TypeUrl: k.url(), Value: body},
	})
	e.wire = mem.SliceBuffer(wire)
	return e, err
}

func workloadEntry(w *mesh.Workload) (*entry, error) {
	body, err := encodeWorkload(w)
	if err != nil {
		return nil, err
	}
	var aliases []string
	if !w.HostNetwork { // several of those share their node's address, so it names none of them
		for _, a := range w.Addresses {
			aliases = append(aliases, addressName(w.Network, a.Unmap().String()))
		}
	}
	e, err := newEntry(kindWorkload, w.UID, body, aliases)
	if err != nil {
		return nil, err
	}
	e.node = w.Node
	for key := range w.Services {
		e.services = append(e.services, key.String())
	}
	slices.Sort(e.services)
	return e, nil
}

func serviceEntry(s *mesh.Service) (*entry, error) {
	body, err := encodeService(s)
	if err != nil {
		return nil, err
	}
	var aliases []string
	for _, a := range s.Addresses {
		aliases = append(aliases, addressName(a.Network, a.Addr.Unmap().String()))
	}
	return newEntry(kindService, s.Key().String(), body, aliases)
}

func policyEntry(p *mesh.Policy) (*entry, error) {
	body, err := encodePolicy(p)
	if err != nil {
		return nil, err
	}
	return newEntry(kindPolicy, p.Key(), body, nil)
}

// gatewayEntry also gives the encoded routes, see encodeGateway.
func gatewayEntry(g *mesh.Gateway, before encodedRoutes) (*entry, encodedRoutes, error) {
	body, routes, err := encodeGateway(g, before)
	if err != nil {
		return nil, nil, err
	}
	e, err := newEntry(kindGateway, g.Key().String(), body, nil)
	if err != nil {
		return nil, nil, err
	}
	e.owner = mesh.Identity{Namespace: g.Namespace, ServiceAccount: g.ServiceAccount}
	return e, routes, nil
}

func bundleEntry(b *mesh.Bundle) (*entry, error) {
	body, err := encodeBundle(b)
	if err != nil {
		return nil, err
	}
	return newEntry(kindBundle, b.TrustDomain, body, nil)
}

// addressName is the name by which an address may be asked for.
func addressName(network, addr string) string { return network + "/" + addr }

// table holds the resources of one type, and for addresses the ways in which they may be asked for.
// It is guarded by Server.mu.
type table struct {
	entries map[string]*entry
	aliases map[string][]string            // alias → names, usually one
	members map[string]map[string]struct{} // service name → workload names
	nodes   map[string]map[string]struct{} // node → workload names
	doubt   func(name string) bool         // whether a name that is not there may exist all the same; nil if nothing is in doubt
}

func newTable() *table {
	return &table{
		entries: map[string]*entry{},
		aliases: map[string][]string{},
		members: map[string]map[string]struct{}{},
		nodes:   map[string]map[string]struct{}{},
	}
}

// put adds or replaces an entry and gives the one that it replaced, or nil.
func (t *table) put(e *entry) *entry {
	old := t.remove(e.name)
	t.entries[e.name] = e
	for _, a := range e.aliases {
		t.aliases[a] = append(t.aliases[a], e.name)
	}
	for _, s := range e.services {
		add(t.members, s, e.name)
	}
	if e.node != "" {
		add(t.nodes, e.node, e.name)
	}
	return old
}

// remove takes an entry out and gives it, or nil.
func (t *table) remove(name string) *entry {
	old := t.entries[name]
	if old == nil {
		return nil
	}
	delete(t.entries, name)
	for _, a := range old.aliases {
		left := slices.DeleteFunc(t.aliases[a], func(n string) bool { return n == name })
		if len(left) == 0 {
			delete(t.aliases, a)
		} else {
			t.aliases[a] = left
		}
	}
	for _, s := range old.services {
		drop(t.members, s, name)
	}
	if old.node != "" {
		drop(t.nodes, old.node, name)
	}
	return old
}

// find appends the entries that go by a name to those that are given: the one of that name, or those of which it is an alias.
func (t *table) find(out []*entry, name string) []*entry {
	if e := t.entries[name]; e != nil {
		return append(out, e)
	}
	for _, n := range t.aliases[name] {
		out = append(out, t.entries[n])
	}
	return out
}

func add(index map[string]map[string]struct{}, key, name string) {
	set := index[key]
	if set == nil {
		set = map[string]struct{}{}
		index[key] = set
	}
	set[name] = struct{}{}
}

func drop(index map[string]map[string]struct{}, key, name string) {
	delete(index[key], name)
	if len(index[key]) == 0 {
		delete(index, key)
	}
}
