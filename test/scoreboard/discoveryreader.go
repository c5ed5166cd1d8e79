// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/isthmus-mesh/isthmus/test/fleet"
)

// readerMark says to a process that it is to be the control of discovery-remote-cpu: the folder with the kubeconfigs of the clusters whose watches it reads.
const readerMark = "ISTHMUS_BARE_READER"

// readerTick is how often the control reads, as the controller does clusters that change all the time.
const readerTick = 100 * time.Millisecond

// bareReader is a process that reads the watches which tell of a cluster's changes, and makes nothing of them: what any controller costs that hears of them with net/http.
type bareReader struct{ cmd *exec.Cmd }

// startBareReader has a process read clusters, with their kubeconfigs in a new folder in dir.
func startBareReader(ctx context.Context, dir string, clusters []*fleet.Cluster) (*bareReader, error) {
	dir, err := os.MkdirTemp(dir, "read-")
	if err != nil {
		return nil, err
	}
	for _, c := range clusters {
		if err := os.WriteFile(filepath.Join(dir, c.ID), c.Kubeconfig, 0o600); err != nil {
			return nil, err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), readerMark+"="+dir)
	cmd.Stderr = os.Stderr
	return &bareReader{cmd}, cmd.Start()
}

func (r *bareReader) stop() {
	_ = r.cmd.Process.Kill() // it holds nothing that must be put in order
	_ = r.cmd.Wait()         // killed: there is nothing to learn
}

// beBareReader makes this process the control, if it was started for that, and does not return then.
func beBareReader() {
	dir := os.Getenv(readerMark)
	if dir == "" {
		return
	}
	fmt.Fprintln(os.Stderr, "bare reader:", readBare(dir))
	os.Exit(1)
}

// readBare returns when a watch ends, and says why.
func readBare(dir string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(context.Background())
	for _, file := range files {
		config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(dir, file.Name()))
		if err != nil {
			return err
		}
		client, err := rest.HTTPClientFor(config)
		if err != nil {
			return err
		}
		for _, path := range []string{"/api/v1/pods", "/apis/discovery.k8s.io/v1/endpointslices"} {
			group.Go(func() error { return followBare(ctx, client, config.Host+path) })
		}
	}
	return group.Wait()
}

// followBare reads one watch, at the ticks.
func followBare(ctx context.Context, client *http.Client, of string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, of+"?watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan", http.NoBody)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "application/vnd.kubernetes.protobuf;stream=watch")
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK || answer.ProtoMajor != 2 {
		return fmt.Errorf("%s: %s over %s", of, answer.Status, answer.Proto)
	}
	buffer := make([]byte, 32<<10)
	for {
		n, err := answer.Body.Read(buffer)
		if err != nil {
			return err
		}
		if n == len(buffer) {
			continue
		}
		now := time.Now()
		time.Sleep(now.Truncate(readerTick).Add(readerTick).Sub(now))
	}
}
