// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"testing"
)

// TestSealer has crypto/tls read records that were sealed here, before and after a change of keys.
func TestSealer(t *testing.T) {
	a, b := net.Pipe()
	keys := &keyLog{}
	conf := TLS().Clone()
	conf.KeyLogWriter = keys
	client, server := tls.Client(a, conf), tls.Server(b, TLS())
	shaken := make(chan error, 1)
	go func() { shaken <- client.Handshake() }()
	if err := server.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, a) // the answer to the change of keys
	}()
	defer b.Close()
	defer a.Close()
	go func() {
		s := newSealer(keys.secrets["CLIENT_TRAFFIC_SECRET_0"])
		_, _ = a.Write(s.seal(recordData, []byte("old ")))
		_, _ = a.Write(s.seal(recordHandshake, []byte{24, 0, 0, 1, 1}))
		_, _ = a.Write(newSealer(expand(s.secret, "traffic upd", 32)).seal(recordData, []byte("new")))
	}()
	got := make([]byte, 7)
	if _, err := io.ReadFull(server, got); err != nil || !bytes.Equal(got, []byte("old new")) {
		t.Errorf("read %q, error %v", got, err)
	}
}
