// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

const (
	// tokenAudience is what a token for us is issued for.
	tokenAudience = "istio-ca"
	// accountPrefix begins the user name of every service account.
	accountPrefix = "system:serviceaccount:"
	// Extra facts that the API server knows of a bound token.
	extraPodName  = "authentication.kubernetes.io/pod-name"
	extraPodUID   = "authentication.kubernetes.io/pod-uid"
	extraNodeName = "authentication.kubernetes.io/node-name"
	// podNode indexes pods by their node.
	podNode = "spec.nodeName"
	// badRate and badBurst bound the bad tokens that callers of one address may show, a second and at once; who has shown more is not reviewed until that is
	// made up for. Good ones are free, for many proxies may be behind one address and start at once. An honest proxy shows a bad one if its pod is so new that
	// the API server has not heard of it.
	badRate, badBurst = 2, 30
	// reviewRate is how many reviews a second there are, for all callers together: 1,000 proxies that all connect again are known within 2 s, and 250 addresses
	// that show bad tokens without end do not use it up.
	reviewRate = 500
	// reviewTime bounds one review. The API server answers in milliseconds.
	reviewTime = 10 * time.Second
	// podWait is how long a new pod may take to reach our cache: the proxy hears of it from the kubelet before we hear of it.
	podWait = time.Second
)

// Callers says who calls, and for whom they may speak.
type Callers struct {
	reviewer client.Client // creates TokenReviews
	pods     client.Reader // a cache with the index podNode
	config   world.Config
	// proxies are the service accounts, as "namespace/name", that may ask for the identities of pods on their own node.
	proxies  []string
	known    reviews
	suspects *shares[netip.Addr]
	asking   singleflight.Group // by token
	refused  *prometheus.CounterVec
}

// NewCallers registers the index that it needs and reads from the manager's cache. Tokens are reviewed by a client of their own, so that callers cannot hold up
// the controllers' requests. registerer may be nil.
func NewCallers(ctx context.Context, mgr ctrl.Manager, config world.Config, proxies []string, registerer prometheus.Registerer) (*Callers, error) {
	err := mgr.GetFieldIndexer().IndexField(ctx, &corev1.Pod{}, podNode, func(o client.Object) []string {
		return []string{o.(*corev1.Pod).Spec.NodeName}
	})
	if err != nil {
		return nil, fmt.Errorf("index pods by node: %w", err)
	}
	own := rest.CopyConfig(mgr.GetConfig())
	own.RateLimiter, own.QPS, own.Burst = nil, reviewRate, 2*reviewRate
	reviewer, err := client.New(own, client.Options{Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper()})
	if err != nil {
		return nil, fmt.Errorf("client for token reviews: %w", err)
	}
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "isthmus_callers_refused_total", Help: "Calls of discovery and certificates that proved no caller, by reason.",
	}, []string{"reason"})
	if registerer != nil {
		registerer.MustRegister(refused)
	}
	return &Callers{
		reviewer: reviewer, refused: refused, pods: mgr.GetCache(), config: config, proxies: proxies, suspects: newShares[netip.Addr](badRate, badBurst),
	}, nil
}

// Authenticate has the API server review the call's token, unless it judged the same one within reviewLife. Callers who prove nothing cannot have it asked at
// will: tokens that cannot be good are refused here, those under review are reviewed once, and each address has a share of bad ones.
func (c *Callers) Authenticate(ctx context.Context) (xds.Caller, error) {
	token, cluster, err := xds.Credentials(ctx)
	if err != nil {
		return xds.Caller{}, c.refuse("no_token", err)
	}
	if cluster != "" && cluster != string(c.config.LocalCluster) {
		return xds.Caller{}, c.refuse("cluster", fmt.Errorf("the caller says that it belongs to cluster %q; this is %q", cluster, c.config.LocalCluster))
	}
	if caller, err, ok := c.known.lookup(token); ok {
		return caller, c.refuse("token", err)
	}
	if err := presentable(token, time.Now()); err != nil {
		return xds.Caller{}, c.refuse("unfit_token", err)
	}
	from := xds.CallerAddress(ctx)
	if !c.suspects.left(from) {
		return xds.Caller{}, c.refuse("too_many", status.Errorf(codes.ResourceExhausted, "callers at %s have shown too many bad tokens lately, try again in a second", from))
	}
	// The review outlives the call that began it, as others may wait for it.
	done := c.asking.DoChan(token, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reviewTime)
		defer cancel()
		return c.review(ctx, token)
	})
	select {
	case result := <-done:
		caller, _ := result.Val.(xds.Caller)
		if status.Code(result.Err) == codes.Unavailable {
			return caller, c.refuse("no_review", result.Err)
		}
		if result.Err != nil {
			c.suspects.charge(from)
		}
		return caller, c.refuse("token", result.Err)
	case <-ctx.Done():
		c.suspects.charge(from) // to leave before the answer does not make it free
		return xds.Caller{}, ctx.Err()
	}
}

// review asks the API server, and remembers what it said.
func (c *Callers) review(ctx context.Context, token string) (xds.Caller, error) {
	began := time.Now()
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{tokenAudience}}}
	if err := c.reviewer.Create(ctx, review); err != nil {
		return xds.Caller{}, status.Errorf(codes.Unavailable, "review the caller's token: %v", err) // nothing is known of the token
	}
	caller, err := callerOf(review.Status)
	c.known.keep(token, caller, err, began)
	return caller, err
}

// refuse counts a refusal and gives it back.
func (c *Callers) refuse(reason string, err error) error {
	if err != nil && c.refused != nil {
		c.refused.WithLabelValues(reason).Inc()
	}
	return err
}

// callerOf reads the API server's answer.
func callerOf(s authenticationv1.TokenReviewStatus) (xds.Caller, error) {
	if !s.Authenticated {
		return xds.Caller{}, fmt.Errorf("the caller's token is not accepted: %s", s.Error)
	}
	if !slices.Contains(s.Audiences, tokenAudience) {
		return xds.Caller{}, fmt.Errorf("the caller's token is not for the audience %s", tokenAudience)
	}
	account, ok := strings.CutPrefix(s.User.Username, accountPrefix)
	namespace, name, ok2 := strings.Cut(account, ":")
	if !ok || !ok2 || namespace == "" || name == "" {
		return xds.Caller{}, fmt.Errorf("the caller %q is not a service account", s.User.Username)
	}
	only := func(key string) string {
		if v := s.User.Extra[key]; len(v) == 1 {
			return v[0]
		}
		return ""
	}
	return xds.Caller{
		Namespace: namespace, ServiceAccount: name,
		Pod: only(extraPodName), PodUID: only(extraPodUID), Node: only(extraNodeName),
	}, nil
}

// Authorize says for which identity the caller gets a certificate: its own, or, for a node proxy, that of any pod on its node. What it may never have is
// PermissionDenied, and what is not there is NotFound: unlike a token that is not accepted, that would be no better with another one.
func (c *Callers) Authorize(ctx context.Context, requested mesh.Identity) (mesh.Identity, error) {
	caller, err := c.Authenticate(ctx)
	if err != nil {
		return mesh.Identity{}, err
	}
	own := mesh.Identity{TrustDomain: c.config.TrustDomain, Namespace: caller.Namespace, ServiceAccount: caller.ServiceAccount}
	if requested.IsZero() || requested == own {
		return own, nil
	}
	account := caller.Namespace + "/" + caller.ServiceAccount
	if !slices.Contains(c.proxies, account) {
		return mesh.Identity{}, status.Errorf(codes.PermissionDenied, "service account %s may ask for its own identity only", account)
	}
	if requested.TrustDomain != c.config.TrustDomain {
		return mesh.Identity{}, status.Errorf(codes.PermissionDenied, "identity %s is not of our trust domain %s", requested, c.config.TrustDomain)
	}
	node, err := c.node(ctx, caller)
	if err != nil {
		return mesh.Identity{}, err
	}
	if err := c.awaitPod(ctx, node, requested); err != nil {
		return mesh.Identity{}, err
	}
	return requested, nil
}

// node finds where a proxy runs by the pod that its token is bound to; the pod must exist, so that a stolen token ends with it.
func (c *Callers) node(ctx context.Context, caller xds.Caller) (string, error) {
	if caller.Pod == "" || caller.PodUID == "" {
		return "", fmt.Errorf("the token of %s/%s is not bound to a pod", caller.Namespace, caller.ServiceAccount)
	}
	var node string
	err := c.within(ctx, func() (bool, error) {
		var pod corev1.Pod
		err := c.pods.Get(ctx, client.ObjectKey{Namespace: caller.Namespace, Name: caller.Pod}, &pod)
		if client.IgnoreNotFound(err) != nil {
			return false, err
		}
		if pod.UID != types.UID(caller.PodUID) { // also of a pod that was not found: the caller's is not empty
			return false, nil
		}
		if pod.Spec.ServiceAccountName != caller.ServiceAccount || pod.Spec.NodeName == "" {
			return false, fmt.Errorf("pod %s/%s does not fit its token", caller.Namespace, caller.Pod)
		}
		node = pod.Spec.NodeName
		return true, nil
	})
	if err == nil && node == "" {
		err = fmt.Errorf("the pod %s/%s (%s) that the token is bound to does not exist", caller.Namespace, caller.Pod, caller.PodUID)
	}
	return node, err
}

// awaitPod succeeds if a pod with the identity runs on the node.
func (c *Callers) awaitPod(ctx context.Context, node string, id mesh.Identity) error {
	found := false
	err := c.within(ctx, func() (bool, error) {
		var pods corev1.PodList
		if err := c.pods.List(ctx, &pods, client.InNamespace(id.Namespace), client.MatchingFields{podNode: node}, client.UnsafeDisableDeepCopy); err != nil {
			return false, err
		}
		found = slices.ContainsFunc(pods.Items, func(p corev1.Pod) bool {
			return p.Spec.ServiceAccountName == id.ServiceAccount && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed
		})
		return found, nil
	})
	if err == nil && !found {
		err = status.Errorf(codes.NotFound, "no pod with identity %s runs on node %s", id, node)
	}
	return err
}

// within asks until the answer is yes, an error, or podWait is over.
func (c *Callers) within(ctx context.Context, ask func() (bool, error)) error {
	deadline := time.NewTimer(podWait)
	defer deadline.Stop()
	again := time.NewTicker(podWait / 20)
	defer again.Stop()
	for {
		if done, err := ask(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			return nil
		case <-again.C:
		}
	}
}
