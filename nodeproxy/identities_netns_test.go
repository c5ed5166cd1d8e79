// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy_test

import (
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
)

// TestCertificatesComeAndGoWithPods: a pod's certificate is there before anybody asks for it, and is renewed no more when the pod is gone, whatever else the control plane tells meanwhile,
// or if it tells nothing.
func TestCertificatesComeAndGoWithPods(t *testing.T) {
	authority, err := ca.SelfSigned(trustDomain)
	must(t, err)
	east := newCluster(t, "east", authority)
	east.start()
	east.pod("brief", "10.77.0.3", &mesh.Workload{ServiceAccount: "brief"})
	held := func() bool {
		return slices.ContainsFunc(east.certs.States(), func(s mtls.State) bool { return s.Identity.ServiceAccount == "brief" && s.Valid })
	}
	wait(t, "the pod's certificate", held)
	must(t, east.agent.Del(t.Context(), "brief-uid"))
	wait(t, "that it is given up", func() bool { return !held() })
}
