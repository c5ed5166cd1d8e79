// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// l7Proxy is a process that passes requests on to one backend.
type l7Proxy struct {
	name    string
	address string
	cmd     *exec.Cmd
}

// l7Proxies are the gateway under test first, and then its controls. missing says which of the controls are not here.
type l7Proxies struct {
	list    []*l7Proxy
	missing []string
	folder  string
}

// l7Ready is how long a proxy may take to answer after its start; Traefik takes a second.
const l7Ready = 30 * time.Second

// startProxies starts the gateway, and those controls of the named ones that are in the cache (see controls/README.md) or installed. http2: the backend speaks
// gRPC.
func startProxies(ctx context.Context, out io.Writer, backend string, http2 bool, controls ...string) (_ *l7Proxies, err error) {
	p := &l7Proxies{}
	if p.folder, err = os.MkdirTemp("", "scoreboard-l7-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.stop()
		}
	}()
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	gateway := exec.CommandContext(ctx, self)
	profile, _ := ctx.Value(subjectFile{}).(string)
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	gateway.Env = append(os.Environ(), l7Mark+"="+address, l7Backend+"="+backend, l7Profile+"="+profile)
	if http2 {
		gateway.Env = append(gateway.Env, l7HTTP2+"=1")
	}
	if err := p.start(ctx, "gateway", address, gateway); err != nil {
		return nil, err
	}
	for _, name := range controls {
		path := l7Program(name)
		if path == "" {
			p.missing = append(p.missing, name)
			fmt.Fprintf(out, "%s is NOT MEASURED: it is neither in the cache nor installed; see test/scoreboard/controls/README.md\n", name)
			continue
		}
		if address, err = freeAddress(ctx); err != nil {
			return nil, err
		}
		cmd, err := l7Commands[name](ctx, path, p.folder, address, backend, http2)
		if err != nil {
			return nil, err
		}
		if err := p.start(ctx, name, address, cmd); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// l7Program is where a control is; empty: nowhere.
func l7Program(name string) string {
	cache := os.Getenv("ISTHMUS_CACHE")
	if cache == "" {
		cache = ".cache"
	}
	if path := filepath.Join(cache, "build", name); isFile(path) {
		return path
	}
	path, _ := exec.LookPath(name) // not found: empty
	return path
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// l7Commands start the controls with their default settings, but for what they listen on and pass on to; access logs are off everywhere.
var l7Commands = map[string]func(ctx context.Context, path, folder, address, backend string, http2 bool) (*exec.Cmd, error){
	"traefik": func(ctx context.Context, path, folder, address, backend string, http2 bool) (*exec.Cmd, error) {
		scheme := "http"
		if http2 {
			scheme = "h2c"
		}
		file := filepath.Join(folder, "traefik.yaml")
		text := fmt.Sprintf("http:\n  routers:\n    all: {rule: 'PathPrefix(`/`)', service: cart}\n  services:\n    cart: {loadBalancer: {servers: [{url: '%s://%s'}]}}\n", scheme, backend)
		return exec.CommandContext(ctx, path, "--entryPoints.web.address="+address, "--providers.file.filename="+file, "--global.checkNewVersion=false", "--global.sendAnonymousUsage=false", "--log.level=ERROR"),
			os.WriteFile(file, []byte(text), 0o600)
	},
	"caddy": func(ctx context.Context, path, folder, address, backend string, _ bool) (*exec.Cmd, error) {
		file := filepath.Join(folder, "Caddyfile")
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		text := fmt.Sprintf("{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n\tlog {\n\t\tlevel ERROR\n\t}\n}\nhttp://:%s {\n\tbind %s\n\treverse_proxy %s\n}\n", port, host, backend)
		cmd := exec.CommandContext(ctx, path, "run", "--config", file, "--adapter", "caddyfile")
		cmd.Env = append(os.Environ(), "HOME="+folder)
		return cmd, os.WriteFile(file, []byte(text), 0o600)
	},
	"haproxy": func(ctx context.Context, path, folder, address, backend string, _ bool) (*exec.Cmd, error) {
		file := filepath.Join(folder, "haproxy.cfg")
		text := fmt.Sprintf("global\n  nbthread 2\n  maxconn 2000\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  http-reuse always\nfrontend web\n  bind %s\n  default_backend cart\nbackend cart\n  server cart %s\n", address, backend)
		return exec.CommandContext(ctx, path, "-db", "-q", "-f", file), os.WriteFile(file, []byte(text), 0o600)
	},
}

// processorTime is what the proxy has used so far; 0 if that cannot be read.
func (p *l7Proxy) processorTime() time.Duration {
	spent, _ := processorOf(p.cmd.Process.Pid)
	return spent
}

// start starts a proxy and waits until it listens.
func (p *l7Proxies) start(ctx context.Context, name, address string, cmd *exec.Cmd) error {
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	p.list = append(p.list, &l7Proxy{name, address, cmd})
	var dialer net.Dialer
	for deadline := time.Now().Add(l7Ready); ; time.Sleep(20 * time.Millisecond) {
		nc, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil {
			nc.Close()
			return nil
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return fmt.Errorf("%s does not listen: %w", name, err)
		}
	}
}

func (p *l7Proxies) stop() {
	for _, proxy := range p.list {
		_ = proxy.cmd.Process.Signal(syscall.SIGTERM) // one that has ended is not there to be told
		_ = proxy.cmd.Wait()                          // it was told to end: there is nothing to learn
	}
	os.RemoveAll(p.folder)
}
