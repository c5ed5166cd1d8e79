// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const containerdSocket = "/run/containerd/containerd.sock"

// cniPlugins are copied into every node: others may add their own beside them, and chain it in /etc/cni/net.d.
var cniPlugins = []string{"ptp", "loopback", "host-local", "portmap"}

// runNode prepares the machine's file systems and runs containerd, kubelet and kube-proxy, until ctx ends.
func (c *Cluster) runNode(ctx context.Context, s *supervisor, index int) error {
	name := nodeName(c.Name, index)
	disk := c.places.box(c.Name, name)
	if err := layOverlays(disk); err != nil {
		return err
	}
	if err := pinTunables(disk); err != nil {
		return err
	}
	cgroup := c.places.cgroup(name)
	// What a former life of this node left costs cAdvisor seconds for each directory.
	remove, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if err := removeCgroup(remove, cgroup); err != nil {
		return err
	}
	if err := createCgroup(cgroup); err != nil {
		return err
	}
	if err := c.writeNodeFiles(index); err != nil {
		return err
	}
	// A node that starts again has its rules already; loading them twice would only double them.
	rules := filepath.Join(disk, "rules.nft")
	if err := os.WriteFile(rules, []byte("table ip isthmuslab\ndelete table ip isthmuslab\n"+nodeRules(c.site)), 0o644); err != nil {
		return err
	}
	if err := s.run(ctx, "nft", "nft", "-f", rules); err != nil {
		return err
	}

	var running sync.WaitGroup
	defer running.Wait()
	tool := c.places.tool
	running.Go(func() { s.keep(ctx, "containerd", tool("containerd"), "--config", "/etc/containerd/config.toml") })
	running.Go(func() { s.keep(ctx, "kube-proxy", tool("kube-proxy"), "--config=/etc/kubernetes/kube-proxy.yaml") })
	err := poll(ctx, 20*time.Millisecond, func() error {
		_, err := os.Stat(containerdSocket)
		return err
	})
	if err != nil {
		return err
	}
	images, err := filepath.Glob(filepath.Join(c.places.images(), "base-*.tar"))
	if err != nil {
		return err
	}
	for _, image := range images {
		if err := poll(ctx, 200*time.Millisecond, func() error { return s.run(ctx, "import", c.importCommand(image)...) }); err != nil {
			return err
		}
	}
	running.Go(func() {
		s.keep(ctx, "kubelet", tool("kubelet"), "--config=/etc/kubernetes/kubelet.yaml", "--kubeconfig="+c.places.pki(c.Name, name+".kubeconfig"),
			"--hostname-override="+name, "--node-ip="+c.site.node(index).String())
	})
	<-ctx.Done()
	return ctx.Err()
}

// importCommand brings an image archive into a node, from inside it.
func (c *Cluster) importCommand(archive string) []string {
	return []string{c.places.tool("ctr"), "-a", containerdSocket, "-n", "k8s.io", "images", "import", "--local", archive}
}

// layOverlays gives the node its own copy-on-write /etc, /opt and /var and an empty /run, so that all programs keep
// their default paths and the host keeps nothing. What containerd and kubelet keep lies directly on the disk:
// container file systems are overlays themselves and cannot lie on one.
func layOverlays(disk string) error {
	for _, top := range []string{"etc", "opt", "var"} {
		upper, work := filepath.Join(disk, top, "upper"), filepath.Join(disk, top, "work")
		for _, directory := range []string{upper, work} {
			if err := os.MkdirAll(directory, 0o755); err != nil {
				return err
			}
		}
		options := fmt.Sprintf("lowerdir=/%s,upperdir=%s,workdir=%s", top, upper, work)
		if err := unix.Mount("overlay", "/"+top, "overlay", 0, options); err != nil {
			return fmt.Errorf("overlay on /%s: %w", top, err)
		}
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("tmpfs on /run: %w", err)
	}
	for _, directory := range []string{"containerd", "kubelet"} {
		source, target := filepath.Join(disk, directory), filepath.Join("/var/lib", directory)
		for _, d := range []string{source, target} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				return err
			}
		}
		if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s on %s: %w", source, target, err)
		}
	}
	for _, directory := range []string{"/run/netns", "/run/lock", "/var/log/pods", "/var/log/containers", "/etc/cni/net.d", "/opt/cni/bin", "/etc/containerd", "/etc/kubernetes"} {
		if err := os.MkdirAll(directory, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// pinTunables shows kubelet the values it insists on, so that it does not write them to the host's kernel.
func pinTunables(disk string) error {
	for path, value := range map[string]string{
		"vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
		"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
	} {
		pinned := filepath.Join(disk, "tunables", filepath.Base(path))
		if err := os.MkdirAll(filepath.Dir(pinned), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(pinned, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		target := filepath.Join("/proc/sys", path)
		if _, err := os.Stat(target); err != nil {
			continue // a kernel built without it; kubelet does without it too
		}
		if err := unix.Mount(pinned, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("pin %s: %w", target, err)
		}
	}
	return nil
}

// writeNodeFiles writes the node's configuration to where its programs look for it by default.
func (c *Cluster) writeNodeFiles(index int) error {
	name, address := nodeName(c.Name, index), c.site.node(index)
	kubelet, err := c.kubeletConfig(name)
	if err != nil {
		return err
	}
	for path, content := range map[string]string{
		"/etc/hostname":                   name + "\n",
		"/etc/hosts":                      fmt.Sprintf("127.0.0.1 localhost\n::1 localhost\n%s %s\n", address, name),
		"/etc/resolv.conf":                "nameserver " + dnsServiceIP + "\n",
		"/etc/cni/net.d/10-lab.conflist":  cniConfig(c.site, index),
		"/etc/containerd/config.toml":     containerdConfig(c.places.tool("runc")),
		"/etc/kubernetes/kubelet.yaml":    kubelet,
		"/etc/kubernetes/kube-proxy.yaml": kubeProxyConfig(name, c.places.pki(c.Name, "kube-proxy.kubeconfig")),
	} {
		// Some of them are links into /run on the host, which is empty here.
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	for _, plugin := range cniPlugins {
		program, err := os.ReadFile(c.places.tool(plugin))
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join("/opt/cni/bin", plugin), program, 0o755); err != nil {
			return err
		}
	}
	return nil
}
