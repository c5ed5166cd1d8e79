// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"
	"time"
)

func TestFlagsComeFromTheEnvironmentToo(t *testing.T) {
	t.Setenv("NETWORK", "east")
	t.Setenv("CLUSTER_ID", "east-1")
	t.Setenv("DRAIN", "3s")
	f, err := parse([]string{"--cluster-id=east-2"})
	if err != nil || f.network != "east" || f.cluster != "east-2" || f.drain != 3*time.Second {
		t.Errorf("%+v, %v", f, err)
	}
	t.Setenv("DRAIN", "soon")
	if _, err := parse(nil); err == nil {
		t.Error("a drain time that is none was taken")
	}
	t.Setenv("DRAIN", "")
	t.Setenv("NETWORK", "")
	if _, err := parse(nil); err == nil {
		t.Error("no network was taken")
	}
}
