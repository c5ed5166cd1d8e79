// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// Programs ignore keys that they do not know, so a slip here would show only in what they do.
func TestKubeletConfig(t *testing.T) {
	c := &Cluster{Name: "east", places: places{name: "test", cache: "/cache"}, site: site{1}}
	text, err := c.kubeletConfig("east-n1")
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := yaml.UnmarshalStrict([]byte(text), &config); err != nil {
		t.Fatal(err)
	}
	delete(config, "failCgroupV1") // only where the machine has cgroup v1
	want := map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
		"cgroupDriver":             "cgroupfs", "cgroupRoot": "/isthmus-lab/test/east-n1", "cgroupsPerQOS": true,
		"enforceNodeAllocatable": []any{"pods"}, "oomScoreAdj": 0.0,
		"authentication": map[string]any{
			"anonymous": map[string]any{"enabled": false}, "webhook": map[string]any{"enabled": true},
			"x509": map[string]any{"clientCAFile": "/cache/lab/test/east/pki/ca.crt"},
		},
		"authorization": map[string]any{"mode": "Webhook"},
		"tlsCertFile":   "/cache/lab/test/east/pki/east-n1.crt", "tlsPrivateKeyFile": "/cache/lab/test/east/pki/east-n1.key",
		"clusterDNS": []any{"10.96.0.10"}, "clusterDomain": "cluster.local", "resolvConf": "/etc/resolv.conf",
		"evictionHard": map[string]any{"memory.available": "100Mi"}, "imageGCHighThresholdPercent": 100.0, "failSwapOn": false,
	}
	for key, value := range want {
		if !reflect.DeepEqual(config[key], value) {
			t.Errorf("%s: %v, want %v", key, config[key], value)
		}
		delete(config, key)
	}
	if len(config) > 0 {
		t.Errorf("more than wanted: %v", config)
	}
}

func TestOtherNodeConfig(t *testing.T) {
	var cni struct {
		Plugins []struct {
			IPAM struct {
				Ranges [][]struct{ Subnet string }
			}
		}
	}
	if err := json.Unmarshal([]byte(cniConfig(site{2}, 3)), &cni); err != nil {
		t.Fatal(err)
	}
	if got := cni.Plugins[0].IPAM.Ranges[0][0].Subnet; got != "10.244.3.0/24" {
		t.Errorf("pods of node 3 are %s", got)
	}
	var proxy map[string]any
	if err := yaml.UnmarshalStrict([]byte(kubeProxyConfig("east-n1", "/k")), &proxy); err != nil {
		t.Fatal(err)
	}
	if proxy["clusterCIDR"] != podRange || proxy["hostnameOverride"] != "east-n1" ||
		!reflect.DeepEqual(proxy["clientConnection"], map[string]any{"kubeconfig": "/k"}) {
		t.Errorf("kube-proxy: %v", proxy)
	}
	for name, text := range map[string]string{
		"containerd": containerdConfig("/bin/runc"), "nft": nodeRules(site{1}), "kube-proxy": kubeProxyConfig("n", "k"), "cni": cniConfig(site{1}, 1),
	} {
		if strings.Contains(text, "$") {
			t.Errorf("%s has an unfilled place:\n%s", name, text)
		}
	}
}
