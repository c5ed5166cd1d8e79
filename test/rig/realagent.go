// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"k8s.io/client-go/tools/clientcmd"
)

// firstPid is the first process id in a node's made-up process table.
const firstPid = 100

// StartAgent runs the product's agent on the node, in the place of the rig's own, with an API server that a kubeconfig names on the loopback of this process. It sees the
// node's pods as processes, and enrols those that the API server says are to be; which pods there are, with which uid, is the caller's to tell both.
func (n *Node) StartAgent(ctx context.Context, kubeconfig []byte, uids map[*Pod]string) (*Process, error) {
	r := n.Cluster.rig
	program, err := r.Program(ctx, "agent")
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(r.Dir, n.Name+"-agent")
	for _, d := range []string{"proc", "bin", "conf"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	pid := firstPid
	for pod, uid := range uids {
		process := filepath.Join(dir, "proc", strconv.Itoa(pid))
		err := errors.Join(
			os.MkdirAll(filepath.Join(process, "ns"), 0o755),
			os.WriteFile(filepath.Join(process, "cgroup"), []byte("0::/kubepods/pod"+uid+"/c\n"), 0o644),
			os.Symlink(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), pod.File().Fd()), filepath.Join(process, "ns", "net")),
		)
		if err != nil {
			return nil, err
		}
		pid++
	}
	config := filepath.Join(dir, "kubeconfig")
	network := `{"cniVersion":"1.0.0","name":"rig","plugins":[{"type":"ptp"}]}`
	err = errors.Join(
		os.WriteFile(config, kubeconfig, 0o600), os.WriteFile(filepath.Join(dir, "conf", "10-rig.conflist"), []byte(network), 0o644), n.reach(kubeconfig),
	)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	n.agent.stop()
	cmd := exec.CommandContext(r.alive, program, "--node-name="+n.Name, "--zds-socket="+n.agent.socket, "--cni-socket="+filepath.Join(dir, "cni.sock"),
		"--cni-bin-dir="+filepath.Join(dir, "bin"), "--cni-conf-dir="+filepath.Join(dir, "conf"), "--proc="+filepath.Join(dir, "proc"), "--kubeconfig="+config)
	cmd.Stdout, cmd.Stderr = log, log
	return r.Start(n.Space, cmd)
}

// reach makes the API server of a kubeconfig, which listens on this process's loopback, listen on the node's, too.
func (n *Node) reach(kubeconfig []byte) error {
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		return err
	}
	at, err := url.Parse(config.Host)
	if err != nil {
		return err
	}
	r := n.Cluster.rig
	l, err := n.Space.Listen(r.alive, "tcp", at.Host)
	if err != nil {
		return err
	}
	context.AfterFunc(r.alive, func() { l.Close() })
	r.running.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := new(net.Dialer).DialContext(r.alive, "tcp", at.Host)
			if err != nil {
				near.Close()
				continue
			}
			stop := context.AfterFunc(r.alive, func() { near.Close(); far.Close() })
			for _, to := range [2][2]net.Conn{{near, far}, {far, near}} {
				r.running.Go(func() {
					_, _ = io.Copy(to[0], to[1]) // its client begins anew
					to[0].Close()
					stop()
				})
			}
		}
	})
	return nil
}
