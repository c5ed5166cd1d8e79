// SPDX-License-Identifier: Apache-2.0

package http

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A body that was read whole has ended for good, also for a transport that asks again after the answer has begun, when the server has closed it: an error would break the answer off.
func TestBodyThatIsReadAgain(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		body := &patientBody{body: r.Body, close: r.Body.Close, control: control, stall: patience, now: time.Now, stalled: &atomic.Bool{}, turn: make(chan struct{}, 1)}
		if _, err := io.Copy(io.Discard, body); err != nil {
			t.Error(err)
		}
		if err := control.Flush(); err != nil {
			t.Error(err)
		}
		if n, err := body.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("%d bytes, %v", n, err)
		}
	}))
	defer server.Close()
	response, err := server.Client().Post(server.URL, "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
}
