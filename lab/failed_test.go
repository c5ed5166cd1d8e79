// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestLogsOfAFailedStartAreKept(t *testing.T) {
	p := places{name: "broken", cache: t.TempDir()}
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(p.failed(), "of-an-earlier-one.log"), "old")
	write(p.box("east", "east-cp", "etcd.log"), "why")
	write(p.box("east", "east-n1", "kubelet.log"), "begin"+string(bytes.Repeat([]byte{'x'}, failedLogTail-3))+"end")
	write(p.box("east", "east-cp", "etcd", "data"), "not a log")
	if err := os.Symlink("/etc/passwd", p.box("east", "link.log")); err != nil {
		t.Fatal(err)
	}
	if err := p.keepLogs(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(p.failed(), "east", "east-cp", "etcd.log")); err != nil || string(got) != "why" {
		t.Errorf("etcd.log: %q, %v", got, err)
	}
	if got, err := os.ReadFile(filepath.Join(p.failed(), "east", "east-n1", "kubelet.log")); err != nil || len(got) != failedLogTail || !bytes.HasSuffix(got, []byte("xend")) {
		t.Errorf("kubelet.log: %d bytes, %v", len(got), err)
	}
	for _, absent := range []string{"of-an-earlier-one.log", "east/link.log", "east/east-cp/etcd/data"} {
		if _, err := os.Lstat(filepath.Join(p.failed(), absent)); err == nil {
			t.Errorf("%s is there", absent)
		}
	}
}
