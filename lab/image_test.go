// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseImage(t *testing.T) {
	for in, ok := range map[string]bool{
		"isthmus.dev/app:dev=bin/app":                 true,
		"isthmus.dev/app:dev=bin/app,bin/other":       true,
		"gcr.io/a/b/c-d_e:v1.2.3=x":                   true,
		"localhost:5000/app:1=x":                      true,
		"isthmus.dev/app:latest=x":                    false,
		"isthmus.dev/app=x":                           false,
		"app:dev=x":                                   false,
		"isthmus.dev/app:dev":                         false,
		"isthmus.dev/app:dev=":                        false,
		"isthmus.dev/app:dev=x,,y":                    false,
		"isthmus.dev/app:dev=:/place":                 false,
		"isthmus.dev/App:dev=x":                       false,
		"isthmus.dev/app:dev=x,testdata/a.crt:/a.crt": true,
	} {
		if _, err := ParseImage(in); (err == nil) != ok {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// staticProgram is the smallest thing that is a static program: this test's own kind of executable, with no loader.
func staticProgram(t *testing.T) string {
	t.Helper()
	directory := t.TempDir()
	source := filepath.Join(directory, "main.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(directory, "app")
	cmd := exec.Command("go", "build", "-o", program, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return program
}

func TestImageArchive(t *testing.T) {
	extra := filepath.Join(t.TempDir(), "tls.crt")
	if err := os.WriteFile(extra, []byte("certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	image := Image{Ref: "isthmus.dev/app:dev", Binaries: []string{staticProgram(t), extra + ":/etc/tls/tls.crt"}}
	var archive, again bytes.Buffer
	for _, w := range []io.Writer{&archive, &again} {
		if err := image.Write(w); err != nil {
			t.Fatal(err)
		}
	}
	files, _ := untar(t, archive.Bytes())
	second, _ := untar(t, again.Bytes())
	if files["index.json"] != second["index.json"] {
		t.Error("the same binaries gave two images")
	}
	for name, data := range files {
		if digest, ok := strings.CutPrefix(name, "blobs/sha256/"); ok && digest != "" {
			if sum := sha256.Sum256([]byte(data)); hex.EncodeToString(sum[:]) != digest {
				t.Errorf("%s holds something else", name)
			}
		}
	}
	blob := func(descriptor map[string]any) string {
		data := files["blobs/sha256/"+strings.TrimPrefix(descriptor["digest"].(string), "sha256:")]
		if descriptor["size"].(float64) != float64(len(data)) {
			t.Errorf("size of %v is %d", descriptor, len(data))
		}
		return data
	}
	var index struct{ Manifests []map[string]any }
	decode(t, files["index.json"], &index)
	annotations := index.Manifests[0]["annotations"].(map[string]any)
	if annotations["io.containerd.image.name"] != image.Ref {
		t.Errorf("annotations %v", annotations)
	}
	var manifest struct {
		Config map[string]any
		Layers []map[string]any
	}
	decode(t, blob(index.Manifests[0]), &manifest)
	var config struct {
		Config struct{ Entrypoint, Env []string }
		Rootfs struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	decode(t, blob(manifest.Config), &config)
	if len(config.Config.Entrypoint) != 1 || config.Config.Entrypoint[0] != "/usr/local/bin/app" || config.Config.Env[0] != imagePath {
		t.Errorf("config %+v", config.Config)
	}
	if config.Rootfs.DiffIDs[0] != manifest.Layers[0]["digest"] {
		t.Errorf("layer %v is not %v", manifest.Layers[0], config.Rootfs)
	}
	layer, headers := untar(t, []byte(blob(manifest.Layers[0])))
	if layer["etc/tls/tls.crt"] != "certificate" || headers["etc/tls/tls.crt"].Mode != 0o644 {
		t.Errorf("extra file: %q, %+v", layer["etc/tls/tls.crt"], headers["etc/tls/tls.crt"])
	}
	for name, want := range map[string]string{"usr/local/bin/app": "0 0755", "app": "2 0777", "tmp/": "5 01777", "usr/": "5 0755", "usr/local/bin/": "5 0755"} {
		header := headers[name]
		if header == nil {
			t.Errorf("no %s in the layer", name)
		} else if got := fmt.Sprintf("%c 0%o", header.Typeflag, header.Mode); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestImageRefusesWhatCannotRun(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := (Image{Ref: "a.b/c:d", Binaries: []string{script}}).Write(io.Discard); !errors.Is(err, errNotELF) {
		t.Errorf("a script: %v", err)
	}
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	if err := (Image{Ref: "a.b/c:d", Binaries: []string{shell}}).Write(io.Discard); err == nil || !strings.Contains(err.Error(), "CGO_ENABLED=0") {
		t.Errorf("a dynamic program: %v", err)
	}
	if err := (Image{Ref: "a.b/c:d", Binaries: []string{"/nowhere"}}).Write(io.Discard); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func untar(t *testing.T, data []byte) (map[string]string, map[string]*tar.Header) {
	t.Helper()
	contents, headers := map[string]string{}, map[string]*tar.Header{}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return contents, headers
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if headers[header.Name] != nil {
			t.Errorf("%s is there twice", header.Name)
		}
		contents[header.Name], headers[header.Name] = string(content), header
	}
}

func decode(t *testing.T, data string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(data), into); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
}
