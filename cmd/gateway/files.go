// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/go-logr/logr"
)

// rootsIn reads the roots anew each time, as the file changes when they rotate. It gives nil if there are none.
func rootsIn(path string, log logr.Logger) func() *x509.CertPool {
	return func() *x509.CertPool {
		text, err := os.ReadFile(path)
		pool := x509.NewCertPool()
		if err == nil && !pool.AppendCertsFromPEM(text) {
			err = errors.New("no certificate in it")
		}
		if err != nil {
			log.Error(err, "no roots to verify the controller with", "file", path)
			return nil
		}
		return pool
	}
}

// tokenIn reads the token anew each time, as the kubelet rotates it.
func tokenIn(path string) func() (string, error) {
	return func() (string, error) {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		token := strings.TrimSpace(string(text))
		if token == "" {
			return "", fmt.Errorf("%s is empty", path)
		}
		return token, nil
	}
}
