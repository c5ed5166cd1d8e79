// SPDX-License-Identifier: Apache-2.0

// Package fleet holds clusters of a size that no machine for tests could run: each is an API server in memory, over TLS, that speaks
// Kubernetes' own list, watch and write protocol in its own encodings, with the library's serializers. There is no admission, no
// garbage collection, no defaulting and no authorization in it; whoever holds the token may do everything.
//
// A Server is one cluster, Populate gives it services, pods and slices like a cluster in use would have, and Flip changes one pod.
package fleet
