// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"net/netip"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/workloadpb"
)

// maxQuick is how large a workload is read quickly: its strings are parts of one copy of the body, which is kept as long as any of them.
const maxQuick = 16 << 10

// Numbers of fields, as in proto/istio/workload/workload.proto.
const (
	addressWorkload = 1

	workloadName, workloadNamespace, workloadAddresses, workloadNetwork, workloadTunnel = 1, 2, 3, 4, 5

	workloadTrustDomain, workloadServiceAccount, workloadWaypoint, workloadNode = 6, 7, 8, 9

	workloadCanonicalName, workloadCanonicalRevision, workloadKind, workloadWorkloadName = 10, 11, 12, 13

	workloadPolicies, workloadStatus, workloadCluster, workloadGateway, workloadUID = 16, 17, 18, 19, 20

	workloadHostname, workloadServices, workloadAppTunnel, workloadLocality, workloadNetworkMode, workloadExtensions, workloadCapacity = 21, 22, 23, 24, 25, 26, 27
)

// quickWorkload reads an Address that holds a workload as usual encoders write it: no field of another's, no message in two parts, nothing wrong. It gives nil for
// all else, which decode then reads with the generated code, and says what is wrong with it. Most of what a proxy hears are workloads: read this way, one takes two fifths of
// the time (BenchmarkDecodeWorkload).
func quickWorkload(body []byte) *mesh.Workload {
	if len(body) > maxQuick {
		return nil
	}
	outer := fields{rest: string(body)}
	if !outer.next() || outer.number != addressWorkload || outer.rest != "" {
		return nil
	}
	q := quick{fields: fields{rest: outer.bytes()}, bad: outer.bad}
	w := q.workload()
	if q.bad || q.fields.bad || q.err != nil {
		return nil
	}
	return w
}

// quick reads one workload. Once it is bad, or reader has an error, what it gives is worth nothing.
type quick struct {
	fields
	reader
	bad  bool
	seen uint64 // numbers of fields that hold a message, which may come once
}

func (q *quick) workload() *mesh.Workload {
	extensions := 0
	w := &mesh.Workload{Cluster: defaultCluster, TrustDomain: defaultTrustDomain, ServiceAccount: defaultServiceAccount, Capacity: defaultCapacity}
	for q.next() {
		switch q.number {
		case workloadUID:
			w.UID = q.text(maxUID)
		case workloadName:
			w.Name = q.text(maxUID)
		case workloadNamespace:
			w.Namespace = q.text(maxName)
		case workloadHostname:
			w.Hostname = q.text(maxName)
		case workloadNetwork:
			w.Network = q.text(maxName)
		case workloadCluster:
			w.Cluster = q.or(defaultCluster)
		case workloadTrustDomain:
			w.TrustDomain = q.or(defaultTrustDomain)
		case workloadServiceAccount:
			w.ServiceAccount = q.or(defaultServiceAccount)
		case workloadNode:
			w.Node = q.text(maxName)
		case workloadCanonicalName:
			w.CanonicalName = q.text(maxLabelValue)
		case workloadCanonicalRevision:
			w.CanonicalRevision = q.text(maxLabelValue)
		case workloadWorkloadName:
			w.WorkloadName = q.text(maxLabelValue)
		case workloadTunnel:
			w.Tunnel = mesh.Tunnel(q.enum(uint32(workloadpb.TunnelProtocol_HBONE)))
		case workloadStatus:
			w.Unhealthy = q.enum(1) == uint32(workloadpb.WorkloadStatus_UNHEALTHY)
		case workloadNetworkMode:
			w.HostNetwork = q.enum(1) == uint32(workloadpb.NetworkMode_HOST_NETWORK)
		case workloadKind:
			w.Kind = mesh.WorkloadKind(q.enum(uint32(workloadpb.WorkloadType_JOB)))
		case workloadAddresses:
			w.Addresses = append(w.Addresses, q.address(q.bytes()))
		case workloadPolicies:
			w.Policies = append(w.Policies, q.must("", q.str(), 2*maxName+1))
		case workloadServices:
			q.service(w, q.bytes())
		case workloadWaypoint:
			w.Waypoint = q.gateway()
		case workloadGateway:
			w.NetworkGateway = q.gateway()
		case workloadAppTunnel:
			w.AppTunnel = q.appTunnel()
		case workloadLocality:
			w.Locality = q.locality()
		case workloadCapacity:
			w.Capacity = q.wrapped()
		case workloadExtensions:
			extensions++
			q.extension(w)
		default:
			q.bad = true
		}
		if q.bad {
			return nil
		}
	}
	q.bad = q.bad || w.UID == "" || len(w.Addresses) > maxAddresses || len(w.Policies) > maxPolicies || len(w.Services) > maxServices || extensions > maxExtensions
	return w
}

func (q *quick) text(limit int) string {
	s := q.str()
	q.bad = q.bad || len(s) > limit
	return s
}

func (q *quick) or(empty string) string {
	if s := q.text(maxName); s != "" {
		return s
	}
	return empty
}

func (q *quick) enum(most uint32) uint32 {
	n := q.num()
	q.bad = q.bad || n > most
	return n
}

// message walks a message that may come once.
func (q *quick) message() fields {
	q.bad = q.bad || q.seen&(1<<q.number) != 0
	q.seen |= 1 << q.number
	return fields{rest: q.bytes()}
}

// end takes note of how a walk ended.
func (q *quick) end(f *fields) { q.bad = q.bad || f.bad }

func (q *quick) address(s string) netip.Addr {
	var a [16]byte
	switch copy(a[:], s); len(s) {
	case 4:
		return netip.AddrFrom4([4]byte(a[:4]))
	case 16:
		return netip.AddrFrom16(a).Unmap()
	}
	q.bad = true
	return netip.Addr{}
}

func (q *quick) appTunnel() *mesh.AppTunnel {
	f, t := q.message(), &mesh.AppTunnel{}
	for f.next() {
		switch f.number {
		case 1:
			protocol := f.num()
			f.bad = f.bad || protocol > uint32(workloadpb.ApplicationTunnel_PROXY)
			t.Proxy = protocol == uint32(workloadpb.ApplicationTunnel_PROXY)
		case 2:
			t.Port = q.port("", f.num(), true)
		default:
			f.bad = true
		}
	}
	q.end(&f)
	return t
}

func (q *quick) locality() (l mesh.Locality) {
	f := q.message()
	for f.next() {
		part := f.str()
		switch f.number {
		case 1:
			l.Region = part
		case 2:
			l.Zone = part
		case 3:
			l.Subzone = part
		default:
			f.bad = true
		}
		q.bad = q.bad || len(part) > maxName
	}
	q.end(&f)
	return l
}

// wrapped is a google.protobuf.UInt32Value.
func (q *quick) wrapped() (n uint32) {
	f := q.message()
	for f.next() {
		n = f.num()
		f.bad = f.bad || f.number != 1
	}
	q.end(&f)
	return n
}

// extension reads one that holds nothing.
func (q *quick) extension(w *mesh.Workload) {
	f, name := fields{rest: q.bytes()}, ""
	for f.next() {
		name = f.str()
		f.bad = f.bad || f.number != 1
	}
	q.end(&f)
	w.Gateway = w.Gateway || name == extensionGateway
	w.Confines = w.Confines || name == extensionConfines
}

func (q *quick) gateway() *mesh.GatewayAddress {
	f, g, destinations := q.message(), &mesh.GatewayAddress{}, 0
	for f.next() {
		switch f.number {
		case 1:
			destinations++
			namespace, hostname := q.pair(f.bytes(), true)
			g.Hostname = q.serviceKey("", namespace, hostname)
		case 2:
			destinations++
			network, addr := q.pair(f.bytes(), false)
			q.bad = q.bad || len(network) > maxName
			g.Addr = mesh.NetworkAddress{Network: network, Addr: q.address(addr)}
		case 3:
			g.Port = q.port("", f.num(), true)
		default:
			f.bad = true
		}
	}
	q.end(&f)
	q.bad = q.bad || destinations != 1
	if g.Port == 0 {
		g.Port = mesh.HBONEPort // as gatewayAddressFromProto
	}
	return g
}

// pair reads a message of two strings, the second of which may be bytes.
func (q *quick) pair(s string, text bool) (first, second string) {
	f := fields{rest: s}
	for f.next() {
		switch {
		case f.number == 1:
			first = f.str()
		case f.number == 2 && text:
			second = f.str()
		case f.number == 2:
			second = f.bytes()
		default:
			f.bad = true
		}
	}
	q.end(&f)
	return first, second
}

// service reads one entry of the services of a workload: a name, and ports.
func (q *quick) service(w *mesh.Workload, s string) {
	f, name, ports, lists := fields{rest: s}, "", []mesh.Port(nil), 0
	for f.next() {
		switch f.number {
		case 1:
			name = f.str()
		case 2:
			lists++
			ports = q.ports(f.bytes())
		default:
			f.bad = true
		}
	}
	q.end(&f)
	namespace, hostname, ok := splitName(name)
	q.bad = q.bad || !ok || lists > 1
	if w.Services == nil {
		w.Services = map[mesh.ServiceKey][]mesh.Port{}
	}
	w.Services[q.serviceKey("", namespace, hostname)] = ports
}

func (q *quick) ports(s string) (ports []mesh.Port) {
	f := fields{rest: s}
	for f.next() {
		if f.number != 1 {
			f.bad = true
			break
		}
		p := fields{rest: f.bytes()}
		var port mesh.Port
		for p.next() {
			switch p.number {
			case 1:
				port.Service = q.port("", p.num(), false)
			case 2:
				port.Target = q.port("", p.num(), true)
			case 3:
				if app := p.num(); app <= uint32(workloadpb.AppProtocol_TLS) {
					port.App = mesh.AppProtocol(app)
				} else {
					p.bad = true
				}
			default:
				p.bad = true
			}
		}
		q.end(&p)
		q.bad = q.bad || port.Service == 0
		ports = append(ports, port)
	}
	q.end(&f)
	q.bad = q.bad || len(ports) > maxMembers
	return ports
}
