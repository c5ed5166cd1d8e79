// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// counting counts what the API server is asked.
type counting struct {
	client.Client
	created atomic.Int32
}

func (c *counting) Create(ctx context.Context, o client.Object, opts ...client.CreateOption) error {
	c.created.Add(1)
	return c.Client.Create(ctx, o, opts...)
}

// calling is the context of a call with a token, from an address.
func calling(ctx context.Context, token, from string) context.Context {
	ctx = metadata.NewIncomingContext(ctx, metadata.Pairs("authorization", "Bearer "+token))
	return peer.NewContext(ctx, &peer.Peer{Addr: &net.TCPAddr{IP: net.ParseIP(from), Port: 40000}})
}

var _ = Describe("Callers without a good token", func() {
	It("cannot have the API server asked at will, nor keep others out", func(ctx SpecContext) {
		asked := &counting{Client: east.Client}
		c := &Callers{reviewer: asked, suspects: newShares[netip.Addr](badRate, badBurst), config: world.Config{LocalCluster: "east", TrustDomain: "cluster.local"}}
		pod := proxyPod("isthmus-nodeproxy-flooded", "node-1")
		good := east.token(system, "isthmus-nodeproxy", tokenAudience, pod)

		By("reading what cannot be good")
		for _, token := range []string{"nonsense", east.token(system, "isthmus-nodeproxy", "", pod), forged(`{"sub":"system:serviceaccount:a:b","aud":"istio-ca","exp":1}`)} {
			_, err := c.Authenticate(calling(ctx, token, "10.0.0.66"))
			Expect(err).To(HaveOccurred())
		}
		Expect(asked.created.Load()).To(BeZero())

		By("giving an address its share")
		const flood, attackers = 1000, 8
		began := time.Now()
		var callers sync.WaitGroup
		var refused atomic.Int32
		for i := range attackers {
			callers.Go(func() {
				defer GinkgoRecover()
				for n := range flood / attackers {
					token := forged(fmt.Sprintf(`{"sub":"system:serviceaccount:a:b","aud":"istio-ca","exp":%d}`, time.Now().Unix()+int64(i*flood+n+60)))
					_, err := c.Authenticate(calling(ctx, token, "10.0.0.66"))
					Expect(err).To(HaveOccurred())
					if strings.Contains(err.Error(), "too many bad tokens") {
						refused.Add(1)
					}
				}
			})
		}
		caller, err := c.Authenticate(calling(ctx, good, "10.0.0.7"))
		Expect(err).NotTo(HaveOccurred())
		Expect(caller.Pod).To(Equal(pod.Name))
		callers.Wait()
		Expect(asked.created.Load()).To(BeNumerically("<=", badBurst+attackers+badRate*(1+time.Since(began).Seconds())+1))
		Expect(refused.Load()).To(BeNumerically(">", flood/2))

		By("letting in as many as come with good ones")
		for range 2 * badBurst {
			callers.Go(func() {
				defer GinkgoRecover()
				_, err := c.Authenticate(calling(ctx, east.token(system, "isthmus-nodeproxy", tokenAudience, pod), "10.0.0.8"))
				Expect(err).NotTo(HaveOccurred())
			})
		}
		callers.Wait()

		By("asking once for many who show the same")
		before := asked.created.Load()
		fresh := east.token(system, "isthmus-nodeproxy", tokenAudience, pod)
		for range 20 {
			callers.Go(func() {
				defer GinkgoRecover()
				_, err := c.Authenticate(calling(ctx, fresh, "10.0.0.7"))
				Expect(err).NotTo(HaveOccurred())
			})
		}
		callers.Wait()
		Expect(asked.created.Load()).To(BeNumerically("<=", before+2))
	})
})
