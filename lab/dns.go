// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
)

const dnsName = "coredns"

// corefile forwards nothing: the lab has no resolver to forward to. What is not a name of the cluster is refused.
const corefile = `.:53 {
    errors
    health {
        lameduck 0s
    }
    ready
    kubernetes ` + clusterDomain + ` in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 5
    }
    prometheus :9153
    cache 5
    reload
    loadbalance
}
`

// installDNS creates CoreDNS. It tolerates what an earlier attempt has created.
func installDNS(ctx context.Context, client kubernetes.Interface) error {
	meta := metav1.ObjectMeta{Name: dnsName, Namespace: metav1.NamespaceSystem, Labels: map[string]string{"k8s-app": "kube-dns"}}
	cluster := metav1.ObjectMeta{Name: "system:" + dnsName}
	steps := []struct {
		kind   string
		create func() error
	}{
		{"ServiceAccount", func() error {
			_, err := client.CoreV1().ServiceAccounts(meta.Namespace).Create(ctx, &corev1.ServiceAccount{ObjectMeta: meta}, metav1.CreateOptions{})
			return err
		}},
		{"ClusterRole", func() error {
			_, err := client.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: cluster, Rules: []rbacv1.PolicyRule{
				{APIGroups: []string{""}, Resources: []string{"services", "pods", "namespaces"}, Verbs: []string{"list", "watch"}},
				{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: []string{"list", "watch"}},
			}}, metav1.CreateOptions{})
			return err
		}},
		{"ClusterRoleBinding", func() error {
			_, err := client.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
				ObjectMeta: cluster,
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: cluster.Name},
				Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: meta.Name, Namespace: meta.Namespace}},
			}, metav1.CreateOptions{})
			return err
		}},
		{"ConfigMap", func() error {
			_, err := client.CoreV1().ConfigMaps(meta.Namespace).Create(ctx, &corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"Corefile": corefile}}, metav1.CreateOptions{})
			return err
		}},
		{"Service", func() error {
			service := metav1.ObjectMeta{Name: "kube-dns", Namespace: meta.Namespace, Labels: meta.Labels}
			_, err := client.CoreV1().Services(meta.Namespace).Create(ctx, &corev1.Service{ObjectMeta: service, Spec: corev1.ServiceSpec{
				Selector:  meta.Labels,
				ClusterIP: dnsServiceIP,
				Ports: []corev1.ServicePort{
					{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP},
					{Name: "dns-tcp", Port: 53, Protocol: corev1.ProtocolTCP},
				},
			}}, metav1.CreateOptions{})
			return err
		}},
		{"Deployment", func() error {
			_, err := client.AppsV1().Deployments(meta.Namespace).Create(ctx, dnsDeployment(meta), metav1.CreateOptions{})
			return err
		}},
	}
	for _, step := range steps {
		if err := step.create(); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create %s of %s: %w", step.kind, dnsName, err)
		}
	}
	return nil
}

func dnsDeployment(meta metav1.ObjectMeta) *appsv1.Deployment {
	probe := func(path string, port int, every int32) *corev1.Probe {
		return &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt(port)}},
			PeriodSeconds: every,
		}
	}
	return &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{
		Replicas: new(int32(1)),
		Selector: &metav1.LabelSelector{MatchLabels: meta.Labels},
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: meta.Labels},
			Spec: corev1.PodSpec{
				ServiceAccountName: meta.Name,
				PriorityClassName:  "system-cluster-critical",
				DNSPolicy:          corev1.DNSDefault,
				// A node that dies takes DNS away for 5 s after it is NotReady, instead of 5 minutes.
				Tolerations: []corev1.Toleration{
					{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: new(int64(5))},
					{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: new(int64(5))},
				},
				Containers: []corev1.Container{{
					Name:            dnsName,
					Image:           coreDNSImage,
					ImagePullPolicy: corev1.PullIfNotPresent,
					Args:            []string{"-conf", "/etc/coredns/Corefile"},
					ReadinessProbe:  probe("/ready", 8181, 1),
					LivenessProbe:   probe("/health", 8080, 10),
					VolumeMounts:    []corev1.VolumeMount{{Name: "config", MountPath: "/etc/coredns", ReadOnly: true}},
				}},
				Volumes: []corev1.Volume{{Name: "config", VolumeSource: corev1.VolumeSource{
					ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: meta.Name}},
				}}},
			},
		},
	}}
}
