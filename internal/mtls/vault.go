// SPDX-License-Identifier: Apache-2.0

package mtls

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

const (
	// maxVaultFile bounds what is read of one certificate, in bytes: a key, a chain, and as many roots as one bundle may hold.
	maxVaultFile = 1 << 20
	vaultSuffix  = ".pem"
	// vaultForeign is how long certificates stay that were kept by an earlier process and that nobody has asked for since.
	vaultForeign = 10 * time.Minute
)

// Vault keeps certificates with their keys over a restart of the process, in a directory in memory: a key never reaches a disk. What is kept is believed no more than
// an issuer's answer is: it must prove the identity asked for, now, under its own roots.
//
// A nil Vault keeps nothing.
type Vault struct{ dir string }

// OpenVault takes a directory, and makes it if it is not there. It fails unless it lies in memory and is ours alone. Certificates in it that are of no use any
// more are removed.
func OpenVault(dir string) (*Vault, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("directory of keys: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return nil, fmt.Errorf("directory of keys: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("directory of keys: %s is none", dir)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("directory of keys: %s belongs to user %d", dir, stat.Uid)
	}
	if err := inMemory(dir); err != nil {
		return nil, fmt.Errorf("directory of keys: %w", err)
	}
	if info.Mode().Perm() != 0o700 { // as an emptyDir comes: mode 0777
		if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a directory must be searchable by its owner
			return nil, fmt.Errorf("directory of keys: %w", err)
		}
	}
	v := &Vault{dir: dir}
	v.sweep(func(name string) bool { return !strings.HasSuffix(name, vaultSuffix) || v.expired(name) })
	return v, nil
}

// file is where an identity's certificate is. A hash, because an identity holds slashes and may be longer than a name.
func (v *Vault) file(id mesh.Identity) string {
	sum := sha256.Sum256([]byte(id.String()))
	return filepath.Join(v.dir, hex.EncodeToString(sum[:])+vaultSuffix)
}

// load gives the certificate that is kept for id, if it is valid; fs.ErrNotExist if there is none. One that is of no use is removed.
func (v *Vault) load(id mesh.Identity) (*Certificate, error) {
	if v == nil {
		return nil, fs.ErrNotExist
	}
	text, err := v.read(v.file(id))
	if err != nil {
		return nil, err
	}
	cert, err := decodeKept(id, text)
	if err != nil {
		v.remove(id)
		return nil, fmt.Errorf("kept certificate: %w", err)
	}
	return cert, nil
}

func (v *Vault) read(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // it was only read
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm() != 0o600 || info.Size() > maxVaultFile {
		return nil, fmt.Errorf("kept certificate: a file of mode %v and %d bytes is not ours", info.Mode(), info.Size())
	}
	return io.ReadAll(io.LimitReader(file, maxVaultFile))
}

// keep replaces what is kept for the certificate's identity.
func (v *Vault) keep(id mesh.Identity, cert *Certificate) error {
	if v == nil {
		return nil
	}
	text, err := encodeKept(cert)
	if err != nil {
		return err
	}
	// No fsync: memory that loses power is gone anyway, and a process that ends leaves what it wrote.
	file, err := os.CreateTemp(v.dir, "*.tmp") // mode 0600
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(file.Name(), v.file(id))
	}
	if err != nil {
		_ = os.Remove(file.Name()) // what failed first is what counts
	}
	return err
}

func (v *Vault) remove(id mesh.Identity) {
	if v != nil {
		_ = os.Remove(v.file(id)) // it is not there, or will be swept
	}
}

// retain removes what is kept of identities that are not among these.
func (v *Vault) retain(ids []mesh.Identity) {
	wanted := map[string]bool{}
	for _, id := range ids {
		wanted[filepath.Base(v.file(id))] = true
	}
	v.sweep(func(name string) bool { return !wanted[name] })
}

func (v *Vault) sweep(useless func(name string) bool) {
	found, err := os.ReadDir(v.dir)
	if err != nil {
		return // nothing can be read from it either
	}
	for _, entry := range found {
		if useless(entry.Name()) {
			_ = os.Remove(filepath.Join(v.dir, entry.Name())) // tried again the next time
		}
	}
}

// expired says whether a file holds no certificate that is valid now.
func (v *Vault) expired(name string) bool {
	text, err := v.read(filepath.Join(v.dir, name))
	if err != nil {
		return true
	}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return true
		}
		if block.Type == "CERTIFICATE" { // the leaf comes first
			leaf, err := x509.ParseCertificate(block.Bytes)
			return err != nil || time.Now().After(leaf.NotAfter)
		}
	}
}

// The file: the key, the chain from the leaf on, and, behind the roots' own heading, the bundle.
const rootBlock = "ROOT CERTIFICATE"

func encodeKept(cert *Certificate) ([]byte, error) {
	key, err := x509.MarshalPKCS8PrivateKey(cert.TLS.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	for _, der := range cert.TLS.Certificate {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	for _, root := range cert.bundle.X509Authorities() {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: rootBlock, Bytes: root.Raw})...)
	}
	return text, nil
}

// decodeKept reads a file as if an issuer had answered it just now.
func decodeKept(id mesh.Identity, text []byte) (*Certificate, error) {
	var key *ecdsa.PrivateKey
	var chain []string
	var roots strings.Builder
	for len(text) > 0 {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return nil, errors.New("it holds something that is not PEM")
		}
		switch block.Type {
		case "PRIVATE KEY":
			parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("key: %w", err)
			}
			var ok bool
			if key, ok = parsed.(*ecdsa.PrivateKey); !ok {
				return nil, fmt.Errorf("key is a %T", parsed)
			}
		case "CERTIFICATE":
			chain = append(chain, string(pem.EncodeToMemory(block)))
		case rootBlock:
			roots.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes}))
		default:
			return nil, fmt.Errorf("it holds a %q", block.Type)
		}
	}
	if key == nil {
		return nil, errors.New("it holds no key")
	}
	if _, err := key.Sign(rand.Reader, make([]byte, sha256.Size), nil); err != nil {
		return nil, fmt.Errorf("key does not sign: %w", err)
	}
	return newCertificate(id, key, append(chain, roots.String()))
}
