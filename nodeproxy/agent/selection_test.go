// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

func TestSelection(t *testing.T) {
	s := Selection{SystemNamespace: "isthmus-system", ExcludeNamespaces: []string{"kube-system"}}
	ambient, none := map[string]string{labelMode: modeAmbient}, map[string]string{labelMode: modeNone}
	for _, tt := range []struct {
		name      string
		pod       corev1.Pod
		namespace string
		labels    map[string]string // the namespace's
		want      bool
	}{
		{name: "no labels"},
		{name: "labelled namespace", labels: ambient, want: true},
		{name: "labelled pod", pod: corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: ambient}}, want: true},
		{name: "labelled namespace, pod opts out", labels: ambient, pod: corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: none}}},
		{name: "namespace none, pod opts in", labels: none, pod: corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: ambient}}, want: true},
		{name: "unknown mode on the pod is no mode", labels: ambient, pod: corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{labelMode: "sidecar"}}}, want: true},
		{name: "host network", labels: ambient, pod: corev1.Pod{Spec: corev1.PodSpec{HostNetwork: true}}},
		{name: "succeeded", labels: ambient, pod: corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodSucceeded}}},
		{name: "failed", labels: ambient, pod: corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodFailed}}},
		{name: "excluded namespace", namespace: "kube-system", labels: ambient, pod: corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: ambient}}},
		{name: "own proxy", namespace: "isthmus-system", labels: ambient, pod: corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{labelApp: proxyApp}}}},
		{name: "that label elsewhere", labels: ambient, pod: corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{labelApp: proxyApp}}}, want: true},
		{name: "sidecar", labels: ambient, pod: corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{sidecarStatus: "{}"}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.namespace == "" {
				tt.namespace = "shop"
			}
			tt.pod.Namespace = tt.namespace
			if got := s.Wants(&tt.pod, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: tt.namespace, Labels: tt.labels}}); got != tt.want {
				t.Errorf("wants %v, want %v", got, tt.want)
			}
		})
	}
}

// devices gives names of devices.
func devices(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprint("d", i))
	}
	return names
}

func TestCaptureOptions(t *testing.T) {
	for _, tt := range []struct {
		name        string
		annotations map[string]string
		dns         bool
		want        redirect.Options
	}{
		{"default", nil, true, redirect.Options{Inbound: true, DNS: true}},
		{"without DNS", nil, false, redirect.Options{Inbound: true}},
		{"DNS on", map[string]string{annotationDNS: "true"}, false, redirect.Options{Inbound: true, DNS: true}},
		{"DNS off", map[string]string{annotationDNS: "false"}, true, redirect.Options{Inbound: true}},
		{"DNS neither", map[string]string{annotationDNS: "maybe"}, true, redirect.Options{Inbound: true, DNS: true}},
		{"ingress", map[string]string{annotationBypassInbound: "true"}, true, redirect.Options{DNS: true}},
		{"virtual interfaces", map[string]string{annotationVirtual: "tap0, docker0,,bad/name,averyverylongname"}, false,
			redirect.Options{Inbound: true, VirtualInterfaces: []string{"tap0", "docker0"}}},
		{"a device twice, and more devices than there may be", map[string]string{annotationVirtual: "tap0,tap0," + strings.Join(devices(1000), ",")}, false,
			redirect.Options{Inbound: true, VirtualInterfaces: append([]string{"tap0"}, devices(maxVirtualInterfaces-1)...)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := captureOptions(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: tt.annotations}}, tt.dns)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRedirection(t *testing.T) {
	for _, tt := range []struct {
		now                  string
		isCaptured, isServed bool
		want                 string
	}{
		{"", false, false, ""},
		{"", true, false, redirectionPending},
		{"", true, true, redirectionEnabled},
		{redirectionPending, true, true, redirectionEnabled},
		{redirectionEnabled, true, false, redirectionEnabled}, // while the agent or the proxy is being replaced
		{redirectionEnabled, false, false, ""},
	} {
		if got := redirection(tt.now, tt.isCaptured, tt.isServed); got != tt.want {
			t.Errorf("redirection(%q, %v, %v) = %q, want %q", tt.now, tt.isCaptured, tt.isServed, got, tt.want)
		}
	}
}

func TestPodOf(t *testing.T) {
	const uid = "8d9b5f6e-1c2d-4e3f-9a0b-123456789abc"
	for _, tt := range []struct{ name, cgroups, want string }{
		{"cgroupfs v1", "5:memory:/isthmus-lab/n1/kubepods/burstable/pod" + uid + "/abcdef\n4:pids:/x\n", uid},
		{"cgroupfs v2", "0::/kubepods/besteffort/pod" + uid + "/abcdef\n", uid},
		{"the pod's own cgroup", "0::/kubepods/pod" + uid + "\n", uid},
		{"systemd", "0::/kubepods.slice/kubepods-pod8d9b5f6e_1c2d_4e3f_9a0b_123456789abc.slice/cri-containerd-1.scope\n", uid},
		{"relative, from a cgroup namespace", "0::/../../pod" + uid + "/c\n", uid},
		{"static pod", "0::/kubepods/burstable/pod0123456789abcdef0123456789abcdef/c\n", "0123456789abcdef0123456789abcdef"},
		{"no pod", "0::/system.slice/podman.service\n", ""},
		{"uid within a longer name", "0::/kubepods/pod" + uid + "0/c\n", ""},
	} {
		if got := podOf(tt.cgroups); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func FuzzPodOf(f *testing.F) {
	f.Add("0::/kubepods/pod8d9b5f6e-1c2d-4e3f-9a0b-123456789abc/c\n")
	f.Fuzz(func(t *testing.T, s string) {
		if uid := podOf(s); uid != "" && len(uid) != 36 && len(uid) != 32 {
			t.Errorf("podOf(%q) = %q", s, uid)
		}
	})
}
