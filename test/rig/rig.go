// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

const (
	// TrustDomain is that of all clusters.
	TrustDomain = "cluster.local"
	// SystemNamespace is where the mesh itself runs.
	SystemNamespace = "isthmus-system"
	// mostOnFabric are the addresses of the fabric's last byte.
	mostOnFabric = 254
)

// Rig is one table. Its methods, and those of what it makes, are for one goroutine at a time, unless they say otherwise.
type Rig struct {
	// Dir is a directory of the rig's own, which Close removes.
	Dir string

	fabric    *Space
	onFabric  byte
	ports     int
	authority map[string][]byte
	signer    *ca.Signer
	state     *world.State
	clusters  []*Cluster

	alive   context.Context // of everything that runs in this process
	end     context.CancelFunc
	running sync.WaitGroup

	mu        sync.Mutex
	programs  map[string]string
	spaces    []*Space
	processes []*Process
}

// New makes an empty rig with a certificate authority.
func New() (_ *Rig, err error) {
	r := &Rig{state: world.NewState(), programs: map[string]string{}}
	r.alive, r.end = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if r.Dir, err = os.MkdirTemp("", "isthmus-rig-"); err != nil {
		return nil, err
	}
	if r.authority, err = ca.SelfSigned(TrustDomain); err != nil {
		return nil, err
	}
	if r.signer, err = ca.NewSigner(r.authority); err != nil {
		return nil, err
	}
	if err := os.WriteFile(r.rootFile(), []byte(r.signer.RootPEM()), 0o600); err != nil {
		return nil, err
	}
	if r.fabric, err = r.NewSpace(); err != nil {
		return nil, err
	}
	return r, r.fabric.addBridge(netip.Prefix{})
}

// Close kills what runs, lets go of all namespaces, and removes the directory.
func (r *Rig) Close() error {
	r.end()
	r.mu.Lock()
	processes, spaces := r.processes, r.spaces
	r.processes, r.spaces = nil, nil
	r.mu.Unlock()
	var errs []error
	for _, p := range processes {
		errs = append(errs, p.Kill())
	}
	r.running.Wait()
	for _, s := range slices.Backward(spaces) {
		errs = append(errs, s.Close())
	}
	if r.Dir != "" {
		errs = append(errs, os.RemoveAll(r.Dir))
	}
	return errors.Join(errs...)
}

// NewSpace makes a namespace that is closed with the rig.
func (r *Rig) NewSpace() (*Space, error) {
	s, err := NewSpace()
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spaces = append(r.spaces, s)
	return s, nil
}

// release closes a namespace before the rig is closed.
func (r *Rig) release(s *Space) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spaces = slices.DeleteFunc(r.spaces, func(other *Space) bool { return other == s })
	return s.Close()
}

// Start runs a command in a namespace; it is killed with the rig. Any goroutine may call it.
func (r *Rig) Start(in *Space, cmd *exec.Cmd) (*Process, error) {
	p, err := in.Start(cmd)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// Those that have ended are of no use any more.
	r.processes = append(slices.DeleteFunc(r.processes, func(p *Process) bool {
		select {
		case <-p.Ended():
			return true
		default:
			return false
		}
	}), p)
	return p, nil
}

// Program builds one of the product's commands, once, and gives its path.
func (r *Rig) Program(ctx context.Context, name string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if path, ok := r.programs[name]; ok {
		return path, nil
	}
	path, err := Build(ctx, r.Dir, name)
	if err == nil {
		r.programs[name] = path
	}
	return path, err
}

// Provide says where a command is that was built before, so that it need not be again.
func (r *Rig) Provide(name, path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.programs[name] = path
}

// Build builds one of the product's commands from this tree as it ships, into a directory, and gives its path.
func Build(ctx context.Context, dir, name string) (path string, err error) {
	path = filepath.Join(dir, name)
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", path, "github.com/isthmus-mesh/isthmus/cmd/"+name)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, text)
	}
	return path, nil
}

// Authority is the certificate authority of all clusters, in the layout of a cacerts Secret.
func (r *Rig) Authority() map[string][]byte { return r.authority }

func (r *Rig) rootFile() string { return filepath.Join(r.Dir, "root-cert.pem") }

// OnFabric gives a namespace a device on the fabric, and tells its address there.
func (r *Rig) OnFabric(s *Space, device string) (netip.Addr, error) {
	if r.onFabric == mostOnFabric {
		return netip.Addr{}, errors.New("the fabric has no address left")
	}
	r.onFabric++
	at := netip.AddrFrom4([4]byte{203, 0, 113, r.onFabric})
	return at, s.plug(r.fabric, r.port(), device, netip.PrefixFrom(at, 24))
}

// port is a name for the bridge's end of a link.
func (r *Rig) port() string {
	r.ports++
	return fmt.Sprintf("p%d", r.ports)
}

// Publish tells every control plane what the world has become.
func (r *Rig) Publish() {
	for _, c := range r.clusters {
		c.publish()
	}
}

// Put adds objects to the world of all clusters, or replaces them; Publish makes it known.
func (r *Rig) Put(objects ...world.Object) {
	d := world.NewDelta()
	for _, o := range objects {
		d.Put(o)
	}
	r.state.Apply(d)
}

// Drop takes objects out of the world of all clusters; Publish makes it known.
func (r *Rig) Drop(refs ...world.ObjectRef) {
	d := world.NewDelta()
	for _, ref := range refs {
		d.Delete(ref)
	}
	r.state.Apply(d)
}
