// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/controllers"
)

// initialEventsEnd marks the bookmark after which a watch that began with everything has told everything.
const initialEventsEnd = "k8s.io/initial-events-end"

func (s *Server) handle(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+token {
		answerStatus(w, http.StatusUnauthorized, metav1.StatusReasonUnauthorized, "who are you?")
		return
	}
	if r.Method == http.MethodGet && s.discover(w, r) {
		return
	}
	t, ok := s.target(r.URL.Path)
	if !ok {
		answerStatus(w, http.StatusNotFound, metav1.StatusReasonNotFound, "there is no "+r.URL.Path)
		return
	}
	switch {
	case r.Method != http.MethodGet:
		s.write(w, r, t)
	case t.name != "":
		s.get(w, r, t)
	case r.URL.Query().Get("watch") == "true" || r.URL.Query().Get("watch") == "1":
		s.serveWatch(w, r, t)
	default:
		s.serveList(w, r, t)
	}
}

// negotiate chooses the encoding: the first of those asked for that we have.
func negotiate(r *http.Request) runtime.SerializerInfo {
	for part := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		kind, parameters, err := mime.ParseMediaType(part)
		if err != nil || parameters["as"] != "" {
			continue
		}
		if info, ok := runtime.SerializerInfoForMediaType(codecs.SupportedMediaTypes(), kind); ok {
			return info
		}
	}
	info, _ := runtime.SerializerInfoForMediaType(codecs.SupportedMediaTypes(), runtime.ContentTypeJSON)
	return info
}

// selector says which objects a list or watch is about.
func selector(r *http.Request, namespace string) (func(client.Object) bool, error) {
	q := r.URL.Query()
	byLabel, err := labels.Parse(q.Get("labelSelector"))
	if err != nil {
		return nil, err
	}
	byField, err := fields.ParseSelector(q.Get("fieldSelector"))
	if err != nil {
		return nil, err
	}
	for _, requirement := range byField.Requirements() {
		if !slices.Contains([]string{"metadata.name", "metadata.namespace", fieldNode}, requirement.Field) {
			return nil, fmt.Errorf("field %q cannot be selected by", requirement.Field)
		}
	}
	return func(o client.Object) bool {
		selectable := fields.Set{"metadata.name": o.GetName(), "metadata.namespace": o.GetNamespace()}
		if pod, ok := o.(*corev1.Pod); ok {
			selectable[fieldNode] = pod.Spec.NodeName
		}
		return (namespace == "" || o.GetNamespace() == namespace) && byLabel.Matches(labels.Set(o.GetLabels())) && byField.Matches(selectable)
	}, nil
}

// fieldNode is what a node's agent selects its pods by.
const fieldNode = "spec.nodeName"

func (s *Server) get(w http.ResponseWriter, r *http.Request, t target) {
	t.table.mu.Lock()
	o, ok := t.table.objects[types.NamespacedName{Namespace: t.namespace, Name: t.name}]
	t.table.mu.Unlock()
	if !ok {
		answerError(w, errNotFound)
		return
	}
	answer(w, r, http.StatusOK, o)
}

func (s *Server) serveList(w http.ResponseWriter, r *http.Request, t target) {
	passes, err := selector(r, t.namespace)
	if err != nil {
		answerError(w, err)
		return
	}
	objects, version := s.list(t.table, passes)
	objects, more, err := page(objects, &version, r.URL.Query())
	if err != nil {
		answerError(w, err)
		return
	}
	kind := t.table.resource.kind
	kind.Kind += "List"
	list, err := controllers.Scheme().New(kind)
	if err != nil {
		answerError(w, err)
		return
	}
	items := make([]runtime.Object, len(objects))
	for i, o := range objects {
		items[i] = o
	}
	if err := meta.SetList(list, items); err != nil {
		answerError(w, err)
		return
	}
	list.GetObjectKind().SetGroupVersionKind(kind)
	list.(metav1.ListInterface).SetResourceVersion(strconv.FormatUint(version, 10))
	list.(metav1.ListInterface).SetContinue(more)
	answer(w, r, http.StatusOK, list)
}

// page gives the part of a list that was asked for, and how to ask for the next. Pages are of the present, not of the version that they say: a watch that goes on from
// there tells what changed meanwhile. As an API server does, it gives everything to who is content with any version.
func page(objects []client.Object, version *uint64, q url.Values) (part []client.Object, more string, err error) {
	limit, _ := strconv.Atoi(q.Get("limit")) // none, or none that counts: everything
	if after := q.Get("continue"); after != "" {
		v, name, ok := strings.Cut(after, "|")
		if *version, err = strconv.ParseUint(v, 10, 64); !ok || err != nil {
			return nil, "", fmt.Errorf("continue: %q is not of our making", after)
		}
		objects = slices.DeleteFunc(objects, func(o client.Object) bool {
			namespace, n, _ := strings.Cut(name, "/")
			return compareStrings(o.GetNamespace(), namespace, o.GetName(), n) <= 0
		})
	}
	if limit <= 0 || limit >= len(objects) || q.Get("resourceVersion") == "0" {
		return objects, "", nil
	}
	return objects[:limit], fmt.Sprintf("%d|%s", *version, keyOf(objects[limit-1])), nil
}

// serveWatch tells of changes until the client leaves, its time is over or the server ends.
func (s *Server) serveWatch(w http.ResponseWriter, r *http.Request, t target) {
	passes, err := selector(r, t.namespace)
	if err != nil {
		answerError(w, err)
		return
	}
	q := r.URL.Query()
	behind, _ := strconv.ParseUint(q.Get("resourceVersion"), 10, 64) // none, or none that counts: from the start
	initial := q.Get("sendInitialEvents") == "true"
	watcher, there, version, err := s.watch(t.table, behind, initial, passes)
	if err != nil {
		answerError(w, err)
		return
	}
	defer t.table.unwatch(watcher)
	limit := time.Hour
	if seconds, err := strconv.Atoi(q.Get("timeoutSeconds")); err == nil && seconds > 0 {
		limit = time.Duration(seconds) * time.Second
	}
	over := time.NewTimer(limit)
	defer over.Stop()

	out := newFrames(w, negotiate(r))
	out.told = &s.crowd.told
	if initial {
		for _, o := range there {
			if out.send(&event{what: watch.Added, object: o}) != nil {
				return
			}
		}
		if s.crowd.tell(t.table, out) != nil {
			return
		}
		if out.bookmark(t.table.resource, version) != nil {
			return
		}
	}
	for {
		out.flush()
		select {
		case <-r.Context().Done():
			return
		case <-s.ending:
			return
		case <-over.C:
			return
		case <-watcher.wake:
		}
		for _, e := range watcher.take() {
			if passes(e.object) && out.send(e) != nil {
				return
			}
		}
	}
}

// frames writes watch events in one encoding.
type frames struct {
	w       http.ResponseWriter
	info    runtime.SerializerInfo
	writer  io.Writer
	control *http.ResponseController
	told    *atomic.Int64

	object, event bytes.Buffer // what is written next; who measures the reader should not pay for a new one each time
}

func newFrames(w http.ResponseWriter, info runtime.SerializerInfo) *frames {
	w.Header().Set("Content-Type", info.MediaType+";stream=watch")
	w.WriteHeader(http.StatusOK)
	return &frames{w: w, info: info, writer: info.StreamSerializer.Framer.NewFrameWriter(w), control: http.NewResponseController(w)}
}

func (f *frames) flush() { _ = f.control.Flush() } // the next write says what is wrong

func (f *frames) send(e *event) error {
	e.mu.Lock()
	body := e.encoded[f.info.MediaType]
	e.mu.Unlock()
	if body == nil {
		f.object.Reset()
		if err := f.info.Serializer.Encode(e.object, &f.object); err != nil {
			return err
		}
		framed := metav1.WatchEvent{Type: string(e.what), Object: runtime.RawExtension{Raw: f.object.Bytes()}}
		f.event.Reset()
		if err := f.info.StreamSerializer.Serializer.Encode(&framed, &f.event); err != nil {
			return err
		}
		body = f.event.Bytes()
		e.mu.Lock()
		if e.encoded != nil {
			e.encoded[f.info.MediaType] = bytes.Clone(body)
		}
		e.mu.Unlock()
	}
	f.told.Add(int64(len(body)))
	_, err := f.writer.Write(body)
	return err
}

// bookmark says that everything that was there has been told.
func (f *frames) bookmark(r served, version uint64) error {
	made, err := controllers.Scheme().New(r.kind)
	if err != nil {
		return err
	}
	o := made.(client.Object)
	o.GetObjectKind().SetGroupVersionKind(r.kind)
	o.SetResourceVersion(strconv.FormatUint(version, 10))
	o.SetAnnotations(map[string]string{initialEventsEnd: "true"})
	return f.send(&event{what: watch.Bookmark, object: o})
}

// answer writes an object in the encoding that was asked for.
func answer(w http.ResponseWriter, r *http.Request, code int, o runtime.Object) {
	info := negotiate(r)
	body, err := runtime.Encode(info.Serializer, o)
	if err != nil {
		answerError(w, err)
		return
	}
	w.Header().Set("Content-Type", info.MediaType)
	w.WriteHeader(code)
	_, _ = w.Write(body) // the client left
}

func answerJSON(w http.ResponseWriter, code int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // of our own making: it can always be encoded
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(body)
}

func answerStatus(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	answerJSON(w, code, metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Reason: reason, Message: message, Code: int32(code),
	})
}

func answerError(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, errNotFound):
		answerStatus(w, http.StatusNotFound, metav1.StatusReasonNotFound, err.Error())
	case errors.Is(err, errExists):
		answerStatus(w, http.StatusConflict, metav1.StatusReasonAlreadyExists, err.Error())
	case errors.Is(err, errConflict):
		answerStatus(w, http.StatusConflict, metav1.StatusReasonConflict, err.Error())
	case errors.Is(err, errGone):
		answerStatus(w, http.StatusGone, metav1.StatusReasonExpired, err.Error())
	default:
		answerStatus(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
	}
}
