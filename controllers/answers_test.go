// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"encoding/binary"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"reflect"
	"runtime/metrics"
	"strings"
	"testing"
	"testing/iotest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/runtime/serializer/streaming"
	"k8s.io/apimachinery/pkg/watch"
	restwatch "k8s.io/client-go/rest/watch"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

var jsonWire = json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{})

// TestJSONWeighsAllThatComesOfIt: nothing of which much is made is light.
func TestJSONWeighsAllThatComesOfIt(t *testing.T) {
	for name, text := range map[string]string{
		"numbers": `[1,2,3]`, "objects": `{"a":{"b":{}},"c":[{},{}]}`, "lists in lists": strings.Repeat("[", 1000) + strings.Repeat("]", 1000), "lists beside lists": `[[],[],[[]]]`,
	} {
		if got, want := jsonWeight([]byte(text)), weighed(t, []byte(text)); got < want {
			t.Errorf("%s weigh %d, want at least %d", name, got, want)
		}
	}
}

// weighed is what a text in JSON weighs at least: its own length, and each value that is in another one.
func weighed(t *testing.T, text []byte) int64 {
	t.Helper()
	var count func(v any) int64
	count = func(v any) (n int64) {
		switch v := v.(type) {
		case map[string]any:
			for _, inner := range v {
				n += messageWeight + count(inner)
			}
		case []any:
			for _, inner := range v {
				n += messageWeight + count(inner)
			}
		}
		return n
	}
	var v any
	if err := stdjson.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return int64(len(text)) + count(v)
}

// fuzzedKinds are lists that an API server sends in protobuf, and one that it sends in JSON.
var fuzzedKinds = []struct {
	path string
	one  runtime.Object
}{
	{"/api/v1/pods", &corev1.Pod{}},
	{"/api/v1/namespaces", &corev1.Namespace{}},
	{"/apis/gateway.networking.k8s.io/v1/gateways", &gatewayv1.Gateway{}},
}

// How a fuzzed answer is asked for and given.
const (
	asJSON = 1 << iota
	asWatch
	asBeginning
	kindShift = iota
)

// TestFuzzedKindsAreRead guards the target below against asking for what nobody answers.
func TestFuzzedKindsAreRead(t *testing.T) {
	for i, k := range fuzzedKinds {
		if (shapeOf(k.path) == nil) != (i == 2) {
			t.Errorf("%s: %v", k.path, shapeOf(k.path))
		}
	}
}

// FuzzFollowedBody: whatever a far API server sends for a list or a watch, what a client library gets to decode is no more than came, whole, weighed, and the same in whatever pieces it came; and the
// beginning of a watch is over for us when it is for the library.
func FuzzFollowedBody(f *testing.F) {
	seedFollowedBody(f)
	f.Fuzz(func(t *testing.T, sent []byte, how uint8, size uint16) {
		kind := fuzzedKinds[int(how>>kindShift)%len(fuzzedKinds)]
		inJSON, watches := how&asJSON != 0, how&asWatch != 0
		initial := !watches || how&asBeginning != 0
		header := http.Header{"Content-Type": {runtime.ContentTypeProtobuf}}
		if inJSON {
			header.Set("Content-Type", runtime.ContentTypeJSON+"; charset=utf-8")
		}
		const most = 32 << 10
		open := func(from io.Reader) (*intake, *toldBody) {
			i := newIntake(nil, most, newBudget())
			body, err := i.followedBody(io.NopCloser(from), question(t, "https://far"+kind.path), header, watches, initial)
			if err != nil {
				if inJSON == (shapeOf(kind.path) == nil) || !strings.Contains(err.Error(), kind.path) {
					t.Fatal(err)
				}
				return nil, nil
			}
			if inJSON != (shapeOf(kind.path) == nil) {
				t.Fatalf("%s is read in another encoding than its own", kind.path)
			}
			return i, body.(*toldBody)
		}
		i, body := open(bytes.NewReader(sent))
		if body == nil {
			return
		}
		before := allocated()
		got, err := io.ReadAll(body)
		if n := allocated() - before; n > 2<<20+256*uint64(len(sent)) {
			t.Errorf("%d bytes were allocated for %d", n, len(sent))
		}
		if total := i.reading.total; total < 0 || total > most || total != i.reading.of[kind.path] || !initial && total != 0 {
			t.Errorf("%d bytes are held, by the path %d", total, i.reading.of[kind.path])
		}
		tooMuch := errors.Is(err, errTooMuch)
		if tooMuch != recently(&i.tooMuch) {
			t.Errorf("%v, and that is noted: %v", err, recently(&i.tooMuch))
		}
		if err != nil && !tooMuch && !errors.Is(err, errMalformed) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("ends with %v", err)
		}
		switch {
		case watches && inJSON:
			sameValues(t, got, sent, err == nil)
		case watches:
			wholeFrames(t, got, len(sent))
		case inJSON:
			if err == nil && !bytes.Equal(got, sent) {
				t.Errorf("%q became %q", sent, got)
			}
		case len(got) > len(sent):
			t.Errorf("%d bytes became %d", len(sent), len(got))
		}
		_, pieces := open(&inPieces{rest: sent, size: int(size) + 1})
		again, errAgain := io.ReadAll(iotest.HalfReader(pieces))
		if !bytes.Equal(again, got) || fmt.Sprint(errAgain) != fmt.Sprint(err) {
			t.Errorf("in pieces of %d it is %q, %v, and at once %q, %v", int(size)+1, again, errAgain, got, err)
		}
		if watches && initial {
			_, followed := open(bytes.NewReader(sent))
			ended, failed := followedByLibrary(followed, inJSON, kind.one)
			if ended && followed.initial || !ended && !failed && !followed.initial {
				t.Errorf("that the beginning is over is %v for us, and for the library %v (failed: %v)", !followed.initial, ended, failed)
			}
		}
	})
}

// seedFollowedBody adds answers that are as they should be, and some that are nearly so.
func seedFollowedBody(f *testing.F) {
	rng := rand.New(rand.NewPCG(5, 6))
	must := func(text []byte, err error) []byte {
		if err != nil {
			f.Fatal(err)
		}
		return text
	}
	event := func(what string, raw []byte) []byte {
		return must(runtime.Encode(rawWire, &metav1.WatchEvent{Type: what, Object: runtime.RawExtension{Raw: raw}}))
	}
	end := `"metadata":{"annotations":{"` + metav1.InitialEventsAnnotationKey + `":"true"}}`
	for at, kind := range fuzzedKinds[:2] {
		last := kind.one.DeepCopyObject()
		last.(metav1.Object).SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
		kinds, _, _ := scheme.ObjectKinds(last)
		last.GetObjectKind().SetGroupVersionKind(kinds[0])
		text := must(runtime.Encode(wire, random(rng, skimmedKinds[(at*3+2)%5].one))) // a pod, then a namespace
		stream := bytes.Join([][]byte{frame(event("ADDED", text)), frame(event("BOOKMARK", must(runtime.Encode(wire, last)))), frame(event("MODIFIED", text))}, nil)
		f.Add(stream, uint8(at<<kindShift|asWatch|asBeginning), uint16(7))
		f.Add(stream, uint8(at<<kindShift|asWatch), uint16(0))
		f.Add(stream[:len(stream)-3], uint8(at<<kindShift|asWatch), uint16(100))
		f.Add(text, uint8(at<<kindShift), uint16(1))
	}
	f.Add(binary.BigEndian.AppendUint32(nil, maxObject), uint8(asWatch), uint16(0))
	f.Add(binary.BigEndian.AppendUint32(nil, maxObject+1), uint8(asWatch), uint16(3))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 2, 0xa, 200}, uint8(asWatch|asBeginning), uint16(3))
	for _, text := range []string{
		`{"type":"ADDED","object":{"apiVersion":"gateway.networking.k8s.io/v1","kind":"Gateway"}}` + "\n" + `{"type":"BOOKMARK","object":{"apiVersion":"gateway.networking.k8s.io/v1","kind":"Gateway",` + end + "}}\n" + `{"type":"DELETED","object":{}}`,
		`{"type":"ADDED","TYPE":"BOOKMARK","object":{"apiVersion":"gateway.networking.k8s.io/v1","kind":"Gateway",` + end + `}}`,
		`{"type":"BOOKMARK","object":{"apiVersion":"gateway.networking.k8s.io/v1","kind":"Gateway",` + end + `},"object":{"apiVersion":"gateway.networking.k8s.io/v1","kind":"Gateway"}}`,
		`{"type":"BOOKMARK","object":{"apiVersion":"gateway.networking.k8s.io/v1","kind":"Gateway","KIND":"GatewayClass",` + end + `}}`,
		`{"type":"BOOKMARK","object":{"apiVersion":"gateway.networking.k8s.io/v1","kind":"Gateway","metadata":{"name":"` + metav1.InitialEventsAnnotationKey + `"}}}`,
		`{"type":"ERROR","object":{"apiVersion":"v1","kind":"Status","code":410}}`, `{}[]null "x" 5`, `{"type":5}`, `{"a":"`, `{"items":[{},{}]}`, "[" + strings.Repeat("[", 600) + strings.Repeat("]", 601), ``, "  \n",
	} {
		for _, how := range []uint8{0, asWatch, asWatch | asBeginning} {
			f.Add([]byte(text), 2<<kindShift|how|asJSON, uint16(len(text)/2))
			f.Add([]byte(text), how|asJSON, uint16(0))
		}
	}
}

// allocated is how many bytes the process has ever allocated. What is large counts at once.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// inPieces gives so much at a time.
type inPieces struct {
	rest []byte
	size int
}

func (c *inPieces) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.size)], c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// sameValues says that events in JSON are those that were sent, each in a line, or as far as they came.
func sameValues(t *testing.T, got, sent []byte, all bool) {
	t.Helper()
	have, want := stdjson.NewDecoder(bytes.NewReader(got)), stdjson.NewDecoder(bytes.NewReader(sent))
	for {
		var h, w stdjson.RawMessage
		errHave, errWant := have.Decode(&h), want.Decode(&w)
		if errHave != nil {
			if !errors.Is(errHave, io.EOF) || all && !errors.Is(errWant, io.EOF) {
				t.Errorf("%q became %q", sent, got)
			}
			return
		}
		if errWant != nil || !bytes.Equal(h, w) {
			t.Errorf("%q became %q", sent, got)
			return
		}
	}
}

// wholeFrames says that events in protobuf are each as long as is said, and together no longer than what was sent.
func wholeFrames(t *testing.T, got []byte, sent int) {
	t.Helper()
	if len(got) > sent {
		t.Errorf("%d bytes became %d", sent, len(got))
	}
	for len(got) > 0 {
		if len(got) < 4 || int(binary.BigEndian.Uint32(got)) > len(got)-4 {
			t.Fatalf("a frame has %d bytes, of %q", len(got), got)
		}
		got = got[4+binary.BigEndian.Uint32(got):]
	}
}

// followedByLibrary says whether a client library that follows a watch of a kind takes its beginning for over, and whether it gives the watch up before that. It does what client-go's reflector does.
func followedByLibrary(body io.ReadCloser, inJSON bool, one runtime.Object) (ended, failed bool) {
	events := restwatch.NewDecoder(streaming.NewDecoder(protobuf.LengthDelimitedFramer.NewFrameReader(body), rawWire), wire)
	if inJSON {
		events = restwatch.NewDecoder(streaming.NewDecoder(json.Framer.NewFrameReader(body), jsonWire), jsonWire)
	}
	for {
		what, o, err := events.Decode()
		switch {
		case err != nil:
			return ended, !errors.Is(err, io.EOF)
		case what == watch.Error:
			return ended, true
		case reflect.TypeOf(o) != reflect.TypeOf(one):
			continue
		}
		if what == watch.Bookmark && o.(metav1.Object).GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true" {
			ended = true
		}
	}
}
