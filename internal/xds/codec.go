// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/securitypb"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/trustpb"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/workloadpb"
)

// The type URLs of the resources on the wire.
const (
	addressURL       = "type.googleapis.com/istio.workload.Address"
	authorizationURL = "type.googleapis.com/istio.security.Authorization"
	gatewayURL       = "type.googleapis.com/isthmus.gateway.v1.Gateway"
	bundleURL        = "type.googleapis.com/isthmus.trust.v1.Bundle"
)

// marshal is deterministic, because versions are hashes of what it gives.
var marshal = proto.MarshalOptions{Deterministic: true}

// encodeWorkload gives the bytes of an Address resource.
func encodeWorkload(w *mesh.Workload) ([]byte, error) {
	return marshal.Marshal(&workloadpb.Address{Type: &workloadpb.Address_Workload{Workload: workloadToProto(w)}})
}

// encodeService gives the bytes of an Address resource.
func encodeService(s *mesh.Service) ([]byte, error) {
	return marshal.Marshal(&workloadpb.Address{Type: &workloadpb.Address_Service{Service: serviceToProto(s)}})
}

// encodePolicy gives the bytes of an Authorization resource.
func encodePolicy(p *mesh.Policy) ([]byte, error) { return marshal.Marshal(policyToProto(p)) }

// value is one decoded resource: exactly one of the fields is set.
type value struct {
	workload *mesh.Workload
	service  *mesh.Service
	policy   *mesh.Policy
	gateway  *mesh.Gateway
	bundle   *mesh.Bundle
}

// name is what the resource is called on the wire.
func (v value) name() string {
	switch {
	case v.workload != nil:
		return v.workload.UID
	case v.service != nil:
		return v.service.Key().String()
	case v.policy != nil:
		return v.policy.Key()
	case v.gateway != nil:
		return v.gateway.Key().String()
	case v.bundle != nil:
		return v.bundle.TrustDomain
	}
	return ""
}

// kind is the kind of the resource.
func (v value) kind() kind {
	switch {
	case v.workload != nil:
		return kindWorkload
	case v.service != nil:
		return kindService
	case v.policy != nil:
		return kindPolicy
	case v.bundle != nil:
		return kindBundle
	default:
		return kindGateway
	}
}

// decode reads one resource of a type. It believes nothing: lengths, counts, ports and addresses are checked, and the
// error says which field is wrong. Of gateways there may be both (decodeGateway).
func decode(typeURL string, body []byte) (value, error) {
	switch typeURL {
	case addressURL:
		if w := quickWorkload(body); w != nil {
			return value{workload: w}, nil
		}
		return decodeAddress(body)
	case authorizationURL:
		var a securitypb.Authorization
		if err := proto.Unmarshal(body, &a); err != nil {
			return value{}, err
		}
		p, err := policyFromProto(&a)
		return value{policy: p}, err
	case gatewayURL:
		gw, _, err := decodeGateway(body, nil)
		return value{gateway: gw}, err
	case bundleURL:
		var b trustpb.Bundle
		if err := proto.Unmarshal(body, &b); err != nil {
			return value{}, err
		}
		bundle, err := bundleFromProto(&b)
		return value{bundle: bundle}, err
	}
	return value{}, fmt.Errorf("type %q is not known", typeURL)
}

// decodeAddress reads any Address.
func decodeAddress(body []byte) (value, error) {
	var a workloadpb.Address
	if err := proto.Unmarshal(body, &a); err != nil {
		return value{}, err
	}
	switch t := a.GetType().(type) {
	case *workloadpb.Address_Workload:
		w, err := workloadFromProto(t.Workload)
		return value{workload: w}, err
	case *workloadpb.Address_Service:
		s, err := serviceFromProto(t.Service)
		return value{service: s}, err
	}
	return value{}, fmt.Errorf("address is neither a workload nor a service")
}

// splitName reads "namespace/rest", the form of every name but a workload's uid.
func splitName(s string) (namespace, rest string, ok bool) {
	namespace, rest, ok = strings.Cut(s, "/")
	return namespace, rest, ok && namespace != "" && rest != "" && !strings.Contains(rest, "/")
}
