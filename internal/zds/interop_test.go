// SPDX-License-Identifier: Apache-2.0

package zds

import (
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// theirs describes the messages by names and numbers, from which the protobuf library makes a codec that shares nothing with ours.
const theirs = `
name: "zds" package: "zds" syntax: "proto3"
enum_type { name: "Version" value { name: "NOT_USED" number: 0 } value { name: "V1" number: 1 } }
message_type { name: "ZdsHello" field { name: "version" number: 1 type: TYPE_ENUM type_name: ".zds.Version" label: LABEL_OPTIONAL } }
message_type { name: "WorkloadInfo"
  field { name: "name" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "namespace" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "service_account" number: 3 type: TYPE_STRING label: LABEL_OPTIONAL } }
message_type { name: "AddWorkload"
  field { name: "uid" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "workload_info" number: 2 type: TYPE_MESSAGE type_name: ".zds.WorkloadInfo" label: LABEL_OPTIONAL } }
message_type { name: "KeepWorkload" field { name: "uid" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL } }
message_type { name: "DelWorkload" field { name: "uid" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL } }
message_type { name: "SnapshotSent" }
message_type { name: "WorkloadRequest" oneof_decl { name: "payload" }
  field { name: "add" number: 1 type: TYPE_MESSAGE type_name: ".zds.AddWorkload" label: LABEL_OPTIONAL oneof_index: 0 }
  field { name: "del" number: 2 type: TYPE_MESSAGE type_name: ".zds.DelWorkload" label: LABEL_OPTIONAL oneof_index: 0 }
  field { name: "snapshot_sent" number: 3 type: TYPE_MESSAGE type_name: ".zds.SnapshotSent" label: LABEL_OPTIONAL oneof_index: 0 }
  field { name: "keep" number: 5 type: TYPE_MESSAGE type_name: ".zds.KeepWorkload" label: LABEL_OPTIONAL oneof_index: 0 } }
message_type { name: "Ack" field { name: "error" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL } }
message_type { name: "WorkloadResponse" oneof_decl { name: "payload" }
  field { name: "ack" number: 1 type: TYPE_MESSAGE type_name: ".zds.Ack" label: LABEL_OPTIONAL oneof_index: 0 } }
`

// library gives the protobuf library's codec.
func library(t testing.TB) func(name protoreflect.Name) *dynamicpb.Message {
	t.Helper()
	file := &descriptorpb.FileDescriptorProto{}
	if err := prototext.Unmarshal([]byte(theirs), file); err != nil {
		t.Fatal(err)
	}
	made, err := protodesc.NewFile(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return func(name protoreflect.Name) *dynamicpb.Message {
		return dynamicpb.NewMessage(made.Messages().ByName(name))
	}
}

// fill sets fields of a message by their names.
func fill(m protoreflect.Message, fields map[protoreflect.Name]string) {
	for name, v := range fields {
		m.Set(m.Descriptor().Fields().ByName(name), protoreflect.ValueOfString(v))
	}
}

// theirRequest builds a request with the library.
func theirRequest(m *dynamicpb.Message, r request) *dynamicpb.Message {
	payload := m.Descriptor().Fields().ByNumber(protoreflect.FieldNumber(r.kind))
	body := m.Mutable(payload).Message()
	if r.kind == kindSnapshot {
		return m
	}
	fill(body, map[protoreflect.Name]string{"uid": r.workload.UID})
	if r.kind == kindAdd {
		info := body.Mutable(body.Descriptor().Fields().ByName("workload_info")).Message()
		fill(info, map[protoreflect.Name]string{"name": r.workload.Name, "namespace": r.workload.Namespace, "service_account": r.workload.ServiceAccount})
	}
	return m
}

// FuzzAgainstProtobuf: the protobuf library reads what we write, and we read what it writes, whatever the strings hold. So either half can
// be another program's.
func FuzzAgainstProtobuf(f *testing.F) {
	f.Add("8d9b5f6e-1c2d-4e3f-9a0b-123456789abc", "cart-1", "shop", "cart")
	f.Add("u", "", "", "")
	f.Add("é\x00\u2028", "a\nb", "\U0010ffff", " ")
	message := library(f)
	same := func(t *testing.T, what string, ours []byte, theirs *dynamicpb.Message) {
		t.Helper()
		read := theirs.New().Interface()
		if err := proto.Unmarshal(ours, read); err != nil || !proto.Equal(read, theirs) {
			t.Fatalf("%s: they read %v of what we write, %v; want %v", what, read, err, theirs)
		}
	}
	f.Fuzz(func(t *testing.T, uid, name, namespace, account string) {
		if uid == "" {
			return // not a request
		}
		for _, s := range []string{uid, name, namespace, account} {
			if !utf8.ValidString(s) {
				return // not protobuf
			}
		}
		for _, want := range []request{
			{kindAdd, Workload{uid, name, namespace, account, false}}, {kindKeep, Workload{UID: uid}}, {kindDel, Workload{UID: uid}}, {kind: kindSnapshot},
		} {
			theirs := theirRequest(message("WorkloadRequest"), want)
			same(t, want.kind.String(), encodeRequest(want), theirs)
			b, err := proto.Marshal(theirs)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := decodeRequest(b); err != nil || got != want {
				t.Fatalf("we read %+v of what they write, %v; want %+v", got, err, want)
			}
		}
		ending := message("WorkloadRequest")
		if err := proto.Unmarshal(encodeRequest(request{kindAdd, Workload{uid, name, namespace, account, true}}), ending.Interface()); err != nil {
			t.Fatal(err)
		}
		add := ending.Get(ending.Descriptor().Fields().ByNumber(protoreflect.FieldNumber(kindAdd))).Message()
		add.SetUnknown(nil) // as whoever does not know it
		if want := theirRequest(message("WorkloadRequest"), request{kindAdd, Workload{uid, name, namespace, account, false}}); !proto.Equal(ending, want) {
			t.Fatalf("they read our add of a pod that terminates as %v, want %v", ending, want)
		}
		response := message("WorkloadResponse")
		fill(response.Mutable(response.Descriptor().Fields().ByName("ack")).Message(), map[protoreflect.Name]string{"error": name})
		same(t, "ack", encodeAck(ack{err: name}), response)
		b, err := proto.Marshal(response)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeAck(b); err != nil || got.err != name {
			t.Fatalf("we read the error %q, %v; want %q", got.err, err, name)
		}
		greeting := message("ZdsHello")
		greeting.Set(greeting.Descriptor().Fields().ByName("version"), protoreflect.ValueOfEnum(versionV1))
		same(t, "hello", encodeHello(hello{version: versionV1}), greeting)
		theirs := message("ZdsHello")
		if err := proto.Unmarshal(encodeHello(hello{versionV1, Proxy{"ns", "n", true}}), theirs.Interface()); err != nil || theirs.Get(theirs.Descriptor().Fields().ByName("version")).Enum() != versionV1 {
			t.Fatalf("they read our hello as %v, %v", theirs, err)
		}
		if b, err = proto.Marshal(greeting); err != nil {
			t.Fatal(err)
		}
		if got, err := decodeHello(b); err != nil || got != (hello{version: versionV1}) {
			t.Fatalf("we read %+v, %v", got, err)
		}
	})
}
