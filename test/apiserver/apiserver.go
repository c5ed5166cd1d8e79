// SPDX-License-Identifier: Apache-2.0

// Package apiserver starts real API servers for tests: etcd and kube-apiserver out of the cache that `make tools` fills. There is no
// kubelet, no scheduler and no controller manager behind them. A test without the binaries fails, and says what to run.
package apiserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// Server is a running API server with Isthmus' and the Gateway API's CRDs.
type Server struct {
	// Config is an administrator's.
	Config *rest.Config
	// Kubeconfig is the same as a file would hold it, with nothing but data in it.
	Kubeconfig []byte

	environment *envtest.Environment
	directory   string
	stopped     chan struct{}
}

// Repository finds the root of the source tree from the directory in which a test runs.
func Repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.mod above the working directory")
		}
	}
}

// patience is how long a server may take to start, and then to know our kinds.
const patience = 2 * time.Minute

// GatewayAPI is the directory of the Gateway API's CRDs, in config/crd.
const GatewayAPI = "gateway-api"

// Start runs an API server until Stop. It knows our kinds, and those of the directories of config/crd that are not among without.
func Start(without ...string) (*Server, error) {
	repository, err := Repository()
	if err != nil {
		return nil, err
	}
	directory, err := binaries(repository)
	if err != nil {
		return nil, err
	}
	var crds []string
	for _, name := range []string{"bases", GatewayAPI} {
		if !slices.Contains(without, name) {
			crds = append(crds, filepath.Join(repository, "config", "crd", name))
		}
	}
	s := &Server{directory: directory, stopped: make(chan struct{}), environment: &envtest.Environment{
		BinaryAssetsDirectory: directory,
		CRDDirectoryPaths:     crds,
		ErrorIfCRDPathMissing: true,
		// Twenty and ten seconds, unless told otherwise, are too short where other tests keep the machine busy.
		ControlPlaneStartTimeout: patience,
		CRDInstallOptions:        envtest.CRDInstallOptions{MaxTime: patience},
	}}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // whose end is what the programs end with: it lasts until Stop
		var err error
		s.Config, err = s.environment.Start()
		started <- err
		<-s.stopped
		runtime.UnlockOSThread()
	}()
	if err := <-started; err != nil {
		return nil, errors.Join(fmt.Errorf("start an API server: %w", err), s.Stop())
	}
	s.Kubeconfig = s.environment.KubeConfig
	return s, nil
}

// Install has the API server know the kinds of a directory of config/crd.
func (s *Server) Install(name string) error {
	repository, err := Repository()
	if err != nil {
		return err
	}
	_, err = envtest.InstallCRDs(s.Config, envtest.CRDInstallOptions{Paths: []string{filepath.Join(repository, "config", "crd", name)}, MaxTime: patience})
	return err
}

// Stop ends the API server and its etcd, and removes their data. It is called once.
func (s *Server) Stop() error {
	defer close(s.stopped)
	return errors.Join(s.environment.Stop(), os.RemoveAll(s.directory))
}

// TrustClients has the API server believe certificates of users that another authority, in PEM, has signed. It may take a moment to notice.
func (s *Server) TrustClients(authority []byte) error {
	// envtest has the API server read this file, which follows it.
	path := filepath.Join(s.environment.ControlPlane.GetAPIServer().CertDir, "client-cert-auth-ca.crt")
	present, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the API server's authorities of users: %w", err)
	}
	return os.WriteFile(path, slices.Concat(present, authority), 0o600)
}

// program is how a program is started: whatever ends a test, a signal that it does not hear too, ends what it started.
const program = "#!/bin/sh\nexec setpriv --pdeathsig KILL -- '%s' \"$@\"\n"

// binaries makes a directory in which envtest finds the programs under the names that it looks for: one binary serves all of Kubernetes, and goes by the name it is called.
func binaries(repository string) (string, error) {
	cache := os.Getenv("ISTHMUS_CACHE")
	if cache == "" {
		cache = filepath.Join(repository, ".cache")
	}
	directory, err := os.MkdirTemp("", "isthmus-apiserver-")
	if err != nil {
		return "", err
	}
	if err := os.Mkdir(filepath.Join(directory, "bin"), 0o700); err != nil {
		return "", err
	}
	for name, candidates := range map[string][]string{
		"etcd":           {"etcd"},
		"kube-apiserver": {"kube-apiserver", "kubernetes"},
		"kubectl":        {"kubectl", "kubernetes"},
	} {
		called := filepath.Join(directory, "bin", name)
		err := link(filepath.Join(cache, "bin"), candidates, called)
		if err == nil {
			err = os.WriteFile(filepath.Join(directory, name), fmt.Appendf(nil, program, called), 0o700) //nolint:gosec // a program, of ours alone
		}
		if err != nil {
			return "", errors.Join(err, os.RemoveAll(directory))
		}
	}
	return directory, nil
}

func link(bin string, candidates []string, target string) error {
	for _, c := range candidates {
		source := filepath.Join(bin, c)
		if _, err := os.Stat(source); err == nil {
			return os.Symlink(source, target)
		}
	}
	return fmt.Errorf("%s is missing in %s: run `make tools` (or set ISTHMUS_CACHE to a cache that it filled)", filepath.Base(target), bin)
}
