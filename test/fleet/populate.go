// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
)

// SystemNamespace is where the mesh is installed.
const SystemNamespace = "isthmus-system"

const (
	namespaces  = 20
	podsPerNode = 30 // as large clusters have
)

// Size is how much a cluster holds.
type Size struct{ Services, Endpoints int }

// Cluster is a populated server.
type Cluster struct {
	*Server
	ID   string
	Size Size
	// number is the cluster's place in the fleet, from 0; addresses follow from it.
	number int
}

// NewCluster starts a server and fills it. All services are global and are called alike in every cluster; each cluster is a network of
// its own, and other clusters (number > 0) have an east-west gateway that others may reach.
func NewCluster(number int, id string, size Size) (*Cluster, error) {
	s, err := Start()
	if err != nil {
		return nil, err
	}
	c := &Cluster{Server: s, ID: id, Size: size, number: number}
	for _, o := range c.objects() {
		if err := s.Create(o); err != nil {
			return nil, fmt.Errorf("populate %s: %w", id, err)
		}
	}
	return c, nil
}

func (c *Cluster) objects() []client.Object {
	all := []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-system"}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: SystemNamespace, Labels: map[string]string{"topology.istio.io/network": c.ID}}},
		&v1alpha1.ServiceScope{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: v1alpha1.ServiceScopeSpec{
			ServiceScopeConfigs: []v1alpha1.ServiceScopeConfig{{
				ServicesSelector: &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"istio.io/global": "true"}}, Scope: "GLOBAL",
			}},
		}},
	}
	if c.number > 0 {
		all = append(all, c.gateway()...)
	}
	for i := range namespaces {
		all = append(all, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace(i), Labels: map[string]string{"istio.io/dataplane-mode": "ambient"}}})
	}
	for i := range (c.Size.Endpoints + podsPerNode - 1) / podsPerNode {
		all = append(all, c.node(i))
	}
	// What pods have in common is shared, so that the fleet itself stays small: nobody changes it.
	spec, status, fields := podSpec(), containerStatuses(), managedFields()
	for i := range c.Size.Services {
		all = append(all, c.service(i))
		var pods []*corev1.Pod
		for p := i; p < c.Size.Endpoints; p += c.Size.Services {
			pods = append(pods, c.pod(i, p, spec, status, fields))
			all = append(all, pods[len(pods)-1])
		}
		all = append(all, slice(i, pods))
	}
	return all
}

func namespace(service int) string { return fmt.Sprintf("team-%02d", service%namespaces) }

func serviceName(service int) string { return fmt.Sprintf("service-%03d", service) }

// PodName is the name of a pod; pod p is behind service p modulo the number of services.
func (c *Cluster) PodName(p int) client.ObjectKey {
	s := p % c.Size.Services
	return client.ObjectKey{Namespace: namespace(s), Name: fmt.Sprintf("%s-7f9c6d5b8-%05d", serviceName(s), p)}
}

// Service is the name of the service that a pod is behind.
func (c *Cluster) Service(p int) client.ObjectKey {
	s := p % c.Size.Services
	return client.ObjectKey{Namespace: namespace(s), Name: serviceName(s)}
}

func (c *Cluster) gateway() []client.Object {
	address := gatewayv1.IPAddressType
	terminate := gatewayv1.TLSModeTerminate
	return []client.Object{
		&gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "eastwest"}, Spec: gatewayv1.GatewayClassSpec{ControllerName: "isthmus.dev/gateway-controller"}},
		&gatewayv1.Gateway{
			ObjectMeta: metav1.ObjectMeta{Namespace: SystemNamespace, Name: "eastwest", Labels: map[string]string{"topology.istio.io/network": c.ID}},
			Spec: gatewayv1.GatewaySpec{GatewayClassName: "eastwest", Listeners: []gatewayv1.Listener{{
				Name: "mesh", Port: 15008, Protocol: "HBONE", TLS: &gatewayv1.ListenerTLSConfig{Mode: &terminate, Options: map[gatewayv1.AnnotationKey]gatewayv1.AnnotationValue{
					"gateway.istio.io/tls-terminate-mode": "ISTIO_MUTUAL",
				}},
			}}},
			Status: gatewayv1.GatewayStatus{Addresses: []gatewayv1.GatewayStatusAddress{{Type: &address, Value: fmt.Sprintf("203.0.113.%d", c.number)}}},
		},
	}
}

func (c *Cluster) node(i int) *corev1.Node {
	name := nodeName(i)
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: name, ManagedFields: managedFields(),
		Labels: map[string]string{
			corev1.LabelTopologyRegion: "region-" + strconv.Itoa(c.number), corev1.LabelTopologyZone: fmt.Sprintf("region-%d-%c", c.number, 'a'+i%3),
			corev1.LabelHostname: name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64", corev1.LabelInstanceTypeStable: "m7i.4xlarge",
		},
		Annotations: map[string]string{"node.alpha.kubernetes.io/ttl": "0", "volumes.kubernetes.io/controller-managed-attach-detach": "true"},
	}}
	for range 50 { // as a kubelet lists
		n.Status.Images = append(n.Status.Images, corev1.ContainerImage{
			Names: []string{"registry.example/team/app@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "registry.example/team/app:v1"}, SizeBytes: 1 << 27,
		})
	}
	return n
}

func nodeName(i int) string {
	return fmt.Sprintf("ip-10-0-%d-%d.region.compute.internal", i/256, i%256)
}

func (c *Cluster) service(i int) *corev1.Service {
	ip := fmt.Sprintf("10.%d.%d.%d", 96+c.number, i/200, i%200+1)
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace(i), Name: serviceName(i), ManagedFields: managedFields(),
			Labels:      map[string]string{"istio.io/global": "true", "app.kubernetes.io/name": serviceName(i), "app.kubernetes.io/managed-by": "Helm"},
			Annotations: map[string]string{"meta.helm.sh/release-name": serviceName(i), "meta.helm.sh/release-namespace": namespace(i)},
			// The same in every cluster, so that no service is older in one.
			CreationTimestamp: metav1.NewTime(time.Unix(1_790_000_000, 0)),
		},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Selector: map[string]string{"app": serviceName(i)},
			Ports: []corev1.ServicePort{
				{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromInt32(8080)},
				{Name: "grpc", Protocol: corev1.ProtocolTCP, Port: 9090, TargetPort: intstr.FromInt32(9090)},
			},
		},
	}
}

func (c *Cluster) pod(service, p int, spec corev1.PodSpec, containers []corev1.ContainerStatus, fields []metav1.ManagedFieldsEntry) *corev1.Pod {
	key := c.PodName(p)
	spec.NodeName, spec.ServiceAccountName = nodeName(p/podsPerNode), serviceName(service)
	ip := fmt.Sprintf("10.%d.%d.%d", 128+c.number, p/250, p%250+1)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: key.Namespace, Name: key.Name, GenerateName: serviceName(service) + "-7f9c6d5b8-", ManagedFields: fields,
			Labels: map[string]string{
				"app": serviceName(service), "app.kubernetes.io/name": serviceName(service), "app.kubernetes.io/version": "1.4.2", "pod-template-hash": "7f9c6d5b8",
			},
			Annotations: map[string]string{
				"ambient.istio.io/redirection": "enabled", "prometheus.io/scrape": "true", "prometheus.io/port": "9090",
				"checksum/config":                 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
				"cni.example/podIP":               ip + "/32",
				"kubectl.kubernetes.io/restarted": "2026-09-01T00:00:00Z",
			},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "apps/v1", Kind: "ReplicaSet", Name: serviceName(service) + "-7f9c6d5b8", UID: "5a1c7b62-6e0e-4a0f-8f0e-0123456789ab", Controller: ptr.To(true),
			}},
		},
		Spec: spec,
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, HostIP: "10.0.0.1", QOSClass: corev1.PodQOSBurstable,
			Conditions:        conditions(true),
			ContainerStatuses: containers,
		},
	}
}

func conditions(ready bool) []corev1.PodCondition {
	state := corev1.ConditionFalse
	if ready {
		state = corev1.ConditionTrue
	}
	at := metav1.NewTime(time.Now().Truncate(time.Second))
	return []corev1.PodCondition{
		{Type: "PodReadyToStartContainers", Status: corev1.ConditionTrue, LastTransitionTime: at},
		{Type: corev1.PodInitialized, Status: corev1.ConditionTrue, LastTransitionTime: at},
		{Type: corev1.PodReady, Status: state, LastTransitionTime: at},
		{Type: corev1.ContainersReady, Status: state, LastTransitionTime: at},
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: at},
	}
}

// podSpec is what a chart of an ordinary service makes.
func podSpec() corev1.PodSpec {
	var env []corev1.EnvVar
	for i := range 12 {
		env = append(env, corev1.EnvVar{Name: "SETTING_" + strconv.Itoa(i), Value: "https://config.example.internal/value/" + strconv.Itoa(i)})
	}
	probe := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(8080)}}, PeriodSeconds: 5}
	return corev1.PodSpec{
		Containers: []corev1.Container{{
			Name: "app", Image: "registry.example/team/app@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", Env: env,
			Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}, {Name: "grpc", ContainerPort: 9090}},
			Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi")},
				Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")},
			},
			LivenessProbe: probe, ReadinessProbe: probe,
			VolumeMounts: []corev1.VolumeMount{{Name: "config", MountPath: "/etc/app"}, {Name: "kube-api-access-x7k2p", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true}},
		}},
		Volumes: []corev1.Volume{
			{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "app"}}}},
			{Name: "kube-api-access-x7k2p", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}},
			}}}},
		},
		Tolerations: []corev1.Toleration{
			{Key: "node.kubernetes.io/not-ready", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To[int64](300)},
			{Key: "node.kubernetes.io/unreachable", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To[int64](300)},
		},
		RestartPolicy: corev1.RestartPolicyAlways, DNSPolicy: corev1.DNSClusterFirst, SchedulerName: "default-scheduler",
		TerminationGracePeriodSeconds: ptr.To[int64](30),
	}
}

func containerStatuses() []corev1.ContainerStatus {
	return []corev1.ContainerStatus{{
		Name: "app", Ready: true, Started: ptr.To(true), State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}},
		Image:       "registry.example/team/app:v1.4.2",
		ImageID:     "registry.example/team/app@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		ContainerID: "containerd://0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
	}}
}

// managedFields are about as long as those of a real pod: 1.5 kB of the controller manager's and 1 kB of the kubelet's.
func managedFields() []metav1.ManagedFieldsEntry {
	fields := func(n int) *metav1.FieldsV1 {
		text := []byte(`{"f:metadata":{"f:labels":{".":{}`)
		for i := 0; len(text) < n; i++ {
			text = append(text, fmt.Sprintf(`,"f:some-field-%d":{}`, i)...)
		}
		return metav1.NewFieldsV1(string(append(text, "}}}"...)))
	}
	at := metav1.Now()
	return []metav1.ManagedFieldsEntry{
		{Manager: "kube-controller-manager", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", Time: &at, FieldsType: "FieldsV1", FieldsV1: fields(1500)},
		{Manager: "kubelet", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", Time: &at, FieldsType: "FieldsV1", FieldsV1: fields(1000), Subresource: "status"},
	}
}

func slice(service int, pods []*corev1.Pod) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace(service), Name: serviceName(service) + "-x7k2p", ManagedFields: managedFields(),
			Labels: map[string]string{discoveryv1.LabelServiceName: serviceName(service), discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{
			{Name: ptr.To("http"), Port: ptr.To[int32](8080), Protocol: ptr.To(corev1.ProtocolTCP)},
			{Name: ptr.To("grpc"), Port: ptr.To[int32](9090), Protocol: ptr.To(corev1.ProtocolTCP)},
		},
	}
	for _, p := range pods {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{p.Status.PodIP},
			Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true), Serving: ptr.To(true), Terminating: ptr.To(false)},
			NodeName:   ptr.To(p.Spec.NodeName), Zone: ptr.To("region-a"),
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID},
		})
	}
	return s
}

// Flip makes a pod ready or not, as its kubelet would. Its slice follows, as it would by the endpoint slice controller.
func (c *Cluster) Flip(p int, ready bool) error {
	key := c.PodName(p)
	err := Edit(c.Server, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}, func(pod *corev1.Pod) {
		pod.Status.Conditions = conditions(ready)
	})
	if err != nil {
		return err
	}
	service := c.Service(p)
	return Edit(c.Server, &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: service.Namespace, Name: service.Name + "-x7k2p"}}, func(s *discoveryv1.EndpointSlice) {
		i := slices.IndexFunc(s.Endpoints, func(e discoveryv1.Endpoint) bool { return e.TargetRef.Name == key.Name })
		s.Endpoints[i].Conditions = discoveryv1.EndpointConditions{Ready: ptr.To(ready), Serving: ptr.To(ready), Terminating: ptr.To(false)}
	})
}
