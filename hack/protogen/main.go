// SPDX-License-Identifier: Apache-2.0

// Command protogen compiles every .proto file under a folder into Go packages.
//
// It needs no protoc: protocompile parses and links, and the two official generators, pinned by this module's go.mod,
// are run as plugins through "go tool". The same inputs give the same bytes on every machine.
//
//	protogen -proto DIR -out DIR -module PATH
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	protos := flag.String("proto", "", "folder that holds the .proto files; imports are relative to it")
	out := flag.String("out", "", "folder of the Go module to write into")
	module := flag.String("module", "", "import path of that Go module")
	flag.Parse()
	if err := run(context.Background(), *protos, *out, *module); err != nil {
		fmt.Fprintln(os.Stderr, "protogen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, protos, out, module string) error {
	if protos == "" || out == "" || module == "" {
		return errors.New("-proto, -out and -module are all needed")
	}
	names, err := list(protos)
	if err != nil {
		return err
	}
	request, err := compile(ctx, protos, names)
	if err != nil {
		return err
	}
	for _, plugin := range []struct{ name, parameter string }{
		{"protoc-gen-go", "module=" + module},
		{"protoc-gen-go-grpc", "module=" + module},
	} {
		request.Parameter = proto.String(plugin.parameter)
		files, err := generate(ctx, plugin.name, request)
		if err != nil {
			return fmt.Errorf("%s: %w", plugin.name, err)
		}
		for _, f := range files {
			path := filepath.Join(out, filepath.FromSlash(f.GetName()))
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(path, []byte(f.GetContent()), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// list gives the .proto files under dir, relative to it, with slashes, sorted.
func list(dir string) ([]string, error) {
	var names []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".proto") {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		names = append(names, filepath.ToSlash(rel))
		return err
	})
	slices.Sort(names)
	return names, err
}

// compile links the files and describes them, with all they import, in the order that plugins demand: imports first.
func compile(ctx context.Context, dir string, names []string) (*pluginpb.CodeGeneratorRequest, error) {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{dir}}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := compiler.Compile(ctx, names...)
	if err != nil {
		return nil, err
	}
	var all []*descriptorpb.FileDescriptorProto
	seen := map[string]bool{}
	var add func(protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		all = append(all, protoutil.ProtoFromFileDescriptor(f))
	}
	for _, f := range files {
		add(f)
	}
	return &pluginpb.CodeGeneratorRequest{FileToGenerate: names, ProtoFile: all}, nil
}

// generate runs one plugin of this module's tool list.
func generate(ctx context.Context, plugin string, request *pluginpb.CodeGeneratorRequest) ([]*pluginpb.CodeGeneratorResponse_File, error) {
	in, err := proto.Marshal(request)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", "tool", plugin)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	output, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(output, &response); err != nil {
		return nil, err
	}
	if response.Error != nil {
		return nil, errors.New(response.GetError())
	}
	return response.File, nil
}
