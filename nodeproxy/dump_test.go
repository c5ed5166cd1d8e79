// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/go-logr/logr"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
)

// inPieces notes how much is written at once: that much text was in memory.
type inPieces struct {
	*httptest.ResponseRecorder
	largest int
}

func (w *inPieces) Write(b []byte) (int, error) {
	w.largest = max(w.largest, len(b))
	return w.ResponseRecorder.Write(b)
}

// TestDumpOfABigMesh: what a proxy was told is shown as a whole, with whom it trusts, and is not in memory as text, however much it is.
func TestDumpOfABigMesh(t *testing.T) {
	const workloads = 5000
	authority, err := ca.SelfSigned("far.example")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ca.NewSigner(authority)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(signer.RootPEM()))
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	certificates := mtls.NewSource(nil, mtls.SourceOptions{Log: logr.Discard()})
	defer certificates.Close()
	if err := certificates.SetBundle("far.example", []*x509.Certificate{root}, nil); err != nil {
		t.Fatal(err)
	}
	x := &Proxy{o: Options{View: directory.NewLive(), Certificates: certificates, Cluster: "east", Network: "net"}}
	x.pods = newPods(x)
	told := mesh.Delta{Workloads: map[string]*mesh.Workload{}, Services: map[mesh.ServiceKey]*mesh.Service{}}
	for i := range workloads {
		uid := fmt.Sprintf("east//Pod/shop/cart-%04d", i)
		told.Workloads[uid] = &mesh.Workload{UID: uid, Name: uid, Namespace: "shop", Cluster: "east"}
	}
	service := &mesh.Service{Namespace: "shop", Hostname: "cart.shop.svc.cluster.local"}
	told.Services[service.Key()] = service
	x.o.View.Apply(told)

	w := &inPieces{ResponseRecorder: httptest.NewRecorder()}
	x.dump(w, nil)
	var got struct {
		Network, Cluster string
		Waits, Pods      []string
		Trust            []struct {
			TrustDomain string
			Roots       []struct{ Serial string }
		}
		Workloads []struct{ UID string }
		Services  []struct{ Hostname string }
		Policies  []any
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Network != "net" || got.Cluster != "east" || len(got.Waits) != 2 || len(got.Workloads) != workloads || len(got.Services) != 1 || got.Services[0].Hostname != service.Hostname {
		t.Errorf("of %q and %q, waiting for %q: %d workloads, services %v", got.Cluster, got.Network, got.Waits, len(got.Workloads), got.Services)
	}
	for i, one := range got.Workloads {
		if one.UID != fmt.Sprintf("east//Pod/shop/cart-%04d", i) {
			t.Fatalf("workload %d is %q", i, one.UID)
		}
	}
	if len(got.Trust) != 1 || got.Trust[0].TrustDomain != "far.example" || len(got.Trust[0].Roots) != 1 || got.Trust[0].Roots[0].Serial != root.SerialNumber.Text(16) {
		t.Errorf("trusts %+v", got.Trust)
	}
	if w.largest > 64<<10 {
		t.Errorf("%d bytes at once, of %d", w.largest, w.Body.Len())
	}
}
