// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/watch"
)

const (
	// maxPage bounds a page of a list, in bytes. It is held as a whole, and asked for with 500 objects at most; pods of large charts are 20 kB each.
	maxPage = 32 << 20
	// maxObject bounds one object in a watch, in bytes: what client-go reads at most, ten times what etcd stores. It may weigh as much.
	maxObject = 16 << 20
	// structWeight is what an object in JSON weighs besides its text, in bytes: of "{}" in a list becomes a Gateway of 448 bytes, but of most less than 100. Kinds of Kubernetes' own, of
	// which larger ones would come, are not read in JSON.
	structWeight = 512
	// keptBuffer is how much of a watch's buffer stays, in bytes: most objects are smaller.
	keptBuffer = 32 << 10
)

// followedBody makes the body that a client library reads of an answer to a list or a watch. It holds what is read of the objects and no more, and ends early, with
// an error, where that weighs too much. Of kinds of Kubernetes' own it takes no JSON, of which all would be decoded, and more would come than it weighs.
func (i *intake) followedBody(body io.ReadCloser, r *http.Request, header http.Header, watches, initial bool) (io.ReadCloser, error) {
	media, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil {
		return nil, fmt.Errorf("the API server's answer is of an unknown type: %w", err)
	}
	a := toldBody{ReadCloser: body, ctx: r.Context(), intake: i, path: r.URL.Path, initial: initial}
	kind := shapeOf(r.URL.Path)
	switch {
	case media == runtime.ContentTypeJSON && kind != nil: // a client library asks for protobuf, and takes what else comes
		return nil, fmt.Errorf("the API server answers %s with %s: of Kubernetes' own kinds %s alone is read, which was asked for and which every API server has", r.URL.Path, media, runtime.ContentTypeProtobuf)
	case media == runtime.ContentTypeJSON && watches:
		a.bound = &io.LimitedReader{R: body}
		a.next = a.jsonEvent(json.NewDecoder(a.bound))
	case media == runtime.ContentTypeJSON:
		a.next = a.page(func(raw []byte) ([]byte, int64, bool) { return raw, jsonWeight(raw), true })
	case media == runtime.ContentTypeProtobuf && kind != nil && watches:
		a.next = a.protobufEvent(&gulps{from: body}, kind)
	case media == runtime.ContentTypeProtobuf && kind != nil:
		a.next = a.page(func(raw []byte) ([]byte, int64, bool) { return kind.list.object(make([]byte, 0, len(raw)/4), raw) })
	default:
		return nil, fmt.Errorf("the API server answers %s with %s, which was not asked for", r.URL.Path, media)
	}
	return &a, nil
}

// toldBody is the body of a list or a watch. next gives the next part, which is valid until the next call.
type toldBody struct {
	io.ReadCloser
	ctx     context.Context // of the request
	intake  *intake
	path    string
	initial bool // it tells what there is; what changes comes after that, or in another answer
	bound   *io.LimitedReader
	next    func() ([]byte, error)
	ready   []byte
	failed  error
}

// Read implements io.Reader.
func (a *toldBody) Read(p []byte) (int, error) {
	for len(a.ready) == 0 {
		if a.failed == nil {
			a.ready, a.failed = a.next()
		}
		if a.failed != nil && len(a.ready) == 0 {
			return 0, a.failed
		}
	}
	n := copy(p, a.ready)
	a.ready = a.ready[n:]
	return n, nil
}

// weigh says why what came cannot be read, if so.
func (a *toldBody) weigh(weight int64) error {
	switch {
	case a.initial && !a.intake.reading.add(a.path, weight):
		a.intake.noteTooMuch()
		return errTooMuch
	case !a.initial && weight > maxObject:
		a.intake.noteTooMuch()
		return errTooMuch
	case !a.initial && a.intake.isFull():
		return errFull
	}
	return nil
}

// page reads an answer as a whole. One page of a cluster is read at a time, so that no more than one is held as it came.
func (a *toldBody) page(skim func([]byte) ([]byte, int64, bool)) func() ([]byte, error) {
	return func() ([]byte, error) {
		if err := a.intake.takeTurn(a.ctx); err != nil {
			return nil, err
		}
		defer func() { <-a.intake.paging }()
		raw, err := io.ReadAll(io.LimitReader(a.ReadCloser, maxPage+1))
		if err != nil {
			return nil, err
		}
		if len(raw) > maxPage {
			a.intake.noteTooMuch()
			return nil, errTooMuch
		}
		kept, weight, ok := skim(raw)
		if !ok {
			return nil, errMalformed
		}
		if err := a.weigh(weight); err != nil {
			return nil, err
		}
		return kept, io.EOF
	}
}

// takeTurn waits until no other page is read. Who waits for a turn is not slow, so that counts as progress.
func (i *intake) takeTurn(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case i.paging <- struct{}{}:
			return nil
		case <-tick.C:
			progress(ctx, listPace)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// protobufEvent reads a watch's events, each after its length in four bytes.
func (a *toldBody) protobufEvent(from io.Reader, kind *kindShape) func() ([]byte, error) {
	var came, kept []byte
	return func() ([]byte, error) {
		var length [4]byte
		if _, err := io.ReadFull(from, length[:]); err != nil {
			return nil, err
		}
		n := int(binary.BigEndian.Uint32(length[:]))
		if n > maxObject {
			a.intake.noteTooMuch()
			return nil, errTooMuch
		}
		if cap(came) > keptBuffer {
			came, kept = nil, nil
		}
		for came = came[:0]; len(came) < n; { // memory for what is there, not for what is said to come
			at, more := len(came), min(n-len(came), max(keptBuffer, len(came)))
			came = append(came, make([]byte, more)...)
			if _, err := io.ReadFull(from, came[at:]); err != nil {
				return nil, unfinished(err)
			}
		}
		var what string
		var weight int64
		var ok bool
		kept, what, weight, ok = kind.event(append(kept[:0], length[:]...), came)
		if !ok {
			return nil, errMalformed
		}
		if err := a.weigh(weight); err != nil {
			return nil, err
		}
		a.heard(what, came, protobufObject)
		binary.BigEndian.PutUint32(kept, uint32(len(kept)-len(length)))
		return kept, nil
	}
}

// jsonEvent reads a watch's events, which follow each other.
func (a *toldBody) jsonEvent(from *json.Decoder) func() ([]byte, error) {
	return func() ([]byte, error) {
		var event json.RawMessage
		a.bound.N = maxObject
		if err := from.Decode(&event); err != nil {
			if a.bound.N <= 0 {
				a.intake.noteTooMuch()
				return nil, errTooMuch
			}
			if _, nonsense := errors.AsType[*json.SyntaxError](err); nonsense {
				return nil, errMalformed
			}
			return nil, err
		}
		if err := a.weigh(jsonWeight(event)); err != nil {
			return nil, err
		}
		if a.initial { // as a rule short, and seldom
			var head struct {
				Type string `json:"type"`
			}
			if err := utiljson.Unmarshal(event, &head); err != nil {
				return nil, errMalformed
			}
			a.heard(head.Type, event, jsonObject)
		}
		return append(event, '\n'), nil
	}
}

// heard notes what an event says of the watch itself.
func (a *toldBody) heard(what string, event []byte, object func(event []byte) (about, error)) {
	if !a.initial || what != string(watch.Bookmark) {
		return
	}
	if o, err := object(event); err == nil && o.endsBeginning(a.path) {
		a.initial = false
		a.intake.reading.done(a.path)
	}
}

// jsonWeight is what JSON weighs before it is decoded: each value comes after a comma, or begins an object or a list.
func jsonWeight(text []byte) int64 {
	values := bytes.Count(text, []byte{','}) + bytes.Count(text, []byte{'['})
	return int64(len(text)) + messageWeight*int64(values) + structWeight*int64(bytes.Count(text, []byte{'{'}))
}

// unfinished is the error of an event that ended in the middle.
func unfinished(err error) error {
	if err == io.EOF { //nolint:errorlint // as io.ReadFull gives it
		return io.ErrUnexpectedEOF
	}
	return err
}
