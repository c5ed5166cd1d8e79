// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// RunLoadBalancer gives addresses of the cluster's pool to Services of type LoadBalancer and routes each of them to
// the nodes that are ready. It runs in the network namespace of the cluster's router, and ends with ctx.
func RunLoadBalancer(ctx context.Context, log logr.Logger, name, cluster string) error {
	p, err := placesOf(name)
	if err != nil {
		return err
	}
	r, err := p.readRecord()
	if err != nil {
		return err
	}
	c, err := clusterOf(p, r, cluster)
	if err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", p.pki(cluster, "lb-controller.kubeconfig"))
	if err != nil {
		return err
	}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	services, nodes := factory.Core().V1().Services(), factory.Core().V1().Nodes()
	changed := make(chan struct{}, 1) // one place: whoever finds it full knows that a look is due anyway
	wake := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	for _, informer := range []cache.SharedIndexInformer{services.Informer(), nodes.Informer()} {
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { wake() }, UpdateFunc: func(any, any) { wake() }, DeleteFunc: func(any) { wake() },
		})
		if err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	for kind, ok := range factory.WaitForCacheSync(ctx.Done()) {
		if !ok {
			return fmt.Errorf("no list of %s: %w", kind, context.Cause(ctx))
		}
	}
	wake()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
		all, err := services.Lister().List(labels.Everything())
		if err != nil {
			return err
		}
		machines, err := nodes.Lister().List(labels.Everything())
		if err != nil {
			return err
		}
		wanted := assign(all, c.site.pool())
		err = errors.Join(publish(ctx, log, client, all, wanted), routePool(c.site.pool(), wanted, readyAddresses(machines)))
		if err != nil && ctx.Err() == nil {
			log.Error(err, "cannot apply load balancers, trying again", "cluster", cluster)
			time.AfterFunc(time.Second, wake)
		}
	}
}

func wantsAddress(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.LoadBalancerClass == nil && s.DeletionTimestamp == nil
}

// assign decides which service has which address of the pool: who has one keeps it, then who asks for one by
// spec.loadBalancerIP gets it if it is free, then the oldest service gets the lowest free one. A service whose wish
// cannot be met, or for which the pool has none left, has none. It depends on nothing but its arguments.
func assign(services []*corev1.Service, pool netip.Prefix) map[types.NamespacedName]netip.Addr {
	services = slices.DeleteFunc(slices.Clone(services), func(s *corev1.Service) bool { return !wantsAddress(s) })
	slices.SortFunc(services, func(a, b *corev1.Service) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	pool = pool.Masked()
	assigned, taken := map[types.NamespacedName]netip.Addr{}, map[netip.Addr]bool{pool.Addr(): true, lastAddress(pool): true}
	give := func(s *corev1.Service, address netip.Addr) {
		key := types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
		if _, has := assigned[key]; !has && pool.Contains(address) && !taken[address] {
			assigned[key], taken[address] = address, true
		}
	}
	wish := func(s *corev1.Service) netip.Addr {
		address, _ := netip.ParseAddr(s.Spec.LoadBalancerIP)
		return address
	}
	for _, s := range services {
		for _, ingress := range s.Status.LoadBalancer.Ingress {
			if has, err := netip.ParseAddr(ingress.IP); err == nil && (s.Spec.LoadBalancerIP == "" || has == wish(s)) {
				give(s, has)
			}
		}
	}
	for _, s := range services {
		give(s, wish(s))
	}
	next := pool.Addr()
	for _, s := range services {
		if s.Spec.LoadBalancerIP != "" {
			continue
		}
		for taken[next] && next != lastAddress(pool) {
			next = next.Next()
		}
		give(s, next)
	}
	return assigned
}

func lastAddress(p netip.Prefix) netip.Addr {
	last := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		last[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(last)
}

// publish writes the status of every service whose addresses are not what they should be.
func publish(ctx context.Context, log logr.Logger, client kubernetes.Interface, services []*corev1.Service, wanted map[types.NamespacedName]netip.Addr) error {
	var errs []error
	for _, s := range services {
		if !wantsAddress(s) {
			continue
		}
		key := types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
		ingress := []corev1.LoadBalancerIngress{}
		if address, ok := wanted[key]; ok {
			ingress = append(ingress, corev1.LoadBalancerIngress{IP: address.String(), IPMode: new(corev1.LoadBalancerIPModeVIP)})
		}
		same := func(a, b corev1.LoadBalancerIngress) bool {
			return a.IP == b.IP && a.Hostname == b.Hostname && a.IPMode != nil && *a.IPMode == *b.IPMode
		}
		if slices.EqualFunc(s.Status.LoadBalancer.Ingress, ingress, same) {
			continue
		}
		patch, err := json.Marshal(map[string]any{"status": map[string]any{"loadBalancer": map[string]any{"ingress": ingress}}})
		if err != nil {
			return err
		}
		_, err = client.CoreV1().Services(s.Namespace).Patch(ctx, s.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
		if err != nil {
			errs = append(errs, fmt.Errorf("status of service %s: %w", key, err))
			continue
		}
		log.Info("load balancer address", "service", key.String(), "ingress", ingress)
	}
	return errors.Join(errs...)
}

// readyAddresses are where pool addresses can be sent.
func readyAddresses(nodes []*corev1.Node) []netip.Addr {
	var found []netip.Addr
	for _, n := range nodes {
		ready := slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		})
		if !ready {
			continue
		}
		for _, a := range n.Status.Addresses {
			if address, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP {
				found = append(found, address)
			}
		}
	}
	slices.SortFunc(found, netip.Addr.Compare)
	return slices.Compact(found)
}

// routePool makes the routes of this namespace's pool addresses what they should be: one for each address in use,
// over all ready nodes. The route to the pool as a whole, which refuses the rest, stays.
func routePool(pool netip.Prefix, wanted map[types.NamespacedName]netip.Addr, nodes []netip.Addr) error {
	have, err := netlink.RouteListFiltered(unix.AF_INET, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	keep := map[netip.Addr]bool{}
	var errs []error
	for _, address := range wanted {
		if len(nodes) == 0 {
			break
		}
		keep[address] = true
		route := &netlink.Route{Dst: ipNet(netip.PrefixFrom(address, 32))}
		for _, node := range nodes {
			route.MultiPath = append(route.MultiPath, &netlink.NexthopInfo{Gw: net.IP(node.AsSlice())})
		}
		if err := netlink.RouteReplace(route); err != nil {
			errs = append(errs, fmt.Errorf("route %s: %w", address, err))
		}
	}
	for _, route := range have {
		if route.Dst == nil {
			continue
		}
		address, ok := netip.AddrFromSlice(route.Dst.IP.To4())
		ones, _ := route.Dst.Mask.Size()
		if ok && ones == 32 && pool.Contains(address) && !keep[address] {
			if err := netlink.RouteDel(&route); err != nil && !errors.Is(err, unix.ESRCH) {
				errs = append(errs, fmt.Errorf("remove route %s: %w", address, err))
			}
		}
	}
	return errors.Join(errs...)
}
