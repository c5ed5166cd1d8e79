// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"sync"

	"golang.org/x/net/http2"
)

// keyLog learns the secrets of a connection from crypto/tls, which has no way to send the records that we want to send.
type keyLog struct {
	mu      sync.Mutex
	secrets map[string][]byte
}

func (k *keyLog) Write(line []byte) (int, error) {
	// LABEL client-random secret
	if parts := bytes.Fields(line); len(parts) == 3 {
		if secret, err := hex.DecodeString(string(parts[2])); err == nil {
			k.mu.Lock()
			if k.secrets == nil {
				k.secrets = map[string][]byte{}
			}
			k.secrets[string(parts[0])] = secret
			k.mu.Unlock()
		}
	}
	return len(line), nil
}

// sealer makes TLS 1.3 records (RFC 8446 §5.2) for one direction.
type sealer struct {
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

const (
	recordHandshake = 22
	recordData      = 23
)

func newSealer(secret []byte) *sealer {
	block, err := aes.NewCipher(expand(secret, "key", 16))
	if err != nil {
		panic(err) // 16 bytes make a key
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has the right block size
	}
	return &sealer{secret: secret, aead: aead, iv: expand(secret, "iv", 12)}
}

// expand is HKDF-Expand-Label of RFC 8446 §7.1, without a context.
func expand(secret []byte, label string, n int) []byte {
	label = "tls13 " + label
	info := append([]byte{0, byte(n), byte(len(label))}, label...)
	out, err := hkdf.Expand(sha256.New, secret, string(append(info, 0)), n)
	if err != nil {
		panic(err) // too long, which ours are not
	}
	return out
}

func (s *sealer) seal(kind byte, content []byte) []byte {
	nonce := bytes.Clone(s.iv)
	for i := range 8 {
		nonce[4+i] ^= byte(s.seq >> (56 - 8*i))
	}
	s.seq++
	record := []byte{recordData, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(record[3:], uint16(len(content)+1+s.aead.Overhead()))
	return s.aead.Seal(record, nonce, append(bytes.Clone(content), kind), record)
}

// rekey asks for new keys without end, with records of its own. A byte of a frame now and then keeps the peer from counting them as useless:
// crypto/tls takes 16 in a row. That frame is SETTINGS as long as they can be, so that not even the greeting is ever whole.
func (p *Peer) rekey() {
	secure, ok := p.Conn.(*tls.Conn)
	if !ok || secure.ConnectionState().CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		panic("hostile: key updates are written for TLS_AES_128_GCM_SHA256")
	}
	p.keys.mu.Lock()
	s := newSealer(p.keys.secrets["CLIENT_TRAFFIC_SECRET_0"])
	p.keys.mu.Unlock()
	p.Conn = p.Raw // from here on crypto/tls must write nothing: records are counted
	p.Write(s.seal(recordData, []byte(http2.ClientPreface)))
	p.Write(s.seal(recordData, []byte{0, 0x75, 0x30, byte(http2.FrameSettings), 0, 0, 0, 0, 0}))
	for range 30000 {
		for range 15 {
			if !p.More() {
				return
			}
			p.Write(s.seal(recordHandshake, []byte{24, 0, 0, 1, 1})) // KeyUpdate, update_requested (RFC 8446 §4.6.3)
			s = newSealer(expand(s.secret, "traffic upd", sha256.Size))
		}
		p.Write(s.seal(recordData, []byte{0}))
	}
}
