// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"encoding/json"
	"io"
	"net/http"
	"reflect"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/controllers"
)

// maxBody bounds what a client may send, in bytes: a little above what etcd takes.
const maxBody = 4 << 20

// write creates, replaces, patches or deletes.
func (s *Server) write(w http.ResponseWriter, r *http.Request, t target) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		answerError(w, err)
		return
	}
	key := types.NamespacedName{Namespace: t.namespace, Name: t.name}
	var o client.Object
	code := http.StatusOK
	switch r.Method {
	case http.MethodPost:
		if o, err = decode(body); err != nil {
			break
		}
		if review, ok := o.(*authenticationv1.TokenReview); ok {
			judge(review)
			answer(w, r, http.StatusCreated, review)
			return
		}
		o.SetNamespace(t.namespace)
		code, err = http.StatusCreated, s.create(t.table, o)
	case http.MethodPut:
		var wanted client.Object
		if wanted, err = decode(body); err == nil {
			o, err = s.change(t.table, key, func(old client.Object) (client.Object, error) { return merged(old, wanted, t.status), nil })
		}
	case http.MethodPatch:
		o, err = s.patch(t, key, body)
	case http.MethodDelete:
		o, err = s.remove(t.table, key)
	default:
		answerStatus(w, http.StatusMethodNotAllowed, "MethodNotAllowed", r.Method)
		return
	}
	if err != nil {
		answerError(w, err)
		return
	}
	answer(w, r, code, o)
}

func decode(body []byte) (client.Object, error) {
	o, kind, err := codecs.UniversalDeserializer().Decode(body, nil, nil)
	if err != nil {
		return nil, err
	}
	o.GetObjectKind().SetGroupVersionKind(*kind)
	return o.(client.Object), nil
}

// merged is the object after an update of its status, or of everything else.
func merged(old, wanted client.Object, status bool) client.Object {
	before, after := reflect.ValueOf(old).Elem().FieldByName("Status"), reflect.ValueOf(wanted).Elem().FieldByName("Status")
	if !before.IsValid() {
		return wanted
	}
	if status {
		before.Set(after)
		old.SetResourceVersion(wanted.GetResourceVersion())
		return old
	}
	after.Set(before)
	wanted.SetGeneration(old.GetGeneration() + 1)
	return wanted
}

// patch merges what is given into what is there, or makes it. Apply patches are treated alike: each of the fields that we are sent has
// one owner here.
func (s *Server) patch(t target, key types.NamespacedName, body []byte) (client.Object, error) {
	var given map[string]any
	if err := yaml.Unmarshal(body, &given); err != nil {
		return nil, err
	}
	edit := func(old client.Object) (client.Object, error) {
		fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(old)
		if err != nil {
			return nil, err
		}
		mergeInto(fields, given)
		text, err := json.Marshal(fields)
		if err != nil {
			return nil, err
		}
		return decode(text)
	}
	o, err := s.change(t.table, key, edit)
	if err == nil || err != errNotFound { //nolint:errorlint // our own, not wrapped
		return o, err
	}
	empty, err := controllers.Scheme().New(t.table.resource.kind)
	if err != nil {
		return nil, err
	}
	empty.GetObjectKind().SetGroupVersionKind(t.table.resource.kind)
	if o, err = edit(empty.(client.Object)); err != nil {
		return nil, err
	}
	o.SetNamespace(key.Namespace)
	o.SetName(key.Name)
	return o, s.create(t.table, o)
}

func mergeInto(into, given map[string]any) {
	for k, v := range given {
		inner, isMap := v.(map[string]any)
		there, wasMap := into[k].(map[string]any)
		switch {
		case v == nil:
			delete(into, k)
		case isMap && wasMap:
			mergeInto(there, inner)
		default:
			into[k] = v
		}
	}
}
