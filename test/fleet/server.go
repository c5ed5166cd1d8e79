// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/controllers"
)

// token is what every client shows.
const token = "fleet"

var codecs = serializer.NewCodecFactory(controllers.Scheme())

// Server is the API server of one cluster.
type Server struct {
	// Kubeconfig is an administrator's, with nothing but data in it.
	Kubeconfig []byte

	version atomic.Uint64
	crowd   crowd
	tables  map[string]*table // by "group/version/resource", or "version/resource" for the core
	http    *http.Server
	ending  chan struct{} // closed to end watches
	end     sync.Once
	served  chan error
}

// Start serves an empty cluster on loopback until Stop.
func Start() (*Server, error) {
	certificate, root, err := selfSigned()
	if err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{tables: map[string]*table{}, ending: make(chan struct{}), served: make(chan error, 1)}
	for _, r := range resources {
		s.tables[r.kind.GroupVersion().String()+"/"+r.name] = newTable(r)
	}
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.handle),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13},
		ReadHeaderTimeout: 10 * time.Second,
	}
	if s.Kubeconfig, err = kubeconfig("https://"+listener.Addr().String(), root); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	go func() { s.served <- s.http.ServeTLS(listener, "", "") }()
	return s, nil
}

// Stop ends the server and every request.
func (s *Server) Stop() error {
	s.end.Do(func() { close(s.ending) })
	err := s.http.Close()
	if served := <-s.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// Create adds objects, which are the server's from here on.
func (s *Server) Create(objects ...client.Object) error {
	for _, o := range objects {
		t, err := s.tableOf(o)
		if err != nil {
			return err
		}
		if err := s.create(t, o); err != nil {
			return fmt.Errorf("create %T %s: %w", o, keyOf(o), err)
		}
	}
	return nil
}

// Edit changes an object: edit is given a copy of it. Other objects' copies are not looked at, so edit must not reach beyond its own.
func Edit[O client.Object](s *Server, like O, edit func(O)) error {
	t, err := s.tableOf(like)
	if err != nil {
		return err
	}
	_, err = s.change(t, keyOf(like), func(o client.Object) (client.Object, error) {
		edit(o.(O))
		return o, nil
	})
	return err
}

// Get gives the object of that kind and name. It must not be changed.
func Get[O client.Object](s *Server, like O) (O, error) {
	t, err := s.tableOf(like)
	if err != nil {
		return like, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	o, ok := t.objects[keyOf(like)].(O)
	if !ok {
		return like, fmt.Errorf("%T %s: %w", like, keyOf(like), errNotFound)
	}
	return o, nil
}

func (s *Server) tableOf(o client.Object) (*table, error) {
	kinds, _, err := controllers.Scheme().ObjectKinds(o)
	if err != nil {
		return nil, err
	}
	for _, t := range s.tables {
		if t.resource.kind == kinds[0] {
			return t, nil
		}
	}
	return nil, fmt.Errorf("there is no resource for %s", kinds[0])
}

func kubeconfig(server string, root []byte) ([]byte, error) {
	config := clientcmdapi.NewConfig()
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: root}
	config.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: token}
	config.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	config.CurrentContext = "x"
	return clientcmd.Write(*config)
}

// selfSigned makes a certificate for 127.0.0.1 that is its own root.
func selfSigned() (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, root, nil
}
