// SPDX-License-Identifier: Apache-2.0

package zds

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// MaxPacket is the longest message in either direction, in bytes. Both of upstream's halves read into buffers of this size.
const MaxPacket = 1024

// versionV1 is the only protocol version there is (Version.V1 of zds.proto).
const versionV1 = 1

// Fields of our own, beyond what ZDS will ever have. Who does not know them skips them.
const (
	// In a hello.
	fieldConfines  protowire.Number = 1001
	fieldName      protowire.Number = 1002
	fieldNamespace protowire.Number = 1003
	// In an add.
	fieldTerminating protowire.Number = 1001
)

// Proxy is what a proxy says of itself. Others than ours say nothing.
type Proxy struct {
	// Namespace and Name are those of its pod; empty if it does not know.
	Namespace, Name string
	// Confines says that it takes a confinement before TLS (docs/hbone.md §13.9).
	Confines bool
}

// Workload is a pod as the agent describes it. UID is the Kubernetes pod UID, not a discovery name; the proxy finds its discovery
// entry by the other three.
type Workload struct {
	UID            string
	Name           string
	Namespace      string
	ServiceAccount string
	// Terminating says that the pod was told to end, and is served until its containers have. An add that says so follows the one that did not; who skips it has the same pod twice,
	// which is a no-op. Agents other than ours never say it.
	Terminating bool
}

// kind says which alternative of WorkloadRequest a request holds. The values are the field numbers of zds.proto.
type kind int

const (
	kindAdd      kind = 1
	kindDel      kind = 2
	kindSnapshot kind = 3
	kindKeep     kind = 5
)

func (k kind) String() string {
	switch k {
	case kindAdd:
		return "add"
	case kindDel:
		return "del"
	case kindSnapshot:
		return "snapshot sent"
	case kindKeep:
		return "keep"
	}
	return fmt.Sprintf("kind %d", int(k))
}

// request is a WorkloadRequest. Del and Keep use only the UID, a snapshot nothing.
type request struct {
	kind     kind
	workload Workload
}

// ack is the only alternative of WorkloadResponse. An empty text is success.
type ack struct{ err string }

var errMalformed = errors.New("malformed message")

// hello is a ZdsHello.
type hello struct {
	version uint64
	proxy   Proxy
}

func encodeHello(h hello) []byte {
	b := appendVarint(nil, 1, h.version)
	if h.proxy.Confines {
		b = appendVarint(b, fieldConfines, 1)
	}
	return appendString(appendString(b, fieldName, h.proxy.Name), fieldNamespace, h.proxy.Namespace)
}

func decodeHello(b []byte) (h hello, err error) {
	err = eachField(b, func(n protowire.Number, t protowire.Type, v []byte, i uint64) error {
		switch n {
		case 1, fieldConfines:
			if t != protowire.VarintType {
				return fmt.Errorf("%w: field %d of a hello of wire type %d", errMalformed, n, t)
			}
			if n == 1 {
				h.version = i
			} else {
				h.proxy.Confines = i != 0
			}
		case fieldName:
			return setString(&h.proxy.Name, n, t, v)
		case fieldNamespace:
			return setString(&h.proxy.Namespace, n, t, v)
		}
		return nil
	})
	return h, err
}

func encodeRequest(r request) []byte {
	var body []byte
	switch r.kind {
	case kindAdd:
		var info []byte
		info = appendString(info, 1, r.workload.Name)
		info = appendString(info, 2, r.workload.Namespace)
		info = appendString(info, 3, r.workload.ServiceAccount)
		body = appendString(body, 1, r.workload.UID)
		body = appendBytes(body, 2, info)
		if r.workload.Terminating {
			body = appendVarint(body, fieldTerminating, 1)
		}
	case kindDel:
		body = appendString(body, 2, r.workload.UID) // 2, not 1: so it is in zds.proto
	case kindKeep:
		body = appendString(body, 1, r.workload.UID)
	case kindSnapshot:
	}
	return appendBytes(nil, protowire.Number(r.kind), body)
}

// decodeRequest reads a WorkloadRequest. Unknown fields are skipped, a message without a known alternative is an error; if there
// are several alternatives the last one counts, as protobuf wants it.
func decodeRequest(b []byte) (request, error) {
	var r request
	err := eachField(b, func(n protowire.Number, t protowire.Type, v []byte, _ uint64) error {
		k := kind(n)
		switch k {
		case kindAdd, kindDel, kindSnapshot, kindKeep:
		default:
			return nil
		}
		if t != protowire.BytesType {
			return fmt.Errorf("%w: %s of wire type %d", errMalformed, k, t)
		}
		w, err := decodeWorkload(k, v)
		if err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
		r = request{kind: k, workload: w}
		return nil
	})
	switch {
	case err != nil:
		return request{}, err
	case r.kind == 0:
		return request{}, fmt.Errorf("%w: request without a known alternative", errMalformed)
	case r.kind != kindSnapshot && r.workload.UID == "":
		return request{}, fmt.Errorf("%w: %s without a uid", errMalformed, r.kind)
	}
	return r, nil
}

func decodeWorkload(k kind, b []byte) (Workload, error) {
	var w Workload
	uidField := protowire.Number(1)
	if k == kindDel {
		uidField = 2
	}
	err := eachField(b, func(n protowire.Number, t protowire.Type, v []byte, i uint64) error {
		switch {
		case k == kindSnapshot:
			return nil
		case n == uidField:
			return setString(&w.UID, n, t, v)
		case k == kindAdd && n == 2:
			if t != protowire.BytesType {
				return fmt.Errorf("%w: workload info of wire type %d", errMalformed, t)
			}
			return decodeInfo(&w, v)
		case k == kindAdd && n == fieldTerminating:
			if t != protowire.VarintType {
				return fmt.Errorf("%w: field %d of an add of wire type %d", errMalformed, n, t)
			}
			w.Terminating = i != 0
		}
		return nil
	})
	return w, err
}

func decodeInfo(w *Workload, b []byte) error {
	return eachField(b, func(n protowire.Number, t protowire.Type, v []byte, _ uint64) error {
		switch n {
		case 1:
			return setString(&w.Name, n, t, v)
		case 2:
			return setString(&w.Namespace, n, t, v)
		case 3:
			return setString(&w.ServiceAccount, n, t, v)
		}
		return nil
	})
}

func encodeAck(a ack) []byte {
	return appendBytes(nil, 1, appendString(nil, 1, a.err))
}

func decodeAck(b []byte) (ack, error) {
	var a ack
	found := false
	err := eachField(b, func(n protowire.Number, t protowire.Type, v []byte, _ uint64) error {
		if n != 1 {
			return nil
		}
		if t != protowire.BytesType {
			return fmt.Errorf("%w: ack of wire type %d", errMalformed, t)
		}
		found = true
		return eachField(v, func(n protowire.Number, t protowire.Type, v []byte, _ uint64) error {
			if n == 1 {
				return setString(&a.err, n, t, v)
			}
			return nil
		})
	})
	if err == nil && !found {
		err = fmt.Errorf("%w: response without an ack", errMalformed)
	}
	return a, err
}

// eachField calls f for each field of a message, with the bytes of length-delimited ones and the value of varints.
func eachField(b []byte, f func(protowire.Number, protowire.Type, []byte, uint64) error) error {
	for len(b) > 0 {
		n, t, size := protowire.ConsumeTag(b)
		if size < 0 {
			return fmt.Errorf("%w: %w", errMalformed, protowire.ParseError(size))
		}
		b = b[size:]
		var bytes []byte
		var value uint64
		switch t {
		case protowire.BytesType:
			bytes, size = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			value, size = protowire.ConsumeVarint(b)
		default:
			size = protowire.ConsumeFieldValue(n, t, b)
		}
		if size < 0 {
			return fmt.Errorf("%w: field %d: %w", errMalformed, n, protowire.ParseError(size))
		}
		b = b[size:]
		if err := f(n, t, bytes, value); err != nil {
			return err
		}
	}
	return nil
}

func setString(s *string, n protowire.Number, t protowire.Type, v []byte) error {
	if t != protowire.BytesType {
		return fmt.Errorf("%w: string field %d of wire type %d", errMalformed, n, t)
	}
	if !utf8.Valid(v) {
		return fmt.Errorf("%w: string field %d is not UTF-8", errMalformed, n)
	}
	*s = string(v)
	return nil
}

func appendVarint(b []byte, n protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
}

func appendBytes(b []byte, n protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
}

// appendString leaves empty strings out, as proto3 does.
func appendString(b []byte, n protowire.Number, v string) []byte {
	if v == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), v)
}
