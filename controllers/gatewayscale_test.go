// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

var _ = Describe("How many pods a Gateway has", func() {
	It("is somebody else's to say where the parameters say so, down to none and up again", func(ctx SpecContext) {
		g := withParameters(eastwest("default", "elsewhere"), "elsewhere")
		deployment, _, scaler := east.made(g)
		m := overlayMap("elsewhere", "autoscaling: {minReplicas: 3}")
		east.with(m, g)
		Eventually(east.is(scaler)).Should(BeTrue())
		Eventually(get(east, deployment)).Should(HaveField("Spec.Replicas", HaveValue(BeEquivalentTo(3))))

		By("saying so: the autoscaler goes, and the pods stay")
		edit(east, m, func(m *corev1.ConfigMap) { m.Data[world.OverlayKey] = "autoscaling: {external: true}" })
		Eventually(east.is(scaler)).Should(BeFalse())
		Expect(get(east, deployment)()).To(HaveField("Spec.Replicas", HaveValue(BeEquivalentTo(3))))
		for _, pods := range []int32{0, 17, 0, 1} {
			scale := &autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: pods}}
			Expect(east.SubResource("scale").Update(ctx, deployment, client.WithSubResourceBody(scale))).To(Succeed())
			edit(east, deployment, func(d *appsv1.Deployment) { d.Spec.Template.Spec.NodeSelector = map[string]string{"disk": "hdd"} })
			Eventually(get(east, deployment)).Should(HaveField("Spec.Template.Spec.NodeSelector", BeEmpty()), "the rest is put back")
			Expect(deployment.Spec.Replicas).To(HaveValue(Equal(pods)))
		}

		By("scaling it to nothing, and taking the word back")
		edit(east, deployment, func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32) })
		edit(east, m, func(m *corev1.ConfigMap) { m.Data[world.OverlayKey] = "" })
		Eventually(east.is(scaler)).Should(BeTrue())
		Eventually(get(east, deployment)).Should(HaveField("Spec.Replicas", HaveValue(BeEquivalentTo(2))))
	})

	DescribeTable("is not for an autoscaler of ours to say that goes, whatever became of it", func(name string, change func(*autoscalingv2.HorizontalPodAutoscaler), overlay string) {
		g := withParameters(eastwest("default", name), name)
		_, _, scaler := east.made(g)
		m := overlayMap(name, "")
		east.with(m, g)
		Eventually(east.is(scaler)).Should(BeTrue())
		edit(east, m, func(m *corev1.ConfigMap) { m.Data[world.OverlayKey] = "odd: 1" }) // while it is, nothing is put back
		Eventually(east.gatewayVerdict(g, "Accepted")).Should(Equal("False/InvalidParameters"))
		edit(east, scaler, change)
		edit(east, m, func(m *corev1.ConfigMap) { m.Data[world.OverlayKey] = overlay })
		Eventually(east.is(scaler)).Should(BeFalse())
	},
		Entry("somebody took our label from it, and the number is fixed", "unlabelled", func(s *autoscalingv2.HorizontalPodAutoscaler) { s.Labels = nil }, "replicas: 4"),
		Entry("it was left behind, and somebody else decides", "orphaned", func(s *autoscalingv2.HorizontalPodAutoscaler) { s.OwnerReferences = nil }, "autoscaling: {external: true}"),
	)

	It("is for our autoscaler to say when one of somebody else's is gone", func(ctx SpecContext) {
		g := eastwest("default", "left-alone")
		g.Spec.GatewayClassName = "nobodys" // so that nobody but the one below looks at it
		_, _, scaler := east.made(g)
		theirs := &autoscalingv2.HorizontalPodAutoscaler{
			ObjectMeta: scaler.ObjectMeta,
			Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
				ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: g.Name}, MaxReplicas: 7,
			},
		}
		east.with(g, theirs)
		known := make(chan struct{})
		close(known)
		r := &GatewayReconciler{
			client: east, reader: east, obstacles: &obstacles{}, known: known, changed: func(types.NamespacedName) {},
			settings: ProvisionSettings{Image: "i", Controller: "c:15012", Config: hostileConfig},
			plan: func(string, string) *translate.GatewayPlan {
				return &translate.GatewayPlan{
					Key: world.Key{Cluster: "east", Namespace: g.Namespace, Name: g.Name}, UID: string(g.UID), Class: "nobodys", Name: g.Name, ServiceAccount: g.Name, ServiceType: "ClusterIP",
					Listeners: []mesh.Listener{{Name: "mesh", Port: 15008, Bind: 15008, Protocol: mesh.ListenerHBONE}},
				}
			},
		}
		again, err := r.Reconcile(ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(g)})
		Expect(err).NotTo(HaveOccurred())
		Expect(again.RequeueAfter).To(Equal(scalerWait), "nobody tells when it goes")
		Expect(get(east, scaler)()).To(HaveField("Spec.MaxReplicas", BeEquivalentTo(7)))
		Expect(east.Delete(ctx, scaler)).To(Succeed())
		again, err = r.Reconcile(ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(g)})
		Expect(err).NotTo(HaveOccurred())
		Expect(again.RequeueAfter).To(BeZero())
		Expect(get(east, scaler)()).To(HaveField("Spec.MaxReplicas", BeEquivalentTo(gatewayMaxReplicas)))
		Expect(metav1.IsControlledBy(scaler, g)).To(BeTrue())
	})

	DescribeTable("is said by an autoscaler of another name, too, which is told until it is not any more", func(name, overlay string, clash func(deployment *appsv1.Deployment, ours *autoscalingv2.HorizontalPodAutoscaler), calm func(ours *autoscalingv2.HorizontalPodAutoscaler)) {
		g := withParameters(eastwest("default", name), name)
		deployment, service, scaler := east.made(g)
		m := overlayMap(name, overlay)
		east.with(m, g)
		Eventually(east.is(deployment)).Should(BeTrue())
		Eventually(get(east, service)).Should(HaveField("OwnerReferences", HaveLen(1)))
		theirs := &autoscalingv2.HorizontalPodAutoscaler{
			ObjectMeta: metav1.ObjectMeta{Namespace: g.Namespace, Name: "keda-hpa-" + name},
			Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
				ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: g.Name}, MaxReplicas: 7,
			},
		}
		east.with(theirs)
		told := east.gatewayVerdict(g, conditionScaled)
		Eventually(func() string {
			clash(deployment, scaler) // an autoscaler says so again and again, and its first word may be overrun by who has not seen it yet
			return told()
		}).WithPolling(time.Second).Should(Equal("False/AmbiguousSelector"))
		Expect(message(g.Status.Conditions, conditionScaled)).To(And(ContainSubstring("HorizontalPodAutoscaler keda-hpa-"+name+" of namespace default"), ContainSubstring("autoscaling: {external: true}")))
		Expect(verdict(g.Status.Conditions, g.Generation, "Accepted")).To(Equal("True/Accepted"), "it is served all the same")
		if calm == nil {
			edit(east, m, func(m *corev1.ConfigMap) { m.Data[world.OverlayKey] = "autoscaling: {external: true}" })
		} else {
			calm(scaler)
		}
		Eventually(east.gatewayVerdict(g, conditionScaled)).Should(BeEmpty())
	},
		Entry("beside ours, and goes", "twice", "",
			func(_ *appsv1.Deployment, ours *autoscalingv2.HorizontalPodAutoscaler) {
				sayAmbiguous(ours, corev1.ConditionFalse, "AmbiguousSelector")
			},
			func(ours *autoscalingv2.HorizontalPodAutoscaler) {
				sayAmbiguous(ours, corev1.ConditionTrue, "ValidMetricFound")
			}),
		Entry("beside a fixed number, until it is its business", "fixed-twice", "replicas: 3",
			func(d *appsv1.Deployment, _ *autoscalingv2.HorizontalPodAutoscaler) {
				edit(east, d, func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(6)) })
			}, nil),
	)
})

// sayAmbiguous has an autoscaler say what Kubernetes would of its work.
func sayAmbiguous(s *autoscalingv2.HorizontalPodAutoscaler, active corev1.ConditionStatus, reason string) {
	editStatus(east, s, func(s *autoscalingv2.HorizontalPodAutoscaler) {
		s.Status.Conditions = []autoscalingv2.HorizontalPodAutoscalerCondition{{Type: autoscalingv2.ScalingActive, Status: active, Reason: reason, LastTransitionTime: metav1.Now()}}
	})
}
