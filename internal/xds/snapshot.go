// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// A snapshot is what a client knew at one time: a line of JSON that says of what, and the responses that tell it, DeltaDiscoveryResponse messages each behind
// its length as a varint. The last of them has no type, and snapshotEnd as its nonce.
//
// Resources are written as this program understands them and versioned by a hash of just that, not by what the control plane called them: a newer
// program, which understands more of them, is then told the difference when it says what it holds.

const (
	// snapshotEnd tells a whole snapshot from the beginning of one.
	snapshotEnd = "end"
	// snapshotChunk is how many bytes of resources go into one message, more or less.
	snapshotChunk = 256 << 10
	// maxSnapshotMessage bounds one message that is read, in bytes: the largest resource that a control plane can have told, behind others that are one chunk at most.
	maxSnapshotMessage = maxResponseMessage + snapshotChunk
	// maxSnapshotResources bounds what is read altogether: ten times the 100,000 workloads that a proxy is built for.
	maxSnapshotResources = 1_000_000
	// maxSnapshotHead bounds the line at the beginning, in bytes: two names and a time.
	maxSnapshotHead = 4 << 10
)

// SnapshotScope is whose knowledge a snapshot is. What is known depends on who asked.
type SnapshotScope struct {
	Cluster string `json:"cluster"`
	Network string `json:"network"`
}

// snapshotHead is the first line.
type snapshotHead struct {
	SnapshotScope
	Written time.Time `json:"written"`
}

// Contents is what a snapshot is made of. A nil sequence has nothing.
type Contents struct {
	Workloads iter.Seq[*mesh.Workload]
	Services  iter.Seq[*mesh.Service]
	Policies  iter.Seq[*mesh.Policy]
	Bundles   iter.Seq[*mesh.Bundle]
	// Gateways hold the private keys of their listeners: a snapshot of one belongs in memory.
	Gateways iter.Seq[*mesh.Gateway]
}

// writeSnapshot writes a snapshot of what v gives.
func writeSnapshot(to io.Writer, head snapshotHead, v Contents) error {
	s := snapshotWriter{w: bufio.NewWriterSize(to, 64<<10), most: maxSnapshotMessage}
	s.err = json.NewEncoder(s.w).Encode(head) // one line
	writeAll(&s, addressURL, v.Workloads, workloadEntry)
	writeAll(&s, addressURL, v.Services, serviceEntry)
	writeAll(&s, authorizationURL, v.Policies, policyEntry)
	writeAll(&s, bundleURL, v.Bundles, bundleEntry)
	writeAll(&s, gatewayURL, v.Gateways, func(g *mesh.Gateway) (*entry, error) {
		e, _, err := gatewayEntry(g, nil)
		return e, err
	})
	s.message(&response{nonce: snapshotEnd})
	if s.err != nil {
		return s.err
	}
	return s.w.Flush()
}

// snapshotWriter keeps the first error.
type snapshotWriter struct {
	w    *bufio.Writer
	most int // bytes of a message
	err  error
}

func writeAll[V any](s *snapshotWriter, url string, values iter.Seq[V], encode func(V) (*entry, error)) {
	if values == nil {
		return
	}
	chunk, size := response{url: url}, 0
	for v := range values {
		e, err := encode(v)
		if err != nil && s.err == nil {
			s.err = err
		}
		if s.err != nil {
			return
		}
		chunk.entries = append(chunk.entries, e)
		if size += e.wire.Len(); size >= snapshotChunk {
			s.message(&chunk)
			chunk, size = response{url: url}, 0
		}
	}
	if len(chunk.entries) > 0 {
		s.message(&chunk)
	}
}

func (s *snapshotWriter) message(r *response) {
	if s.err != nil {
		return
	}
	parts, err := r.buffers()
	if err != nil {
		s.err = err
		return
	}
	if parts.Len() > s.most { // it is never read
		s.err = fmt.Errorf("a message of %d bytes, at most %d are read", parts.Len(), s.most)
		return
	}
	if _, s.err = s.w.Write(protowire.AppendVarint(nil, uint64(parts.Len()))); s.err != nil {
		return
	}
	for _, p := range parts {
		if _, s.err = s.w.Write(p.ReadOnlyData()); s.err != nil {
			return
		}
	}
}

// readSnapshotHead reads the first line.
func readSnapshotHead(in *bufio.Reader) (head snapshotHead, err error) {
	line := make([]byte, 0, 256)
	for len(line) < maxSnapshotHead {
		b, err := in.ReadByte()
		if err != nil {
			return head, fmt.Errorf("first line: %w", whole(err))
		}
		if b == '\n' {
			if err := json.Unmarshal(line, &head); err != nil {
				return head, fmt.Errorf("first line: %w", err)
			}
			return head, nil
		}
		line = append(line, b)
	}
	return head, fmt.Errorf("first line has more than %d bytes", maxSnapshotHead)
}

// readSnapshot gives what follows the first line, message by message. Each is good for as long as take runs.
func readSnapshot(in snapshotBody, take func(*message)) error {
	most := min(in.size, maxSnapshotMessage) // what is longer than the file is not made room for
	var room []byte
	for n := 0; ; {
		size, err := binary.ReadUvarint(in)
		if err != nil {
			return fmt.Errorf("behind %d resources: %w", n, whole(err))
		}
		if size > uint64(most) {
			return fmt.Errorf("behind %d resources: a message of %d bytes, at most %d are read", n, size, most)
		}
		if uint64(cap(room)) < size {
			room = make([]byte, size)
		}
		room = room[:size]
		if _, err := io.ReadFull(in, room); err != nil {
			return fmt.Errorf("behind %d resources: %w", n, whole(err))
		}
		m, err := readMessage(room)
		if err != nil {
			return fmt.Errorf("behind %d resources: %w", n, err)
		}
		if m.url == "" && m.nonce == snapshotEnd {
			return nil
		}
		if n += m.resources; n > maxSnapshotResources {
			return fmt.Errorf("it has more than %d resources", maxSnapshotResources)
		}
		m.removed = 0 // a snapshot takes nothing away
		take(&m)
	}
}

// whole turns an end that comes too early into an error that says so.
func whole(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
