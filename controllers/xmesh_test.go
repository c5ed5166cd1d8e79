// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-logr/logr/funcr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/internal/translate"
)

// experimental reads a CRD of the Gateway API's experimental channel from the module that we are built with: we install the standard channel.
func experimental(ctx context.Context, name string) *unstructured.Unstructured {
	GinkgoHelper()
	directory, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	Expect(err).NotTo(HaveOccurred())
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(directory)), "config", "crd", "experimental", name+".yaml"))
	Expect(err).NotTo(HaveOccurred())
	crd := &unstructured.Unstructured{}
	Expect(yaml.Unmarshal(text, &crd.Object)).To(Succeed())
	return crd
}

var _ = Describe("a cluster with the experimental channel", func() {
	It("is told by an XMesh what the mesh supports", func(ctx SpecContext) {
		c := startCluster()
		DeferCleanup(func() { Expect(c.Stop()).To(Succeed()) })
		c.prepare("meshed")
		c.create(experimental(ctx, "gateway.networking.x-k8s.io_xmeshes"))
		of := func(name string, controller gatewayv1.GatewayController) *gatewayxv1alpha1.XMesh {
			return &gatewayxv1alpha1.XMesh{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: gatewayxv1alpha1.MeshSpec{ControllerName: controller}}
		}
		foreign, odd := of("foreign", "example.com/else"), of("odd", translate.ControllerName)
		odd.Spec.ParametersRef = &gatewayv1.ParametersReference{Kind: "ConfigMap", Name: "odd", Namespace: ptr.To(gatewayv1.Namespace("default"))}
		Eventually(func() error { return c.Create(ctx, foreign) }).Should(Succeed(), "the kind is served")
		c.create(odd)

		By("starting with a ClusterRole of a version that knew no XMesh")
		role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "isthmus-controller"}}
		edit(c, role, func(r *rbacv1.ClusterRole) {
			r.Rules = slices.DeleteFunc(r.Rules, func(r rbacv1.PolicyRule) bool { return slices.Contains(r.APIGroups, gatewayxv1alpha1.GroupName) })
		})
		config := rest.CopyConfig(c.Config)
		config.Impersonate = rest.ImpersonationConfig{UserName: accountPrefix + system + ":isthmus-controller"}
		refused := make(chan string, 1)
		running := startReplica(config, "meshed", nil, func(o *Options) {
			o.Log = funcr.New(func(_, line string) {
				if strings.Contains(line, "a kind cannot be read") {
					refused <- line
				}
			}, funcr.Options{})
		})
		DeferCleanup(running.end)
		Eventually(refused).Should(Receive(ContainSubstring(`"kind"="XMesh"`)))
		class := &gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: translate.ClassEastWest}}
		Eventually(func() string {
			if err := c.Get(context.Background(), client.ObjectKeyFromObject(class), class); err != nil {
				return err.Error()
			}
			return verdict(class.Status.Conditions, class.Generation, "Accepted")
		}).WithTimeout(2*soon).Should(Equal("True/Accepted"), "the rest goes on")
		Expect(running.done).NotTo(BeClosed())

		By("applying the role of this version")
		for _, o := range documents("config", "rbac", "controller.yaml") {
			if o.GetKind() == "ClusterRole" && o.GetName() == role.Name {
				Expect(c.Patch(ctx, o, client.Merge)).To(Succeed())
			}
		}
		says := func(mesh *gatewayxv1alpha1.XMesh) func() string {
			return func() string {
				if err := c.Get(context.Background(), client.ObjectKeyFromObject(mesh), mesh); err != nil {
					return err.Error()
				}
				return verdict(mesh.Status.Conditions, mesh.Generation, "Accepted")
			}
		}
		own := of(meshName, "")
		Eventually(says(own)).WithTimeout(2 * soon).Should(Equal("True/Accepted"))
		Expect(own.Spec).To(Equal(gatewayxv1alpha1.MeshSpec{ControllerName: translate.ControllerName}), "nothing else is asked for")
		Expect(own.Status.SupportedFeatures).To(Equal(meshFeatures))
		Eventually(says(odd)).Should(Equal("False/InvalidParameters"))
		Expect(odd.Status.SupportedFeatures).To(Equal(meshFeatures))

		By("describing it, and deleting it")
		edit(c, own, func(m *gatewayxv1alpha1.XMesh) { m.Spec.Description = ptr.To("Ours") })
		Expect(own.Generation).To(BeNumerically(">", 1))
		Eventually(says(own)).Should(Equal("True/Accepted"), "of this generation")
		Expect(own.Spec.Description).To(HaveValue(Equal("Ours")))
		was := own.UID
		Expect(c.Delete(ctx, own)).To(Succeed())
		Eventually(says(own)).Should(Equal("True/Accepted"), "it is made again")
		Expect(own.UID).NotTo(Equal(was))
		Expect(says(foreign)()).To(BeEmpty(), "it is another controller's")
		Expect(meta.FindStatusCondition(foreign.Status.Conditions, "Accepted").Reason).To(Equal("Pending"))
		Expect(foreign.Status.SupportedFeatures).To(BeEmpty())
	})
})
