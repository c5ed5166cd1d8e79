// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"errors"
	"path"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	utiljson "k8s.io/apimachinery/pkg/util/json"
)

// A watch that begins with what there is says by a bookmark that this was all. Until then the client library holds what came beside what is kept, and all of it is weighed; so a bookmark that we
// took for that one, and the library did not, would have it hold without a bound. We read one as the library does, but for what is in its object besides metadata.

// about is what is read of an event's object.
type about struct {
	kind        schema.GroupVersionKind
	annotations map[string]string
}

// lists knows by what name which kind is listed.
var lists = remoteMapper()

// endsBeginning says whether a bookmark about it ends what there was when a watch of a path began. The library passes over bookmarks about objects of another kind than the one that it watches.
func (a about) endsBeginning(listed string) bool {
	if a.annotations[metav1.InitialEventsAnnotationKey] != "true" {
		return false
	}
	mapping, err := lists.RESTMapping(a.kind.GroupKind(), a.kind.Version)
	if err != nil {
		return false
	}
	of, root := mapping.Resource, "/apis"
	if of.Group == "" {
		root = "/api"
	}
	return strings.HasSuffix(listed, path.Join(root, of.Group, of.Version, of.Resource))
}

// jsonObject reads what an event in JSON is about. Where a key comes twice, or in letters of another case, it is read as the library reads it.
func jsonObject(event []byte) (about, error) {
	var e metav1.WatchEvent
	if err := utiljson.Unmarshal(event, &e); err != nil {
		return about{}, err
	}
	kind, err := json.DefaultMetaFactory.Interpret(e.Object.Raw)
	if err != nil {
		return about{}, err
	}
	var o metav1.PartialObjectMetadata
	if err := utiljson.Unmarshal(e.Object.Raw, &o); err != nil {
		return about{}, err
	}
	return about{*kind, o.Annotations}, nil
}

// protobufObject reads what an event in protobuf is about.
func protobufObject(event []byte) (about, error) {
	var e metav1.WatchEvent
	if err := e.Unmarshal(event); err != nil {
		return about{}, err
	}
	inside, ok := bytes.CutPrefix(e.Object.Raw, []byte(envelope))
	if !ok {
		return about{}, errors.New("an object without its envelope")
	}
	var u runtime.Unknown
	if err := u.Unmarshal(inside); err != nil {
		return about{}, err
	}
	var o metav1.PartialObjectMetadata // all kinds have their metadata in field 1
	if err := o.Unmarshal(u.Raw); err != nil {
		return about{}, err
	}
	return about{u.GroupVersionKind(), o.Annotations}, nil
}
