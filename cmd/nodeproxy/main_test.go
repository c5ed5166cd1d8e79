// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
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
	if _, err := parse([]string{"--log-format=xml"}); err == nil {
		t.Error("an unknown form of the log was taken")
	}
	t.Setenv("NETWORK", "")
	if _, err := parse(nil); err == nil {
		t.Error("no network was taken")
	}
}

// TestLogForms writes a line in each form, at a level that changes while it runs.
func TestLogForms(t *testing.T) {
	for format, want := range map[string]string{"json": `"msg":"connection","reason":"DENY"`, "text": "msg=connection reason=DENY"} {
		f, err := parse([]string{"--network=n", "--cluster-id=c", "--log-format=" + format})
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		log := logr.FromSlogHandler(f.handler(&out))
		log.V(1).Info("a detail")
		log.Info("connection", "reason", "DENY")
		if got := out.String(); !strings.Contains(got, want) || strings.Contains(got, "detail") {
			t.Errorf("%s: %q", format, got)
		}
		f.level.Set(slog.LevelInfo - 1)
		log.V(1).Info("a detail")
		if got := out.String(); !strings.Contains(got, "a detail") {
			t.Errorf("%s, at the level of details: %q", format, got)
		}
	}
}
