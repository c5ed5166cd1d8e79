// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"syscall"
	"time"
)

// subjectFile is the key in a context of the file that -subject names.
type subjectFile struct{}

func withSubject(ctx context.Context, file string) context.Context {
	return context.WithValue(ctx, subjectFile{}, file)
}

// observe runs measure, which takes about as long as said, and writes profiles of the controller in that time, if they are asked for.
func (p *discoveryPlane) observe(ctx context.Context, about time.Duration, measure func() error) error {
	file, _ := ctx.Value(subjectFile{}).(string)
	if file == "" {
		return measure()
	}
	done := make(chan error, 1)
	go func() { done <- p.fetch(ctx, fmt.Sprintf("profile?seconds=%d", int(about.Seconds())), file) }()
	err := measure()
	return errors.Join(err, <-done, p.fetch(ctx, "heap?gc=1", file+".heap"))
}

// fetch writes one of the controller's profiles to a file.
func (p *discoveryPlane) fetch(ctx context.Context, what, file string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.profile+"/debug/pprof/"+what, http.NoBody)
	if err != nil {
		return err
	}
	var answer *http.Response
	err = p.await(ctx, "the controller serves profiles", func() (bool, error) { // it may just have been started
		answer, err = http.DefaultClient.Do(request) //nolint:bodyclose // closed below
		if errors.Is(err, syscall.ECONNREFUSED) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("profile of the controller: %s", answer.Status)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, answer.Body)
	return errors.Join(err, f.Close())
}
