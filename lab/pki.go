// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// certificateLife outlives any lab.
const certificateLife = 365 * 24 * time.Hour

// authority signs certificates; every cluster has its own.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
	pem         []byte
	keyPEM      []byte
}

// pair is a certificate with its key, in PEM.
type pair struct{ certificate, key []byte }

func newAuthority(name string, now time.Time) (*authority, error) {
	key, keyPEM, err := newKey()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(certificateLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("authority %s: %w", name, err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("authority %s: %w", name, err)
	}
	return &authority{certificate: certificate, key: key, pem: certificatePEM(der), keyPEM: keyPEM}, nil
}

// issue signs a certificate for a user (its name and groups), for a server (its names and addresses), or for both.
func (a *authority) issue(user string, groups []string, hosts ...string) (pair, error) {
	key, keyPEM, err := newKey()
	if err != nil {
		return pair{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return pair{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(2)),
		Subject:      pkix.Name{CommonName: user, Organization: groups},
		NotBefore:    a.certificate.NotBefore,
		NotAfter:     a.certificate.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	if len(hosts) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return pair{}, fmt.Errorf("certificate for %s: %w", user, err)
	}
	return pair{certificate: certificatePEM(der), key: keyPEM}, nil
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// newServiceAccountKey is RSA: every version of every client of tokens can verify it.
func newServiceAccountKey() (private, public []byte, err error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, nil, err
	}
	private = pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	return private, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

func certificatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// writePKI makes everything secret of one cluster: its authorities, its servers' certificates and the kubeconfigs
// of its components, below CLUSTER/pki.
func (p places) writePKI(cluster string, where site, nodes int, now time.Time) error {
	ca, err := newAuthority("isthmus lab "+cluster, now)
	if err != nil {
		return err
	}
	front, err := newAuthority("isthmus lab "+cluster+" front proxy", now)
	if err != nil {
		return err
	}
	private, public, err := newServiceAccountKey()
	if err != nil {
		return err
	}
	files := map[string][]byte{
		"ca.crt": ca.pem, "ca.key": ca.keyPEM, "front-proxy-ca.crt": front.pem, "sa.key": private, "sa.pub": public,
	}
	address := where.controlPlane().String()
	certificates := []struct {
		file   string
		by     *authority
		user   string
		groups []string
		hosts  []string
	}{
		{"front-proxy-client", front, "front-proxy-client", nil, nil},
		{"apiserver", ca, "kube-apiserver", nil, []string{
			"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + clusterDomain,
			"localhost", "127.0.0.1", kubernetesIP, address}},
		{"apiserver-kubelet-client", ca, "kube-apiserver-kubelet-client", []string{"system:masters"}, nil},
	}
	// Components beside the API server reach it on loopback; everything else by its address on the WAN.
	local := "https://127.0.0.1:6443"
	remote := "https://" + address + ":6443"
	users := []struct {
		file, name, server string
		groups             []string
	}{
		{"admin", "lab-admin", remote, []string{"system:masters"}},
		{"controller-manager", "system:kube-controller-manager", local, nil},
		{"scheduler", "system:kube-scheduler", local, nil},
		{"kube-proxy", "system:kube-proxy", remote, nil},
		{"lb-controller", "lab-lb-controller", remote, []string{"system:masters"}},
	}
	for i := firstNodeIndex; i <= nodes; i++ {
		name := nodeName(cluster, i)
		certificates = append(certificates, struct {
			file   string
			by     *authority
			user   string
			groups []string
			hosts  []string
		}{name, ca, "system:node:" + name, []string{"system:nodes"}, []string{name, where.node(i).String()}})
		users = append(users, struct {
			file, name, server string
			groups             []string
		}{name, "system:node:" + name, remote, []string{"system:nodes"}})
	}
	for _, c := range certificates {
		issued, err := c.by.issue(c.user, c.groups, c.hosts...)
		if err != nil {
			return err
		}
		files[c.file+".crt"], files[c.file+".key"] = issued.certificate, issued.key
	}
	for _, u := range users {
		issued, err := ca.issue(u.name, u.groups)
		if err != nil {
			return err
		}
		files[u.file+".kubeconfig"], err = kubeconfig(cluster, u.name, u.server, ca.pem, issued)
		if err != nil {
			return err
		}
	}
	if err := os.MkdirAll(p.box(cluster, "pki"), 0o700); err != nil {
		return err
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(p.box(cluster, "pki"), name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}
