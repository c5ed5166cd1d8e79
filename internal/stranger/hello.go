// SPDX-License-Identifier: Apache-2.0

package stranger

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxHello bounds a ClientHello with its records, in bytes. Those with the key shares of today have 2 KiB.
const MaxHello = 16 << 10

// maxRecords bounds the records of one ClientHello: each has whoever waits for it look anew at all that is there. Clients send one, and none is known to cut below 512 bytes.
const maxRecords = 16

const (
	recordHeader  = 5 // type, version, length: RFC 8446 §5.1
	recordType    = 22
	messageHeader = 4 // type, length: RFC 8446 §4
	helloType     = 1
)

var (
	// ErrNotTLS says that what was sent is not the beginning of a ClientHello, or is one in more pieces than any client makes of it.
	ErrNotTLS = errors.New("it does not begin with a TLS ClientHello")
	// ErrHelloTooLong says that a ClientHello has more than MaxHello bytes.
	ErrHelloTooLong = fmt.Errorf("its ClientHello has more than %d bytes", MaxHello)
)

// Progress says how much of a ClientHello is there. The zero value has seen nothing.
type Progress struct {
	at, got int // bytes of whole records that were looked at, and of the message in them
	records int // how many these are
	header  [messageHeader]byte
}

// Look is given all that was sent so far, each time anew. It gives how many bytes there must be before it can say more or, if whole, how many bytes the records have that the message
// is in. Its errors are final.
func (p *Progress) Look(sent []byte) (bytes int, whole bool, err error) {
	for {
		if len(sent) < p.at+recordHeader {
			return p.at + recordHeader, false, nil
		}
		record := sent[p.at:]
		size := int(binary.BigEndian.Uint16(record[3:]))
		if record[0] != recordType || record[1] != 3 || size == 0 || p.records == maxRecords {
			return 0, false, ErrNotTLS
		}
		end := p.at + recordHeader + size
		if end > MaxHello {
			return 0, false, ErrHelloTooLong
		}
		if len(sent) < end {
			return end, false, nil
		}
		if p.got < messageHeader {
			copy(p.header[p.got:], record[recordHeader:recordHeader+size])
			if p.header[0] != helloType {
				return 0, false, ErrNotTLS
			}
		}
		p.at, p.got, p.records = end, p.got+size, p.records+1
		if p.got < messageHeader {
			continue
		}
		length := int(p.header[1])<<16 | int(p.header[2])<<8 | int(p.header[3])
		if length > MaxHello {
			return 0, false, ErrHelloTooLong
		}
		if p.got >= messageHeader+length {
			return p.at, true, nil
		}
	}
}

// Message gives the ClientHello in records that were found to be whole, without its header.
func Message(records []byte) []byte {
	var message []byte
	for len(records) >= recordHeader {
		size := min(int(binary.BigEndian.Uint16(records[3:])), len(records)-recordHeader)
		message = append(message, records[recordHeader:recordHeader+size]...)
		records = records[recordHeader+size:]
	}
	if len(message) < messageHeader {
		return nil
	}
	length := int(message[1])<<16 | int(message[2])<<8 | int(message[3])
	message = message[messageHeader:]
	return message[:min(length, len(message))]
}
