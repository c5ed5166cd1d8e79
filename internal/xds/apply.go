// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"fmt"
	"strings"

	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// maxReasons is how many rejected resources one refusal names; the others are only counted.
const maxReasons = 20

// apply decodes a response, hands over what is good of it, and then takes note of the versions. Until all was said once, what is good is held. The refusal
// names what was bad, or is nil. An error means that Apply did not take the delta: nothing of the response counts, or it goes on being held.
func (c *Client) apply(m *message) (*rpcstatus.Status, error) {
	url := m.url
	if !c.subscribed(url) {
		return refuse([]string{errUnasked.Error()}, 1), fmt.Errorf("%w: %s", errUnasked, short(url))
	}
	delta, holdings, reasons, bad := c.read(m, nil)
	failed := func(d mesh.Delta, err error) (*rpcstatus.Status, error) {
		return refuse([]string{err.Error()}, 1), fmt.Errorf("apply %d changes of %s: %w", d.Len(), short(url), err)
	}
	if !c.isSynced() {
		c.held = join(c.held, delta)
	} else if !delta.Empty() {
		if err := c.options.Apply(delta); err != nil {
			return failed(delta, err)
		}
	}
	known := c.known[url]
	for name, h := range holdings {
		if h == (holding{}) {
			delete(known, name)
		} else {
			known[name] = h
		}
	}
	c.metrics.of[url].applied.Add(float64(delta.Len()))
	c.metrics.of[url].resources.Set(float64(len(known)))
	if url == addressURL {
		c.notePartial(m.says == saysPartial || m.says == saysMore)
	}
	c.heard[url] = c.heard[url] || m.says != saysMore
	if !c.isSynced() && c.heardAll() {
		if !c.held.Empty() {
			if err := c.options.Apply(c.held); err != nil {
				return failed(c.held, err)
			}
		}
		c.held = mesh.Delta{}
		close(c.synced) // last: who waits for it asks then whether that was all
	}
	if bad == 0 {
		return nil, nil
	}
	c.metrics.rejected.WithLabelValues(short(url)).Add(float64(bad))
	c.log.Info("resources rejected", "type", short(url), "count", bad, "reason", clip(strings.Join(reasons, "; ")))
	return refuse(reasons, bad), nil
}

// notePartial notes whether the last response of addresses was all there is.
func (c *Client) notePartial(partial bool) {
	value := 0.0
	if partial {
		value = 1
	}
	c.metrics.partial.Set(value)
	if c.partial.Swap(partial) != partial {
		c.log.Info("control plane says how much it knows", "partial", partial)
	}
}

// read turns a response into a delta and what will be known when it was applied (a zero holding: no longer known). Names that leave says are passed over; nil
// leaves none. It changes nothing but which routes need not be decoded again.
func (c *Client) read(m *message, leave func(name []byte) bool) (delta mesh.Delta, holdings map[string]holding, reasons []string, bad int) {
	known := c.known[m.url]
	holdings = make(map[string]holding, min(m.resources+m.removed, maxKnownNames))
	m.eachRemoved(func(name []byte) {
		if h, ok := known[string(name)]; ok {
			name := string(name)
			forget(&delta, h.kind, name)
			holdings[name] = holding{}
		}
		if m.url == gatewayURL {
			delete(c.routes, string(name))
		}
	})
	m.eachResource(func(r resource) {
		if leave != nil && leave(r.name) {
			return
		}
		v, name, err := c.readOne(m.url, r)
		if err != nil {
			bad++
			if len(reasons) < maxReasons {
				reasons = append(reasons, fmt.Sprintf("%s: %v", clip(string(r.name)), err))
			}
			if v == (value{}) {
				return
			}
		}
		k := v.kind()
		if h, ok := known[name]; ok && h.kind != k {
			forget(&delta, h.kind, name) // a workload became a service of that name, or the other way round
		}
		include(&delta, v)
		holdings[name] = holding{version: string(r.version), kind: k}
	})
	return delta, holdings, reasons, bad
}

// readOne decodes one resource and checks that it is what its envelope says, its name too. What it gives together with an error is good but for parts (decodeGateway), or
// stands in for it: for a policy of which nothing is known yet, since without it more would be let in than was written.
func (c *Client) readOne(url string, r resource) (v value, name string, err error) {
	if !r.content {
		return value{}, "", fmt.Errorf("resource has no content")
	}
	if string(r.url) != url {
		return value{}, "", fmt.Errorf("resource is of type %q in a response of type %q", clip(string(r.url)), url)
	}
	var routes decodedRoutes
	if url == gatewayURL {
		v.gateway, routes, err = decodeGateway(r.value, c.routes[string(r.name)])
	} else {
		v, err = decode(url, r.value)
	}
	if err != nil && url == authorizationURL {
		if _, heard := c.known[url][string(r.name)]; !heard {
			v.policy = standInFor(r.value)
		}
	}
	if v == (value{}) {
		return value{}, "", err
	}
	if name = v.name(); name != string(r.name) {
		return value{}, "", fmt.Errorf("resource calls itself %q", clip(name))
	}
	if routes != nil {
		c.routes[name] = routes
	}
	return v, name, err
}

// include adds a value to a delta.
func include(d *mesh.Delta, v value) {
	switch {
	case v.workload != nil:
		set(&d.Workloads, v.workload.UID, v.workload)
	case v.service != nil:
		set(&d.Services, v.service.Key(), v.service)
	case v.policy != nil:
		set(&d.Policies, v.policy.Key(), v.policy)
	case v.gateway != nil:
		set(&d.Gateways, v.gateway.Key(), v.gateway)
	case v.bundle != nil:
		set(&d.Bundles, v.bundle.TrustDomain, v.bundle)
	}
}

// forget adds a removal to a delta. name is one that was received, so it has the form of its kind.
func forget(d *mesh.Delta, k kind, name string) {
	namespace, rest, _ := splitName(name)
	switch k {
	case kindWorkload:
		set(&d.Workloads, name, nil)
	case kindService:
		set(&d.Services, mesh.ServiceKey{Namespace: namespace, Hostname: rest}, nil)
	case kindPolicy:
		set(&d.Policies, name, nil)
	case kindGateway:
		set(&d.Gateways, mesh.GatewayKey{Namespace: namespace, Name: rest}, nil)
	case kindBundle:
		set(&d.Bundles, name, nil)
	}
}

// remember takes a removal out of a delta again, see forget.
func remember(d *mesh.Delta, k kind, name string) {
	namespace, rest, _ := splitName(name)
	switch k {
	case kindWorkload:
		unset(d.Workloads, name)
	case kindService:
		unset(d.Services, mesh.ServiceKey{Namespace: namespace, Hostname: rest})
	case kindPolicy:
		unset(d.Policies, name)
	case kindGateway:
		unset(d.Gateways, mesh.GatewayKey{Namespace: namespace, Name: rest})
	case kindBundle:
		unset(d.Bundles, name)
	}
}

func unset[K comparable, V any](m map[K]*V, key K) {
	if m[key] == nil {
		delete(m, key)
	}
}

func set[K comparable, V any](m *map[K]*V, key K, v *V) {
	if *m == nil {
		*m = map[K]*V{}
	}
	(*m)[key] = v
}

// refuse is the error detail of a request that rejects resources.
func refuse(reasons []string, bad int) *rpcstatus.Status {
	message := strings.Join(reasons, "; ")
	if more := bad - len(reasons); more > 0 {
		message += fmt.Sprintf("; and %d more", more)
	}
	return &rpcstatus.Status{Code: int32(codes.InvalidArgument), Message: message}
}
