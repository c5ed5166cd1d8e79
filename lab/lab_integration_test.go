// SPDX-License-Identifier: Apache-2.0

//go:build linux && lab

package lab

// This file runs real clusters: as root, about a minute, with `go test -tags lab ./lab`.

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
)

const (
	testLab   = "labtest" // beside whatever lab is up
	probeRef  = "lab.local/probe:test"
	probeHome = "10.89.101.77" // asked for in east
)

// program builds cmd/lab: only it can start a lab's processes.
func program(t *testing.T) string {
	t.Helper()
	return goBuild(t, "lab", "../cmd/lab")
}

// goBuild builds a program; with CGO_ENABLED=0 among the variables, a static one.
func goBuild(t *testing.T, name, pkg string, environment ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	cmd := exec.Command("go", "build", "-o", path, pkg)
	cmd.Env = append(os.Environ(), environment...)
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, output)
	}
	return path
}

func runLab(t *testing.T, program string, arguments ...string) string {
	t.Helper()
	output, err := exec.Command(program, append([]string{"--name", testLab}, arguments...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("lab %s: %v\n%s", strings.Join(arguments, " "), err, output)
	}
	return string(output)
}

// requireNothingLeft fails if anything of the test's lab exists.
func requireNothingLeft(t *testing.T) {
	t.Helper()
	p, err := placesOf(testLab)
	if err != nil {
		t.Fatal(err)
	}
	living, err := p.living()
	if err != nil || len(living) > 0 {
		t.Errorf("processes left: %v, %v", living, err)
	}
	paths, err := labNetns(testLab)
	if err != nil || len(paths) > 0 {
		t.Errorf("network namespaces left: %v, %v", paths, err)
	}
	if left := cgroupDirectories(cgroupParent + "/" + testLab); len(left) > 0 {
		t.Errorf("cgroups left: %v", left)
	}
	mounts, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), testLab) {
		t.Errorf("mounts left:\n%s", mounts)
	}
	if _, err := os.Stat(p.state()); !os.IsNotExist(err) {
		t.Errorf("state left in %s: %v", p.state(), err)
	}
}

func TestLab(t *testing.T) {
	if err := RequireRoot(); err != nil {
		t.Fatal(err)
	}
	lab := program(t)
	runLab(t, lab, "down")
	t.Cleanup(func() { runLab(t, lab, "down") })
	began := time.Now()
	t.Log("\n" + runLab(t, lab, "up"))
	t.Logf("up: %s", time.Since(began).Round(time.Millisecond))
	if output := runLab(t, lab, "up"); !strings.Contains(output, "up already") {
		t.Errorf("second up: %s", output)
	}
	l, err := Open(testLab)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	image := Image{Ref: probeRef, Binaries: []string{goBuild(t, "probe", "./testdata/probe", "CGO_ENABLED=0")}}
	if err := l.Load(ctx, image); err != nil {
		t.Fatal(err)
	}
	eastPod, address := deployProbe(t, ctx, l.Clusters()[0], probeHome)
	if address != probeHome {
		t.Fatalf("load balancer address %s, asked for %s", address, probeHome)
	}
	westPod, westAddress := deployProbe(t, ctx, l.Clusters()[1], "")
	west := probeIn(t, l, "west", westPod)
	// A Service has its address before kube-proxy has rules for it.
	for _, ready := range []string{address, westAddress} {
		if err := poll(ctx, 100*time.Millisecond, func() error { return get(ctx, l, "http://"+ready, "probe-") }); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("from the other cluster's pod through the load balancer", func(t *testing.T) {
		output, err := west("get", "http://"+address)
		if name, source, _ := strings.Cut(strings.TrimSpace(output), " "); err != nil || name != eastPod.Name {
			t.Errorf("got %q, %v, want %s", output, err, eastPod.Name)
		} else {
			t.Logf("%s saw %s", name, source)
		}
	})
	t.Run("by name within the cluster", func(t *testing.T) {
		output, err := west("get", "http://probe.default.svc.cluster.local")
		if err != nil || !strings.HasPrefix(output, westPod.Name+" ") {
			t.Errorf("got %q, %v, want %s", output, err, westPod.Name)
		}
	})
	t.Run("the other cluster's API server", func(t *testing.T) {
		for _, c := range l.Clusters() {
			if output, err := west("dial", c.APIServer()); err != nil {
				t.Errorf("dial API server of %s: %v: %s", c.Name, err, output)
			}
		}
	})
	t.Run("isolation of pods", func(t *testing.T) {
		// The client has no way to any pod; a pod's address means the own cluster's pod, or nothing.
		for _, pod := range []*corev1.Pod{eastPod, westPod} {
			target := net.JoinHostPort(pod.Status.PodIP, "8080")
			dialing, cancel := context.WithTimeout(ctx, 2*time.Second)
			conn, err := l.Dial(dialing, "tcp", target)
			cancel()
			if err == nil {
				conn.Close()
				t.Errorf("client reached pod %s", target)
			}
		}
		output, err := west("get", "http://"+net.JoinHostPort(eastPod.Status.PodIP, "8080"))
		if err == nil && !strings.HasPrefix(output, westPod.Name+" ") {
			t.Errorf("a pod of west reached %s by a pod address", output)
		}
		for _, unused := range []string{"10.89.101.200:80", "10.244.9.9:8080", net.JoinHostPort("10.89.101.200", "8080")} {
			if _, err := west("dial", unused); err == nil {
				t.Errorf("%s, which nobody holds, answered", unused)
			}
		}
	})
	t.Run("from the client", func(t *testing.T) {
		for want, address := range map[string]string{eastPod.Name: address, westPod.Name: westAddress} {
			output := runLab(t, lab, "exec", "--", "curl", "--silent", "--max-time", "5", "http://"+address)
			if !strings.HasPrefix(output, want+" ") {
				t.Errorf("%s answered %q, want %s", address, output, want)
			}
		}
	})
	t.Run("through the host's forwarder", func(t *testing.T) {
		if output := runLab(t, lab, "kubectl", "east", "get", "nodes"); !strings.Contains(output, "east-n1") {
			t.Errorf("nodes of east: %s", output)
		}
	})
	t.Run("pods see the network namespaces of their node", func(t *testing.T) {
		pod := hostPod(t, ctx, l.Clusters()[0])
		output, err := probeIn(t, l, "east", pod)("ls", "/host/netns")
		if err != nil || !strings.Contains(output, "cni-") {
			t.Errorf("listed %q, %v", output, err)
		}
	})
	t.Run("exit status", func(t *testing.T) {
		for _, arguments := range [][]string{{"exec", "--", "sh", "-c", "exit 7"}, {"node-exec", "east/n1", "--", "sh", "-c", "exit 7"}} {
			err := exec.Command(lab, append([]string{"--name", testLab}, arguments...)...).Run()
			if ended, ok := err.(*exec.ExitError); !ok || ended.ExitCode() != 7 {
				t.Errorf("%v: %v, want exit status 7", arguments, err)
			}
		}
		if output := runLab(t, lab, "node-exec", "east/n1", "--", "hostname"); strings.TrimSpace(output) != "east-n1" {
			t.Errorf("host name %q", output)
		}
	})
	t.Run("a node dies and comes back", func(t *testing.T) {
		node := l.Clusters()[0].Nodes()[0]
		if err := node.Kill(); err != nil {
			t.Fatal(err)
		}
		if node.Running() {
			t.Error("it runs after Kill")
		}
		began := time.Now()
		if err := node.Start(ctx); err != nil {
			t.Fatal(err)
		}
		err := poll(ctx, 100*time.Millisecond, func() error { return get(ctx, l, "http://"+address, "probe-") })
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("its pod answered after %s", time.Since(began).Round(time.Millisecond))
	})

	began = time.Now()
	runLab(t, lab, "down")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("down took %s, goal 5s", took)
	} else {
		t.Logf("down: %s", took.Round(time.Millisecond))
	}
	requireNothingLeft(t)
}

func get(ctx context.Context, l *Lab, url, prefix string) error {
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DialContext: l.Dial, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && !strings.HasPrefix(string(body), prefix) {
		err = fmt.Errorf("%s answered %q", url, body)
	}
	return err
}

// deployProbe creates a Deployment and a Service of type LoadBalancer, and waits until both can be used.
func deployProbe(t *testing.T, ctx context.Context, c *Cluster, wish string) (*corev1.Pod, string) {
	t.Helper()
	client := clientOf(t, c)
	meta := metav1.ObjectMeta{Name: "probe", Namespace: "default", Labels: map[string]string{"app": "probe"}}
	_, err := client.AppsV1().Deployments(meta.Namespace).Create(ctx, &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: meta.Labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: meta.Labels}, Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "probe", Image: probeRef, Args: []string{"serve"}, ReadinessProbe: &corev1.Probe{
				PeriodSeconds: 1,
				ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt(8080)}},
			}}},
			TerminationGracePeriodSeconds: new(int64(0)),
		}},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.CoreV1().Services(meta.Namespace).Create(ctx, &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeLoadBalancer, Selector: meta.Labels, LoadBalancerIP: wish,
		Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt(8080)}},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod := waitPod(t, ctx, client, "app=probe")
	var address string
	err = poll(ctx, 100*time.Millisecond, func() error {
		s, err := client.CoreV1().Services(meta.Namespace).Get(ctx, meta.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if len(s.Status.LoadBalancer.Ingress) == 0 {
			return fmt.Errorf("no address yet")
		}
		address = s.Status.LoadBalancer.Ingress[0].IP
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return pod, address
}

// hostPod is a pod like the product's agent: on the host's network and processes, privileged, with /run/netns.
func hostPod(t *testing.T, ctx context.Context, c *Cluster) *corev1.Pod {
	t.Helper()
	client := clientOf(t, c)
	_, err := client.CoreV1().Pods("default").Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "agent", Labels: map[string]string{"app": "agent"}},
		Spec: corev1.PodSpec{
			HostNetwork: true, HostPID: true, TerminationGracePeriodSeconds: new(int64(0)),
			Containers: []corev1.Container{{
				Name: "agent", Image: probeRef, SecurityContext: &corev1.SecurityContext{Privileged: new(true)},
				VolumeMounts: []corev1.VolumeMount{{Name: "netns", MountPath: "/host/netns", MountPropagation: new(corev1.MountPropagationHostToContainer)}},
			}},
			Volumes: []corev1.Volume{{Name: "netns", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/run/netns"}}}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return waitPod(t, ctx, client, "app=agent")
}

func clientOf(t *testing.T, c *Cluster) kubernetes.Interface {
	t.Helper()
	client, err := c.client()
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func waitPod(t *testing.T, ctx context.Context, client kubernetes.Interface, selector string) *corev1.Pod {
	t.Helper()
	var found *corev1.Pod
	err := poll(ctx, 100*time.Millisecond, func() error {
		pods, err := client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return err
		}
		for _, pod := range pods.Items {
			for _, condition := range pod.Status.Conditions {
				if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
					found = &pod
					return nil
				}
			}
		}
		return fmt.Errorf("no ready pod %s", selector)
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// probeIn calls the probe inside a pod.
func probeIn(t *testing.T, l *Lab, cluster string, pod *corev1.Pod) func(arguments ...string) (string, error) {
	t.Helper()
	c, err := l.Cluster(cluster)
	if err != nil {
		t.Fatal(err)
	}
	config, err := c.Kubeconfig()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, config, 0o600); err != nil {
		t.Fatal(err)
	}
	return func(arguments ...string) (string, error) {
		cmd := exec.Command(c.places.tool("kubectl"), append([]string{"--kubeconfig", path, "--cache-dir", t.TempDir(), "exec", pod.Name, "--", "/probe"}, arguments...)...)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
		}
		return stdout.String(), err
	}
}

func TestDownAfterKill(t *testing.T) {
	if err := RequireRoot(); err != nil {
		t.Fatal(err)
	}
	lab := program(t)
	t.Cleanup(func() { runLab(t, lab, "down") })
	p, err := placesOf(testLab)
	if err != nil {
		t.Fatal(err)
	}
	// Each is a moment of a start, told by what exists by then.
	for _, moment := range []struct {
		name    string
		reached func() bool
		signal  syscall.Signal
	}{
		{"first namespace", func() bool { return exists(p.netns("wan")) }, syscall.SIGKILL},
		{"first process", func() bool { return exists(p.processFile("east-cp")) }, syscall.SIGKILL},
		{"container runtime", func() bool { return exists(p.box("west", "west-n1", "containerd.log")) }, syscall.SIGKILL},
		{"kubelet", func() bool { return exists(p.box("west", "west-n1", "kubelet.log")) }, syscall.SIGKILL},
		{"interrupted", func() bool { return exists(p.box("west", "west-n1", "kubelet.log")) }, syscall.SIGINT},
	} {
		t.Run(moment.name, func(t *testing.T) {
			up := exec.Command(lab, "--name", testLab, "up")
			if err := up.Start(); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := poll(ctx, time.Millisecond, func() error {
				if !moment.reached() {
					return fmt.Errorf("not yet at %s", moment.name)
				}
				return nil
			})
			if err := up.Process.Signal(moment.signal); err != nil {
				t.Error(err)
			}
			ended := up.Wait()
			if err != nil {
				t.Fatal(err)
			}
			if moment.signal == syscall.SIGINT {
				// It cleans up by itself.
				if status, ok := ended.(*exec.ExitError); !ok || status.ExitCode() != 130 {
					t.Errorf("interrupted up: %v, want exit status 130", ended)
				}
				requireNothingLeft(t)
				return
			}
			runLab(t, lab, "down")
			requireNothingLeft(t)
		})
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestEmulatedWAN(t *testing.T) {
	if err := RequireRoot(); err != nil {
		t.Fatal(err)
	}
	lab := program(t)
	runLab(t, lab, "down")
	t.Cleanup(func() { runLab(t, lab, "down") })
	const delay = 30 * time.Millisecond
	runLab(t, lab, "up", "--clusters", "1", "--wan", "emulated", "--delay", delay.String(), "--jitter", "2ms", "--loss", "0.001")
	l, err := Open(testLab)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	began := time.Now()
	conn, err := l.Dial(ctx, "tcp", l.Clusters()[0].APIServer())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	// A connection takes one way there and one back. What the machine's load adds has no bound worth testing.
	if took := time.Since(began); took < 2*delay {
		t.Errorf("connected after %s, want at least %s", took, 2*delay)
	} else {
		t.Logf("connected after %s", took)
	}
	if got := l.Shape().Delay; got != delay {
		t.Errorf("shape says %s", got)
	}
	// Another shape under the same name is refused, and the lab left alone.
	output, err := exec.Command(lab, "--name", testLab, "up", "--clusters", "2").CombinedOutput()
	if err == nil || !strings.Contains(string(output), "run `lab down") {
		t.Errorf("up with another shape: %v\n%s", err, output)
	}
	if err := l.Fault(ctx); err != nil {
		t.Error(err)
	}
	runLab(t, lab, "down")
	requireNothingLeft(t)
}
