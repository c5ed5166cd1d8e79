// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// HeaderPod, on a CONNECT that ends at a pod's own address, says which pod is meant (docs/hbone.md §13.8).
const HeaderPod = "x-isthmus-pod"

// The longest names of namespaces and pods (RFC 1123 §2.1, as Kubernetes has it).
const maxNamespace, maxPodName = 63, 253

// PodName is the value of HeaderPod for a pod.
func PodName(w *mesh.Workload) string { return w.Namespace + "/" + w.Name }

// ForAnotherPod says whether a value of HeaderPod names another pod than self. What names none does not.
func ForAnotherPod(value string, self *mesh.Workload) bool {
	namespace, name, ok := strings.Cut(value, "/")
	if !ok || namespace == "" || name == "" || len(namespace) > maxNamespace || len(name) > maxPodName || strings.Contains(name, "/") {
		return false
	}
	return namespace != self.Namespace || name != self.Name
}
