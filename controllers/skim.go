// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// What an API server sends of an object is ten times what is read of it: of a pod, its containers and who manages its fields. Skimming drops
// the rest from the encoded form, before anything is made of it, and weighs what is left.

var errMalformed = errors.New("the API server's answer is not well encoded")

// What things weigh, in bytes, besides their text: about what they take in memory as soon as they are decoded, so that a few bytes that become many
// objects are seen for what they are.
const (
	objectWeight  = 1 << 10 // an object of the API, which is 1.2 kB for a Pod without anything in it
	messageWeight = 64      // what a message holds, or an entry of a map
	fieldWeight   = 16      // a string's header
)

// shape says which fields of a message are kept.
type shape struct {
	keep   [32]*shape            // by number: nil drops the field. Kubernetes numbers all that we read below 32.
	leaf   bool                  // keeps the field whole
	only   func(key []byte) bool // of a message whose field 1 is what it is about: drops those that are about other things; nil keeps all
	weight int64
}

var leaf = &shape{leaf: true}

// keeps makes the shape of a message of which some fields are kept whole.
func keeps(weight int64, whole ...protowire.Number) *shape {
	s := &shape{weight: weight}
	for _, n := range whole {
		s.keep[n] = leaf
	}
	return s
}

// with keeps parts of one more field.
func (s *shape) with(n protowire.Number, inner *shape) *shape {
	s.keep[n] = inner
	return s
}

// about keeps those messages that are about some of the keys.
func (s *shape) about(keys ...string) *shape {
	s.only = func(key []byte) bool {
		for _, k := range keys {
			if string(key) == k {
				return true
			}
		}
		return false
	}
	return s
}

// Fields of ObjectMeta that world.Vet, world.Reduce or a cache look at (generated.proto of k8s.io/apimachinery, pkg/apis/meta/v1): name 1, namespace 3, uid 5,
// resourceVersion 6, creationTimestamp 8, deletionTimestamp 9, labels 11, annotations 12, ownerReferences 13.
func metaShape(annotations ...string) *shape {
	m := keeps(messageWeight, 1, 3, 5, 6, 8, 9).
		with(11, keeps(messageWeight, 1, 2)).
		with(13, keeps(messageWeight, 1, 3, 4, 6)) // kind, name, uid, controller
	if len(annotations) > 0 {
		m.with(12, keeps(messageWeight, 1, 2).about(annotations...))
	}
	return m
}

// kindShape is what is kept of one kind, as an object and as a list of them, each in its envelope.
type kindShape struct{ one, list *shape }

// Fields of runtime.Unknown: typeMeta 1, raw 2, contentEncoding 3, contentType 4; and of a list: metadata 1, items 2.
func kindShaped(object *shape) *kindShape {
	return &kindShape{one: keeps(0, 1, 3, 4).with(2, object), list: keeps(0, 1, 3, 4).with(2, keeps(0, 1).with(2, object))}
}

// shapes are what is kept of the kinds that API servers encode in protobuf, by the end of their path. Numbers are those of generated.proto in k8s.io/api, core/v1 and discovery/v1;
// comments name them.
var shapes = map[string]*kindShape{
	"/api/v1/namespaces": kindShaped(keeps(objectWeight).with(1, metaShape(world.AnnotationDistribution))),
	"/api/v1/nodes":      kindShaped(keeps(objectWeight).with(1, metaShape())),
	"/api/v1/pods":       kindShaped(podShape()),
	"/api/v1/services":   kindShaped(serviceShape()),
	"/apis/discovery.k8s.io/v1/endpointslices": kindShaped(sliceShape()),
}

// shapeOf gives what is kept of the kind that is listed or watched at a path, which may begin with one that a kubeconfig's server has; nil if it is none of those.
func shapeOf(path string) *kindShape {
	for suffix, kind := range shapes {
		if strings.HasSuffix(path, suffix) {
			return kind
		}
	}
	return nil
}

func podShape() *shape {
	ready := keeps(messageWeight, 1, 2).about(string(corev1.PodReady)) // type, status
	ips := keeps(messageWeight, 1)                                     // ip
	return keeps(objectWeight).
		with(1, metaShape(world.AnnotationRedirection, world.AnnotationConfines)).
		with(2, keeps(messageWeight, 8, 10, 11)).                        // spec: serviceAccountName, nodeName, hostNetwork
		with(3, keeps(messageWeight, 1, 6).with(2, ready).with(12, ips)) // status: phase, podIP, conditions, podIPs
}

func serviceShape() *shape {
	ports := keeps(messageWeight, 1, 2, 3, 4, 5, 6) // name, protocol, port, targetPort, nodePort, appProtocol
	ingress := keeps(messageWeight, 1, 2)           // ip, hostname
	owners := keeps(messageWeight, 1, 3, 4, 5, 6)   // kind, name, uid, apiVersion, controller
	return keeps(objectWeight).
		with(1, metaShape(world.AnnotationDistribution).with(13, owners)).
		// spec: clusterIP, type, publishNotReadyAddresses, clusterIPs, ipFamilies, internalTrafficPolicy, trafficDistribution, ports
		with(2, keeps(messageWeight, 3, 4, 13, 18, 19, 22, 23).with(1, ports)).
		with(3, keeps(messageWeight).with(1, keeps(messageWeight).with(1, ingress))) // status: loadBalancer
}

func sliceShape() *shape {
	endpoints := keeps(messageWeight, 1, 6). // addresses, nodeName
							with(2, keeps(fieldWeight, 1)).        // conditions: ready
							with(4, keeps(messageWeight, 1, 2, 3)) // targetRef: kind, namespace, name
	ports := keeps(messageWeight, 1, 2, 3)                                               // name, protocol, port
	return keeps(objectWeight, 4).with(1, metaShape()).with(2, endpoints).with(3, ports) // addressType
}

// skim appends to out what is kept of a message, adds what that weighs, and gives both; false if it is malformed.
func (s *shape) skim(out, in []byte, weight int64) ([]byte, int64, bool) {
	weight += s.weight
	for len(in) > 0 {
		number, kind, tag := protowire.ConsumeTag(in)
		if tag < 0 {
			return out, weight, false
		}
		length := protowire.ConsumeFieldValue(number, kind, in[tag:])
		if length < 0 {
			return out, weight, false
		}
		field, value := in[:tag+length], in[tag:tag+length]
		in = in[tag+length:]
		if int(number) >= len(s.keep) || s.keep[number] == nil {
			continue
		}
		inner := s.keep[number]
		if inner.leaf {
			out = append(out, field...)
			weight += int64(len(field)) + fieldWeight
			continue
		}
		if kind != protowire.BytesType {
			return out, weight, false
		}
		content, width := protowire.ConsumeBytes(value)
		if inner.only != nil && !inner.only(key(content)) {
			continue
		}
		var ok bool
		if out, weight, ok = inner.nested(out, field[:tag], content, width-len(content), weight); !ok {
			return out, weight, false
		}
	}
	return out, weight, true
}

// nested appends a tag, a length and what is kept of a message.
func (s *shape) nested(out, tag, content []byte, width int, weight int64) ([]byte, int64, bool) {
	out = append(out, tag...)
	at := len(out)
	out = append(out, make([]byte, width)...)
	out, weight, ok := s.skim(out, content, weight)
	if ok {
		putLength(out[at:at+width], uint64(len(out)-at-width))
	}
	return out, weight, ok
}

// putLength writes a length in as many bytes as there are: what is kept is never longer than what was there, so the place of the length before is enough.
func putLength(place []byte, n uint64) {
	for i := range place {
		place[i] = byte(n) | 0x80
		n >>= 7
	}
	place[len(place)-1] &^= 0x80
}

// key gives field 1, if it is the first that comes, as it does in all that API servers write; nil else, which is nobody's key.
func key(content []byte) []byte {
	number, kind, tag := protowire.ConsumeTag(content)
	if tag < 0 || number != 1 || kind != protowire.BytesType {
		return nil
	}
	k, n := protowire.ConsumeBytes(content[tag:])
	if n < 0 {
		return nil
	}
	return k
}

// envelope begins an object that stands for itself. A runtime.Unknown follows, which holds it.
const envelope = "k8s\x00"

// object appends what is kept of an object or a list in its envelope.
func (s *shape) object(out, in []byte) ([]byte, int64, bool) {
	if len(in) < len(envelope) || string(in[:len(envelope)]) != envelope {
		return out, 0, false
	}
	return s.skim(append(out, envelope...), in[len(envelope):], 0)
}

// eventObject is the field of a watch's event (meta/v1.WatchEvent) with its object. Field 1 says what happened.
const eventObject = 2

// maxNotice bounds an event that is about no object, in bytes. It is not skimmed: a bookmark has a version and an annotation, and an error a few lines of text, but what
// is said to be one may hold an object, of which each two bytes become a container of 1 kB when it is decoded.
const maxNotice = 64 << 10

// event appends what is kept of a watch's event about an object of the kind. One that is about no object, as a bookmark or an error, is kept whole; what it says is in what.
func (k *kindShape) event(out, in []byte) (event []byte, what string, weight int64, ok bool) {
	what = string(key(in))
	about := what == "ADDED" || what == "MODIFIED" || what == "DELETED"
	if !about && len(in) > maxNotice {
		return out, what, 0, false
	}
	for rest, said := in, 0; len(rest) > 0; {
		number, _, n := protowire.ConsumeField(rest)
		if n < 0 {
			return out, what, 0, false
		}
		if rest = rest[n:]; number == 1 {
			said++
		}
		if said > 1 || said == 0 { // who decodes it takes the last word, and this was the first
			return out, what, 0, false
		}
	}
	if !about {
		return append(out, in...), what, int64(len(in)), true
	}
	for len(in) > 0 {
		number, kind, tag := protowire.ConsumeTag(in)
		if tag < 0 {
			return out, what, weight, false
		}
		length := protowire.ConsumeFieldValue(number, kind, in[tag:])
		if length < 0 {
			return out, what, weight, false
		}
		field, value := in[:tag+length], in[tag:tag+length]
		in = in[tag+length:]
		if number != eventObject || kind != protowire.BytesType {
			out = append(out, field...)
			continue
		}
		// runtime.RawExtension: raw 1, the object in its envelope.
		extension, width := protowire.ConsumeBytes(value)
		raw, rawKind, rawTag := protowire.ConsumeTag(extension)
		if rawTag < 0 || raw != 1 || rawKind != protowire.BytesType {
			return out, what, weight, false
		}
		content, rawWidth := protowire.ConsumeBytes(extension[rawTag:])
		if rawWidth < 0 {
			return out, what, weight, false
		}
		out = append(out, field[:tag]...)
		outer := len(out)
		out = append(out, make([]byte, width-len(extension))...)
		begin := len(out)
		out = append(out, extension[:rawTag]...)
		inner := len(out)
		out = append(out, make([]byte, rawWidth-len(content))...)
		object := len(out)
		var w int64
		if out, w, ok = k.one.object(out, content); !ok {
			return out, what, weight, false
		}
		weight += w
		putLength(out[inner:object], uint64(len(out)-object))
		putLength(out[outer:begin], uint64(len(out)-begin))
	}
	return out, what, weight, true
}
