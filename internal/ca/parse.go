// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

const (
	// maxRequestBytes is the longest certificate request that is read, in bytes of PEM. One for a P-256 key has about
	// 500, one for RSA-4096 about 1700.
	maxRequestBytes = 16 << 10
	// minRSABits and maxRSABits bound an RSA key: below it is weak, above it costs us more than it should.
	minRSABits, maxRSABits = 2048, 4096
	// maxCertificates is how many certificates one file of the cacerts layout may hold.
	maxCertificates = 64
)

// RequestError says why a certificate request is not accepted. It is the caller's fault.
type RequestError struct{ Reason string }

// Error implements error.
func (e *RequestError) Error() string { return "certificate request: " + e.Reason }

func refuseRequest(format string, args ...any) error {
	return &RequestError{Reason: fmt.Sprintf(format, args...)}
}

// readRequest gives the public key of a certificate request that its holder signed. Nothing else of the request is
// used: neither names nor extensions. Errors are of type *RequestError.
func readRequest(csrPEM []byte) (crypto.PublicKey, error) {
	if len(csrPEM) > maxRequestBytes {
		return nil, refuseRequest("has %d bytes, at most %d are accepted", len(csrPEM), maxRequestBytes)
	}
	block, rest := pem.Decode(csrPEM)
	if block == nil || block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
		return nil, refuseRequest("is not a CERTIFICATE REQUEST in PEM")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, refuseRequest("is followed by something else")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, refuseRequest("cannot be read: %v", err)
	}
	// Strength first: checking a signature with a huge key is what a flood would make us do.
	switch key := csr.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if size := key.Params().BitSize; size != 256 && size != 384 {
			return nil, refuseRequest("has an elliptic curve key of %d bits, want 256 or 384", size)
		}
	case *rsa.PublicKey:
		if size := key.N.BitLen(); size < minRSABits || size > maxRSABits {
			return nil, refuseRequest("has an RSA key of %d bits, want %d to %d", size, minRSABits, maxRSABits)
		}
	default:
		return nil, refuseRequest("has a key of type %T, want elliptic curve or RSA", key)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, refuseRequest("is not signed by its key: %v", err)
	}
	return csr.PublicKey, nil
}

// parseCertificates reads one or more certificates in PEM, and nothing else.
func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	certs, err := readBlocks(data, "CERTIFICATE", maxCertificates, x509.ParseCertificate)
	if err == nil && len(certs) == 0 {
		err = errors.New("holds no certificate")
	}
	return certs, err
}

// readBlocks reads up to most blocks in PEM of one type, and nothing else.
func readBlocks[T any](data []byte, kind string, most int, parse func(der []byte) (T, error)) ([]T, error) {
	var all []T
	for len(bytes.TrimSpace(data)) > 0 {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return nil, errors.New("holds something that is not PEM")
		}
		if block.Type != kind {
			return nil, fmt.Errorf("holds a %s, want nothing but %s", block.Type, kind)
		}
		one, err := parse(block.Bytes)
		if err != nil {
			return nil, err
		}
		if all = append(all, one); len(all) > most {
			return nil, fmt.Errorf("holds more than %d of %s", most, kind)
		}
	}
	return all, nil
}

// parseKey reads a private key in PKCS #8, PKCS #1 or SEC 1.
func parseKey(data []byte) (crypto.Signer, error) {
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return nil, errors.New("holds no private key")
		}
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "EC PARAMETERS": // written before the key by openssl
			continue
		default:
			return nil, fmt.Errorf("holds a %s, want a private key", block.Type)
		}
		if err != nil {
			return nil, err
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, fmt.Errorf("holds a key of type %T, which cannot sign", key)
		}
		return signer, nil
	}
}

// equalKeys compares public keys of any of the standard library's types.
func equalKeys(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
