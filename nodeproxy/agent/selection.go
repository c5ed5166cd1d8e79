// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

// Labels and annotations, as ambient users know them.
const (
	labelMode     = "istio.io/dataplane-mode" // on pods and namespaces
	modeAmbient   = "ambient"
	modeNone      = "none"
	labelApp      = "app"
	proxyApp      = "isthmus-nodeproxy"
	sidecarStatus = "sidecar.istio.io/status" // on pods that have a proxy of their own

	annotationRedirection = "ambient.istio.io/redirection"
	redirectionEnabled    = "enabled"
	redirectionPending    = "pending"

	// annotationConfines is on pods of node proxies (docs/hbone.md §13.9).
	annotationConfines = "isthmus.dev/confines"

	annotationBypassInbound = "ambient.istio.io/bypass-inbound-capture"
	annotationDNS           = "ambient.istio.io/dns-capture"
	annotationVirtual       = "istio.io/reroute-virtual-interfaces"

	// annotationMirror is on the API's picture of a static pod; its value is the uid that the kubelet and its cgroups know.
	annotationMirror = "kubernetes.io/config.mirror"
)

// Selection says which pods of a node belong to the mesh.
type Selection struct {
	// SystemNamespace is where the mesh itself runs.
	SystemNamespace string
	// ExcludeNamespaces are namespaces whose pods never belong to it, whatever their labels say.
	ExcludeNamespaces []string
}

// Wants says whether a pod belongs to the mesh, by its labels and its namespace's. A pod that has ended does not.
func (s Selection) Wants(pod *corev1.Pod, namespace *corev1.Namespace) bool {
	switch {
	case pod.Spec.HostNetwork, ended(pod):
		return false
	case slices.Contains(s.ExcludeNamespaces, pod.Namespace):
		return false
	case s.isProxy(pod):
		return false
	case pod.Annotations[sidecarStatus] != "":
		return false
	}
	switch pod.Labels[labelMode] {
	case modeAmbient:
		return true
	case modeNone:
		return false
	}
	return namespace.Labels[labelMode] == modeAmbient
}

// isProxy says whether a pod is that of a node proxy.
func (s Selection) isProxy(pod *corev1.Pod) bool {
	return pod.Namespace == s.SystemNamespace && pod.Labels[labelApp] == proxyApp
}

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// maxVirtualInterfaces bounds the devices that a pod may name: each is two rules that are asked about all that comes in, and that the agent compares at each look.
const maxVirtualInterfaces = 32

// captureOptions is how a pod wants to be captured. IPv6 depends on its network namespace and is left out.
func captureOptions(pod *corev1.Pod, dns bool) redirect.Options {
	o := redirect.Options{Inbound: pod.Annotations[annotationBypassInbound] != "true", DNS: dns}
	switch pod.Annotations[annotationDNS] {
	case "true":
		o.DNS = true
	case "false":
		o.DNS = false
	}
	for name := range strings.SplitSeq(pod.Annotations[annotationVirtual], ",") {
		if len(o.VirtualInterfaces) == maxVirtualInterfaces {
			break
		}
		if name = strings.TrimSpace(name); validDevice(name) && !slices.Contains(o.VirtualInterfaces, name) {
			o.VirtualInterfaces = append(o.VirtualInterfaces, name)
		}
	}
	return o
}

// validDevice says whether the kernel could have a device of this name.
func validDevice(name string) bool {
	return name != "" && len(name) < 16 && name != "." && name != ".." && !strings.ContainsAny(name, "/ \t\n:\x00")
}

// podAddresses gives the addresses in a pod's status.
func podAddresses(pod *corev1.Pod) []netip.Addr {
	var all []netip.Addr
	for _, ip := range pod.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			all = append(all, a.Unmap())
		}
	}
	return all
}

// nodeUID is the uid by which the node knows a pod.
func nodeUID(pod *corev1.Pod) string {
	if static := pod.Annotations[annotationMirror]; static != "" {
		return static
	}
	return string(pod.UID)
}
