// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
)

// Load builds an image and imports it into all nodes of all clusters, at once.
func (l *Lab) Load(ctx context.Context, image Image) error {
	return l.LoadInto(ctx, image, l.clusters...)
}

// LoadInto is Load for some of the clusters. A node that is not running does not get the image, and is an error.
func (l *Lab) LoadInto(ctx context.Context, image Image, clusters ...*Cluster) error {
	archive, err := l.places.writeImage(image, "load-*.tar")
	if err != nil {
		return err
	}
	defer os.Remove(archive)
	var mu sync.Mutex
	var errs []error
	var imports sync.WaitGroup
	for _, c := range clusters {
		for _, n := range c.nodes {
			imports.Go(func() {
				if err := n.load(ctx, archive); err != nil {
					mu.Lock()
					defer mu.Unlock()
					errs = append(errs, fmt.Errorf("load %s into %s: %w", image.Ref, n.Name, err))
				}
			})
		}
	}
	imports.Wait()
	return errors.Join(errs...)
}

// load imports an archive into one node.
func (n *Node) load(ctx context.Context, archive string) error {
	argv := n.cluster.importCommand(archive)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = cleanEnvironment()
	cmd.Dir = "/"
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := n.Command(cmd); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(output.String()))
	}
	return nil
}

// Command starts a command in the node's namespaces: its processes, mounts, network and host name. The caller waits
// for it. A path without a slash is looked up in the host's PATH.
func (n *Node) Command(cmd *exec.Cmd) error {
	first, err := n.process()
	if err != nil {
		return fmt.Errorf("node %s: %w", n.Name, err)
	}
	return startInside(first, cmd)
}

// writeImage writes an image archive into a new file of the lab's, whose name follows the pattern of os.CreateTemp.
func (p places) writeImage(image Image, pattern string) (string, error) {
	if err := os.MkdirAll(p.images(), 0o755); err != nil {
		return "", err
	}
	file, err := os.CreateTemp(p.images(), pattern)
	if err != nil {
		return "", err
	}
	err = image.Write(file)
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		os.Remove(file.Name())
		return "", err
	}
	return file.Name(), nil
}

// writeBaseImages writes the images that every node gets before its kubelet starts.
func (p places) writeBaseImages() error {
	for _, image := range []Image{
		{Ref: pauseImage, Binaries: []string{p.tool("pause")}},
		{Ref: coreDNSImage, Binaries: []string{p.tool("coredns")}},
	} {
		if _, err := p.writeImage(image, "base-*.tar"); err != nil {
			return err
		}
	}
	return nil
}
