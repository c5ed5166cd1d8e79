// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
)

func TestPKI(t *testing.T) {
	p := places{name: "test", cache: t.TempDir()}
	now := time.Now()
	if err := p.writePKI("east", site{1}, 2, now); err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(p.pki("east", "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		t.Fatal("no root")
	}
	server := func(file string, names ...string) {
		pair, err := tls.LoadX509KeyPair(p.pki("east", file+".crt"), p.pki("east", file+".key"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: now}); err != nil {
				t.Errorf("%s as %s: %v", file, name, err)
			}
		}
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "10.89.2.10"}); err == nil {
			t.Errorf("%s is good for another cluster's address", file)
		}
	}
	server("apiserver", "kubernetes.default.svc", "127.0.0.1", "10.96.0.1", "10.89.1.10")
	server("east-n2", "east-n2", "10.89.1.12")

	for file, want := range map[string][3]string{
		"admin":              {"lab-admin", "system:masters", "https://10.89.1.10:6443"},
		"east-n1":            {"system:node:east-n1", "system:nodes", "https://10.89.1.10:6443"},
		"controller-manager": {"system:kube-controller-manager", "", "https://127.0.0.1:6443"},
	} {
		config, err := clientcmd.BuildConfigFromFlags("", p.pki("east", file+".kubeconfig"))
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(config.CertData, config.KeyData)
		if err != nil {
			t.Fatal(err)
		}
		subject := pair.Leaf.Subject
		group := ""
		if len(subject.Organization) == 1 {
			group = subject.Organization[0]
		}
		if got := [3]string{subject.CommonName, group, config.Host}; got != want {
			t.Errorf("%s: %v, want %v", file, got, want)
		}
		usage := x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, CurrentTime: now}
		if _, err := pair.Leaf.Verify(usage); err != nil {
			t.Errorf("%s as a client: %v", file, err)
		}
	}
	if info, err := os.Stat(p.pki("east", "ca.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("ca.key: %v, %v", info.Mode(), err)
	}
}

func TestWithServer(t *testing.T) {
	data, err := kubeconfig("east", "me", "https://a:1", []byte("ca"), pair{[]byte("cert"), []byte("key")})
	if err != nil {
		t.Fatal(err)
	}
	data, err = withServer(data, "https://127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.Load(data)
	if err != nil {
		t.Fatal(err)
	}
	if got := config.Clusters["east"].Server; got != "https://127.0.0.1:9" {
		t.Errorf("server %s", got)
	}
}
