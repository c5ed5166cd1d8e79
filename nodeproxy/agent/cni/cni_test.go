// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The test binary plays the plugin, as the agent's binary does.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == PluginName || os.Getenv("CNI_COMMAND") != "" {
		Main()
		return
	}
	os.Exit(m.Run())
}

const lab = `{"cniVersion":"1.0.0","name":"lab","plugins":[
 {"type":"ptp","mtu":1500,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.244.1.0/24"}]],"big":12345678901234567890}},
 {"type":"portmap","capabilities":{"portMappings":true},"backend":"nftables"}]}`

var entry = Entry{Socket: "/var/run/isthmus/cni.sock", ExcludeNamespaces: []string{"isthmus-system", "kube-system"}}

func TestListOfPlugins(t *testing.T) {
	with, changed, err := withPlugin([]byte(lab), entry)
	if err != nil || !changed {
		t.Fatalf("changed %v, %v", changed, err)
	}
	if !strings.Contains(string(with), "12345678901234567890") {
		t.Error("a number was rewritten")
	}
	var conf struct {
		CNIVersion string
		Name       string
		Plugins    []map[string]any
	}
	if err := json.Unmarshal(with, &conf); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"type": PluginName, "socket": entry.Socket, "agentWaitSeconds": 30.0, "excludeNamespaces": []any{"isthmus-system", "kube-system"}}
	if conf.Name != "lab" || conf.CNIVersion != "1.0.0" || len(conf.Plugins) != 3 || cmp.Diff(want, conf.Plugins[2]) != "" {
		t.Errorf("got %s", with)
	}
	if _, changed, err := withPlugin(with, entry); err != nil || changed {
		t.Errorf("again: changed %v, %v", changed, err)
	}
	if _, changed, err := withPlugin(with, Entry{Socket: "/elsewhere"}); err != nil || !changed {
		t.Errorf("other entry: changed %v, %v", changed, err)
	}
	without, changed, err := withoutPlugin(with)
	if err != nil || !changed || strings.Contains(string(without), PluginName) {
		t.Errorf("removed: changed %v, %v, %s", changed, err, without)
	}
	for name, list := range map[string]string{
		"not JSON": "{", "a single plugin": `{"type":"ptp"}`, "no plugin but ours": `{"plugins":[{"type":"isthmus-cni"}]}`,
	} {
		if _, _, err := withPlugin([]byte(list), entry); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// plugin runs the plugin as a runtime does, and gives what it wrote.
func plugin(t *testing.T, command, socket, namespace string, wait int) (string, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Args[0] = PluginName
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+command, "CNI_CONTAINERID=c1", "CNI_NETNS=/var/run/netns/cni-1", "CNI_IFNAME=eth0", "CNI_PATH=/opt/cni/bin",
		"CNI_NETNS_OVERRIDE=true", "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE="+namespace+";K8S_POD_NAME=cart-1;K8S_POD_UID=u1;K8S_POD_INFRA_CONTAINER_ID=c1")
	cniVersion := "1.0.0"
	if command == "STATUS" { // which came with
		cniVersion = "1.1.0"
	}
	cmd.Stdin = strings.NewReader(`{"cniVersion":"` + cniVersion + `","name":"lab","type":"isthmus-cni","socket":"` + socket + `","agentWaitSeconds":` + fmt.Sprint(wait) + `,"excludeNamespaces":["kube-system"],
		"prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/var/run/netns/cni-1"}],
		"ips":[{"address":"10.244.1.7/24","gateway":"10.244.1.1","interface":0}],"dns":{}}}`)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	t.Logf("%s: %v\n%s%s", command, err, out, stderr.String())
	return string(out), err
}

func TestPlugin(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "cni.sock")
	if out, err := plugin(t, "ADD", socket, "shop", 0); err == nil || !strings.Contains(out, "pod shop/cart-1 cannot start: the isthmus agent of this node is not reachable") {
		t.Errorf("without an agent: %v, %s", err, out)
	}
	if out, err := plugin(t, "ADD", socket, "kube-system", 0); err != nil || !strings.Contains(out, "10.244.1.7/24") {
		t.Errorf("excluded namespace without an agent: %v, %s", err, out)
	}
	for _, command := range []string{"DEL", "VERSION"} {
		if out, err := plugin(t, command, socket, "shop", 0); err != nil {
			t.Errorf("%s without an agent: %v, %s", command, err, out)
		}
	}

	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var got Event
	var answer string
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var err error
		if got, err = ReadEvent(r.Body); err != nil || r.URL.Path != AddPath {
			t.Errorf("event: %v, path %s", err, r.URL.Path)
		}
		if answer != "" {
			http.Error(w, answer, http.StatusInternalServerError)
		}
	})}
	go func() { _ = server.Serve(l) }()
	defer server.Close()

	out, err := plugin(t, "ADD", socket, "shop", 0)
	if err != nil || !strings.Contains(out, "10.244.1.7/24") {
		t.Errorf("add: %v, %s", err, out)
	}
	if got.PodName != "cart-1" || got.PodNamespace != "shop" || got.PodUID != "u1" || got.Netns != "/var/run/netns/cni-1" ||
		len(got.Addresses()) != 1 || got.Addresses()[0].String() != "10.244.1.7" {
		t.Errorf("event %+v", got)
	}
	answer = "no node proxy is connected"
	if out, err := plugin(t, "ADD", socket, "shop", 0); err == nil || !strings.Contains(out, answer) {
		t.Errorf("refused: %v, %s", err, out)
	}
}

// TestRequestIsBounded: the plugin runs as root, once for each pod, and says what is wrong with a request that has no end.
func TestRequestIsBounded(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		size int
		want string
	}{
		"as long as one may be": {maxRequest, ""},
		"longer":                {maxRequest + 1, "request of more than"},
		"much longer":           {16 * maxRequest, "request of more than"},
	} {
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Args[0] = PluginName
		cmd.Env = append(os.Environ(), "CNI_COMMAND=DEL", "CNI_CONTAINERID=c1", "CNI_NETNS=/var/run/netns/cni-1", "CNI_IFNAME=eth0", "CNI_PATH=/opt/cni/bin", "CNI_NETNS_OVERRIDE=true")
		begin, end := `{"cniVersion":"1.0.0","name":"lab","type":"isthmus-cni","padding":"`, `"}`
		cmd.Stdin = strings.NewReader(begin + strings.Repeat("x", tc.size-len(begin)-len(end)) + end)
		out, err := cmd.Output()
		if (err == nil) != (tc.want == "") || !strings.Contains(string(out), tc.want) {
			t.Errorf("%s: %v, %s", name, err, out)
		}
	}
}

// TestPluginOutlastsTheAgentsUpgrade: a pod that starts while the agent is being replaced waits. The first agent goes away with the
// question, its socket stays behind without a listener, and the next agent answers.
func TestPluginOutlastsTheAgentsUpgrade(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "cni.sock")
	first, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	first.SetUnlinkOnClose(false)
	type result struct {
		out string
		err error
	}
	ended := make(chan result, 1)
	go func() {
		out, err := plugin(t, "ADD", socket, "shop", 30)
		ended <- result{out, err}
	}()
	asked, err := first.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := asked.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	first.Close()
	asked.Close()
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	next, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	go func() { _ = server.Serve(next) }()
	defer server.Close()
	if r := <-ended; r.err != nil || !strings.Contains(r.out, "10.244.1.7/24") {
		t.Errorf("got %v, %s", r.err, r.out)
	}
}

func FuzzReadEvent(f *testing.F) {
	f.Add(`{"Netns":"/var/run/netns/cni-1","PodName":"a","PodNamespace":"b","IPs":[{"Address":"10.0.0.1/24","Gateway":"10.0.0.254"}]}`)
	f.Add(`{"Netns":"/x/../y","PodName":"a","PodNamespace":"b"}`)
	f.Fuzz(func(t *testing.T, s string) {
		e, err := ReadEvent(strings.NewReader(s))
		if err != nil {
			return
		}
		if !filepath.IsAbs(e.Netns) || strings.Contains(e.Netns, "/../") || e.PodName == "" {
			t.Errorf("accepted %+v", e)
		}
		e.Addresses()
	})
}
