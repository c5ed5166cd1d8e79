// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestAddresses(t *testing.T) {
	s := site{number: 2}
	onEdge, onWAN := s.uplink()
	for what, pair := range map[string][2]string{
		"machines":      {s.machines().String(), "10.89.2.0/24"},
		"pool":          {s.pool().String(), "10.89.102.0/24"},
		"edge":          {s.edge().String(), "10.89.2.1"},
		"control plane": {s.controlPlane().String(), "10.89.2.10"},
		"first node":    {s.node(1).String(), "10.89.2.11"},
		"pods":          {s.pods(3).String(), "10.244.3.0/24"},
		"uplink, edge":  {onEdge.String(), "10.89.255.10/30"},
		"uplink, wan":   {onWAN.String(), "10.89.255.9/30"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %s, want %s", what, pair[0], pair[1])
		}
	}
}

// No two clusters, and no cluster and the client, may share an address.
func TestAddressesAreDisjoint(t *testing.T) {
	all := []netip.Prefix{netip.MustParsePrefix(clientAddress + "/30")}
	for n := 1; n <= MaxClusters; n++ {
		s := site{n}
		onEdge, _ := s.uplink()
		for _, p := range []netip.Prefix{s.machines(), s.pool(), onEdge} {
			for _, other := range all {
				if p.Overlaps(other) {
					t.Errorf("%s of cluster %d overlaps %s", p, n, other)
				}
			}
			if !netip.MustParsePrefix(labRange).Overlaps(p) {
				t.Errorf("%s of cluster %d is outside %s", p, n, labRange)
			}
			all = append(all, p)
		}
		if last := s.node(MaxNodes); !s.machines().Contains(last) || last == lastAddress(s.machines()) {
			t.Errorf("node %d has address %s", MaxNodes, last)
		}
	}
}

func TestClusterNames(t *testing.T) {
	if got := strings.Join(clusterNames(6), " "); got != "east west north south c5 c6" {
		t.Errorf("names %s", got)
	}
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"lab": true, "a": true, "dev2": true, "": false, "2dev": false, "a-b": false, "Lab": false, "..": false, "a/b": false,
		"abcdefghijklmnop": true, "abcdefghijklmnopq": false,
	} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("name %q: %v", name, err)
		}
	}
}

func TestSplitNode(t *testing.T) {
	for _, test := range []struct{ in, cluster, node string }{
		{"east/n1", "east", "east-n1"},
		{"east/1", "east", "east-n1"},
		{"east/east-n12", "east", "east-n12"},
		{"east", "", ""},
		{"east/", "", ""},
		{"/n1", "", ""},
		{"east/n0", "", ""},
		{"east/n01", "", ""},
		{"east/west-n1", "", ""},
		{"east/cp", "", ""},
	} {
		cluster, node, err := splitNode(test.in)
		if cluster != test.cluster || node != test.node || (err == nil) != (test.node != "") {
			t.Errorf("%q: %q, %q, %v", test.in, cluster, node, err)
		}
	}
}

func TestShape(t *testing.T) {
	with := func(change func(*Shape)) Shape {
		s := DefaultShape()
		change(&s)
		return s
	}
	for _, test := range []struct {
		shape Shape
		fault string // part of the error, or none
	}{
		{DefaultShape(), ""},
		{with(func(s *Shape) { s.Clusters = 0 }), "0 clusters"},
		{with(func(s *Shape) { s.Clusters = MaxClusters + 1 }), "17 clusters"},
		{with(func(s *Shape) { s.Nodes = 0 }), "0 nodes"},
		{with(func(s *Shape) { s.Nodes = MaxNodes + 1 }), "33 nodes"},
		{with(func(s *Shape) { s.WAN = "tape" }), `wan "tape"`},
		{with(func(s *Shape) { s.Delay = time.Millisecond }), "need the emulated"},
		{with(func(s *Shape) { s.WAN = WANEmulated; s.Delay = -1 }), "delay"},
		{with(func(s *Shape) { s.WAN = WANEmulated; s.Jitter = time.Hour }), "jitter"},
		{with(func(s *Shape) { s.WAN = WANEmulated; s.Loss = 1 }), "loss"},
		{with(func(s *Shape) { s.WAN = WANEmulated; s.Delay = time.Millisecond; s.Loss = 0.5 }), ""},
	} {
		err := test.shape.Check()
		if (err == nil) != (test.fault == "") || err != nil && !strings.Contains(err.Error(), test.fault) {
			t.Errorf("%+v: %v, want %q", test.shape, err, test.fault)
		}
	}
}

func TestMemoryNeeded(t *testing.T) {
	if needed := memoryNeeded(DefaultShape()); needed != 2048 {
		t.Errorf("two clusters of one node need %d MiB", needed)
	}
	got, err := availableMemory(strings.NewReader("MemTotal:       24684092 kB\nMemFree:  1 kB\nMemAvailable:    2097152 kB\n"))
	if got != 2048 || err != nil {
		t.Errorf("available %d, %v", got, err)
	}
	if _, err := availableMemory(strings.NewReader("MemTotal: 1 kB\n")); err == nil {
		t.Error("no MemAvailable, and no error")
	}
}

func TestStateDirectory(t *testing.T) {
	for _, directory := range []string{"/run", "/etc", "/proc", "/dev"} {
		if err := checkStateDirectory(directory); err == nil {
			t.Errorf("%s is accepted", directory)
		}
	}
}

func TestMountsBelow(t *testing.T) {
	const mountinfo = `27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:20 / /data/lab/x/containerd rw - ext4 /dev/vda rw
31 27 0:20 / /data/lab/x/with\040space rw - ext4 /dev/vda rw
32 27 0:20 / /data/lab/xy/other rw - ext4 /dev/vda rw
torn
`
	got := strings.Join(mountsBelow(mountinfo, "/data/lab/x"), "|")
	if want := "/data/lab/x/containerd|/data/lab/x/with space"; got != want {
		t.Errorf("mounts %q, want %q", got, want)
	}
}
