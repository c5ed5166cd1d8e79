// SPDX-License-Identifier: Apache-2.0

package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// memoryDir is a directory in memory, as every Linux has one.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "isthmus-test-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func vault(t testing.TB, dir string) *Vault {
	t.Helper()
	v, err := OpenVault(dir)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func files(t testing.TB, dir string) (names []string) {
	t.Helper()
	found, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		names = append(names, f.Name())
	}
	return names
}

// TestKeptCertificatesBridgeTheIssuer restarts while the issuer is away: the certificate from before is used at once, and replaced once there is another.
func TestKeptCertificatesBridgeTheIssuer(t *testing.T) {
	dir := memoryDir(t)
	ca := newAuthority(t, "root", nil)
	before := NewSource(ca, SourceOptions{Vault: vault(t, dir)})
	first, err := before.Certificate(t.Context(), cart)
	if err != nil {
		t.Fatal(err)
	}
	await(t, "a file", func() bool { return len(files(t, dir)) == 1 })
	before.Close() // as a process that ends: what is kept stays
	if info, err := os.Stat(filepath.Join(dir, files(t, dir)[0])); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}

	away := errors.New("nobody there")
	ca.set(func(a *authority) { a.fail = away })
	kept := make(chan error, 1)
	after := NewSource(ca, SourceOptions{Vault: vault(t, dir), BackoffMin: 10 * time.Millisecond, BackoffMax: 10 * time.Millisecond, OnKept: func(err error) { kept <- err }})
	defer after.Close()
	got, err := after.Certificate(t.Context(), cart)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-kept; err != nil {
		t.Error(err)
	}
	if string(got.TLS.Certificate[0]) != string(first.TLS.Certificate[0]) {
		t.Error("not the certificate from before")
	}
	if !after.Usable(cart) || after.Usable(till) {
		t.Error("what is usable is not said")
	}
	// It proves the identity to a peer, with nothing but what was kept.
	if _, client, server := shake(t, after.Client(cart, []mesh.Identity{cart}), after.Server(cart)); client != nil || server != nil {
		t.Errorf("handshake: %v, %v", client, server)
	}
	if _, err := after.Certificate(t.Context(), till); !errors.Is(err, away) {
		t.Errorf("an identity that was not kept: %v", err)
	}

	ca.set(func(a *authority) { a.fail = nil })
	await(t, "a new certificate", func() bool {
		got, err := after.Certificate(t.Context(), cart)
		return err == nil && string(got.TLS.Certificate[0]) != string(first.TLS.Certificate[0])
	})
	await(t, "both kept", func() bool { return len(files(t, dir)) == 2 })
	after.Drop(cart)
	after.Drop(till)
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("kept although nobody needs them: %q", left)
	}
}

// await polls until something is so.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s in vain", what)
		}
	}
}

// TestKeptCertificatesThatAreRefused damages what is kept: it is not used, and removed.
func TestKeptCertificatesThatAreRefused(t *testing.T) {
	dir := memoryDir(t)
	v := vault(t, dir)
	ca, other := newAuthority(t, "root", nil), newAuthority(t, "other", nil)
	of := func(ca *authority, id mesh.Identity) string {
		t.Helper()
		s := NewSource(ca, SourceOptions{})
		defer s.Close()
		cert, err := s.Certificate(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		text, err := encodeKept(cert)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	good, foreign := of(ca, cart), of(other, cart)
	request, _, err := newRequest(till)
	if err != nil {
		t.Fatal(err)
	}
	bundle := x509bundle.FromX509Authorities(spiffeid.RequireTrustDomainFromString(till.TrustDomain), []*x509.Certificate{ca.cert})
	ended := ca.sign(request.Public(), nil, -30*time.Second, nil)
	over, err := encodeKept(&Certificate{TLS: tls.Certificate{Certificate: [][]byte{ended.Raw}, PrivateKey: request}, bundle: bundle})
	if err != nil {
		t.Fatal(err)
	}
	split := func(s string) (key, chain, roots string) {
		i, j := strings.Index(s, "-----BEGIN CERT"), strings.Index(s, "-----BEGIN ROOT")
		return s[:i], s[i:j], s[j:]
	}
	key, chain, roots := split(good)
	otherKey, _, otherRoots := split(foreign)
	for name, text := range map[string]string{
		"nothing": "", "text": "hello", "no key": chain + roots, "no chain": key + roots, "no roots": key + chain,
		"another's key": otherKey + chain + roots, "other roots": key + chain + otherRoots, "another identity": of(newAuthority(t, "root", nil), till),
		"cut off": good[:len(good)/2], "a heading of its own": good + "-----BEGIN X-----\n-----END X-----\n",
	} {
		if err := os.WriteFile(v.file(cart), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if cert, err := v.load(cart); err == nil || cert != nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, %v", name, cert, err)
		}
		if left := files(t, dir); len(left) != 0 {
			t.Errorf("%s: %q is left", name, left)
		}
	}
	if err := os.WriteFile(v.file(cart), []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := v.load(cart); err != nil {
		t.Errorf("an undamaged one: %v", err)
	}
	if err := os.Chmod(v.file(cart), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := v.load(cart); err == nil {
		t.Error("a key that others may have read was used")
	}
	// What is over by now is removed when the next process opens the directory.
	if err := errors.Join(os.WriteFile(v.file(till), over, 0o600), os.WriteFile(v.file(cart), []byte(good), 0o600), os.Chmod(v.file(cart), 0o600)); err != nil {
		t.Fatal(err)
	}
	vault(t, dir)
	if left := files(t, dir); len(left) != 1 || left[0] != filepath.Base(v.file(cart)) {
		t.Errorf("%q are left", left)
	}
	v.retain([]mesh.Identity{till})
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("%q are left, and nobody is here", left)
	}
}

// TestKeysStayInMemory refuses directories from which a key could get anywhere else.
func TestKeysStayInMemory(t *testing.T) {
	dir := memoryDir(t)
	vault(t, filepath.Join(dir, "made"))
	if info, err := os.Stat(filepath.Join(dir, "made")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	open := filepath.Join(dir, "open")
	if err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777)); err != nil {
		t.Fatal(err)
	}
	vault(t, open)
	if info, err := os.Stat(open); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("an emptyDir stays open to all: %v, %v", info, err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(open, link); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenVault(link); err == nil {
		t.Error("a link was taken")
	}
	if err := inMemory("/proc"); err == nil || !strings.Contains(err.Error(), "not in memory") {
		t.Errorf("a file system that is no memory: %v", err)
	}
	if err := inMemory(dir + "/none"); err == nil {
		t.Error("no directory was taken")
	}
}

// FuzzKept reads whatever may lie in the directory.
func FuzzKept(f *testing.F) {
	ca := newAuthority(f, "root", nil)
	s := NewSource(ca, SourceOptions{})
	defer s.Close()
	cert, err := s.Certificate(f.Context(), cart)
	if err != nil {
		f.Fatal(err)
	}
	text, err := encodeKept(cert)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(text[:len(text)/3])
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := decodeKept(cart, data)
		if err != nil {
			return
		}
		if id, err := identityOf(got.TLS.Leaf); err != nil || id != cart || time.Now().After(got.NotAfter) {
			t.Errorf("it proves %v until %v: %v", id, got.NotAfter, err)
		}
		if _, err := encodeKept(got); err != nil {
			t.Errorf("it cannot be kept again: %v", err)
		}
	})
}
