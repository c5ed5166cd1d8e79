// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/test/e2e/traffic"
)

// The demo's verdicts must be able to say no.
func TestEven(t *testing.T) {
	for name, tc := range map[string]struct {
		counts map[string]int
		want   bool
	}{
		"even":           {map[string]int{"a": 75, "b": 75, "c": 75, "d": 75}, true},
		"as chance goes": {map[string]int{"a": 60, "b": 90, "c": 70, "d": 80}, true},
		"one halved":     {map[string]int{"a": 43, "b": 86, "c": 86, "d": 85}, false},
		"one doubled":    {map[string]int{"a": 120, "b": 60, "c": 60, "d": 60}, false},
	} {
		if got := even(tc.counts); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestOnlyFrom(t *testing.T) {
	west := traffic.Result{Answer: traffic.Answer{Cluster: "west"}}
	east := traffic.Result{Answer: traffic.Answer{Cluster: "east"}}
	failed := traffic.Result{Error: "refused"}
	for name, tc := range map[string]struct {
		results traffic.Results
		want    bool
	}{
		"nobody":         {nil, false},
		"west":           {traffic.Results{west, west}, true},
		"one from east":  {traffic.Results{west, east}, false},
		"one unanswered": {traffic.Results{west, failed}, false},
	} {
		if got := onlyFrom(tc.results, "west"); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestFirstFromOther(t *testing.T) {
	began := time.Now()
	at := func(cluster string, start, took time.Duration, problem string) traffic.Result {
		return traffic.Result{Start: began.Add(start), Took: took, Error: problem, Answer: traffic.Answer{Cluster: cluster}}
	}
	if _, ok := firstFromOther(traffic.Results{at("west", 1, 1, ""), at("east", 1, 1, "reset")}, "west", began); ok {
		t.Error("found an answer that nobody gave")
	}
	took, ok := firstFromOther(traffic.Results{at("east", 5*time.Second, 0, ""), at("east", time.Second, time.Second, ""), at("west", 0, 0, "")}, "west", began)
	if !ok || took != 2*time.Second {
		t.Errorf("first answer after %s, %v; want 2s, counted to the answer's end", took, ok)
	}
}

func TestUsesPort(t *testing.T) {
	ip := make([]byte, 40)
	ip[0], ip[9] = 0x45, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(ip[22:], 15008)
	frame := append(make([]byte, 14), ip...)
	binary.BigEndian.PutUint16(frame[12:], unix.ETH_P_IP)
	udp := append([]byte{}, ip...)
	udp[9] = unix.IPPROTO_UDP
	for name, tc := range map[string]struct {
		packet []byte
		want   bool
	}{
		"bare packet": {ip, true}, "frame": {frame, true}, "udp": {udp, false}, "cut short": {ip[:21], false}, "empty": {nil, false},
	} {
		if got := usesPort(tc.packet, 15008); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if usesPort(ip, 80) {
		t.Error("another port")
	}
}

// TestSharedRoot checks that what is handed to the clusters is one tree: two intermediates under one root.
func TestSharedRoot(t *testing.T) {
	root, err := newRootCA()
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(root.cert)
	for _, cluster := range []string{"east", "west"} {
		data, err := root.cacerts(cluster)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(data["ca-cert.pem"])
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cert.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
			t.Errorf("%s: %v", cluster, err)
		}
		if string(data["root-cert.pem"]) != string(root.pem) {
			t.Errorf("%s has another root", cluster)
		}
	}
}
