// SPDX-License-Identifier: Apache-2.0

package stranger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// MaxConfinement bounds what a connection is confined to, in bytes: a namespace, a hostname and a port have 513 at most.
const MaxConfinement = 1 << 10

// A confinement is the magic, a length of two bytes and a text. No TLS begins with a zero.
const (
	confinementMagic  = "\x00isthmus"
	confinementHeader = len(confinementMagic) + 2
)

// ErrConfinement says that there is no way to write down what a connection is to be confined to, or that somebody wrote something else where that belongs.
var ErrConfinement = errors.New("not what a connection can be confined to")

// AppendConfinement appends the words by which whoever leads a connection to a peer confines it, before any byte of who is inside: what is asked for in it is to be this and nothing
// else. They prove nothing, so they can but take away from what is allowed without them. It fails with ErrConfinement if to is empty or has more than MaxConfinement bytes.
func AppendConfinement(out []byte, to string) ([]byte, error) {
	if to == "" || len(to) > MaxConfinement {
		return out, fmt.Errorf("%w: %d bytes", ErrConfinement, len(to))
	}
	out = binary.BigEndian.AppendUint16(append(out, confinementMagic...), uint16(len(to)))
	return append(out, to...), nil
}

// confinement looks for one at the beginning of what was sent. Where there is one, bytes are its own and to is what it says; where there is none, to is empty. more says that there must
// be that many bytes before it can be told. Its errors are final.
func confinement(sent []byte) (to string, bytes int, more bool, err error) {
	switch {
	case len(sent) == 0:
		return "", recordHeader, true, nil // whatever comes is longer
	case sent[0] != confinementMagic[0]:
		return "", 0, false, nil
	case !strings.HasPrefix(confinementMagic, string(sent[:min(len(sent), len(confinementMagic))])):
		return "", 0, false, ErrConfinement
	case len(sent) < confinementHeader:
		return "", confinementHeader, true, nil
	}
	length := int(binary.BigEndian.Uint16(sent[len(confinementMagic):]))
	if length == 0 || length > MaxConfinement {
		return "", 0, false, fmt.Errorf("%w: %d bytes", ErrConfinement, length)
	}
	if bytes = confinementHeader + length; len(sent) < bytes {
		return "", bytes, true, nil
	}
	return string(sent[confinementHeader:bytes]), bytes, false, nil
}
