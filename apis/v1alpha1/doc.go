// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 holds the kinds of Isthmus' own API group, isthmus.dev/v1alpha1.
//
// A ServiceScope says which services of this cluster other clusters may use. Its entries are ordered: the first one that
// matches a service decides, whether it says GLOBAL or LOCAL, and a service that none matches is LOCAL. Of several
// ServiceScopes the higher priority is asked first, then the alphabetically first name. The cluster that owns an endpoint
// decides whether others may use it; see the design's section on whose scope counts.
//
// A RemoteCluster is another cluster whose API server we read: where the credentials are, which network its pods are on, how
// much it may say, and how it is doing.
//
// +kubebuilder:object:generate=true
// +groupName=isthmus.dev
package v1alpha1
