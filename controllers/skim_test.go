// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

var (
	wire    = protobuf.NewSerializer(scheme, scheme)
	rawWire = protobuf.NewRawSerializer(scheme, scheme)
)

// skimmedKinds are the kinds that shapes are for, each with its list.
var skimmedKinds = []struct {
	path string
	one  client.Object
	list client.ObjectList
}{
	{"/api/v1/namespaces", &corev1.Namespace{}, &corev1.NamespaceList{}},
	{"/api/v1/nodes", &corev1.Node{}, &corev1.NodeList{}},
	{"/api/v1/pods", &corev1.Pod{}, &corev1.PodList{}},
	{"/api/v1/services", &corev1.Service{}, &corev1.ServiceList{}},
	{"/apis/discovery.k8s.io/v1/endpointslices", &discoveryv1.EndpointSlice{}, &discoveryv1.EndpointSliceList{}},
}

// words are what random objects say: each means something to somebody, somewhere.
var words = []string{
	"", "a", "shop", "cart-7f9c", "Ready", "True", "False", "Running", "Succeeded", "Pod", "ReplicaSet", "Job", "10.1.2.3", "fd00::7", "None", "TCP", "UDP", "http", "kubernetes.io/h2c",
	"IPv4", "IPv6", "Local", "PreferClose", "ClusterIP", "ExternalName", "enabled", "cart", world.AnnotationRedirection, world.AnnotationDistribution, world.LabelTunnel,
	"pod-template-hash", networkLabel, discoveryv1.LabelServiceName, corev1.LabelTopologyRegion, corev1.LabelTopologyZone, "no good name!", strings.Repeat("x", 300),
}

// fill puts something into every field that an API server may set.
func fill(rng *rand.Rand, v reflect.Value, depth int) {
	switch at := v.Addr().Interface().(type) {
	case *metav1.Time:
		*at = metav1.NewTime(time.Unix(rng.Int64N(1<<31), 0))
		return
	case *metav1.FieldsV1:
		*at = *metav1.NewFieldsV1(`{"f:metadata":{}}`)
		return
	case *intstr.IntOrString:
		*at = []intstr.IntOrString{intstr.FromInt32(80), intstr.FromString("http")}[rng.IntN(2)]
		return
	}
	if depth > 12 || v.Type().PkgPath() == "k8s.io/apimachinery/pkg/api/resource" {
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(words[rng.IntN(len(words))])
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Int32, reflect.Int64, reflect.Int:
		v.SetInt([]int64{0, 1, 80, 15008, 70000}[rng.IntN(5)])
	case reflect.Pointer:
		if rng.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(rng, v.Elem(), depth+1)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(rng, v.Field(i), depth+1)
			}
		}
	case reflect.Slice:
		n := rng.IntN(3)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(rng, v.Index(i), depth+1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range rng.IntN(4) {
			k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(rng, k, depth+1)
			fill(rng, e, depth+1)
			v.SetMapIndex(k, e)
		}
	}
}

// random makes an object with much in it, of which at least the name is good, for else nothing else counts.
func random(rng *rand.Rand, like client.Object) client.Object {
	o := reflect.New(reflect.TypeOf(like).Elem())
	fill(rng, o.Elem(), 0)
	out := o.Interface().(client.Object)
	if rng.IntN(8) > 0 {
		out.SetName("cart")
		out.SetNamespace("")
		switch out.(type) {
		case *corev1.Pod, *corev1.Service, *discoveryv1.EndpointSlice:
			out.SetNamespace("shop")
		}
		if s, ok := out.(*discoveryv1.EndpointSlice); ok {
			s.AddressType = discoveryv1.AddressTypeIPv4
			s.Labels = map[string]string{discoveryv1.LabelServiceName: "cart"}
		}
	}
	kinds, _, err := scheme.ObjectKinds(out)
	if err != nil {
		panic(err)
	}
	out.GetObjectKind().SetGroupVersionKind(kinds[0])
	return out
}

func encoded(t *testing.T, s runtime.Encoder, o runtime.Object) []byte {
	t.Helper()
	text, err := runtime.Encode(s, o)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func decoded(t *testing.T, text []byte) runtime.Object {
	t.Helper()
	o, _, err := wire.Decode(text, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestSkimmedMeansTheSame has what is left of random objects, alone, in lists and in events, mean what the whole of them means.
func TestSkimmedMeansTheSame(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	trusting := NewFeed(world.NewStore(), "west", remoteKinds(), "isthmus-system")
	strict := NewFeed(world.NewStore(), "west", remoteKinds(), "isthmus-system")
	strict.vetting = &vetting{refused: func() {}, changed: func() {}}
	same := func(whole, skimmed runtime.Object) {
		t.Helper()
		want, _ := strict.see(whole)
		got, ok := strict.see(skimmed)
		if !ok || (want.refused() == nil) != (got.refused() == nil) {
			t.Fatalf("refused: %v, skimmed: %v", want.refused(), got.refused())
		}
		want, _ = trusting.see(whole)
		got, ok = trusting.see(skimmed)
		if !ok || !reflect.DeepEqual(want, got) {
			t.Fatalf("skimmed means\n%+v %+v, the whole\n%+v %+v", got, got.value, want, want.value)
		}
	}
	for _, k := range skimmedKinds {
		shape := shapes[k.path]
		taken, before, after := 0, 0, 0
		for range 300 {
			whole := random(rng, k.one)
			text := encoded(t, wire, whole)
			kept, weight, ok := shape.one.object(nil, text)
			if !ok || len(kept) > len(text) || weight < objectWeight {
				t.Fatalf("%s: %d bytes of %d, weight %d, %t", k.path, len(kept), len(text), weight, ok)
			}
			before, after = before+len(text), after+len(kept)
			skimmed := decoded(t, kept)
			if s, _ := trusting.see(whole); s.value != nil {
				taken++
			}
			same(whole, skimmed)
			if len(skimmed.(client.Object).GetManagedFields()) > 0 {
				t.Fatalf("%s: managed fields are left", k.path)
			}

			what := []string{"ADDED", "MODIFIED", "DELETED"}[rng.IntN(3)]
			event := encoded(t, rawWire, &metav1.WatchEvent{Type: what, Object: runtime.RawExtension{Raw: text}})
			out, said, _, ok := shape.event(nil, event)
			var read metav1.WatchEvent
			if err := read.Unmarshal(out); err != nil || !ok || said != what || read.Type != what || !bytes.Equal(read.Object.Raw, kept) {
				t.Fatalf("%s: an event %q became %q, %v", k.path, what, said, err)
			}
		}
		if taken < 50 {
			t.Errorf("%s: %d of 300 objects mean anything", k.path, taken)
		}
		t.Logf("%s: %d of 300 mean something, %d %% of the bytes are left", k.path, taken, 100*after/before)

		var items []runtime.Object
		for range 20 {
			items = append(items, random(rng, k.one))
		}
		list := k.list.DeepCopyObject()
		if err := meta.SetList(list, items); err != nil {
			t.Fatal(err)
		}
		list.(client.ObjectList).SetContinue("more")
		list.(client.ObjectList).SetResourceVersion("77")
		kinds, _, _ := scheme.ObjectKinds(list)
		list.GetObjectKind().SetGroupVersionKind(kinds[0])
		kept, _, ok := shape.list.object(nil, encoded(t, wire, list))
		if !ok {
			t.Fatalf("%s: a list is not understood", k.path)
		}
		skimmed := decoded(t, kept).(client.ObjectList)
		found, err := meta.ExtractList(skimmed)
		if err != nil || len(found) != len(items) || skimmed.GetContinue() != "more" || skimmed.GetResourceVersion() != "77" {
			t.Fatalf("%s: %d of a list of %d, %v", k.path, len(found), len(items), err)
		}
		for i := range items {
			same(items[i], found[i])
		}
	}
}

// TestBookmarksAreNotSkimmed has events that are about the watch itself stay whole.
func TestBookmarksAreNotSkimmed(t *testing.T) {
	for _, what := range []string{"BOOKMARK", "ERROR", "", "NEWS"} {
		event := encoded(t, rawWire, &metav1.WatchEvent{Type: what, Object: runtime.RawExtension{Raw: []byte("anything")}})
		out, _, _, ok := shapes["/api/v1/pods"].event([]byte("before"), event)
		if !ok || string(out) != "before"+string(event) {
			t.Errorf("%q: %q became %q", what, event, out)
		}
	}
}

// FuzzSkim has no bytes make it panic, or write more than it read.
func FuzzSkim(f *testing.F) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, k := range skimmedKinds {
		text, err := runtime.Encode(wire, random(rng, k.one))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
		event, err := runtime.Encode(rawWire, &metav1.WatchEvent{Type: "ADDED", Object: runtime.RawExtension{Raw: text}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(event)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		for path, k := range shapes {
			for _, out := range [][]byte{first(k.one.object(nil, in)), first(k.list.object(nil, in))} {
				if len(out) > len(in) {
					t.Errorf("%s: %d bytes became %d", path, len(in), len(out))
				}
			}
			if out, _, _, ok := k.event(nil, in); ok && len(out) > len(in) {
				t.Errorf("%s: an event of %d bytes became %d", path, len(in), len(out))
			}
		}
	})
}

func first(out []byte, _ int64, _ bool) []byte { return out }

// says answers every request with a body.
type answersWith struct {
	media string
	body  func() io.Reader
	asked []url.Values
}

func (s *answersWith) RoundTrip(r *http.Request) (*http.Response, error) {
	s.asked = append(s.asked, r.URL.Query())
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {s.media}}, Body: io.NopCloser(s.body())}, nil
}

// frame puts an event's length before it.
func frame(event []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(event))), event...)
}

// endless repeats some bytes.
type endless struct{ bytes, rest []byte }

func (e *endless) Read(p []byte) (int, error) {
	if len(e.rest) == 0 {
		e.rest = e.bytes
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

// TestAnswersAreBoundedBeforeTheyAreDecoded asks servers that send much, or little that would become much, and reads what a client library would get to decode.
func TestAnswersAreBoundedBeforeTheyAreDecoded(t *testing.T) {
	const room = 4 << 20
	pod := &corev1.Pod{TypeMeta: metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart", Labels: map[string]string{"app": "cart"}}}
	pod.Spec.Containers = []corev1.Container{{Image: strings.Repeat("x", 8<<10)}}
	added := frame(encoded(t, rawWire, &metav1.WatchEvent{Type: "ADDED", Object: runtime.RawExtension{Raw: encoded(t, wire, pod)}}))
	listOf := func(n int, item *corev1.Pod) []byte {
		l := &corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}}
		for range n {
			l.Items = append(l.Items, *item)
		}
		return encoded(t, wire, l)
	}
	once := func(b []byte) func() io.Reader { return func() io.Reader { return bytes.NewReader(b) } }
	forever := func(b []byte) func() io.Reader {
		return func() io.Reader { return &endless{bytes: bytes.Repeat(b, 1+8<<10/len(b))} }
	}
	slices := &discoveryv1.EndpointSlice{TypeMeta: metav1.TypeMeta{Kind: "EndpointSlice", APIVersion: "discovery.k8s.io/v1"}, Endpoints: make([]discoveryv1.Endpoint, 400_000)}
	swollen := frame(encoded(t, rawWire, &metav1.WatchEvent{Type: "MODIFIED", Object: runtime.RawExtension{Raw: encoded(t, wire, slices)}}))
	const (
		pods      = "https://far/api/v1/pods"
		gateways  = "https://far/apis/gateway.networking.k8s.io/v1/gateways"
		beginning = "?watch=true&sendInitialEvents=true"
		protobuf  = runtime.ContentTypeProtobuf
	)
	for _, tc := range []struct {
		name, url, media string
		body             func() io.Reader
		want             error
	}{
		{"a page of a list", pods + "?limit=500", protobuf, once(listOf(500, pod)), nil},
		{"a page that never ends", pods + "?limit=500", protobuf, forever(listOf(1, pod)), errTooMuch},
		{"a page of small things that become large ones", pods + "?limit=500", protobuf, once(listOf(100_000, &corev1.Pod{})), errTooMuch},
		{"a page that is none", pods + "?limit=500", protobuf, once([]byte("hello")), errMalformed},
		{"a watch that begins without end", pods + beginning, protobuf, forever(added), errTooMuch},
		{"a watch with an object that becomes a large one", "https://far/apis/discovery.k8s.io/v1/endpointslices?watch=true", protobuf, once(swollen), errTooMuch},
		{"a watch with an object that never ends", pods + "?watch=true", protobuf, once(binary.BigEndian.AppendUint32(nil, 1<<31)), errTooMuch},
		{"JSON that never ends", gateways + "?limit=500", "application/json", forever([]byte(`{},`)), errTooMuch},
		{"JSON that becomes large", gateways + "?limit=500", "application/json", once([]byte(`{"items":[` + strings.Repeat("{},", 1<<16) + `{}]}`)), errTooMuch},
		{"JSON events without end", gateways + beginning, "application/json", forever([]byte(`{"type":"ADDED","object":{"spec":{}}}` + "\n")), errTooMuch},
		{"a JSON event that never ends", gateways + "?watch=true", "application/json", func() io.Reader { return io.MultiReader(strings.NewReader(`{"a":"`), forever([]byte("x"))()) }, errTooMuch},
		{"anything else that never ends", "https://far/version", "application/json", forever([]byte("x")), errTooMuch},
	} {
		i := newIntake(&answersWith{media: tc.media, body: tc.body}, room, newBudget())
		_, err := ask(t, i, tc.url)
		if fmt.Sprint(err) != fmt.Sprint(tc.want) || recently(&i.tooMuch) != (tc.want == errTooMuch) { //nolint:errorlint // the table's own
			t.Errorf("%s: %v, want %v; noted %t", tc.name, err, tc.want, recently(&i.tooMuch))
		}
		if tc.want == errTooMuch && i.reading.total != 0 { //nolint:errorlint // the table's own
			t.Errorf("%s: %d bytes are held of what was given up", tc.name, i.reading.total)
		}
	}
}

// TestWhatIsHeldIsGivenBack has a kind be read in pages, and from a watch's beginning.
func TestWhatIsHeldIsGivenBack(t *testing.T) {
	pod := &corev1.Pod{TypeMeta: metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart"}}
	list := encoded(t, wire, &corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: []corev1.Pod{*pod}})
	event := func(what string, o runtime.Object) []byte {
		return frame(encoded(t, rawWire, &metav1.WatchEvent{Type: what, Object: runtime.RawExtension{Raw: encoded(t, wire, o)}}))
	}
	end := pod.DeepCopy()
	end.Annotations = map[string]string{metav1.InitialEventsAnnotationKey: "true"}
	server := &answersWith{media: runtime.ContentTypeProtobuf}
	i := newIntake(server, 1<<20, newBudget())
	for _, step := range []struct {
		query string
		body  []byte
		held  int // objects
	}{
		{"limit=500", list, 1},
		{"limit=500&continue=x", list, 2},
		{"watch=true&resourceVersion=7", event("MODIFIED", pod), 0},
		{"limit=500", list, 1},
		{"limit=500", list, 1}, // begun anew
		{"watch=true&sendInitialEvents=true", bytes.Join([][]byte{event("ADDED", pod), event("ADDED", pod)}, nil), 2},
		{"watch=true&sendInitialEvents=true", bytes.Join([][]byte{event("ADDED", pod), event("BOOKMARK", end), event("ADDED", pod)}, nil), 0},
	} {
		server.body = func() io.Reader { return bytes.NewReader(step.body) }
		if _, err := ask(t, i, "https://far/api/v1/pods?"+step.query); err != nil {
			t.Fatal(err)
		}
		if got := int(i.reading.total / objectWeight); got != step.held {
			t.Errorf("%s: %d objects are held, want %d", step.query, got, step.held)
		}
	}
}

// TestListsComeInPages has a server that would send everything at once be asked so that it does not.
func TestListsComeInPages(t *testing.T) {
	server := &answersWith{media: runtime.ContentTypeJSON, body: func() io.Reader { return strings.NewReader("{}") }}
	i := newIntake(server, 1<<20, newBudget())
	for query, want := range map[string]string{
		"limit=500&resourceVersion=0":           "limit=500",
		"limit=500&continue=x":                  "continue=x&limit=500",
		"resourceVersion=0":                     "resourceVersion=0",
		"limit=500&resourceVersion=7":           "limit=500&resourceVersion=7",
		"watch=true&resourceVersion=0&limit=50": "limit=50&resourceVersion=0&watch=true",
	} {
		server.asked = nil
		if _, err := ask(t, i, "https://far/apis/gateway.networking.k8s.io/v1/gateways?"+query); err != nil {
			t.Fatal(err)
		}
		if got := server.asked[0].Encode(); got != want {
			t.Errorf("%s was asked as %s, want %s", query, got, want)
		}
	}
}

// TestShapesAreFoundBehindAPath says that an API server that is reached below a path is read as any other.
func TestShapesAreFoundBehindAPath(t *testing.T) {
	for path, want := range map[string]*kindShape{
		"/api/v1/pods":                                shapes["/api/v1/pods"],
		"/k8s/clusters/c-1/api/v1/pods":               shapes["/api/v1/pods"],
		"/a/api/v1/namespaces":                        shapes["/api/v1/namespaces"],
		"/a/apis/discovery.k8s.io/v1/endpointslices":  shapes["/apis/discovery.k8s.io/v1/endpointslices"],
		"/apis/gateway.networking.k8s.io/v1/gateways": nil,
		"/a/api/v1/secrets":                           nil,
	} {
		if got := shapeOf(path); got != want {
			t.Errorf("%s has the shape %p, want %p", path, got, want)
		}
	}
}

// TestAnswersOfAnotherTypeAreSaid says that who answers in an encoding that is not read is not waited for in silence. Of Kubernetes' own kinds JSON is one: it would be decoded as a whole, and weigh less than what is
// made of it.
func TestAnswersOfAnotherTypeAreSaid(t *testing.T) {
	for path, media := range map[string]string{"/api/v1/pods": "text/html", "/api/v1/nodes": "application/json", "/apis/discovery.k8s.io/v1/endpointslices": "application/json", "/apis/isthmus.dev/v1alpha1/servicescopes": runtime.ContentTypeProtobuf} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Content-Type", media) }))
		for _, query := range []string{"?watch=true", "?watch=true&sendInitialEvents=true", "?limit=500"} {
			i := newIntake(server.Client().Transport, 1<<20, newBudget())
			for range watchFailures {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path+query, http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				if answer, err := i.RoundTrip(r); err == nil {
					_ = answer.Body.Close()
					t.Fatalf("%s%s is read of %s", path, query, media)
				}
			}
			if reason, message := i.follows.verdict(time.Now()); reason != v1alpha1.ReasonWatchFailing || !strings.Contains(message, path) || !strings.Contains(message, media) {
				t.Errorf("status says %q: %s", reason, message)
			}
		}
		server.Close()
	}
}
