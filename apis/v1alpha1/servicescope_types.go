// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Scope says who may use a service.
// +kubebuilder:validation:Enum=GLOBAL;LOCAL
type Scope string

const (
	// ScopeGlobal lets other clusters use the service's endpoints, and merges theirs into it.
	ScopeGlobal Scope = "GLOBAL"
	// ScopeLocal keeps the service to its own cluster.
	ScopeLocal Scope = "LOCAL"
)

// ServiceScopeSpec is an ordered list of rules.
type ServiceScopeSpec struct {
	// priority orders ServiceScopes: a higher one is asked first; equal ones go by name.
	// +optional
	// +kubebuilder:default=0
	// +kubebuilder:validation:Minimum=-1000
	// +kubebuilder:validation:Maximum=1000
	Priority int32 `json:"priority,omitempty"`

	// serviceScopeConfigs are asked in order; the first that matches a service decides its scope.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	ServiceScopeConfigs []ServiceScopeConfig `json:"serviceScopeConfigs"`
}

// ServiceScopeConfig gives a scope to the services that both of its selectors match.
type ServiceScopeConfig struct {
	// namespaceSelector matches the labels of the service's namespace. Absent or empty matches every namespace.
	// +optional
	NamespaceSelector *LabelSelector `json:"namespaceSelector,omitempty"`

	// servicesSelector matches the labels of the service. Absent or empty matches every service.
	// +optional
	ServicesSelector *LabelSelector `json:"servicesSelector,omitempty"`

	// scope is what the matched services get.
	// +required
	Scope Scope `json:"scope"`
}

// LabelSelector has the shape of Kubernetes' own, with bounded lists so that its rules can be checked when it is written.
type LabelSelector struct {
	// matchLabels must all be present with these values.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(key, size(key) <= 317 && !format.qualifiedName().validate(key).hasValue())",message="keys must be qualified names: an optional DNS subdomain and '/', then up to 63 letters, digits, '-', '_' or '.', such as istio.io/global"
	MatchLabels map[string]LabelValue `json:"matchLabels,omitempty"`

	// matchExpressions must all hold.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	MatchExpressions []LabelSelectorRequirement `json:"matchExpressions,omitempty"`
}

// LabelValue is the value of a label.
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:Pattern=`^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$`
type LabelValue string

// LabelSelectorRequirement compares one label.
// +kubebuilder:validation:XValidation:rule="self.operator in ['Exists', 'DoesNotExist'] || (has(self.values) && size(self.values) > 0)",message="values: operators In and NotIn need at least one value",reason=FieldValueRequired,fieldPath=".values"
// +kubebuilder:validation:XValidation:rule="self.operator in ['In', 'NotIn'] || !has(self.values) || size(self.values) == 0",message="values: operators Exists and DoesNotExist take no values",reason=FieldValueForbidden,fieldPath=".values"
type LabelSelectorRequirement struct {
	// key is the label's name, such as istio.io/global.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:XValidation:rule="!format.qualifiedName().validate(self).hasValue()",message="key must be a qualified name: an optional DNS subdomain and '/', then up to 63 letters, digits, '-', '_' or '.', such as istio.io/global"
	Key string `json:"key"`

	// operator compares the label with values.
	// +required
	Operator LabelSelectorOperator `json:"operator"`

	// values belong to the operators In and NotIn, and to no other.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	Values []LabelValue `json:"values,omitempty"`
}

// LabelSelectorOperator compares a label with values.
// +kubebuilder:validation:Enum=In;NotIn;Exists;DoesNotExist
type LabelSelectorOperator string

const (
	// OperatorIn holds when the label is there with one of the values.
	OperatorIn LabelSelectorOperator = "In"
	// OperatorNotIn holds when the label is absent or has none of the values.
	OperatorNotIn LabelSelectorOperator = "NotIn"
	// OperatorExists holds when the label is there.
	OperatorExists LabelSelectorOperator = "Exists"
	// OperatorDoesNotExist holds when the label is absent.
	OperatorDoesNotExist LabelSelectorOperator = "DoesNotExist"
)

// Condition types and reasons of a ServiceScope.
const (
	// ServiceScopeAccepted says whether every entry is in force.
	ServiceScopeAccepted = "Accepted"
	// ServiceScopeConflicted is present and True while services that this object makes GLOBAL clash with another cluster's.
	ServiceScopeConflicted = "Conflicted"

	// ReasonAccepted goes with Accepted=True.
	ReasonAccepted = "Accepted"
	// ReasonInvalidSelector goes with Accepted=False: an entry that cannot be read is not in force.
	ReasonInvalidSelector = "InvalidSelector"
	// ReasonInvalidScope goes with Accepted=False: an entry with a scope other than GLOBAL and LOCAL is not in force.
	ReasonInvalidScope = "InvalidScope"
)

// ServiceScopeStatus says what the object does.
type ServiceScopeStatus struct {
	// observedGeneration is the generation of the spec that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// globalServices counts the services of this cluster that an entry of this object made GLOBAL.
	// +optional
	GlobalServices int32 `json:"globalServices"`

	// localServices counts the services of this cluster that an entry of this object made LOCAL.
	// +optional
	LocalServices int32 `json:"localServices"`

	// conflicts name services that other clusters define differently, at most 16 of them.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Conflicts []ServiceConflict `json:"conflicts,omitempty"`

	// conditions: Accepted, and Conflicted while there are conflicts.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ServiceConflict is a difference between two clusters' definitions of one service.
type ServiceConflict struct {
	// namespace of the service.
	Namespace string `json:"namespace"`
	// name of the service.
	Name string `json:"name"`
	// clusters that differ.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Clusters []string `json:"clusters"`
	// message says what differs and what is used.
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message"`
}

// ServiceScope says which services are global.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=isthmus
// +kubebuilder:printcolumn:name="Priority",type=integer,JSONPath=`.spec.priority`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Global",type=integer,JSONPath=`.status.globalServices`
// +kubebuilder:printcolumn:name="Local",type=integer,JSONPath=`.status.localServices`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ServiceScope struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec ServiceScopeSpec `json:"spec"`
	// +optional
	Status ServiceScopeStatus `json:"status,omitempty"`
}

// ServiceScopeList is a list of ServiceScopes.
// +kubebuilder:object:root=true
type ServiceScopeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ServiceScope `json:"items"`
}
