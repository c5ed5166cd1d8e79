// SPDX-License-Identifier: Apache-2.0

//go:build netns

package agent

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/internal/zds"
	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/cni"
)

func TestStartingPodIsAnnounced(t *testing.T) {
	n := newNode(t, namespace("shop", modeAmbient))
	n.start()
	p, _ := n.startProxy()
	n.until("the snapshot", func() bool { return p.snapshots() == 1 })

	pod, sandbox := n.pod(1, "", nil), n.sandbox("10.1.0.1")
	if code, text := n.announce(pod, sandbox, "10.1.0.1"); code != http.StatusOK {
		t.Fatalf("answered %d: %s", code, text)
	}
	// All of it before the answer: the pod's containers run from now on.
	if got := tables(t, sandbox); got != allTables {
		t.Errorf("tables %q", got)
	}
	if !p.served(pod) || probed(t) != "10.1.0.1" {
		t.Errorf("served %v, probed %q", p.served(pod), probed(t))
	}
	n.until("the annotation", func() bool { return n.annotation(pod) == redirectionEnabled })

	// The kubelet makes a new sandbox for the same pod.
	second := n.sandbox("10.1.0.2")
	if code, text := n.announce(pod, second, "10.1.0.2"); code != http.StatusOK {
		t.Fatalf("second sandbox: %d: %s", code, text)
	}
	if got := probed(t); tables(t, second) != allTables || got != "10.1.0.2" {
		t.Errorf("second sandbox: tables %q, probed %q", tables(t, second), got)
	}

	if err := n.client.CoreV1().Pods("shop").Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	n.until("the end of the pod", func() bool { return !p.served(pod) && probed(t) == "" })

	other := n.pod(2, "", map[string]string{labelMode: modeNone})
	plain := n.sandbox("10.1.0.3")
	if code, text := n.announce(other, plain, "10.1.0.3"); code != http.StatusOK || tables(t, plain) != "" {
		t.Errorf("a pod outside the mesh: %d: %s, tables %q", code, text, tables(t, plain))
	}
}

func TestStartingPodFailsClosed(t *testing.T) {
	n := newNode(t, namespace("shop", modeAmbient))
	n.start()
	p, _ := n.startProxy()
	n.until("the snapshot", func() bool { return p.snapshots() == 1 })
	pod, sandbox := n.pod(1, "", nil), n.sandbox("10.1.0.1")
	p.setRefuse(errors.New("no room"))
	if code, text := n.announce(pod, sandbox, "10.1.0.1"); code != http.StatusInternalServerError || !strings.Contains(text, "no room") {
		t.Errorf("refused by the proxy: %d: %s", code, text)
	}
	if probed(t) != "" {
		t.Errorf("probed %q after a refusal", probed(t))
	}
	n.until("the event", func() bool { return strings.Contains(n.event("Pod", pod.Name, reasonStartBlocked), "no room") })
	p.setRefuse(nil)
	unknown := pod.DeepCopy()
	unknown.Name = "unknown"
	if code, text := n.announce(unknown, sandbox, "10.1.0.1"); code != http.StatusInternalServerError {
		t.Errorf("unknown pod: %d: %s", code, text)
	}
	replaced := pod.DeepCopy()
	replaced.UID = "another"
	if code, text := n.announce(replaced, sandbox, "10.1.0.1"); code != http.StatusInternalServerError || !strings.Contains(text, "another") {
		t.Errorf("another pod of that name: %d: %s", code, text)
	}
	notOne, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer notOne.Close()
	if code, text := n.announce(pod, notOne, "10.1.0.1"); code != http.StatusInternalServerError || !strings.Contains(text, "not a namespace") {
		t.Errorf("not a namespace: %d: %s", code, text)
	}
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if code, text := n.announce(pod, own, "10.1.0.1"); code != http.StatusInternalServerError || !strings.Contains(text, "node's own") || tables(t, own) != "isthmus-probes" {
		t.Errorf("the node's namespace: %d: %s, tables %q", code, text, tables(t, own))
	}
}

func TestRunningPodJoinsAndLeaves(t *testing.T) {
	n := newNode(t, namespace("shop", ""))
	pod, sandbox := n.pod(1, "10.1.0.1", nil), n.sandbox("10.1.0.1")
	// A process of the pod in another namespace: it is not the pod's, as it does not hold the pod's address.
	n.process(uidOf(1), n.sandbox("10.9.9.9"))
	n.process(uidOf(1), sandbox)
	n.start()
	p, stopProxy := n.startProxy()
	n.until("the snapshot", func() bool { return p.snapshots() == 1 })
	if got := tables(t, sandbox); got != "" {
		t.Fatalf("captured without a label: %q", got)
	}

	joined := func() bool {
		return tables(t, sandbox) == allTables && p.served(pod) && n.annotation(pod) == redirectionEnabled && probed(t) == "10.1.0.1"
	}
	left := func() bool {
		return tables(t, sandbox) == releasedTables && !p.served(pod) && n.annotation(pod) == "" && probed(t) == ""
	}
	n.label(pod, modeAmbient)
	n.until("the pod to join by its label", joined)
	n.label(pod, modeNone)
	n.until("the pod to leave by its label", left)
	n.label(pod, "")
	patch := []byte(`{"metadata":{"labels":{"` + labelMode + `":"ambient"}}}`)
	if _, err := n.client.CoreV1().Namespaces().Patch(t.Context(), "shop", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	n.until("the pod to join by its namespace's label", joined)
	n.label(pod, modeNone)
	n.until("the pod to leave again", left)

	// Without a proxy the pod is captured, and waits.
	stopProxy()
	n.label(pod, modeAmbient)
	n.until("the pod to be pending", func() bool { return n.annotation(pod) == redirectionPending && tables(t, sandbox) == allTables })
	n.until("the event", func() bool {
		return strings.Contains(n.event("Pod", pod.Name, reasonNotServed), zds.ErrNoProxy.Error())
	})
	p, _ = n.startProxy()
	n.until("the pod to be served", joined)

	// Another annotation changes the rules in place.
	options := []byte(`{"metadata":{"annotations":{"` + annotationDNS + `":"false"}}}`)
	if _, err := n.client.CoreV1().Pods("shop").Patch(t.Context(), pod.Name, types.MergePatchType, options, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	n.until("the rules without DNS", func() bool { return tables(t, sandbox) == "isthmus-mangle isthmus-nat isthmus-zone" })
	if !p.served(pod) {
		t.Error("changing the rules ended the pod's service")
	}
}

// The proxy that follows another one refuses a pod that the first one had: nobody serves it, and that is said.
func TestPodThatTheNextProxyRefuses(t *testing.T) {
	n := newNode(t, namespace("shop", modeAmbient))
	pod, sandbox := n.pod(1, "10.1.0.1", nil), n.sandbox("10.1.0.1")
	n.process(uidOf(1), sandbox)
	n.start()
	p, stop := n.startProxy()
	n.until("the pod to be served", func() bool { return p.served(pod) && n.annotation(pod) == redirectionEnabled })
	stop()
	next, _ := n.startProxyThat(errors.New("no room"), zds.Proxy{})
	n.until("the event", func() bool { return strings.Contains(n.event("Pod", pod.Name, reasonNotServed), "no room") })
	next.setRefuse(nil)
	n.until("the pod to be served again", func() bool { return next.served(pod) })
}

func TestAgentRestart(t *testing.T) {
	n := newNode(t, namespace("shop", modeAmbient))
	stays, staysSandbox := n.pod(1, "10.1.0.1", nil), n.sandbox("10.1.0.1")
	leaves, leavesSandbox := n.pod(2, "10.1.0.2", nil), n.sandbox("10.1.0.2")
	gone, goneSandbox := n.pod(3, "10.1.0.3", nil), n.sandbox("10.1.0.3")
	n.process(uidOf(1), staysSandbox)
	n.process(uidOf(2), leavesSandbox)
	n.process(uidOf(3), goneSandbox)
	stop := n.start()
	p, _ := n.startProxy()
	for _, pod := range []*corev1.Pod{stays, leaves, gone} {
		n.until("pod to be served", func() bool { return p.served(pod) && n.annotation(pod) == redirectionEnabled })
	}

	stop()
	if tables(t, staysSandbox) != allTables || !p.served(stays) || n.annotation(stays) != redirectionEnabled || !strings.Contains(probed(t), "10.1.0.1") {
		t.Error("stopping the agent took a pod out of the mesh")
	}
	n.label(leaves, modeNone)
	if err := n.client.CoreV1().Pods("shop").Delete(t.Context(), gone.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	before := p.snapshots()
	n.start()
	n.until("a second snapshot", func() bool { return p.snapshots() > before })
	n.until("what changed meanwhile", func() bool {
		return p.served(stays) && !p.served(leaves) && !p.served(gone) && tables(t, leavesSandbox) == releasedTables && n.annotation(leaves) == "" && probed(t) == "10.1.0.1"
	})
	if tables(t, staysSandbox) != allTables || n.annotation(stays) != redirectionEnabled {
		t.Error("the pod that stays did not")
	}
}

func TestUninstall(t *testing.T) {
	n := newNode(t, namespace("shop", modeAmbient))
	pod, sandbox := n.pod(1, "10.1.0.1", nil), n.sandbox("10.1.0.1")
	n.process(uidOf(1), sandbox)
	stop := n.start()
	p, _ := n.startProxy()
	n.until("pod to be served", func() bool { return p.served(pod) && n.annotation(pod) == redirectionEnabled })
	plugin := filepath.Join(n.options.CNIBinDir, cni.PluginName)
	list := filepath.Join(n.options.CNIConf, "10-lab.conflist")
	n.until("the plugin", func() bool {
		_, err := os.Stat(plugin)
		b, readErr := os.ReadFile(list)
		return err == nil && readErr == nil && bytes.Contains(b, []byte(cni.PluginName))
	})
	stop()
	for range 2 {
		if err := Uninstall(t.Context(), n.options); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(list)
	if err != nil || bytes.Contains(b, []byte(cni.PluginName)) {
		t.Errorf("list of plugins: %s, %v", b, err)
	}
	if _, err := os.Stat(plugin); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("binary: %v", err)
	}
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if tables(t, sandbox) != "" || n.annotation(pod) != "" || tables(t, own) != "" {
		t.Errorf("left: tables %q, annotation %q, on the node %q", tables(t, sandbox), n.annotation(pod), tables(t, own))
	}
}

// CRI-O ends pods by the list of plugins that they began with, which names ours.
func TestUninstallBesideCRIO(t *testing.T) {
	n := newNode(t)
	dir := filepath.Join(n.options.Proc, "7")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "comm"), []byte("crio\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	plugin, list := filepath.Join(n.options.CNIBinDir, cni.PluginName), filepath.Join(n.options.CNIConf, "10-lab.conflist")
	configured := func() bool {
		b, err := os.ReadFile(list)
		return err == nil && bytes.Contains(b, []byte(cni.PluginName))
	}
	stop := n.start()
	n.until("the plugin", configured)
	stop()
	if err := Uninstall(t.Context(), n.options); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(plugin); err != nil || configured() {
		t.Errorf("binary: %v; configured: %v", err, configured())
	}
}

// A pod that is younger than the last look at the process table is found all the same, at once.
func TestPodFoundAfterRecentScan(t *testing.T) {
	n := newNode(t, namespace("shop", ""))
	n.start()
	p, _ := n.startProxy()
	n.until("the snapshot", func() bool { return p.snapshots() == 1 })
	for i := range 5 {
		ip := fmt.Sprintf("10.1.0.%d", i+1)
		pod := n.pod(i+1, ip, nil)
		n.process(uidOf(i+1), n.sandbox(ip))
		n.label(pod, modeAmbient)
		n.until("the pod to join", func() bool { return p.served(pod) })
		if why := n.event("Pod", pod.Name, reasonCaptureFailed); why != "" {
			t.Errorf("pod %d was not found at first: %s", i+1, why)
		}
	}
}
