// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/go-logr/logr"
)

const (
	// forwardConnections bounds the forwarder's open connections per cluster; more wait in the kernel's backlog.
	forwardConnections = 256
	forwardDialTimeout = 10 * time.Second
	// forwardFirstFile is the descriptor of the first listener that startForwarder hands over (after stdin, stdout, stderr).
	forwardFirstFile = 3
)

// startForwarder opens a port on the host's 127.0.0.1 for each cluster and starts the process that carries what arrives
// there to the API servers. The listeners are opened here and inherited, so that the ports are known at once.
func (p places) startForwarder(clusters []*Cluster) (map[string]int, error) {
	ports := map[string]int{}
	var files []*os.File
	defer func() {
		for _, file := range files {
			file.Close()
		}
	}()
	for _, c := range clusters {
		listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return nil, fmt.Errorf("listen for cluster %s: %w", c.Name, err)
		}
		ports[c.Name] = listener.Addr().(*net.TCPAddr).Port
		file, err := listener.File()
		_ = listener.Close()
		if err != nil {
			return nil, fmt.Errorf("listen for cluster %s: %w", c.Name, err)
		}
		files = append(files, file)
	}
	_, err := p.start(spawn{name: "forward", args: []string{"internal", "forward", p.name}, log: p.box("forward.log"), files: files})
	return ports, err
}

// RunForwarder is the process that startForwarder starts. It ends with ctx.
func RunForwarder(ctx context.Context, log logr.Logger, name string) error {
	p, err := placesOf(name)
	if err != nil {
		return err
	}
	r, err := p.readRecord()
	if err != nil {
		return err
	}
	l := newLab(p, r)
	var running sync.WaitGroup
	defer running.Wait()
	for i, c := range l.clusters {
		file := os.NewFile(uintptr(forwardFirstFile+i), "listener of "+c.Name)
		listener, err := net.FileListener(file)
		file.Close()
		if err != nil {
			return fmt.Errorf("listener of cluster %s: %w", c.Name, err)
		}
		stop := context.AfterFunc(ctx, func() { listener.Close() })
		defer stop()
		running.Go(func() { l.forward(ctx, log.WithValues("cluster", c.Name), listener, c.APIServer()) })
	}
	<-ctx.Done()
	return ctx.Err()
}

func (l *Lab) forward(ctx context.Context, log logr.Logger, listener net.Listener, target string) {
	places := make(chan struct{}, forwardConnections)
	var running sync.WaitGroup
	defer running.Wait()
	for {
		places <- struct{}{}
		client, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			<-places
			log.Error(err, "cannot accept")
			select {
			case <-time.After(100 * time.Millisecond): // out of descriptors, most likely
			case <-ctx.Done():
				return
			}
			continue
		}
		running.Go(func() {
			defer func() { <-places }()
			defer client.Close()
			dialing, cancel := context.WithTimeout(ctx, forwardDialTimeout)
			server, err := l.Dial(dialing, "tcp", target)
			cancel()
			if err != nil {
				log.Error(err, "cannot reach API server")
				return
			}
			defer server.Close()
			stop := context.AfterFunc(ctx, func() { client.Close(); server.Close() })
			defer stop()
			join(client, server)
		})
	}
}

// join copies both ways until both directions have ended, passing on the end of each one by itself.
func join(a, b net.Conn) {
	var other sync.WaitGroup
	other.Go(func() { carry(a, b) })
	carry(b, a)
	other.Wait()
}

func carry(to, from net.Conn) {
	_, err := io.Copy(to, from)
	half, ok := to.(*net.TCPConn)
	if err != nil || !ok || half.CloseWrite() != nil {
		to.Close() // a broken direction breaks the other one too
		from.Close()
	}
}
