// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
)

// questions are what a remote API server is asked besides lists and watches: who it is, and which kinds it has. No more of an answer is decoded than is read. The libraries' own
// ways make objects of all of it, a hundred bytes of each two or three that are sent, and ask what they want to know of kinds without an end; and all kinds that there are, of which they keep
// what they were told for as long as the connection lasts.
type questions struct{ asker rest.Interface }

func newQuestions(config *rest.Config, httpClient *http.Client) (questions, error) {
	d, err := discovery.NewDiscoveryClientForConfigAndClient(config, httpClient)
	if err != nil {
		return questions{}, err
	}
	return questions{d.RESTClient()}, nil
}

// ask gives an answer's JSON.
func (q questions) ask(ctx context.Context, path ...string) ([]byte, error) {
	return q.asker.Get().AbsPath(path...).SetHeader("Accept", runtime.ContentTypeJSON).Do(ctx).Raw()
}

// cluster asks for the version and for the identity of the cluster.
func (q questions) cluster(ctx context.Context) (version string, uid types.UID, err error) {
	body, err := q.ask(ctx, "/version")
	if err != nil {
		return "", "", err
	}
	if version = gitVersion(body); version == "" {
		return "", "", errNoVersion
	}
	if body, err = q.ask(ctx, "/api/v1/namespaces/kube-system"); err != nil {
		return "", "", fmt.Errorf("read namespace kube-system: %w", err)
	}
	var namespace struct {
		Metadata struct {
			UID types.UID `json:"uid"`
		} `json:"metadata"`
	}
	if json.Unmarshal(body, &namespace) != nil || !isUID(namespace.Metadata.UID) {
		return "", "", errNoIdentity
	}
	return version, namespace.Metadata.UID, nil
}

// maxUID is the longest UID of a cluster, in bytes: status.clusterUID of a RemoteCluster takes no longer one. An API server's are of 36.
const maxUID = 64

func isUID(uid types.UID) bool {
	return uid != "" && len(uid) <= maxUID && !slices.ContainsFunc([]byte(uid), func(b byte) bool { return b <= ' ' || b > '~' })
}

// serves asks whether there is a kind.
func (q questions) serves(ctx context.Context, w watched) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	gvk, err := apiutil.GVKForObject(w.object(), scheme)
	if err != nil {
		panic(err) // the scheme lacks a kind that is watched: a mistake in this package
	}
	body, err := q.ask(ctx, "/apis", gvk.Group, gvk.Version)
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case apierrors.IsForbidden(err):
		return true, nil // every account may ask, unless somebody took that away: what remains is to try
	case err != nil:
		return false, err
	}
	var there struct {
		Resources []struct {
			Kind string `json:"kind"`
		} `json:"resources"`
	}
	if err := json.Unmarshal(body, &there); err != nil {
		return false, errMalformed
	}
	for _, r := range there.Resources {
		if r.Kind == gvk.Kind {
			return true, nil
		}
	}
	return false, nil
}

// remoteMapper knows where the kinds are that are read of other clusters, which is the same in all of them.
func remoteMapper() meta.RESTMapper {
	m := meta.NewDefaultRESTMapper(nil)
	for _, r := range []struct {
		object client.Object
		plural string
		scope  meta.RESTScope
	}{
		{&corev1.Namespace{}, "namespaces", meta.RESTScopeRoot},
		{&corev1.Node{}, "nodes", meta.RESTScopeRoot},
		{&corev1.Pod{}, "pods", meta.RESTScopeNamespace},
		{&corev1.Service{}, "services", meta.RESTScopeNamespace},
		{&discoveryv1.EndpointSlice{}, "endpointslices", meta.RESTScopeNamespace},
		{&gatewayv1.GatewayClass{}, "gatewayclasses", meta.RESTScopeRoot},
		{&gatewayv1.Gateway{}, "gateways", meta.RESTScopeNamespace},
		{&v1alpha1.ServiceScope{}, "servicescopes", meta.RESTScopeRoot},
	} {
		gvk, err := apiutil.GVKForObject(r.object, scheme)
		if err != nil {
			panic(err) // as in serves
		}
		at := gvk.GroupVersion()
		m.AddSpecific(gvk, at.WithResource(r.plural), at.WithResource(r.plural), r.scope)
	}
	return m
}
