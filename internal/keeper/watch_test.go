// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
)

// picky is an issuer that gives certificates of an hour, refuses the service account "gone", and fails for "unlucky".
type picky struct{ *ca.Signer }

type final struct{ error }

func (final) Refused() bool { return true }

func (p picky) Issue(_ context.Context, id mesh.Identity, csr []byte) ([]string, error) {
	switch id.ServiceAccount {
	case "gone":
		return nil, final{errors.New("no such pod")}
	case "unlucky":
		return nil, errors.New("away")
	}
	return p.Sign(id, csr, time.Hour)
}

func TestCertificatesAreWatched(t *testing.T) {
	authority, err := ca.SelfSigned("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ca.NewSigner(authority)
	if err != nil {
		t.Fatal(err)
	}
	source := mtls.NewSource(picky{signer}, mtls.SourceOptions{Log: logr.Discard()})
	defer source.Close()
	registry := prometheus.NewRegistry()
	WatchCertificates(source, registry)
	read := func() map[string]float64 {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				name := f.GetName()
				for _, l := range m.GetLabel() {
					name += " " + l.GetValue()
				}
				out[name] = m.GetGauge().GetValue()
			}
		}
		return out
	}
	want := map[string]float64{"isthmus_certificates valid": 0, "isthmus_certificates missing": 0, "isthmus_certificates refused": 0, "isthmus_certificates_failing": 0}
	if got := read(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("without any: %v", got)
	}
	for _, name := range []string{"cart", "till", "gone", "unlucky"} {
		_, err := source.Certificate(t.Context(), mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: name})
		if (err == nil) != (name == "cart" || name == "till") {
			t.Fatalf("%s: %v", name, err)
		}
	}
	got := read()
	if left := time.Until(time.Unix(int64(got["isthmus_certificates_end_timestamp_seconds"]), 0)); left < 50*time.Minute || left > time.Hour {
		t.Errorf("the first one ends in %v", left)
	}
	delete(got, "isthmus_certificates_end_timestamp_seconds")
	want = map[string]float64{"isthmus_certificates valid": 2, "isthmus_certificates missing": 1, "isthmus_certificates refused": 1, "isthmus_certificates_failing": 2}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
