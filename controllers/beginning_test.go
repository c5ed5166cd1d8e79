// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// noticed is an event in protobuf with an object that has an annotation and a label.
func noticed(t *testing.T, what string, o runtime.Object, annotation, label string) []byte {
	t.Helper()
	m := o.(metav1.Object)
	m.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: annotation})
	if annotation == "" {
		m.SetAnnotations(nil)
	}
	m.SetLabels(map[string]string{"a": label})
	return frame(encoded(t, rawWire, &metav1.WatchEvent{Type: what, Object: runtime.RawExtension{Raw: encoded(t, wire, o)}}))
}

// TestOnlyTheLibrarysEndEndsABeginning: what the client library holds beside what is kept is weighed until it has it replace that, whatever a server calls what it sends.
func TestOnlyTheLibrarysEndEndsABeginning(t *testing.T) {
	const end = metav1.InitialEventsAnnotationKey
	pod := func() *corev1.Pod {
		return &corev1.Pod{TypeMeta: metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart"}}
	}
	namespace := &corev1.Namespace{TypeMeta: metav1.TypeMeta{Kind: "Namespace", APIVersion: "v1"}}
	inJSON := func(what, meta string) []byte {
		return []byte(`{"type":"ADDED","object":{"apiVersion":"gateway.networking.k8s.io/v1","kind":"Gateway"}}{` + what + `,"object":{"apiVersion":"gateway.networking.k8s.io/v1","kind":"Gateway","metadata":` + meta + `}}`)
	}
	inProtobuf := func(event []byte) []byte { return slices.Concat(noticed(t, "ADDED", pod(), "", ""), event) }
	annotated := `{"annotations":{"` + end + `":"true"}}`
	for name, tc := range map[string]struct {
		body []byte
		ends bool
	}{
		"the end":                      {inProtobuf(noticed(t, "BOOKMARK", pod(), "true", "")), true},
		"an object with its words":     {inProtobuf(noticed(t, "ADDED", pod(), "true", "")), false},
		"an annotation of other words": {inProtobuf(noticed(t, "BOOKMARK", pod(), "false", "")), false},
		"its words in a label":         {inProtobuf(noticed(t, "BOOKMARK", pod(), "", end)), false},
		"about another kind":           {inProtobuf(noticed(t, "BOOKMARK", namespace, "true", "")), false},

		"the end in JSON":                          {inJSON(`"type":"BOOKMARK"`, annotated), true},
		"the end in JSON, by its second name":      {inJSON(`"type":"ADDED","type":"BOOKMARK"`, annotated), true},
		"an object in JSON with its words":         {inJSON(`"type":"ADDED"`, annotated), false},
		"an object in JSON called so in capitals":  {inJSON(`"type":"ADDED","TYPE":"BOOKMARK"`, annotated), false},
		"an annotation of other words in JSON":     {inJSON(`"type":"BOOKMARK"`, `{"annotations":{"`+end+`":"TRUE"}}`), false},
		"its words in a label in JSON":             {inJSON(`"type":"BOOKMARK"`, `{"labels":{"`+end+`":"true"}}`), false},
		"its words in capitals in JSON":            {inJSON(`"type":"BOOKMARK"`, `{"Annotations":{"`+end+`":"true"}}`), false},
		"an object in JSON that another one hides": {inJSON(`"type":"BOOKMARK","object":{"kind":"Gateway","metadata":`+annotated+`}`, `{}`), false},
		"about another kind in JSON":               {inJSON(`"type":"BOOKMARK"`, annotated+`,"kind":"GatewayClass"`), false},
		"about another kind in JSON, in capitals":  {inJSON(`"type":"BOOKMARK"`, annotated+`,"KIND":"GatewayClass"`), false},
	} {
		media, path := runtime.ContentTypeProtobuf, "/api/v1/pods"
		if strings.HasSuffix(name, "JSON") || strings.Contains(name, "JSON,") || strings.Contains(name, "JSON ") {
			media, path = runtime.ContentTypeJSON, "/apis/gateway.networking.k8s.io/v1/gateways"
		}
		i := newIntake(&answersWith{media: media, body: func() io.Reader { return bytes.NewReader(tc.body) }}, 1<<20, newBudget())
		if _, err := ask(t, i, "https://far"+path+"?watch=true&sendInitialEvents=true"); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if ends := i.reading.total == 0; ends != tc.ends {
			t.Errorf("%s: that the beginning is over is %v, want %v", name, ends, tc.ends)
		}
	}
}

// TestAllThatIsReadHasItsEnd: the kind that a path lists is known for all kinds that are read of other clusters.
func TestAllThatIsReadHasItsEnd(t *testing.T) {
	mapper := remoteMapper()
	for _, k := range remoteKinds() {
		gvk, err := apiutil.GVKForObject(k.object(), scheme)
		if err != nil {
			t.Fatal(err)
		}
		mapping, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if err != nil {
			t.Fatal(err)
		}
		path := "/apis/" + gvk.Group + "/" + gvk.Version + "/" + mapping.Resource.Resource
		if gvk.Group == "" {
			path = "/api/" + gvk.Version + "/" + mapping.Resource.Resource
		}
		ends := map[string]string{metav1.InitialEventsAnnotationKey: "true"}
		for _, listed := range []string{path, "/k8s/clusters/c-1" + path} {
			if !(about{gvk, ends}).endsBeginning(listed) {
				t.Errorf("a list of %s at %s has no end", gvk, listed)
			}
		}
		for other, o := range map[string]about{
			path + "/x": {gvk, ends}, path[1:]: {gvk, ends}, path: {gvk, nil}, "": {gvk, ends}, "/": {schema.GroupVersionKind{}, ends},
		} {
			if o.endsBeginning(other) {
				t.Errorf("a list at %q has the end of %s %v", other, gvk, o.annotations)
			}
		}
	}
}
