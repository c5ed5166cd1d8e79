// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Import limits of a remote cluster that sets none.
const (
	// DefaultMaxServices bounds the global services that a remote cluster may bring.
	DefaultMaxServices = 5000
	// DefaultMaxEndpoints bounds the pods that a remote cluster may bring.
	DefaultMaxEndpoints = 100000
)

// RemoteClusterSpec says how to reach another cluster and what to believe of it.
type RemoteClusterSpec struct {
	// secretRef names the kubeconfig, in a Secret of the system namespace.
	// +required
	SecretRef SecretKeyReference `json:"secretRef"`

	// network of the cluster's pods. Absent: the label topology.istio.io/network on the remote system namespace.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$`
	Network string `json:"network,omitempty"`

	// trustDomain of the identities of the cluster's workloads. Absent: that of this cluster. Roots of another one are those of the ConfigMaps
	// labelled isthmus.dev/trust-domain; without any, nobody there is believed.
	// +optional
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-._a-z0-9]*[a-z0-9])?$`
	TrustDomain string `json:"trustDomain,omitempty"`

	// import bounds what the cluster may claim. Absent: everything, up to the default counts.
	// +optional
	Import *ImportLimits `json:"import,omitempty"`

	// stalenessLimit is how long the last known state of an unreachable cluster stays in use. Absent: for ever.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10s')",message="stalenessLimit must be at least 10s"
	StalenessLimit *metav1.Duration `json:"stalenessLimit,omitempty"`
}

// SecretKeyReference names one entry of a Secret in the system namespace.
type SecretKeyReference struct {
	// name of the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// key of the entry, which is the remote cluster's id. Absent: the RemoteCluster's own name.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[-._a-zA-Z0-9]*$`
	Key string `json:"key,omitempty"`
}

// ImportLimits bound what a remote cluster may claim. What exceeds them is ignored and counted in status.
type ImportLimits struct {
	// namespaces whose services and endpoints are taken. Absent or empty: all.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Namespaces []string `json:"namespaces,omitempty"`

	// identities that the cluster's endpoints may have, as "<namespace>/<service account>" where either side may be "*".
	// Absent or empty: all.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=317
	// +kubebuilder:validation:items:Pattern=`^(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)/(\*|[a-z0-9]([-a-z0-9.]*[a-z0-9])?)$`
	Identities []string `json:"identities,omitempty"`

	// networks, besides the cluster's own one, that its pods and Gateways may be on, as the label topology.istio.io/network on them or on a pod's
	// namespace says. A pod that claims to be on another one is not used. Absent or empty: none.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`
	Networks []string `json:"networks,omitempty"`

	// podCIDRs hold the addresses of the cluster's pods, if they are on a network of this cluster: a pod at another address is not used. Those on
	// the host network are at their nodes' addresses, and need not be in it. Absent or empty: all addresses that nobody has who is believed before.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=43
	// +kubebuilder:validation:XValidation:rule="self.all(c, isCIDR(c))",message="podCIDRs must be CIDRs, such as 10.4.0.0/14 or fd00:4::/48"
	PodCIDRs []string `json:"podCIDRs,omitempty"`

	// maxServices is the most global services taken, in order of namespace and name. Absent: 5000.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	MaxServices *int32 `json:"maxServices,omitempty"`

	// maxEndpoints is the most pods taken: services are let in by namespace and name, and one with more pods than there is room
	// for is passed over. Absent: 100000.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000000
	MaxEndpoints *int32 `json:"maxEndpoints,omitempty"`
}

// Condition types of a RemoteCluster.
const (
	// RemoteClusterConnected says whether the API server answers.
	RemoteClusterConnected = "Connected"
	// RemoteClusterSynced says whether all that the cluster has was read.
	RemoteClusterSynced = "Synced"
	// RemoteClusterReady says whether the cluster's services are in use.
	RemoteClusterReady = "Ready"
	// RemoteClusterWithinLimits is False while import limits leave something out.
	RemoteClusterWithinLimits = "WithinLimits"
	// RemoteClusterClaimsAccepted is False while something that the cluster says is refused, whatever its limits.
	RemoteClusterClaimsAccepted = "ClaimsAccepted"
)

// Condition reasons of a RemoteCluster.
const (
	// ReasonConnected goes with Connected=True.
	ReasonConnected = "Connected"
	// ReasonSynced goes with Synced=True.
	ReasonSynced = "Synced"
	// ReasonReady goes with Ready=True.
	ReasonReady = "Ready"
	// ReasonWithinLimits goes with WithinLimits=True.
	ReasonWithinLimits = "WithinLimits"
	// ReasonLimitExceeded goes with WithinLimits=False.
	ReasonLimitExceeded = "LimitExceeded"
	// ReasonClaimsAccepted goes with ClaimsAccepted=True.
	ReasonClaimsAccepted = "ClaimsAccepted"
	// ReasonClaimsRefused goes with ClaimsAccepted=False: objects are malformed, or claim addresses that are not theirs.
	ReasonClaimsRefused = "ClaimsRefused"
	// ReasonNoNetwork says that the cluster does not tell which network its pods are on.
	ReasonNoNetwork = "NoNetwork"
	// ReasonInvalidTrustDomain says that spec.trustDomain is none, so that nobody in the cluster could prove who they are.
	ReasonInvalidTrustDomain = "InvalidTrustDomain"
	// ReasonNoRoots says that no roots are known for spec.trustDomain, so that nobody in the cluster is believed.
	ReasonNoRoots = "NoRoots"
	// ReasonSecretNotFound says that the Secret or its key does not exist.
	ReasonSecretNotFound = "SecretNotFound"
	// ReasonInvalidKubeconfig says that the kubeconfig cannot be read.
	ReasonInvalidKubeconfig = "InvalidKubeconfig"
	// ReasonForbiddenKubeconfig says that the kubeconfig asks for something that is refused: exec, auth providers, file
	// paths, insecure-skip-tls-verify or proxy-url.
	ReasonForbiddenKubeconfig = "ForbiddenKubeconfig"
	// ReasonUnreachable says that the API server does not answer.
	ReasonUnreachable = "Unreachable"
	// ReasonUntrusted says that the API server's certificate is not one that the kubeconfig trusts, or not valid now.
	ReasonUntrusted = "Untrusted"
	// ReasonNotKubernetes says that something answers at the address that is no API server.
	ReasonNotKubernetes = "NotKubernetes"
	// ReasonOverloaded says that the API server refuses to answer for now.
	ReasonOverloaded = "Overloaded"
	// ReasonSlow says that the API server takes long: to answer, with Connected=True, or to be read for the first time, with Synced=False.
	ReasonSlow = "Slow"
	// ReasonClockSkew goes with Connected=True: the API server's clock differs from ours by more than a minute.
	ReasonClockSkew = "ClockSkew"
	// ReasonWatchFailing says that the API server answers, but does not tell what changes.
	ReasonWatchFailing = "WatchFailing"
	// ReasonTooLarge says that the cluster has more than is read of one.
	ReasonTooLarge = "TooLarge"
	// ReasonUnauthorized says that the API server does not accept the credentials.
	ReasonUnauthorized = "Unauthorized"
	// ReasonForbidden says that the credentials do not allow what must be read.
	ReasonForbidden = "Forbidden"
	// ReasonSelf says that the credentials lead to this very cluster.
	ReasonSelf = "Self"
	// ReasonDuplicate says that another RemoteCluster or Secret already names this cluster.
	ReasonDuplicate = "Duplicate"
	// ReasonSyncing says that the first read is under way.
	ReasonSyncing = "Syncing"
	// ReasonStale says that the cluster's last known state passed its staleness limit and is no longer used.
	ReasonStale = "Stale"
)

// RemoteClusterStatus says how the cluster is doing.
type RemoteClusterStatus struct {
	// observedGeneration is the generation of the spec that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// clusterID is the id that the cluster goes by.
	// +optional
	ClusterID string `json:"clusterID,omitempty"`

	// clusterUID is the UID of the namespace kube-system there, as last read: which cluster it is. No other RemoteCluster may lead to the same one.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	ClusterUID string `json:"clusterUID,omitempty"`

	// network of the cluster's pods.
	// +optional
	Network string `json:"network,omitempty"`

	// apiServerVersion is the version that the remote API server gave.
	// +optional
	APIServerVersion string `json:"apiServerVersion,omitempty"`

	// services counts the global services taken from the cluster.
	// +optional
	Services int32 `json:"services"`

	// endpoints counts the healthy pods of those services.
	// +optional
	Endpoints int32 `json:"endpoints"`

	// lastChange is when something read from the cluster last changed.
	// +optional
	LastChange *metav1.Time `json:"lastChange,omitempty"`

	// lastContact is when the API server last answered; it is written at most once a minute while all is well.
	// +optional
	LastContact *metav1.Time `json:"lastContact,omitempty"`

	// credentialExpiry is when the credentials end, if they say so.
	// +optional
	CredentialExpiry *metav1.Time `json:"credentialExpiry,omitempty"`

	// conditions: Connected, Synced, Ready, WithinLimits and ClaimsAccepted.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// RemoteCluster is another cluster whose API server we read.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=isthmus
// +kubebuilder:printcolumn:name="Network",type=string,JSONPath=`.status.network`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Services",type=integer,JSONPath=`.status.services`
// +kubebuilder:printcolumn:name="Endpoints",type=integer,JSONPath=`.status.endpoints`
// +kubebuilder:printcolumn:name="Credential expiry",type=date,JSONPath=`.status.credentialExpiry`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type RemoteCluster struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec RemoteClusterSpec `json:"spec"`
	// +optional
	Status RemoteClusterStatus `json:"status,omitempty"`
}

// ClusterID is the id of the cluster that the object names: the Secret's key, or the object's own name.
func (c *RemoteCluster) ClusterID() string {
	if c.Spec.SecretRef.Key != "" {
		return c.Spec.SecretRef.Key
	}
	return c.Name
}

// RemoteClusterList is a list of RemoteClusters.
// +kubebuilder:object:root=true
type RemoteClusterList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []RemoteCluster `json:"items"`
}
