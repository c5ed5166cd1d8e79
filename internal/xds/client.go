// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Type is what a client subscribes to.
type Type struct {
	url  string
	name string // of the one resource that is wanted, or "" for all of the type
	// extra says that a control plane may not have the type: nobody waits for it.
	extra bool
}

// Addresses are all workloads and services.
func Addresses() Type { return Type{url: addressURL} }

// Policies are all authorization policies.
func Policies() Type { return Type{url: authorizationURL} }

// Bundles are the roots of all trust domains. A control plane that has no such type, as an istiod, gives none: nobody waits for them.
func Bundles() Type { return Type{url: bundleURL, extra: true} }

// Gateway is the configuration of one gateway.
func Gateway(key mesh.GatewayKey) Type { return Type{url: gatewayURL, name: key.String()} }

// NodeInfo says to the control plane who asks. It proves nothing.
type NodeInfo struct {
	// ID is "ztunnel~<ip>~<pod>.<namespace>~<namespace>.svc.<cluster domain>"; an istiod reads the parts.
	ID string
	// Metadata are values such as NAME, NAMESPACE, NODE_NAME, CLUSTER_ID.
	Metadata map[string]string
}

// ClientOptions configure a Client and a CertificateClient. Target, RootCAs and Token are required, but of a Client that does not Run; a Client needs
// Types and Apply too.
type ClientOptions struct {
	Log logr.Logger
	// Target is "host:port" of the control plane.
	Target string
	// ServerName is the name that the control plane must prove; empty means the host of Target.
	ServerName string
	// RootCAs gives the roots that the control plane is verified with. It is called for each connection; nil means that
	// there are none, and nothing is dialled.
	RootCAs func() *x509.CertPool
	// Token gives the bearer token. It is called for each stream and each certificate.
	Token func() (string, error)
	// Cluster is the id of the cluster that issued the token.
	Cluster string
	Node    NodeInfo
	// Types are subscribed to, each once, in this order.
	Types []Type
	// Apply takes what changed, in order, from one goroutine. Values are immutable and may be kept. While it runs no
	// further response is read. The first delta from a control plane comes when that has said all, and is all of it, so that nothing is ever seen that is in
	// part its word and in part a snapshot's. An error ends the stream; what was in the delta will be told again on the next one.
	Apply func(mesh.Delta) error
	// Registerer takes the client's metrics, or nil.
	Registerer prometheus.Registerer
}

// Client follows a control plane.
type Client struct {
	options ClientOptions
	log     logr.Logger
	metrics *clientMetrics

	synced chan struct{} // closed by Run

	connected atomic.Bool  // a stream is open, and something was received in it
	lost      atomic.Int64 // when the last such stream ended, in Unix nanoseconds
	partial   atomic.Bool  // the last response of addresses said so

	// Owned by Run.
	known map[string]map[string]holding // by type URL and name
	heard map[string]bool               // types of which all was said
	// held is what was said and not applied yet, because not all was: it counts as known.
	held mesh.Delta
	// routes are those of each gateway that is known, by its name.
	routes map[string]decodedRoutes
}

// holding is what is known of one name.
type holding struct {
	version string
	kind    kind
}

// NewClient makes a client that has asked nothing yet.
func NewClient(o ClientOptions) *Client {
	c := &Client{
		options: o,
		log:     o.Log.WithValues("controller", o.Target),
		metrics: newClientMetrics(o.Registerer, o.Types),
		synced:  make(chan struct{}),
		known:   map[string]map[string]holding{},
		heard:   map[string]bool{},
		routes:  map[string]decodedRoutes{},
	}
	for _, t := range o.Types {
		c.known[t.url] = map[string]holding{}
	}
	return c
}

// Synced is closed once the first answer for each type was applied that every control plane has.
func (c *Client) Synced() <-chan struct{} { return c.synced }

// Connected says whether a control plane is being listened to now: what is known is what it says, give or take what is under way.
func (c *Client) Connected() bool { return c.connected.Load() }

// LastConnected is when the last stream ended in which a control plane said anything; zero if there was none.
func (c *Client) LastConnected() time.Time {
	if lost := c.lost.Load(); lost != 0 {
		return time.Unix(0, lost)
	}
	return time.Time{}
}

func (c *Client) disconnected() {
	if c.connected.Load() {
		c.lost.Store(time.Now().UnixNano())
		c.connected.Store(false)
	}
}

// Partial says that the control plane did not know everything yet when it last told of addresses: others may exist, and what is known here without
// having been told of lately may be gone. A control plane that does not say (an istiod does not) is taken to know all.
func (c *Client) Partial() bool { return c.partial.Load() }

// Run follows the control plane until ctx ends, and gives ctx's error then. Streams that end begin anew, at first soon
// and then after pauses of up to 15 s. It may be called once at a time; called again, it goes on with what it knows.
func (c *Client) Run(ctx context.Context) error {
	var b backoff
	for {
		good, err := c.follow(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.metrics.ended(good, err)
		if good {
			b.reset()
		}
		wait := b.next()
		c.log.Info("discovery stream ended", "reason", clip(err.Error()), "retryAfter", wait.Round(time.Millisecond).String())
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
}

// follow opens one connection and one stream, and follows it to its end. good says that something was applied.
func (c *Client) follow(ctx context.Context) (good bool, err error) {
	ctx, cancel := context.WithCancel(ctx) // ends the stream, whatever else happens
	defer cancel()
	c.metrics.streams.Inc()
	ctx, err = authorize(ctx, c.options)
	if err != nil {
		return false, err
	}
	conn, err := dial(c.options)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }() // it can only say that it is closed
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx, grpc.ForceCodecV2(newCodec()))
	if err != nil {
		return false, fmt.Errorf("open discovery stream: %w", err)
	}
	for _, request := range c.hellos() {
		if err := stream.Send(request); err != nil {
			// The reason is what Recv says; Send only knows that the stream ended.
			if cause := stream.RecvMsg(new(message)); cause != nil {
				err = cause
			}
			return false, fmt.Errorf("subscribe: %w", err)
		}
	}
	defer c.metrics.connected.Set(0)
	defer c.disconnected()
	var m message
	for {
		if err := stream.RecvMsg(&m); err != nil {
			return good, fmt.Errorf("receive: %w", err)
		}
		c.metrics.connected.Set(1)
		c.connected.Store(true)
		answer, err := c.hear(&m)
		m.done()
		if sendErr := stream.Send(answer); err == nil && sendErr != nil {
			err = fmt.Errorf("acknowledge: %w", sendErr)
		}
		if err != nil {
			return good, err
		}
		if !good {
			good = true
			c.log.Info("discovery stream is open")
		}
	}
}

// hello is the first request for a type: what is wanted and what is known.
func (c *Client) hello(t Type) *discovery.DeltaDiscoveryRequest {
	r := &discovery.DeltaDiscoveryRequest{TypeUrl: t.url}
	if t.name != "" {
		r.ResourceNamesSubscribe = []string{t.name}
	}
	if len(c.known[t.url]) > 0 {
		r.InitialResourceVersions = make(map[string]string, len(c.known[t.url]))
		for name, h := range c.known[t.url] {
			r.InitialResourceVersions[name] = h.version
		}
	}
	return r
}

func (c *Client) node() *core.Node {
	fields := make(map[string]*structpb.Value, len(c.options.Node.Metadata))
	for k, v := range c.options.Node.Metadata {
		fields[k] = structpb.NewStringValue(v)
	}
	return &core.Node{Id: c.options.Node.ID, Metadata: &structpb.Struct{Fields: fields}}
}

// subscribed says whether a type was asked for.
func (c *Client) subscribed(url string) bool {
	return slices.ContainsFunc(c.options.Types, func(t Type) bool { return t.url == url })
}

// heardAll says whether all of each type was said that every control plane has.
func (c *Client) heardAll() bool {
	return !slices.ContainsFunc(c.options.Types, func(t Type) bool { return !c.heard[t.url] && !t.extra })
}

// isSynced says whether what was said has been applied.
func (c *Client) isSynced() bool {
	select {
	case <-c.synced:
		return true
	default:
		return false
	}
}

// errUnasked means that the control plane sent a type that was not asked for.
var errUnasked = errors.New("control plane sent a type that was not asked for")
