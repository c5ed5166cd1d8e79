// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// DefaultOptions finds the source tree around the working directory and the cache that the Makefile uses.
func DefaultOptions(labName string, out io.Writer) (Options, error) {
	repository, err := sourceTree()
	if err != nil {
		return Options{}, err
	}
	cache := os.Getenv("ISTHMUS_CACHE")
	if cache == "" {
		cache = filepath.Join(repository, ".cache")
	}
	o := Options{
		Repository: repository,
		Build:      filepath.Join(cache, "build"),
		Scratch:    filepath.Join(cache, "demo"),
		LabName:    labName,
		Out:        out,
	}
	for _, name := range append([]string{"lab"}, images...) {
		if _, err := os.Stat(filepath.Join(o.Build, name)); errors.Is(err, os.ErrNotExist) {
			return Options{}, fmt.Errorf("%s is not built: run make build", name)
		}
	}
	return o, nil
}

// sourceTree is the nearest folder, from the working directory up, with a go.mod.
func sourceTree() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("%s is not inside the source tree", start)
		}
	}
}

// WhatNext says what a reader may try on the lab that the demo left up.
func WhatNext(o Options) string {
	lab := filepath.Join(o.Build, "lab")
	if relative, err := filepath.Rel(o.Repository, lab); err == nil {
		lab = relative
	}
	return strings.NewReplacer("LAB", lab, "NAME", o.LabName).Replace(`
The lab is up. Try:

  LAB kubectl --name NAME west -n demo exec deploy/client -- /demo-app load --count 8 ` + helloURL + `
  LAB kubectl --name NAME west get remoteclusters,servicescopes,gateways -A
  LAB kubectl --name NAME east -n isthmus-system logs -l gateway.networking.k8s.io/gateway-name=eastwest --tail 3
  LAB kubectl --name NAME west -n demo label service hello istio.io/global-
  LAB status --name NAME

  make demo-down      removes everything
`)
}
