// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/internal/world"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

const (
	// maxNote is how long the note of an Event may be, in bytes (the API's bound is 1024 characters).
	maxNote = 1000
	// tellRate and tellBurst bound the Events that one pod causes by what it rejects, a second and at once: two responses full of faults, then six a minute.
	// What is fixed by hand needs no more, and a pod that rejects all that it is sent would otherwise be worth 20 Events for each of its messages.
	tellRate, tellBurst = 0.1, 40
	// tellRateOfAll and tellBurstOfAll are the same for all pods together. Each Event that the API server has not taken yet costs us a goroutine.
	tellRateOfAll, tellBurstOfAll = 10, 400
)

// rejections makes Events of what proxies reject.
type rejections struct {
	config  world.Config
	events  eventRecorder
	tellers *shares[types.NamespacedName] // by pod
	all     *rate.Limiter
	// proxies are the service accounts, as "namespace/name", whose word counts on any object: others may hear what proxies hear, but what they say of it stays on
	// their own pods, and a gateway's on its Gateway, which nobody else is told of.
	proxies []string
}

func newRejections(config world.Config, events eventRecorder, proxies []string) *rejections {
	return &rejections{
		config: config, events: events, proxies: proxies,
		tellers: newShares[types.NamespacedName](tellRate, tellBurst), all: rate.NewLimiter(tellRateOfAll, tellBurstOfAll),
	}
}

// tell makes an Event on each object of our cluster that the rejection names, and on the proxy's pod if there is none, as far as the pod's share goes.
// It does not wait.
func (r *rejections) tell(said xds.Rejection) {
	if said.Caller.Pod == "" {
		return // the counter and the log have it
	}
	pod := referenceTo("v1", "Pod", said.Caller.Namespace, said.Caller.Pod)
	who := types.NamespacedName{Namespace: said.Caller.Namespace, Name: said.Caller.Pod}
	may := func() bool { return r.tellers.allow(who) && r.all.Allow() }
	told := false
	trusted := slices.Contains(r.proxies, said.Caller.Namespace+"/"+said.Caller.ServiceAccount)
	for _, resource := range said.Resources {
		if o := r.origin(resource); o != nil && (trusted || resource.Kind == "Gateway") {
			told = true
			if !may() {
				return // the counter and the log have this too
			}
			r.events.Eventf(o, pod, corev1.EventTypeWarning, "RejectedByProxy", "TellProxies", "%s",
				note("Proxy %s/%s on node %s cannot use this: %s", said.Caller.Namespace, said.Caller.Pod, said.Caller.Node, said.Reason))
		}
	}
	if !told && may() {
		r.events.Eventf(pod, nil, corev1.EventTypeWarning, "RejectsConfiguration", "TellProxies", "%s", note("%s rejected: %s", said.Type, said.Reason))
	}
}

// origin is the object of our own cluster that a resource was made of, or nil.
func (r *rejections) origin(resource xds.RejectedResource) *metav1.PartialObjectMetadata {
	namespace, name, ok := strings.Cut(resource.Name, "/")
	switch resource.Kind {
	case "Workload": // "<cluster>//Pod/<namespace>/<name>"
		parts := strings.Split(resource.Name, "/")
		if len(parts) == 5 && parts[0] == string(r.config.LocalCluster) && parts[1] == "" && parts[2] == "Pod" {
			return referenceTo("v1", "Pod", parts[3], parts[4])
		}
	case "Service":
		if host, ours := strings.CutSuffix(name, "."+namespace+".svc."+r.config.ClusterDomain); ok && ours {
			return referenceTo("v1", "Service", namespace, host)
		}
	case "Policy":
		if ok && !strings.HasPrefix(name, "istio_") && !strings.HasPrefix(name, "converted_") { // those are made of other things
			return referenceTo("security.istio.io/v1", "AuthorizationPolicy", namespace, name)
		}
	case "Gateway":
		if ok {
			return referenceTo("gateway.networking.k8s.io/v1", "Gateway", namespace, name)
		}
	}
	return nil
}

func referenceTo(version, kind, namespace, name string) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: version, Kind: kind},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
	}
}

// note is text of a peer's in the form that the API takes.
func note(format string, args ...any) string {
	s := fmt.Sprintf(format, args...)
	if len(s) > maxNote {
		s = s[:maxNote]
	}
	return strings.ToValidUTF8(s, "?")
}
