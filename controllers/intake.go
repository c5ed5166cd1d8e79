// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// intakeRate is how much one remote API server may send for long, in bytes per second. A change of a pod is about 4 KiB on the wire, so
	// this is a thousand changes a second; reading that much takes about a tenth of a core here.
	intakeRate = 4 << 20
	// intakeBurst is how much it may send at once, in bytes: the first read of a cluster of 100,000 pods. Little of it is held in memory at a time.
	intakeBurst = 512 << 20
	// maxPlain bounds an answer that is no list and no watch, in bytes: an object, which etcd takes up to 1.5 MiB of.
	maxPlain = 2 << 20
	// maxProblemSaid bounds one that says what is wrong, in bytes: a Status, of which a client library makes 48 bytes of each two of some parts. An API server's take about 1 KiB.
	maxProblemSaid = 64 << 10
	// clockSlack is how far another cluster's clock may be from ours before status says so: certificates are issued a little before
	// they begin, and tokens allow about as much.
	clockSlack = time.Minute
)

var errTooMuch = errors.New("the API server sends more than is read of one answer")

// intake is a remote connection's transport: it bounds what the other side can make us read, and how fast, and notes what can only be seen
// here. Whatever it holds back waits in the remote API server, and nobody else waits for it.
type intake struct {
	next  http.RoundTripper
	limit *budget

	came    atomic.Int64 // bytes
	held    atomic.Int64 // when something was last held back
	tooMuch atomic.Int64 // when an answer was last cut off
	ahead   atomic.Int64 // how far the server's clock is ahead of ours, in nanoseconds, to about a second

	follows follows
	full    func() bool // says that there is no room for more; nil: there always is

	reading reading
	paging  chan struct{} // holds one while a page of a list is read and skimmed
}

// newIntake makes one for a cluster that has so much room, see room, and so much to be read of it, see Remotes.budget.
func newIntake(next http.RoundTripper, most int64, budget *budget) *intake {
	return &intake{next: next, limit: budget, reading: reading{most: most}, paging: make(chan struct{}, 1)}
}

// RoundTrip implements http.RoundTripper.
func (i *intake) RoundTrip(r *http.Request) (*http.Response, error) {
	asked := time.Now()
	watch, follows := followed(r)
	query := r.URL.Query()
	// A watch that begins with what there is now is a list.
	initial := !watch || query.Get("sendInitialEvents") == "true"
	if !initial && i.isFull() {
		return nil, errFull
	}
	if !watch && follows {
		r = paged(r, query)
	}
	answer, err := i.next.RoundTrip(r)
	if err != nil {
		if follows && r.Context().Err() == nil {
			i.follows.failed(r.URL.Path, 0, err.Error())
		}
		return nil, err
	}
	switch {
	case follows && answer.StatusCode == http.StatusOK:
		i.follows.answered(r.URL.Path, watch)
	case follows:
		i.follows.failed(r.URL.Path, answer.StatusCode, codeText(answer.StatusCode))
	}
	now := time.Now()
	if said, err := http.ParseTime(answer.Header.Get("Date")); err == nil {
		// The header says a whole second, somewhere between the question and the answer.
		switch {
		case said.Add(time.Second).Before(asked):
			i.ahead.Store(int64(said.Add(time.Second).Sub(asked)))
		case said.After(now):
			i.ahead.Store(int64(said.Sub(now)))
		default:
			i.ahead.Store(0)
		}
	}
	answer.Body = &metered{ReadCloser: answer.Body, intake: i, request: r, follows: follows, watch: watch && answer.StatusCode == http.StatusOK}
	if answer.StatusCode != http.StatusOK {
		answer.Body = &wholeBody{ReadCloser: answer.Body, intake: i, left: maxProblemSaid}
		return answer, nil
	}
	if !follows {
		answer.Body = &wholeBody{ReadCloser: answer.Body, intake: i, left: maxPlain}
		return answer, nil
	}
	if query.Get("continue") == "" { // a list begins, or is over if a watch goes on from it
		i.reading.done(r.URL.Path)
	}
	body, err := i.followedBody(answer.Body, r, answer.Header, watch, initial)
	if err != nil {
		err = errors.Join(err, answer.Body.Close())
		i.follows.failed(r.URL.Path, 0, err.Error()) // after what closing says of how it ended
		return nil, err
	}
	answer.Body = body
	return answer, nil
}

// paged asks for a list in pages. API servers older than watches that begin with what there is give all of it at once, whatever the limit, to who is content
// with any version ("0").
func paged(r *http.Request, query url.Values) *http.Request {
	if query.Get("resourceVersion") != "0" || query.Get("limit") == "" {
		return r
	}
	query.Del("resourceVersion")
	query.Del("resourceVersionMatch")
	asked := r.Clone(r.Context())
	asked.URL.RawQuery = query.Encode()
	return asked
}

// noteTooMuch notes that an answer was cut off.
func (i *intake) noteTooMuch() { i.tooMuch.Store(time.Now().UnixNano()) }

// isFull says whether there is no room for what a watch may bring.
func (i *intake) isFull() bool { return i.full != nil && i.full() }

// followed says whether a request lists or watches objects of a kind, and which of the two.
func followed(r *http.Request) (watch, follows bool) {
	query := r.URL.Query()
	watch = query.Get("watch") == "true" || query.Get("watch") == "1"
	return watch, watch || query.Has("limit") || query.Has("resourceVersion")
}

// recently says whether an instant noted by the intake still counts: for as long as three questions take to come.
func recently(noted *atomic.Int64) bool {
	at := noted.Load()
	return at != 0 && time.Since(time.Unix(0, at)) < 3*probeEvery
}

// metered is the body of an answer as it comes.
type metered struct {
	io.ReadCloser
	intake  *intake
	request *http.Request
	follows bool
	mu      sync.Mutex // guards watch: a body is closed while it is read
	watch   bool       // one that has not ended
}

// end notes how a watch ended, once.
func (m *metered) end(problem error) {
	if m.watch {
		m.watch = false
		m.intake.follows.ended(m.request.URL.Path, problem)
	}
}

// Close implements io.Closer.
func (m *metered) Close() error {
	m.mu.Lock()
	m.end(nil)
	m.mu.Unlock()
	return m.ReadCloser.Close()
}

// Read implements io.Reader. It waits for the rate before it hands out what came.
func (m *metered) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p[:min(len(p), intakeRate)])
	if err != nil && m.request.Context().Err() == nil {
		m.mu.Lock()
		m.end(err)
		m.mu.Unlock()
	}
	if n == 0 {
		return n, err
	}
	now := time.Now()
	m.intake.came.Add(int64(n))
	m.intake.limit.beside.read(n)
	progress(m.request.Context(), int64(n))
	if !m.follows {
		return n, err // nobody waits behind a flood to hear that the server is there; and we ask seldom
	}
	if !m.intake.limit.AllowN(now, n) {
		m.intake.held.Store(now.UnixNano())
		if late := m.intake.limit.WaitN(m.request.Context(), n); late != nil {
			return 0, late
		}
	}
	return n, err
}

// wholeBody is the body of an answer that is held as a whole.
type wholeBody struct {
	io.ReadCloser
	intake *intake
	left   int
}

// Read implements io.Reader.
func (b *wholeBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		b.intake.noteTooMuch()
		return 0, errTooMuch
	}
	return n, err
}
