// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/isthmus-mesh/isthmus/internal/zds"
)

// metrics is what the agent counts.
type metrics struct {
	registry      *prometheus.Registry
	enrolments    *prometheus.CounterVec // by result: captured, released, gone, failed
	announcements *prometheus.CounterVec // by the code that the CNI plugin was answered
	repairs       *prometheus.CounterVec // by what was repaired: pod, node
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		enrolments: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_agent_enrolments_total", Help: "Pods that joined or left the mesh on this node, by result."}, []string{"result"}),
		announcements: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_agent_plugin_requests_total", Help: "Starting pods that the CNI plugin announced, by the code it was answered."}, []string{"code"}),
		repairs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_agent_repairs_total", Help: "Rules that somebody else had changed and that were put right, by place: pod or node."}, []string{"place"}),
	}
	m.registry.MustRegister(m.enrolments, m.announcements, m.repairs, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// watch adds what is read when it is asked for.
func (m *metrics) watch(e *enrolment, server *zds.Server) {
	gauge := func(name, help string, value func() float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge("isthmus_agent_pods", "Captured pods of this node.", func() float64 { all, _ := e.counts(); return float64(all) })
	gauge("isthmus_agent_pods_served", "Captured pods of this node that a node proxy has acknowledged.", func() float64 { _, served := e.counts(); return float64(served) })
	gauge("isthmus_agent_proxies", "Node proxies that are connected.", func() float64 { return float64(server.Connected()) })
}
