// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// forwarding is set in every namespace that passes packets on. A new namespace takes rp_filter from the host, whose
// distribution may have chosen anything; packets of the lab may come in another way than answers go out.
var forwarding = map[string]string{
	"net/ipv4/ip_forward":             "1",
	"net/ipv4/conf/all/rp_filter":     "0",
	"net/ipv4/conf/default/rp_filter": "0",
}

// box is one machine of a lab: a network namespace with a link to its neighbour.
type box struct {
	netlink *netlink.Handle
	fd      int
	path    string
}

func (p places) newBox(name string, sysctls map[string]string) (*box, error) {
	path := p.netns(name)
	if err := createNetns(path, sysctls); err != nil {
		return nil, err
	}
	return openBox(path)
}

func openBox(path string) (*box, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open namespace %s: %w", path, err)
	}
	handle, err := inNetns(path, func() (*netlink.Handle, error) { return netlink.NewHandle(unix.NETLINK_ROUTE) })
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("netlink in %s: %w", path, err)
	}
	b := &box{netlink: handle, fd: fd, path: path}
	if err := b.up("lo"); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *box) close() {
	b.netlink.Close()
	unix.Close(b.fd)
}

func (b *box) up(link string) error {
	found, err := b.netlink.LinkByName(link)
	if err == nil {
		err = b.netlink.LinkSetUp(found)
	}
	if err != nil {
		return fmt.Errorf("%s: set %s up: %w", b.path, link, err)
	}
	return nil
}

// connect makes a virtual cable between two boxes.
func (b *box) connect(link string, to *box, toLink string) error {
	attributes := netlink.NewLinkAttrs()
	attributes.Name = link
	cable := &netlink.Veth{LinkAttrs: attributes, PeerName: toLink, PeerNamespace: netlink.NsFd(to.fd)}
	if err := b.netlink.LinkAdd(cable); err != nil {
		return fmt.Errorf("cable from %s (%s) to %s (%s): %w", b.path, link, to.path, toLink, err)
	}
	if err := b.up(link); err != nil {
		return err
	}
	return to.up(toLink)
}

func (b *box) address(link string, prefix netip.Prefix) error {
	found, err := b.netlink.LinkByName(link)
	if err == nil {
		err = b.netlink.AddrAdd(found, &netlink.Addr{IPNet: ipNet(prefix)})
	}
	if err != nil {
		return fmt.Errorf("%s: address %s on %s: %w", b.path, prefix, link, err)
	}
	return nil
}

func (b *box) route(to netip.Prefix, via netip.Addr) error {
	err := b.netlink.RouteAdd(&netlink.Route{Dst: ipNet(to), Gw: via.AsSlice()})
	if err != nil {
		return fmt.Errorf("%s: route %s via %s: %w", b.path, to, via, err)
	}
	return nil
}

// ipNet keeps the host part of the address: it is needed for interface addresses.
func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

var anywhere = netip.MustParsePrefix("0.0.0.0/0")

// buildNetwork makes all network namespaces of a lab and the cables, addresses and routes between them.
func (p places) buildNetwork(shape Shape) error {
	wan, err := p.newBox("wan", forwarding)
	if err != nil {
		return err
	}
	defer wan.close()
	client, err := p.newBox("client", nil)
	if err != nil {
		return err
	}
	defer client.close()
	if err := wan.connect("client", client, "eth0"); err != nil {
		return err
	}
	// Neighbours on a /30 would need four addresses below 10.89.0.4: these are .0 to .3.
	if err := wan.address("client", netip.MustParsePrefix(clientGateway+"/30")); err != nil {
		return err
	}
	if err := client.address("eth0", netip.MustParsePrefix(clientAddress+"/30")); err != nil {
		return err
	}
	if err := client.route(anywhere, netip.MustParseAddr(clientGateway)); err != nil {
		return err
	}
	for n := 1; n <= shape.Clusters; n++ {
		if err := p.buildSite(wan, clusterName(n), site{n}, shape.Nodes); err != nil {
			return err
		}
	}
	if shape.WAN == WANEmulated {
		if err := wan.closeDetour(); err != nil {
			return err
		}
		for _, c := range append([]string{"client"}, clusterNames(shape.Clusters)...) {
			if err := wan.detour(c); err != nil {
				return err
			}
		}
	}
	return p.filter(p.netns("wan"), wanRules)
}

// buildSite makes one cluster's router, control plane and nodes, joined by a bridge in the router's namespace.
func (p places) buildSite(wan *box, cluster string, where site, nodes int) error {
	edge, err := p.newBox(cluster+"-edge", forwarding)
	if err != nil {
		return err
	}
	defer edge.close()
	onEdge, onWAN := where.uplink()
	if err := wan.connect(cluster, edge, "wan0"); err != nil {
		return err
	}
	if err := wan.address(cluster, onWAN); err != nil {
		return err
	}
	if err := edge.address("wan0", onEdge); err != nil {
		return err
	}
	if err := edge.route(netip.MustParsePrefix(labRange), onWAN.Addr()); err != nil {
		return err
	}
	for _, prefix := range []netip.Prefix{where.machines(), where.pool()} {
		if err := wan.route(prefix, onEdge.Addr()); err != nil {
			return err
		}
	}
	// A pool address that no service holds ends here, instead of going back to the WAN by the route above.
	if err := edge.netlink.RouteAdd(&netlink.Route{Dst: ipNet(where.pool()), Type: unix.RTN_UNREACHABLE, Priority: 1}); err != nil {
		return fmt.Errorf("%s: route for the unused part of %s: %w", edge.path, where.pool(), err)
	}

	attributes := netlink.NewLinkAttrs()
	attributes.Name = "br0"
	if err := edge.netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attributes}); err != nil {
		return fmt.Errorf("%s: bridge: %w", edge.path, err)
	}
	if err := edge.up("br0"); err != nil {
		return err
	}
	if err := edge.address("br0", netip.PrefixFrom(where.edge(), 24)); err != nil {
		return err
	}
	machines := []string{"cp"}
	for i := firstNodeIndex; i <= nodes; i++ {
		machines = append(machines, "n"+strconv.Itoa(i))
	}
	for index, name := range machines {
		address := where.controlPlane()
		if index > 0 {
			address = where.node(index)
		}
		if err := p.buildMachine(edge, cluster+"-"+name, name, address, where, index, nodes); err != nil {
			return err
		}
	}
	return nil
}

// buildMachine makes a control plane (index 0) or node index, and plugs it into the router's bridge.
func (p places) buildMachine(edge *box, name, port string, address netip.Addr, where site, index, nodes int) error {
	machine, err := p.newBox(name, forwarding)
	if err != nil {
		return err
	}
	defer machine.close()
	if err := edge.connect(port, machine, "eth0"); err != nil {
		return err
	}
	link, err := edge.netlink.LinkByName(port)
	if err != nil {
		return err
	}
	bridge, err := edge.netlink.LinkByName("br0")
	if err != nil {
		return err
	}
	if err := edge.netlink.LinkSetMasterByIndex(link, bridge.Attrs().Index); err != nil {
		return fmt.Errorf("%s: plug %s into the bridge: %w", edge.path, port, err)
	}
	if err := machine.address("eth0", netip.PrefixFrom(address, 24)); err != nil {
		return err
	}
	if err := machine.route(anywhere, where.edge()); err != nil {
		return err
	}
	// Other nodes' pods: nodes need the way for pods, the API server for webhooks.
	for i := firstNodeIndex; i <= nodes; i++ {
		if i != index {
			if err := machine.route(where.pods(i), where.node(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// wanRules keep everything but machine and LoadBalancer addresses off the WAN.
const wanRules = `
table ip isthmuslab {
	chain forward {
		type filter hook forward priority filter; policy drop;
		ip saddr ` + labRange + ` ip daddr ` + labRange + ` accept
	}
}
`

// nodeRules give what leaves the cluster the node's address, and drop what is sent to a pool address that no service
// holds: kube-proxy has rewritten the others before, and this one would go round between node and router.
func nodeRules(where site) string {
	return strings.NewReplacer("$PODS", podRange, "$POOL", where.pool().String()).Replace(`
table ip isthmuslab {
	chain postrouting {
		type nat hook postrouting priority 90; policy accept;
		ip saddr $PODS ip daddr != $PODS oifname "eth0" masquerade
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
		ip daddr $POOL drop
	}
}
`)
}
