// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"strings"
)

// pauseImage keeps pods' namespaces. It and DNS are in every node from the start.
const (
	pauseImage   = "lab.local/pause:dev"
	coreDNSImage = "lab.local/coredns:dev"
)

// cniConfig routes every pod by a cable of its own: with no bridge, traffic between pods of one node passes the
// node's netfilter hooks like any other, so that Services work there too.
func cniConfig(where site, index int) string {
	return strings.ReplaceAll(`{
  "cniVersion": "1.0.0",
  "name": "lab",
  "plugins": [
    {
      "type": "ptp",
      "mtu": 1500,
      "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": "$SUBNET"}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": "/run/cni-ipam"
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}, "backend": "nftables"}
  ]
}
`, "$SUBNET", where.pods(index).String())
}

// containerdConfig has restrict_oom_score_adj because root may lack CAP_SYS_RESOURCE, as in many containers and
// small virtual machines: without it no sandbox starts there.
func containerdConfig(runc string) string {
	return strings.NewReplacer("$SOCKET", containerdSocket, "$PAUSE", pauseImage, "$RUNC", runc).Replace(`version = 3
[grpc]
  address = "$SOCKET"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "$PAUSE"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      BinaryName = "$RUNC"
      SystemdCgroup = false
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["/opt/cni/bin"]
    conf_dir = "/etc/cni/net.d"
`)
}

func (c *Cluster) kubeletConfig(node string) (string, error) {
	v2, err := unified()
	if err != nil {
		return "", err
	}
	v1 := "failCgroupV1: false\n"
	if v2 {
		v1 = ""
	}
	return v1 + strings.NewReplacer(
		"$SOCKET", containerdSocket, "$CGROUP", "/"+c.places.cgroup(node), "$CA", c.places.pki(c.Name, "ca.crt"),
		"$CERT", c.places.pki(c.Name, node+".crt"), "$KEY", c.places.pki(c.Name, node+".key"),
		"$DNS", dnsServiceIP, "$DOMAIN", clusterDomain,
	).Replace(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://$SOCKET
cgroupDriver: cgroupfs
cgroupRoot: $CGROUP
cgroupsPerQOS: true
enforceNodeAllocatable: [pods]
oomScoreAdj: 0
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $CA}
authorization: {mode: Webhook}
tlsCertFile: $CERT
tlsPrivateKeyFile: $KEY
clusterDNS: [$DNS]
clusterDomain: $DOMAIN
resolvConf: /etc/resolv.conf
evictionHard: {memory.available: 100Mi}
imageGCHighThresholdPercent: 100
failSwapOn: false
`), nil
}

// kubeProxyConfig leaves nf_conntrack_max alone: it cannot be written outside the first network namespace.
func kubeProxyConfig(node, kubeconfig string) string {
	return strings.NewReplacer("$NODE", node, "$KUBECONFIG", kubeconfig, "$PODS", podRange).Replace(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: $PODS
detectLocalMode: ClusterCIDR
conntrack: {maxPerCore: 0, min: 0}
oomScoreAdj: 0
clientConnection: {kubeconfig: $KUBECONFIG}
hostnameOverride: $NODE
`)
}
