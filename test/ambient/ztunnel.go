// SPDX-License-Identifier: Apache-2.0

package ambient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
)

const (
	addressType       = "type.googleapis.com/istio.workload.Address"
	authorizationType = "type.googleapis.com/istio.security.Authorization"

	deltaMethod = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
	issueMethod = "/istio.v1.auth.IstioCertificateService/CreateCertificate"

	maxMessage = 200 << 20 // bytes, ztunnel's bound
)

// Options say which ztunnel is played.
type Options struct {
	// Address is host:port of the control plane, and ServerName what it must prove to Roots.
	Address, ServerName string
	Roots               *x509.CertPool
	// Token and ClusterID are its credentials.
	Token, ClusterID string
	// IP, Pod, Namespace and Node are where it runs.
	IP, Pod, Namespace, Node string
	// OnDemand asks for addresses one by one.
	OnDemand bool
	// Refuse may find fault with a resource that can be read, by its name. nil finds none.
	Refuse func(name string) error
}

// Ztunnel keeps what discovery tells it. It may be run again after its stream ended, and then resumes.
type Ztunnel struct {
	options Options

	mu        sync.Mutex
	workloads map[string]Workload
	services  map[string]Service
	policies  map[string]Policy
	versions  map[string]map[string]string // by type and name
	acked     map[string]bool
	heard     []Response
	asks      chan []string
}

// Response is what one response carried.
type Response struct {
	Type    string // the message's name: "Address" or "Authorization"
	Names   []string
	Removed []string
	Refused []string
	// Partial says that the response calls itself so (ztunnel itself does not read that).
	Partial bool
}

// New makes a ztunnel that knows nothing.
func New(o Options) *Ztunnel {
	return &Ztunnel{
		options: o, workloads: map[string]Workload{}, services: map[string]Service{}, policies: map[string]Policy{},
		versions: map[string]map[string]string{addressType: {}, authorizationType: {}}, acked: map[string]bool{}, asks: make(chan []string, 16),
	}
}

// dial makes a connection with ztunnel's timers. It proves itself by its token alone.
func (o Options) dial() (*grpc.ClientConn, error) {
	return grpc.NewClient(o.Address,
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: o.Roots, ServerName: o.ServerName, MinVersion: tls.VersionTLS12})),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw{}), grpc.MaxCallRecvMsgSize(maxMessage)))
}

func (o Options) call(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+o.Token, "clusterid", o.ClusterID)
}

// Run opens one stream and follows it to its end.
func (z *Ztunnel) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := z.options.dial()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // it can only say that it is closed
	stream, err := conn.NewStream(z.options.call(ctx), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, deltaMethod)
	if err != nil {
		return err
	}
	for _, url := range []string{addressType, authorizationType} {
		if err := stream.SendMsg(z.hello(url)); err != nil {
			return ended(stream, err)
		}
	}
	type received struct {
		body []byte
		err  error
	}
	responses := make(chan received)
	reading := sync.WaitGroup{}
	defer reading.Wait()
	defer cancel()
	reading.Go(func() {
		for {
			var r received
			r.err = stream.RecvMsg(&r.body)
			select {
			case responses <- r:
			case <-ctx.Done():
				return
			}
			if r.err != nil {
				return
			}
		}
	})
	for {
		var answer message
		select {
		case r := <-responses:
			if r.err != nil {
				return r.err
			}
			if answer, err = z.take(r.body); err != nil {
				return err
			}
		case names := <-z.asks:
			answer.text(2, addressType)
			answer.texts(3, names)
		case <-ctx.Done():
			return ctx.Err()
		}
		// A failure says only that the stream has ended; the reason is what is received next.
		if err := stream.SendMsg(answer); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
}

// ended gives the reason for which a stream did not take a message.
func ended(stream grpc.ClientStream, err error) error {
	var body []byte
	if cause := stream.RecvMsg(&body); cause != nil {
		return cause
	}
	return err
}

// hello is the first request of a type.
func (z *Ztunnel) hello(url string) message {
	z.mu.Lock()
	defer z.mu.Unlock()
	o := z.options
	var node, m message
	node.text(1, fmt.Sprintf("ztunnel~%s~%s.%s~%s.svc.cluster.local", o.IP, o.Pod, o.Namespace, o.Namespace))
	node.bytes(3, properties(map[string]string{
		"NAME": o.Pod, "NAMESPACE": o.Namespace, "INSTANCE_IPS": o.IP, "NODE_NAME": o.Node, "CLUSTER_ID": o.ClusterID,
	}))
	m.bytes(1, node)
	m.text(2, url)
	if o.OnDemand && url == addressType {
		m.text(3, "*")
		m.text(4, "*")
	}
	m.entries(5, z.versions[url])
	return m
}

// take applies a response and gives the answer to it.
func (z *Ztunnel) take(body []byte) (message, error) {
	f, err := parse(body)
	if err != nil {
		return nil, err
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	url := f.text(4)
	if z.versions[url] == nil {
		return nil, fmt.Errorf("response of type %q, which was not asked for", url)
	}
	if f.text(5) == "" {
		return nil, errors.New("response without a nonce")
	}
	r := Response{Type: url[strings.LastIndexByte(url, '.')+1:], Removed: f.texts(6), Partial: f.text(1) == "partial"}
	var faults []string
	for _, resource := range f[2] {
		name, err := z.apply(url, resource.bytes)
		r.Names = append(r.Names, name)
		if err != nil {
			r.Refused = append(r.Refused, name)
			faults = append(faults, name+": "+err.Error())
		}
	}
	for _, name := range r.Removed {
		z.remove(url, name)
	}
	z.heard = append(z.heard, r)
	z.acked[url] = true
	var answer message
	answer.text(2, url)
	answer.text(6, f.text(5))
	if len(faults) > 0 { // google.rpc.Status: code = 1, message = 2
		var detail message
		detail.text(2, strings.Join(faults, "; "))
		answer.bytes(7, detail)
	}
	return answer, nil
}

// apply takes one Resource: version = 1, resource = 2 (Any: type_url = 1, value = 2), name = 3.
func (z *Ztunnel) apply(url string, body []byte) (name string, err error) {
	f, err := parse(body)
	if err != nil {
		return "?", err
	}
	name = f.text(3)
	content, err := parse(f.last(2).bytes)
	if err != nil {
		return name, err
	}
	if got := content.text(1); got != url {
		return name, fmt.Errorf("resource of type %q", got)
	}
	if z.options.Refuse != nil {
		if err := z.options.Refuse(name); err != nil {
			return name, err
		}
	}
	if url == authorizationType {
		p, err := readPolicy(content.last(2).bytes)
		if err != nil {
			return name, err
		}
		z.policies[name] = *p
	} else {
		w, s, err := readAddress(content.last(2).bytes)
		switch {
		case err != nil:
			return name, err
		case w != nil:
			z.workloads[w.UID] = *w
		default:
			z.services[s.Namespace+"/"+s.Hostname] = *s
		}
	}
	z.versions[url][name] = f.text(1)
	return name, nil
}

// remove takes a name for a workload's uid first, and for a service's key then.
func (z *Ztunnel) remove(url, name string) {
	delete(z.versions[url], name)
	if url == authorizationType {
		delete(z.policies, name)
	} else if _, ok := z.workloads[name]; ok {
		delete(z.workloads, name)
	} else {
		delete(z.services, name)
	}
}

// Ask asks for addresses on demand, by "network/ip", by uid, or by "namespace/hostname".
func (z *Ztunnel) Ask(names ...string) { z.asks <- names }

// Ready says whether each type was acknowledged once, on any stream.
func (z *Ztunnel) Ready() bool {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.acked[addressType] && z.acked[authorizationType]
}

// Workloads are those that it knows, by uid.
func (z *Ztunnel) Workloads() map[string]Workload {
	z.mu.Lock()
	defer z.mu.Unlock()
	return maps.Clone(z.workloads)
}

// Services are those that it knows, by "namespace/hostname".
func (z *Ztunnel) Services() map[string]Service {
	z.mu.Lock()
	defer z.mu.Unlock()
	return maps.Clone(z.services)
}

// Policies are those that it knows, by "namespace/name".
func (z *Ztunnel) Policies() map[string]Policy {
	z.mu.Lock()
	defer z.mu.Unlock()
	return maps.Clone(z.policies)
}

// Heard gives the responses since it was last called, oldest first.
func (z *Ztunnel) Heard() []Response {
	z.mu.Lock()
	defer z.mu.Unlock()
	heard := z.heard
	z.heard = nil
	return heard
}
