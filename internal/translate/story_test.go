// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

var update = flag.Bool("update", false, "rewrite the want parts of the stories")

// TestStories runs every testdata/*.txtar; testdata/README.md says what they look like.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { story(t, file) })
	}
}

func story(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	objects := read(t, archive)
	state := world.NewState()
	whole := world.NewDelta()
	for _, o := range objects {
		whole.Put(o)
	}
	state.Apply(whole)
	out := Build(state, testConfig)
	absent := world.NewDelta() // what is referred to and not there was looked for
	for _, o := range out.WantObjects {
		if !slices.ContainsFunc(objects, func(there world.Object) bool { return there.Ref() == o }) {
			absent.Put(world.NewAbsent(o))
			objects = append(objects, world.NewAbsent(o))
		}
	}
	state.Apply(absent)
	out = Build(state, testConfig)

	// The order of arrival must not matter.
	for seed := range uint64(5) {
		rng := rand.New(rand.NewPCG(seed, 1))
		rng.Shuffle(len(objects), func(i, j int) { objects[i], objects[j] = objects[j], objects[i] })
		engine := NewEngine(testConfig)
		for _, o := range objects {
			d := world.NewDelta()
			d.Put(o)
			engine.Apply(d)
		}
		if got := engine.Output(); !reflect.DeepEqual(got, out) {
			if diff := cmp.Diff(out, got, byValue...); diff != "" {
				t.Fatalf("objects in another order (seed %d) mean something else (-want +got):\n%s", seed, diff)
			}
		}
		// And nothing remains when all of them are gone.
		for _, o := range objects {
			d := world.NewDelta()
			d.Delete(o.Ref())
			engine.Apply(d)
		}
		if diff := cmp.Diff(NewEngine(testConfig).Output(), engine.Output(), byValue...); diff != "" {
			t.Fatalf("after everything is gone, this is left (-want +got):\n%s", diff)
		}
	}

	for _, part := range []struct {
		name string
		text string
	}{{"want.mesh", printMesh(out)}, {"want.status", printStatus(out)}} {
		i := slices.IndexFunc(archive.Files, func(f txtar.File) bool { return f.Name == part.name })
		if i < 0 {
			if *update {
				archive.Files = append(archive.Files, txtar.File{Name: part.name, Data: []byte(part.text)})
			} else {
				t.Errorf("%s has no %s; run with -update", file, part.name)
			}
			continue
		}
		if *update {
			archive.Files[i].Data = []byte(part.text)
		} else if diff := cmp.Diff(strings.Split(string(archive.Files[i].Data), "\n"), strings.Split(part.text, "\n")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", part.name, diff)
		}
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

var decoder = func() runtime.Decoder {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, discoveryv1.AddToScheme, gatewayv1.Install, v1alpha1.AddToScheme, securityv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			panic(err)
		}
	}
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
}()

// read gives the objects of a story: what every cluster has anyway, overridden by what the story says.
func read(t *testing.T, archive *txtar.Archive) []world.Object {
	t.Helper()
	objects := map[world.ObjectRef]world.Object{}
	put := func(o world.Object) {
		if o != nil && !reflect.ValueOf(o).IsNil() {
			objects[o.Ref()] = o
		}
	}
	clusters := set[world.Cluster]{"east": {}}
	for _, f := range archive.Files {
		if c, _, ok := strings.Cut(f.Name, "/"); ok {
			clusters.add(world.Cluster(c))
		}
	}
	for c := range clusters {
		decode(t, "ordinary", c, ordinary, put)
		put(world.Reduce(c, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name: "isthmus-system", Labels: map[string]string{world.LabelNetwork: string(c)},
		}}))
		if c != testConfig.LocalCluster {
			put(world.Reduce(testConfig.LocalCluster, &v1alpha1.RemoteCluster{ObjectMeta: metav1.ObjectMeta{Name: string(c)}}))
		}
	}
	for _, f := range archive.Files {
		c, name, ok := strings.Cut(f.Name, "/")
		switch {
		case strings.HasPrefix(f.Name, "want."):
		case f.Name == "vips":
			for line := range lines(f.Data) {
				namespace, hostname, _ := strings.Cut(line[0], "/")
				put(world.NewVIP(mesh.ServiceKey{Namespace: namespace, Hostname: hostname}, netip.MustParseAddr(line[1]), netip.Addr{}))
			}
		case ok && name == "pods":
			pods(t, world.Cluster(c), f.Data, put)
		case ok && strings.HasSuffix(name, ".yaml"):
			decode(t, f.Name, world.Cluster(c), f.Data, put)
		default:
			t.Fatalf("a story has no part named %s", f.Name)
		}
	}
	refs := make([]world.ObjectRef, 0, len(objects))
	for ref := range objects {
		refs = append(refs, ref)
	}
	slices.SortFunc(refs, world.ObjectRef.Compare)
	out := make([]world.Object, 0, len(refs))
	for _, ref := range refs {
		out = append(out, objects[ref])
	}
	return out
}

// ordinary is what every cluster of a story has.
var ordinary = []byte(`
{apiVersion: v1, kind: Namespace, metadata: {name: demo, labels: {isthmus.dev/eastwest-gateways: "true"}}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: eastwest}, spec: {controllerName: isthmus.dev/gateway-controller}}
---
apiVersion: isthmus.dev/v1alpha1
kind: ServiceScope
metadata: {name: default}
spec:
  serviceScopeConfigs:
  - servicesSelector: {matchExpressions: [{key: istio.io/global, operator: In, values: ["true"]}]}
    scope: GLOBAL
`)

func decode(t *testing.T, name string, c world.Cluster, data []byte, put func(world.Object)) {
	t.Helper()
	for doc := range bytes.SplitSeq(data, []byte("\n---\n")) {
		if len(bytes.TrimSpace(doc)) == 0 {
			continue
		}
		asJSON, err := yaml.YAMLToJSON(doc) // the decoder takes YAML that begins with a brace for JSON
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, doc)
		}
		o, _, err := decoder.Decode(asJSON, nil, nil)
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, doc)
		}
		reduced := world.Reduce(c, o)
		if reduced == nil {
			t.Fatalf("%s: %T counts as absent", name, o)
		}
		put(reduced)
	}
}

// lines gives the fields of each line that is neither empty nor a comment.
func lines(data []byte) func(yield func([]string) bool) {
	return func(yield func([]string) bool) {
		for line := range strings.Lines(string(data)) {
			if fields := strings.Fields(line); len(fields) > 0 && !strings.HasPrefix(fields[0], "#") && !yield(fields) {
				return
			}
		}
	}
}

// pods reads a table of pods and makes the slices that their services have:
// namespace/name address account node flags service/portname=port,...
func pods(t *testing.T, c world.Cluster, data []byte, put func(world.Object)) {
	t.Helper()
	bySlice := map[string]*discoveryv1.EndpointSlice{}
	for f := range lines(data) {
		if len(f) < 5 {
			t.Fatalf("pod needs namespace/name address account node flags [service/port=number]: %v", f)
		}
		namespace, name, _ := strings.Cut(f[0], "/")
		flags := strings.Split(f[4], ",")
		has := func(flag string) bool { return slices.Contains(flags, flag) }
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": f[2]}},
			Spec:       corev1.PodSpec{ServiceAccountName: f[2], NodeName: f[3], HostNetwork: has("hostnetwork")},
			Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIP: f[1]},
		}
		if has("captured") {
			p.Annotations = map[string]string{world.AnnotationRedirection: "enabled"}
		}
		if has("confines") {
			p.Annotations = map[string]string{world.AnnotationConfines: "true"}
		}
		if has("pending") {
			p.Status.Phase = corev1.PodPending
		}
		if has("ready") {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		}
		if has("deleting") {
			p.DeletionTimestamp = &metav1.Time{}
		}
		for _, flag := range flags {
			if network, ok := strings.CutPrefix(flag, "network="); ok {
				p.Labels[world.LabelNetwork] = network
			}
			if flag == "tunnel" {
				p.Labels[world.LabelTunnel] = "http"
			}
			if gateway, ok := strings.CutPrefix(flag, "gateway="); ok {
				p.Labels[LabelGatewayName] = gateway
			}
			if deployment, ok := strings.CutPrefix(flag, "of="); ok {
				p.Labels["pod-template-hash"], p.Labels[LabelManagedBy] = "h1", ManagedBy
				p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: deployment + "-h1", Controller: new(true)}}
			}
		}
		put(world.Reduce(c, p))
		for _, at := range f[5:] {
			service, ports, _ := strings.Cut(at, "/")
			e := bySlice[namespace+at]
			if e == nil {
				e = &discoveryv1.EndpointSlice{
					ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("%s-%d", service, len(bySlice)),
						Labels: map[string]string{discoveryv1.LabelServiceName: service}},
					AddressType: discoveryv1.AddressTypeIPv4,
				}
				for pair := range strings.SplitSeq(ports, ",") {
					portName, number, _ := strings.Cut(pair, "=")
					n, err := strconv.ParseUint(number, 10, 16)
					if err != nil {
						t.Fatal(err)
					}
					port := int32(n)
					e.Ports = append(e.Ports, discoveryv1.EndpointPort{Name: &portName, Port: &port})
				}
				bySlice[namespace+at] = e
			}
			e.Endpoints = append(e.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{f[1]}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: name},
			})
		}
	}
	for _, e := range bySlice {
		put(world.Reduce(c, e))
	}
}
