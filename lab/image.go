// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// Image is a container image made of static binaries, without any tool or registry.
type Image struct {
	// Ref is the full reference, for example isthmus.dev/gateway:dev. Any name works, also one of a public registry:
	// nodes never ask a registry for an image they have, unless the pull policy is Always, the default of :latest.
	Ref string
	// Binaries are paths on this machine. Each becomes /usr/local/bin/NAME, and /NAME is a link to it, or what follows
	// a colon ("bin/server:/app/server"). The first one is the entrypoint. All must be static ELF programs;
	// other files may follow the first if they name their place.
	Binaries []string
}

// imagePath is the PATH of containers, for programs called by name.
const imagePath = "PATH=/usr/local/bin:/usr/bin:/bin:/"

// refPattern is a full reference with a tag: containerd takes it as it is and adds nothing.
var refPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)

// ParseImage reads REF=BINARY[,BINARY…].
func ParseImage(s string) (Image, error) {
	ref, list, ok := strings.Cut(s, "=")
	image := Image{Ref: ref, Binaries: strings.Split(list, ",")}
	if !ok {
		return Image{}, fmt.Errorf("image %q: want REF=BINARY[,BINARY…]", s)
	}
	return image, image.check()
}

func (i Image) check() error {
	if !refPattern.MatchString(i.Ref) {
		return fmt.Errorf("image reference %q: want HOST/NAME:TAG, for example isthmus.dev/app:dev", i.Ref)
	}
	if strings.HasSuffix(i.Ref, ":latest") {
		return fmt.Errorf("image reference %q: the tag latest makes kubelets ask the registry; choose another", i.Ref)
	}
	if len(i.Binaries) == 0 {
		return fmt.Errorf("image %s: no binaries", i.Ref)
	}
	for _, binary := range i.Binaries {
		if binary == "" || strings.HasPrefix(binary, ":") {
			return fmt.Errorf("image %s: empty path among its binaries", i.Ref)
		}
	}
	return nil
}

// imageFile is a file of an image's only layer.
type imageFile struct {
	name string // absolute
	mode int64
	link string // target of a symbolic link, instead of data
	data []byte
}

// files reads the binaries and lays out the image's file system.
func (i Image) files() (files []imageFile, entrypoint string, err error) {
	files = []imageFile{
		{name: "/etc/passwd", mode: 0o644, data: []byte("root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n")},
		{name: "/etc/group", mode: 0o644, data: []byte("root:x:0:\nnonroot:x:65532:\n")},
		{name: "/tmp/", mode: 0o1777},
	}
	for index, binary := range i.Binaries {
		source, target, placed := strings.Cut(binary, ":")
		data, err := os.ReadFile(source)
		if err != nil {
			return nil, "", fmt.Errorf("image %s: %w", i.Ref, err)
		}
		file := imageFile{name: path.Clean("/" + target), mode: 0o755, data: data}
		err = checkStatic(data)
		switch {
		case errors.Is(err, errNotELF) && placed && index > 0:
			file.mode = 0o644
		case err != nil:
			return nil, "", fmt.Errorf("image %s: %s: %w", i.Ref, source, err)
		}
		if !placed {
			name := path.Base(source)
			file.name = "/usr/local/bin/" + name
			files = append(files, imageFile{name: "/" + name, mode: 0o777, link: file.name})
		}
		if index == 0 {
			entrypoint = file.name
		}
		files = append(files, file)
	}
	return files, entrypoint, nil
}

var errNotELF = errors.New("not an ELF program")

// checkStatic refuses a program that asks for a dynamic loader: the image has none, and the error at run time,
// "no such file or directory", misleads.
func checkStatic(program []byte) error {
	file, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return fmt.Errorf("%w: %w", errNotELF, err)
	}
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_INTERP {
			return errors.New("dynamically linked; build it with CGO_ENABLED=0")
		}
	}
	return nil
}

// Write writes the image as an OCI archive (image-spec v1.1, image-layout), which containerd, skopeo and kind read.
// It returns an error that names the binary when one is missing or not static.
func (i Image) Write(w io.Writer) error {
	if err := i.check(); err != nil {
		return err
	}
	files, entrypoint, err := i.files()
	if err != nil {
		return err
	}
	layer, err := tarOf(files)
	if err != nil {
		return err
	}
	type object map[string]any
	blobs := map[string][]byte{}
	add := func(kind string, data []byte) object {
		digest := sha256.Sum256(data)
		name := hex.EncodeToString(digest[:])
		blobs[name] = data
		return object{"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + name, "size": len(data)}
	}
	addJSON := func(kind string, value object) (object, error) {
		data, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		return add(kind, data), nil
	}
	layerDescriptor := add("layer.v1.tar", layer)
	config, err := addJSON("config.v1+json", object{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config":       object{"Entrypoint": []string{entrypoint}, "Env": []string{imagePath}, "WorkingDir": "/"},
		"rootfs":       object{"type": "layers", "diff_ids": []any{layerDescriptor["digest"]}},
	})
	if err != nil {
		return err
	}
	manifest, err := addJSON("manifest.v1+json", object{
		"schemaVersion": 2,
		"mediaType":     "application/vnd.oci.image.manifest.v1+json",
		"config":        config,
		"layers":        []object{layerDescriptor},
	})
	if err != nil {
		return err
	}
	manifest["annotations"] = object{"io.containerd.image.name": i.Ref, "org.opencontainers.image.ref.name": i.Ref}
	index, err := json.Marshal(object{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []object{manifest}})
	if err != nil {
		return err
	}
	archive := []imageFile{
		{name: "/oci-layout", mode: 0o644, data: []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{name: "/index.json", mode: 0o644, data: index},
	}
	for name, data := range blobs {
		archive = append(archive, imageFile{name: "/blobs/sha256/" + name, mode: 0o644, data: data})
	}
	data, err := tarOf(archive)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}

// tarOf packs files with their parent directories. Nothing in it depends on the time or the caller, so the same
// binaries give the same layer.
func tarOf(files []imageFile) ([]byte, error) {
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	made := map[string]bool{"/": true}
	directory := func(name string, mode int64) error {
		if made[name] {
			return nil
		}
		made[name] = true
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name[1:] + "/", Mode: mode, ModTime: time.Unix(0, 0)})
	}
	for _, file := range files {
		for at := 1; ; {
			next := strings.IndexByte(file.name[at:], '/')
			if next < 0 {
				break
			}
			mode := int64(0o755)
			if at+next+1 == len(file.name) {
				mode = file.mode
			}
			if err := directory(file.name[:at+next], mode); err != nil {
				return nil, err
			}
			at += next + 1
		}
		if strings.HasSuffix(file.name, "/") {
			continue
		}
		header := &tar.Header{Typeflag: tar.TypeReg, Name: file.name[1:], Mode: file.mode, Size: int64(len(file.data)), ModTime: time.Unix(0, 0)}
		if file.link != "" {
			header.Typeflag, header.Linkname = tar.TypeSymlink, file.link
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(file.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}
