// SPDX-License-Identifier: Apache-2.0

// Package peephole serves what a process tells of itself by HTTP: readiness, metrics, dumps.
//
// Some of that is told to everybody who reaches the process, and the process has something more important to do. So whoever looks gets a bounded part of it: a number
// of connections, and a time for each question, each answer and each silence. Where there are too many connections, one of the address that has most of them has to go: those of
// one who floods, and not that of a kubelet or of a Prometheus.
package peephole
