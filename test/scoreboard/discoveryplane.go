// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/test/fleet"
)

// The size of every cluster of the rows of discovery: that of the published measurement which they are compared with.
const (
	discoveryClusters  = 10 // one of them local
	discoveryServices  = 300
	discoveryEndpoints = 4000
)

// discoveryWait is how long anything may take before a row gives up: the machine may be busy with other things.
const discoveryWait = 2 * time.Minute

// discoveryPlane is the controller as it ships, in a process of its own, and the clusters that it reads. The first of them is its own.
type discoveryPlane struct {
	clusters []*fleet.Cluster
	address  string // of discovery
	health   string
	profile  string // where the controller serves profiles of itself
	program  string // path of the controller
	dir      string
	more     []string // further arguments of the controller
	cmd      *exec.Cmd
	log      *os.File
}

// newDiscoveryPlane builds the controller and fills clusters. Nothing runs yet.
func newDiscoveryPlane(ctx context.Context, clusters int) (*discoveryPlane, error) {
	dir, err := os.MkdirTemp("", "scoreboard-")
	if err != nil {
		return nil, err
	}
	p := &discoveryPlane{dir: dir, program: filepath.Join(dir, "controller")}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", p.program, "./cmd/controller")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, errors.Join(fmt.Errorf("build the controller: %w", err), p.close())
	}
	for i := range clusters {
		c, err := fleet.NewCluster(i, fmt.Sprintf("cluster-%d", i), fleet.Size{Services: discoveryServices, Endpoints: discoveryEndpoints})
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		p.clusters = append(p.clusters, c)
	}
	return p, nil
}

func (p *discoveryPlane) local() *fleet.Cluster { return p.clusters[0] }

// start runs the controller.
func (p *discoveryPlane) start(ctx context.Context) error {
	kubeconfig := filepath.Join(p.dir, "kubeconfig")
	if err := os.WriteFile(kubeconfig, p.local().Kubeconfig, 0o600); err != nil {
		return err
	}
	var err error
	if p.address, err = freeAddress(ctx); err != nil {
		return err
	}
	if p.health, err = freeAddress(ctx); err != nil {
		return err
	}
	if p.profile, err = freeAddress(ctx); err != nil {
		return err
	}
	if p.log, err = os.Create(filepath.Join(p.dir, "log")); err != nil {
		return err
	}
	p.cmd = exec.CommandContext(ctx, p.program, "--cluster-id", p.local().ID, "--discovery-address", p.address, "--health-address", p.health, "--metrics-address", "0", "--profile-address", p.profile)
	p.cmd.Args = append(p.cmd.Args, p.more...)
	p.cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = 20 * time.Second
	return p.cmd.Start()
}

// freeAddress is one on loopback that nobody listens on.
func freeAddress(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// stop ends the controller and waits for it.
func (p *discoveryPlane) stop() error {
	if p.cmd == nil || p.cmd.Process == nil {
		return nil
	}
	err := errors.Join(ignoreFinished(p.cmd.Cancel()), p.cmd.Wait(), p.log.Close())
	p.cmd = nil
	return err
}

func ignoreFinished(err error) error {
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// close ends everything. What the controller said is lost with it.
func (p *discoveryPlane) close() error {
	err := p.stop()
	for _, c := range p.clusters {
		err = errors.Join(err, c.Stop())
	}
	return errors.Join(err, os.RemoveAll(p.dir))
}

// lastWords are the end of the controller's log, for an error.
func (p *discoveryPlane) lastWords() string {
	text, _ := os.ReadFile(p.log.Name()) // nothing to say if it cannot be read
	return string(text[max(0, len(text)-2000):])
}

// join has the controller read further clusters: those from..to.
func (p *discoveryPlane) join(from, to int) error {
	for _, c := range p.clusters[from:to] {
		err := p.local().Create(&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: fleet.SystemNamespace, Name: c.ID, Labels: map[string]string{"istio/multiCluster": "true"}},
			Data:       map[string][]byte{c.ID: c.Kubeconfig},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// await asks until something is so.
func (p *discoveryPlane) await(ctx context.Context, what string, so func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, discoveryWait)
	defer cancel()
	for {
		ok, err := so()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w; the controller's last words: %s", what, errors.Join(err, ctx.Err()), p.lastWords())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// awaitReady waits until proxies are answered.
func (p *discoveryPlane) awaitReady(ctx context.Context) error {
	return p.await(ctx, "the controller becomes ready", func() (bool, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.health+"/readyz", http.NoBody)
		if err != nil {
			return false, err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return false, err
		}
		defer response.Body.Close()
		_, err = io.Copy(io.Discard, response.Body)
		return response.StatusCode == http.StatusOK, err
	})
}

// awaitRemote waits until the controller says that it has read everything of a cluster.
func (p *discoveryPlane) awaitRemote(ctx context.Context, c *fleet.Cluster) error {
	return p.await(ctx, c.ID+" is ready", func() (bool, error) {
		r, err := fleet.Get(p.local().Server, &v1alpha1.RemoteCluster{ObjectMeta: metav1.ObjectMeta{Name: c.ID}})
		if err != nil {
			return false, err
		}
		if !meta.IsStatusConditionTrue(r.Status.Conditions, v1alpha1.RemoteClusterReady) || int(r.Status.Services) < discoveryServices {
			return false, fmt.Errorf("status of %s: %+v", c.ID, r.Status)
		}
		return true, nil
	})
}

// roots are those that a proxy would find in its ConfigMap; nil while there are none.
func (p *discoveryPlane) roots() *x509.CertPool {
	c, err := fleet.Get(p.local().Server, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: fleet.SystemNamespace, Name: "istio-ca-root-cert"}})
	if err != nil {
		return nil
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(c.Data["root-cert.pem"]))
	return pool
}

// resident is what the controller holds of memory, in MB (10⁶ bytes) as the kernel counts it.
func (p *discoveryPlane) resident() (float64, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib * 1024 / 1e6, err
		}
	}
	return 0, errors.New("the kernel does not say how much memory the controller holds")
}

// processor is what the controller has used of it so far, in user and kernel mode.
func (p *discoveryPlane) processor() (time.Duration, error) { return processorOf(p.cmd.Process.Pid) }

// processorOf is what a process has used of it so far, in user and kernel mode. It fails for one that has ended: what is measured of that says nothing.
func processorOf(pid int) (time.Duration, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	// After the name, which may hold anything, in parentheses: fields 14 and 15 of proc(5), in ticks of 10 ms.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if fields[0] == "Z" { // of a child that nobody has waited for yet
		return 0, fmt.Errorf("process %d has ended", pid)
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, err
}
