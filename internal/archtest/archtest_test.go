// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/isthmus-mesh/isthmus/"

// rule says what a package (and all packages below it that have no rule of their own) may import.
type rule struct {
	pkg string
	// mayUse are our packages that it may import; an entry covers the packages below it.
	mayUse []string
	// mayNotReach are prefixes of import paths that must not be among its direct imports.
	mayNotReach []string
	// only, when set, are the only paths outside the standard library and this module that it may import (prefixes).
	only []string
	why  string
}

var (
	kubernetes = []string{"k8s.io/", "sigs.k8s.io/", "istio.io/"}
	grpc       = []string{"google.golang.org/grpc", "google.golang.org/protobuf", "github.com/envoyproxy/"}
	http2      = []string{"golang.org/x/net/http2"}
)

func both(sets ...[]string) []string { return slices.Concat(sets...) }

// rules are the floors, ground up.
var rules = []rule{
	{pkg: "internal/mesh", only: []string{}, why: "the vocabulary of both planes: standard library only"},
	{pkg: "internal/socket", only: []string{"golang.org/x/sys/unix"}, why: "system calls on a socket; knows nothing"},
	{pkg: "internal/hbone", mayUse: []string{"internal/socket"}, only: []string{"golang.org/x/net/http2"}, why: "a library: usable without the rest of Isthmus"},
	{pkg: "internal/inner", mayUse: []string{"internal/hbone", "internal/mesh"}, only: []string{}, why: "which session next: how one is made is handed in"},
	{pkg: "internal/relay", mayUse: []string{"internal/socket"}, only: []string{"golang.org/x/sys/unix"}, why: "copies bytes; knows no tunnel and no mesh"},
	{pkg: "internal/stranger", only: []string{"golang.org/x/sys/unix"}, why: "whom nothing is known of; knows no mesh"},
	{pkg: "internal/peephole", only: []string{}, why: "serves what a process tells of itself; knows no mesh"},
	{pkg: "internal/logpipe", only: []string{}, why: "passes lines on; knows nothing"},
	{pkg: "internal/processors", only: []string{"golang.org/x/sys/unix"}, why: "how many processors a process has; knows nothing of its work"},
	{pkg: "internal/tracing", mayNotReach: both(kubernetes, http2), why: "spans of connections; knows no mesh"},
	{pkg: "apis/v1alpha1", mayNotReach: both(grpc, http2), why: "the API's types, importable by anybody"},

	{pkg: "internal/world", mayUse: []string{"internal/mesh", "apis/v1alpha1"}, mayNotReach: both(grpc, http2, []string{"k8s.io/client-go", "sigs.k8s.io/controller-runtime"}), why: "what the clusters say: types, but no client"},
	{pkg: "internal/directory", mayUse: []string{"internal/mesh"}, only: []string{}, why: "the read side: pure look-ups"},
	{pkg: "internal/authz", mayUse: []string{"internal/mesh"}, only: []string{}, why: "who may, by L4 policies: pure, for node proxies and gateways alike"},
	{pkg: "internal/mtls", mayUse: []string{"internal/mesh"}, mayNotReach: both(kubernetes, grpc, http2), why: "certificates and their proof; the issuer is handed in"},
	{pkg: "internal/xds", mayUse: []string{"internal/mesh"}, mayNotReach: both(kubernetes, http2), why: "the wire between the planes"},
	{pkg: "internal/ca", mayUse: []string{"internal/mesh", "internal/xds/pb"}, mayNotReach: both(kubernetes, http2), why: "signs for whom it is told to; who may ask is decided in controllers"},
	{pkg: "internal/reach", mayUse: []string{"internal/directory", "internal/hbone", "internal/inner", "internal/mesh", "internal/mtls", "internal/relay"}, mayNotReach: both(kubernetes, grpc, http2), why: "from here to an endpoint, for node proxies and gateways alike"},
	{pkg: "internal/keeper", mayUse: []string{"internal/directory", "internal/mesh", "internal/mtls", "internal/xds"}, mayNotReach: both(kubernetes, grpc, http2), why: "what is known outlives a restart, for node proxies and gateways alike"},
	{pkg: "internal/zds", mayNotReach: both(kubernetes, http2), why: "the wire between agent and node proxy"},
	{pkg: "internal/dns", mayUse: []string{"internal/mesh", "internal/directory"}, mayNotReach: both(kubernetes, grpc, http2), why: "answers from the directory, used by nodeproxy only"},
	{pkg: "internal/archtest", why: "a test"},

	{pkg: "internal/translate", mayUse: []string{"internal/world", "internal/mesh", "apis/v1alpha1"}, mayNotReach: both(grpc, http2, []string{"k8s.io/client-go", "sigs.k8s.io/controller-runtime", "github.com/go-logr", "log", "time"}), why: "pure: no client, no clock, no log"},

	{pkg: "controllers", mayUse: []string{"internal/translate", "internal/world", "internal/xds", "internal/ca", "internal/mesh", "apis/v1alpha1"}, mayNotReach: both(http2), why: "the control plane never imports a tunnel"},
	{pkg: "gateway", mayUse: []string{"internal/stranger", "internal/authz", "internal/directory", "internal/hbone", "internal/reach", "internal/mtls", "internal/relay", "internal/tracing", "internal/xds", "internal/mesh"}, mayNotReach: both(kubernetes, http2), why: "the data plane never imports a client, and gateway and nodeproxy never meet"},
	{pkg: "nodeproxy", mayUse: []string{"internal/peephole", "internal/stranger", "internal/authz", "internal/directory", "internal/hbone", "internal/reach", "internal/mtls", "internal/relay", "internal/tracing", "internal/xds", "internal/keeper", "internal/mesh", "internal/zds", "internal/dns"}, mayNotReach: both(kubernetes, http2), why: "the data plane never imports a client"},
	{pkg: "nodeproxy/agent", mayUse: []string{"internal/peephole", "internal/zds"}, mayNotReach: both(http2), why: "its own process, which outlives the proxy's upgrades; it reads pods, so it may use client-go"},

	{pkg: "lab", why: "machines for tests; knows nothing of the product"},
	{pkg: "cmd/lab", mayUse: []string{"lab"}, why: "the lab's command line"},
	{pkg: "cmd", mayUse: []string{""}, why: "flags and wiring: the only places that know everything"},
	{pkg: "test", mayUse: []string{""}, why: "may use everything"},
}

type listed struct {
	ImportPath string
	Imports    []string
}

// TestFloors asks the go command who imports whom. Tests of a package may use more than the package itself
// (a floor's test may need a peer from its own floor), so only what ships is judged.
func TestFloors(t *testing.T) {
	packages := list(t)
	for _, p := range packages {
		path := strings.TrimPrefix(p.ImportPath, module)
		r, ok := ruleFor(path)
		if !ok {
			t.Errorf("%s stands on no floor: add a rule to archtest", path)
			continue
		}
		for _, imp := range p.Imports {
			if why := r.forbids(imp); why != "" {
				t.Errorf("%s imports %s: %s (%s)", path, imp, why, r.why)
			}
		}
	}
}

// TestRulesAreAlive fails when a rule names a package that is gone, so that the table cannot rot.
func TestRulesAreAlive(t *testing.T) {
	packages := list(t)
	exists := func(prefix string) bool {
		return slices.ContainsFunc(packages, func(p listed) bool { return within(strings.TrimPrefix(p.ImportPath, module), prefix) })
	}
	for _, r := range rules {
		for _, name := range append([]string{r.pkg}, r.mayUse...) {
			if !exists(name) {
				t.Errorf("rule for %s names %s, which has no package", r.pkg, name)
			}
		}
	}
}

// TestRulesCanFail shows the judge a few imports that must be refused: a table that allows everything proves nothing.
func TestRulesCanFail(t *testing.T) {
	for _, tc := range []struct{ pkg, imp string }{
		{"internal/mesh", "k8s.io/api/core/v1"},
		{"internal/mesh", module + "internal/world"},
		{"internal/hbone", module + "internal/mesh"},
		{"internal/translate", "k8s.io/client-go/kubernetes"},
		{"internal/translate", "time"},
		{"gateway", module + "nodeproxy"},
		{"nodeproxy", module + "gateway"},
		{"nodeproxy", "k8s.io/api/core/v1"},
		{"nodeproxy/agent", module + "nodeproxy"},
		{"nodeproxy", module + "nodeproxy/agent"},
		{"controllers", module + "internal/hbone"},
		{"internal/directory", "github.com/go-logr/logr"},
		{"lab", module + "controllers"},
	} {
		r, ok := ruleFor(tc.pkg)
		if !ok {
			t.Errorf("no rule for %s", tc.pkg)
		} else if r.forbids(tc.imp) == "" {
			t.Errorf("%s may import %s, and should not", tc.pkg, tc.imp)
		}
	}
}

// forbids gives the reason for which a package under this rule may not import imp, or "".
func (r rule) forbids(imp string) string {
	own, ours := strings.CutPrefix(imp, module)
	if ours {
		if target, ok := ruleFor(own); ok && target.pkg == r.pkg {
			return ""
		}
		if slices.ContainsFunc(r.mayUse, func(allowed string) bool { return within(own, allowed) }) {
			return ""
		}
		return "not among what its floor may use"
	}
	if slices.ContainsFunc(r.mayNotReach, func(bad string) bool { return within(imp, bad) }) {
		return "forbidden here"
	}
	external := strings.Contains(strings.SplitN(imp, "/", 2)[0], ".")
	if r.only != nil && external && !slices.ContainsFunc(r.only, func(allowed string) bool { return within(imp, allowed) }) {
		return "outside the standard library"
	}
	return ""
}

// ruleFor finds the rule of the nearest enclosing package.
func ruleFor(path string) (rule, bool) {
	best, found := rule{}, false
	for _, r := range rules {
		if within(path, r.pkg) && (!found || len(r.pkg) > len(best.pkg)) {
			best, found = r, true
		}
	}
	return best, found
}

// within says whether path is prefix or lies below it. A prefix that ends in a slash covers what lies below only.
func within(path, prefix string) bool {
	return prefix == "" || path == strings.TrimSuffix(prefix, "/") || strings.HasPrefix(path, strings.TrimSuffix(prefix, "/")+"/")
}

func list(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports", "./...")
	cmd.Dir = "../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var packages []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}
