// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"crypto/rand"
	"encoding/hex"
	"net/netip"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// The headers of a CONNECT and of its answer.
const (
	headerBaggage   = "baggage"
	headerForwarded = "forwarded"
	headerTrace     = "traceparent"
)

const (
	// maxHeader is the longest value that is looked at, in bytes. Anything longer is as good as absent: all of these are for telemetry.
	maxHeader = 4096
	// maxMember is the longest value of one member of baggage, in bytes: no name in Kubernetes is longer.
	maxMember = 253
)

// Baggage describes a workload to the other end of a tunnel. It is a claim of that end, for telemetry only.
type Baggage struct {
	Cluster, Namespace string
	// Kind and Workload name the workload, such as deployment and "cart".
	Kind, Workload    string
	Service, Revision string
	Region, Zone      string
}

var kindNames = [...]string{mesh.KindDeployment: "deployment", mesh.KindCronJob: "cronjob", mesh.KindPod: "pod", mesh.KindJob: "job"}

// BaggageOf describes a workload.
func BaggageOf(w *mesh.Workload) Baggage {
	b := Baggage{
		Cluster: w.Cluster, Namespace: w.Namespace, Workload: w.WorkloadName, Service: w.CanonicalName, Revision: w.CanonicalRevision,
		Region: w.Locality.Region, Zone: w.Locality.Zone,
	}
	if int(w.Kind) < len(kindNames) {
		b.Kind = kindNames[w.Kind]
	}
	return b
}

// String is the header's value. Absent values are left out.
func (b Baggage) String() string {
	var out strings.Builder
	add := func(key, value string) {
		if value == "" {
			return
		}
		if out.Len() > 0 {
			out.WriteByte(',')
		}
		out.WriteString(key + "=" + url.PathEscape(value))
	}
	add("k8s.cluster.name", b.Cluster)
	add("k8s.namespace.name", b.Namespace)
	if b.Kind != "" {
		add("k8s."+b.Kind+".name", b.Workload)
	}
	add("service.name", b.Service)
	add("service.version", b.Revision)
	add("cloud.region", b.Region)
	add("cloud.availability_zone", b.Zone)
	return out.String()
}

// ParseBaggage reads what it knows and leaves out what it does not, and what could not be a name: escapes can make any bytes, and
// metrics cannot carry what is not UTF-8.
func ParseBaggage(header string) Baggage {
	var b Baggage
	if len(header) > maxHeader {
		return b
	}
	for member := range strings.SplitSeq(header, ",") {
		member, _, _ = strings.Cut(member, ";") // properties say nothing to us
		key, value, _ := strings.Cut(member, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if err != nil || value == "" || len(value) > maxMember || !utf8.ValidString(value) {
			continue
		}
		switch key = strings.TrimSpace(key); key {
		case "k8s.cluster.name":
			b.Cluster = value
		case "k8s.namespace.name":
			b.Namespace = value
		case "service.name":
			b.Service = value
		case "service.version":
			b.Revision = value
		case "cloud.region":
			b.Region = value
		case "cloud.availability_zone":
			b.Zone = value
		default:
			for _, kind := range kindNames {
				if key == "k8s."+kind+".name" {
					b.Kind, b.Workload = kind, value
				}
			}
		}
	}
	return b
}

// Forwarded says for whom a tunnel was opened, and which service was meant.
type Forwarded struct {
	For  netip.AddrPort
	Host string
}

// String is the header's value (RFC 7239): the address quoted, the host not, as ztunnel writes it.
func (f Forwarded) String() string {
	out := `for="` + f.For.String() + `"`
	if f.Host != "" {
		out += ";host=" + f.Host
	}
	return out
}

// ParseForwarded reads the first element. What cannot be read stays zero.
func ParseForwarded(header string) Forwarded {
	var f Forwarded
	if len(header) > maxHeader {
		return f
	}
	first, _, _ := strings.Cut(header, ",")
	for pair := range strings.SplitSeq(first, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
			value = value[1 : len(value)-1]
		}
		switch strings.ToLower(key) {
		case "for":
			if addr, err := netip.ParseAddrPort(value); err == nil {
				f.For = addr
			}
		case "host":
			if printable(value) {
				f.Host = value
			}
		}
	}
	return f
}

// traceparent passes a good incoming value on, and makes a fresh one otherwise (W3C Trace Context, version 00).
func traceparent(incoming string) string {
	if validTrace(incoming) {
		return incoming
	}
	var id [24]byte
	rand.Read(id[:])
	return "00-" + hex.EncodeToString(id[:16]) + "-" + hex.EncodeToString(id[16:]) + "-01"
}

func validTrace(s string) bool {
	if len(s) != 55 || s[:3] != "00-" || s[35] != '-' || s[52] != '-' {
		return false
	}
	for _, part := range []string{s[3:35], s[36:52], s[53:55]} {
		for _, c := range []byte(part) {
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return strings.Trim(s[3:35], "0") != "" && strings.Trim(s[36:52], "0") != ""
}

// forwardedNetwork reads the network that the source of a double tunnel says it is in; empty if it says none that can be believed.
func forwardedNetwork(header string) string {
	if len(header) > 253 || !printable(header) {
		return ""
	}
	return header
}

// printable says that a string holds visible ASCII only, and not what would break out of a header.
func printable(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || c == '"' || c == ',' || c == ';' {
			return false
		}
	}
	return true
}
