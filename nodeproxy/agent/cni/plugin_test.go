// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
)

const (
	// podArgs are what a runtime says about a pod, in CNI_ARGS.
	podArgs  = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-1;K8S_POD_UID=u1;K8S_POD_INFRA_CONTAINER_ID=c1"
	podNetns = "/var/run/netns/cni-1"
)

// asked is what a plugin is asked by a runtime whose network gave a result.
func asked(cniVersion, result string) []byte {
	return []byte(`{"cniVersion":"` + cniVersion + `","name":"lab","type":"isthmus-cni","socket":"/s","prevResult":` + result + `}`)
}

// TestReadPod: of a result comes what the agent believes, whatever form the runtime's version gives it; and what is refused is said by its name.
func TestReadPod(t *testing.T) {
	for name, tc := range map[string]struct {
		stdin []byte
		want  string // addresses
		err   string
	}{
		"1.0":                          {asked("1.0.0", `{"cniVersion":"1.0.0","ips":[{"address":"10.244.1.7/24"},{"address":"fd00::7/64","gateway":"fd00::1"}]}`), "10.244.1.7/24 fd00::7/64", ""},
		"0.4":                          {asked("0.4.0", `{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.244.1.7/24"}]}`), "10.244.1.7/24", ""},
		"0.2":                          {asked("0.2.0", `{"ip4":{"ip":"10.244.1.7/24"},"ip6":{"ip":"fd00::7/64"}}`), "10.244.1.7/24 fd00::7/64", ""},
		"IPv4 as IPv6":                 {asked("1.0.0", `{"cniVersion":"1.0.0","ips":[{"address":"::ffff:10.244.1.7/120"}]}`), "10.244.1.7/24", ""},
		"IPv4 as IPv6, of a wide net":  {asked("1.0.0", `{"cniVersion":"1.0.0","ips":[{"address":"::ffff:10.244.1.7/64"}]}`), "10.244.1.7/0", ""},
		"no address":                   {asked("1.0.0", `{"cniVersion":"1.0.0","ips":[{"gateway":"10.244.1.1"}]}`), "", ""},
		"null for an address":          {asked("1.0.0", `{"cniVersion":"1.0.0","ips":[{"address":"10.244.1.7/24"},null]}`), "", "prevResult.ips[1]"},
		"null for an address of 0.4":   {asked("0.4.0", `{"cniVersion":"0.4.0","ips":[null]}`), "", "prevResult.ips[0]"},
		"null for an interface of 0.4": {asked("0.4.0", `{"cniVersion":"0.4.0","interfaces":[null]}`), "", "prevResult.interfaces[0]"},
		"null for a route":             {asked("1.0.0", `{"cniVersion":"1.0.0","routes":[null]}`), "", "prevResult.routes[0]"},
		"no result":                    {asked("1.0.0", `null`), "", "must come after"},
		"a result that is none":        {asked("1.0.0", `{"cniVersion":"1.0.0","ips":[{"address":"10.244.1.7"}]}`), "", "result of the previous plugin"},
		"a version that is none":       {asked("9.0.0", `{"cniVersion":"9.0.0"}`), "", "result of the previous plugin"},
		"no JSON":                      {[]byte(`{`), "", "configuration of isthmus-cni"},
	} {
		_, event, err := readPod(&skel.CmdArgs{StdinData: tc.stdin, Args: podArgs, Netns: podNetns})
		var got []string
		for _, a := range event.IPs {
			got = append(got, a.Address.String())
		}
		if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) || strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %v, %v, want %q, and an error about %q", name, got, err, tc.want, tc.err)
		}
	}
}

// FuzzReadPod: of whatever a runtime says comes an event that the agent reads as it was meant, or none, or an error in CNI's form that says what it is about.
func FuzzReadPod(f *testing.F) {
	for _, result := range []string{
		`{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/var/run/netns/cni-1"}],"ips":[{"address":"10.244.1.7/24","gateway":"10.244.1.1","interface":0}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{}}`,
		`{"cniVersion":"1.0.0","ips":[{"address":"::ffff:10.244.1.7/120"},{"address":"fd00::7/64"},{}]}`, `{"ips":[null]}`, `{"CNIVERSION":"1.0.0","IPS":[{"Address":"10.0.0.1/0"}]}`, `null`, `{}`,
	} {
		f.Add(asked("1.0.0", result), podArgs, podNetns)
	}
	f.Add(asked("1.1.0", `{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","mtu":1500}],"ips":[{"address":"10.244.1.7/24"}],"routes":[{"dst":"::/0","mtu":1280,"scope":0}]}`), podArgs, "")
	f.Add(asked("0.4.0", `{"cniVersion":"0.4.0","interfaces":[{"name":"eth0"}],"ips":[{"version":"4","address":"10.244.1.7/24","interface":7}],"routes":[{"dst":"0.0.0.0/0","gw":"10.244.1.1"}]}`), podArgs, "../x")
	f.Add(asked("0.2.0", `{"ip4":{"ip":"10.244.1.7/24","gateway":"10.244.1.1","routes":[{"dst":"0.0.0.0/0"}]},"ip6":{"ip":"fd00::7/64"}}`), "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-1", podNetns)
	f.Add(asked("0.1.0", `{"ip4":{}}`), "CommonArgs=1;K8S_POD_NAME=cart-1", podNetns)
	f.Add([]byte(`{"cniVersion":"1.0.0","agentWaitSeconds":1e3,"excludeNamespaces":null}`), "", podNetns)
	f.Fuzz(func(t *testing.T, stdin []byte, args, netns string) {
		conf, event, err := readPod(&skel.CmdArgs{StdinData: stdin, Args: args, Netns: netns})
		if err != nil {
			if said, ok := errors.AsType[*types.Error](err); !ok || said.Msg == "" {
				t.Fatalf("%q with %q: the error %T does not say what it is about: %v", stdin, args, err, err)
			}
			return
		}
		if _, err := conf.PrevResult.GetAsVersion(conf.CNIVersion); err != nil {
			t.Fatalf("%q is taken, and cannot be passed on: %v", stdin, err)
		}
		if event.PodName == "" {
			if !reflect.DeepEqual(event, Event{}) {
				t.Fatalf("%q with %q is of no pod, and says %+v", stdin, args, event)
			}
			return
		}
		for _, a := range event.IPs {
			if !a.Address.IsValid() || a.Address.Addr().Is4In6() {
				t.Fatalf("%q gives the address %v", stdin, a.Address)
			}
		}
		if !filepath.IsAbs(netns) || !utf8.ValidString(args) || !utf8.ValidString(netns) {
			return // which the agent refuses, or which JSON has no form for
		}
		text, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > maxEvent {
			return
		}
		if read, err := ReadEvent(bytes.NewReader(text)); err != nil || !reflect.DeepEqual(read, event) {
			t.Fatalf("%q with %q is told as %s, and read as %+v: %v", stdin, args, text, read, err)
		}
	})
}
