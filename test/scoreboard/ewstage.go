// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/test/rig"
)

// ewStage is what the rows about connections between clusters have in common: clusters of one node each, with the shipped programs as node proxies and gateways, a
// client in the first one, and the service cart, which is global, with pods in some of them.
type ewStage struct {
	rig      *rig.Rig
	clusters []*ewCluster
	client   *rig.Pod
	proxy    *rig.Proxy // the client's
	service  netip.Addr
	pods     []*ewPod
}

// ewCluster is one cluster.
type ewCluster struct {
	*rig.Cluster
	gateways []*rig.Gateway
	node     *rig.Node
	proxy    *rig.Proxy
	servers  []*rig.Pod
	service  netip.Addr
}

// ewPod is a pod of the service. To who connects to portByte it says its number and ends; on portEcho it answers each question with that and its number.
type ewPod struct {
	*rig.Pod
	cluster int
}

// ewShape is how many pods of the service and how many gateways a cluster has.
type ewShape struct{ pods, gateways int }

func newEWStage(ctx context.Context, shapes ...ewShape) (s *ewStage, err error) {
	r, err := rig.New()
	if err != nil {
		return nil, err
	}
	s = &ewStage{rig: r}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	var ready []interface{ Ready(context.Context) error }
	for i, shape := range shapes {
		c := &ewCluster{Cluster: r.Cluster("cluster-" + strconv.Itoa(i))}
		s.clusters = append(s.clusters, c)
		node, err := c.Node()
		if err != nil {
			return nil, err
		}
		if err := node.Masquerade(ctx); err != nil {
			return nil, err
		}
		proxy, err := node.StartProxy(ctx, rig.ProxyOptions{})
		if err != nil {
			return nil, err
		}
		c.node, c.proxy = node, proxy
		ready = append(ready, proxy)
		if i == 0 {
			s.proxy = proxy
			if s.client, err = node.EnrolledPod(ctx, "client"); err != nil {
				return nil, err
			}
		}
		for n := range shape.pods {
			pod, err := node.EnrolledPod(ctx, "cart-"+strconv.Itoa(n))
			if err != nil {
				return nil, err
			}
			c.servers = append(c.servers, pod)
			if err := s.serve(ctx, pod, i); err != nil {
				return nil, err
			}
			if _, err := answerQuestions(ctx, pod, uint32(len(s.pods)-1)); err != nil {
				return nil, err
			}
		}
		c.service = c.Service("cart", map[string]string{"istio.io/global": "true"}, portNumbers(portByte, portEcho, portSink), c.servers...)
		for n := range shape.gateways {
			g, err := node.StartGateway(ctx, "eastwest-"+strconv.Itoa(n))
			if err != nil {
				return nil, err
			}
			c.gateways = append(c.gateways, g)
			ready = append(ready, g)
		}
	}
	s.service = s.clusters[0].service
	r.Publish()
	for _, one := range ready {
		if err := one.Ready(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// closeWith takes the stage down, and tells if that fails.
func (s *ewStage) closeWith(err *error) { *err = errors.Join(*err, s.rig.Close()) }

// serve makes a pod tell its number to who connects. The pod ends the connection first, so that the client's ports are free again at once.
func (s *ewStage) serve(ctx context.Context, pod *rig.Pod, cluster int) error {
	number := byte(len(s.pods))
	s.pods = append(s.pods, &ewPod{pod, cluster})
	l, err := pod.Listen(ctx, "tcp4", "0.0.0.0:"+portByte)
	if err != nil {
		return err
	}
	go func() { // ends with the listener, which ends with this process
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = c.Write([]byte{number}) // the client will miss it
			}()
		}
	}()
	return nil
}

// visits makes connections from the client to the service, so many of them at once, and counts which pods they reached.
func (s *ewStage) visits(ctx context.Context, connections, atOnce int) ([]int, error) {
	to := net.JoinHostPort(s.service.String(), portByte)
	counts := make([]atomic.Int64, len(s.pods))
	var left atomic.Int64
	left.Store(int64(connections))
	work := make([]func() error, atOnce)
	for i := range work {
		work[i] = func() error {
			// All of a worker's connections are made on one thread, inside the pod.
			return s.client.Inside(func() error {
				for left.Add(-1) >= 0 {
					if err := ctx.Err(); err != nil {
						return err
					}
					c, err := new(net.Dialer).DialContext(ctx, "tcp4", to)
					if err != nil {
						return err
					}
					said, err := io.ReadAll(c)
					c.Close()
					if err != nil || len(said) != 1 || int(said[0]) >= len(counts) {
						return fmt.Errorf("a pod said %q: %w", said, errors.Join(err, errors.New("want its number")))
					}
					counts[said[0]].Add(1)
				}
				return nil
			})
		}
	}
	err := together(work...)
	if err != nil {
		err = errors.Join(err, s.complaints())
	}
	out := make([]int, len(counts))
	for i := range counts {
		out[i] = int(counts[i].Load())
	}
	return out, err
}

// metric adds up a metric of the client's proxy, over the series that have all of the labels, as they are written.
func (s *ewStage) metric(ctx context.Context, name string, labels ...string) (sum float64, err error) {
	return metricOf(ctx, s.proxy.Space, name, labels...)
}

// metricOf is the same of the process whose pod this is.
func metricOf(ctx context.Context, pod *rig.Space, name string, labels ...string) (sum float64, err error) {
	text, err := pod.Get(ctx, "http://127.0.0.1:15020/metrics")
	if err != nil {
		return 0, err
	}
next:
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, name+"{") && !strings.HasPrefix(line, name+" ") {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(line, label) {
				continue next
			}
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]), 64)
		if err != nil {
			return 0, err
		}
		sum += v
	}
	return sum, nil
}

// portNumbers are ports as numbers.
func portNumbers(ports ...string) []uint16 {
	out := make([]uint16, 0, len(ports))
	for _, p := range ports {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			panic(err) // they are constants
		}
		out = append(out, uint16(n))
	}
	return out
}

// complaints are the last lines of the client's proxy about connections that came to nothing.
func (s *ewStage) complaints() error {
	text, err := os.ReadFile(s.proxy.Log)
	if err != nil {
		return err
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, `"error"`) || strings.Contains(line, "attempt to connect failed") {
			lines = append(lines, line)
		}
	}
	return errors.New("the client's proxy says:\n" + strings.Join(lines[max(0, len(lines)-5):], ""))
}
