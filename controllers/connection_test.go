// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
)

// TestNoRedirect: a remote API server cannot have us ask other addresses.
func TestNoRedirect(t *testing.T) {
	asked := false
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer elsewhere.Close()
	server := httptest.NewTLSServer(http.RedirectHandler(elsewhere.URL, http.StatusFound))
	defer server.Close()
	config := &rest.Config{Host: server.URL, BearerToken: "t", TLSClientConfig: rest.TLSClientConfig{
		CAData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})}}
	asker, _, closeIdle, err := newHTTPClient(config, newPace(&pacer{}, newBudget()))
	if err != nil {
		t.Fatal(err)
	}
	defer closeIdle()
	q, err := newQuestions(config, asker)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = q.cluster(context.Background())
	if err == nil || strings.Contains(err.Error(), elsewhere.URL) {
		t.Errorf("the answer was %v", err)
	}
	if asked {
		t.Error("the redirect was followed")
	}
}
