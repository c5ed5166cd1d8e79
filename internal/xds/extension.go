// SPDX-License-Identifier: Apache-2.0

package xds

import "github.com/isthmus-mesh/isthmus/internal/xds/pb/workloadpb"

// Extensions of ours say yes by being there, and hold nothing. Proxies that do not know them ignore them.
const (
	// extensionExported is on services to which gateways of our own cluster let other clusters in.
	extensionExported = "isthmus.dev/exported"
	// extensionGateway is on workloads that are a Gateway's.
	extensionGateway = "isthmus.dev/gateway"
	// extensionConfines is on workloads whose node proxy takes a confinement before TLS.
	extensionConfines = "isthmus.dev/confines"
	// maxExtensions bounds those of one resource.
	maxExtensions = 64
)

// addExtension appends the extension of a name to those of a resource, if the resource has it.
func addExtension(out []*workloadpb.Extension, name string, has bool) []*workloadpb.Extension {
	if !has {
		return out
	}
	return append(out, &workloadpb.Extension{Name: name})
}

func hasExtension(r *reader, name string, in []*workloadpb.Extension) (has bool) {
	if !r.count("extensions", len(in), maxExtensions) {
		return false
	}
	for _, e := range in {
		has = has || e.GetName() == name
	}
	return has
}
