// SPDX-License-Identifier: Apache-2.0

//go:build netns && !amd64

package main

import "errors"

// The tests of the profile know the numbers of system calls of one architecture only.
const (
	profile     = ""
	asForbidden = "NODEPROXY_TEST_AS_FORBIDDEN"
)

func restrict(string, string) error { return errors.ErrUnsupported }

func tryForbidden(string) {}
