// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/miekg/dns"
)

const (
	// headerSize is that of a DNS message's fixed part (RFC 1035, section 4.1.1).
	headerSize = 12
	// maxName bounds a name on the wire, with its length bytes (RFC 1035, section 2.3.4).
	maxName = 255
)

// opcode of a message that has at least a header.
func opcode(m []byte) int { return int(m[2]>>3) & 0xf }

// questionEnd finds where the only question of a message ends. It answers false if there are more or fewer, or if it cannot be read.
// The first name of a message has nothing before it that it could point to, so that a pointer in it is an error, too.
func questionEnd(m []byte) (int, bool) {
	if len(m) < headerSize || binary.BigEndian.Uint16(m[4:]) != 1 {
		return 0, false
	}
	at := headerSize
	for {
		if at >= len(m) || m[at] > 63 || at-headerSize >= maxName {
			return 0, false
		}
		if m[at] == 0 {
			break
		}
		at += 1 + int(m[at])
	}
	at += 1 + 4 // the root, type and class
	return at, at <= len(m)
}

// belongs says whether an answer is to this query: the same id, the same operation, and the same question.
//
// Only as much of the answer is read as that needs. What is in it is between the client and its server, and somebody who floods us
// with forged answers costs little.
func belongs(query, answer []byte) bool {
	if len(query) < headerSize || len(answer) < headerSize || answer[0] != query[0] || answer[1] != query[1] {
		return false
	}
	if answer[2]&0x80 == 0 || opcode(answer) != opcode(query) {
		return false
	}
	if binary.BigEndian.Uint16(answer[4:]) == 0 {
		// Servers leave the question out of a refusal, and of an answer to an update (RFC 2136, section 3.8).
		switch int(answer[3] & 0xf) {
		case dns.RcodeFormatError, dns.RcodeServerFailure, dns.RcodeNotImplemented, dns.RcodeRefused:
			return true
		}
		return opcode(query) != dns.OpcodeQuery
	}
	end, ok := questionEnd(query)
	if !ok || len(answer) < end {
		return false
	}
	if answerEnd, ok := questionEnd(answer); !ok || answerEnd != end {
		return false
	}
	// Case is compared by the client: it passes through as it was sent, and some servers fold it. Type and class follow the name.
	for i := headerSize; i < end-4; i++ {
		if lower(query[i]) != lower(answer[i]) {
			return false
		}
	}
	return string(query[end-4:end]) == string(answer[end-4:end])
}

// lower folds letters. The length bytes of labels, at most 63, are none.
func lower(b byte) byte {
	if 'A' <= b && b <= 'Z' {
		b += 'a' - 'A'
	}
	return b
}

// readMessage reads one message of a stream: two bytes of length, then the message (RFC 1035, section 4.2.2).
func readMessage(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	message := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, message)
	return message, err
}

func writeMessage(w io.Writer, message []byte) error {
	if len(message) > dns.MaxMsgSize {
		return errors.New("message of more than 65535 bytes")
	}
	_, err := w.Write(append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(message)), uint16(len(message))), message...))
	return err
}
