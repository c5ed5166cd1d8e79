// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// answering is an API server that says the same to everybody.
type answering struct{ asked int }

func (a *answering) RoundTrip(*http.Request) (*http.Response, error) {
	a.asked++
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(`{"type":"ADDED","object":{}}`)),
	}, nil
}

// TestNoWatchWithoutRoom asks, without room, for what adds to what is kept and for what replaces it.
func TestNoWatchWithoutRoom(t *testing.T) {
	server := &answering{}
	i := newIntake(server, DefaultRoom, newBudget())
	full := false
	i.full = func() bool { return full }
	ask := func(query string) error {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://far/apis/gateway.networking.k8s.io/v1/gateways?"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := i.RoundTrip(r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		full = full || strings.Contains(query, "fills")
		_, err = io.Copy(io.Discard, answer.Body)
		return err
	}
	if err := ask("watch=true&resourceVersion=5"); err != nil {
		t.Errorf("a watch while there is room: %v", err)
	}
	if err := ask("watch=true&resourceVersion=5&fills"); !errors.Is(err, errFull) {
		t.Errorf("a watch that goes on when the room is full: %v", err)
	}
	before := server.asked
	if err := ask("watch=true&resourceVersion=5"); !errors.Is(err, errFull) || server.asked != before {
		t.Errorf("a watch that begins without room: %v, asked %d times", err, server.asked-before)
	}
	for _, query := range []string{"limit=500", "watch=true&sendInitialEvents=true"} {
		if err := ask(query); err != nil {
			t.Errorf("%s: %v", query, err)
		}
	}
}

// TestRoomIsGivenBack has objects come, change and go.
func TestRoomIsGivenBack(t *testing.T) {
	f := NewFeed(world.NewStore(), "west", remoteKinds(), "isthmus-system")
	f.room.most = 1
	f.vetting = &vetting{refused: func() {}, changed: func() {}}
	f.TakeOver(nil)
	h := f.handlers()
	small := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p"}}
	large := small.DeepCopy()
	large.Labels = map[string]string{}
	for i := range 20 {
		large.Labels[fmt.Sprint("label", i)] = strings.Repeat("x", 50)
	}
	bad := small.DeepCopy()
	bad.Labels = map[string]string{"a b": "c"}
	h.OnAdd(small, true)
	least := f.room.kept.Load()
	h.OnUpdate(small, large)
	if got := f.room.kept.Load(); least <= 0 || got < least+20*50 {
		t.Errorf("%d bytes kept, %d with labels of 1000 bytes", least, got)
	}
	h.OnUpdate(large, bad)
	if got := f.room.kept.Load(); got <= 0 {
		t.Errorf("%d bytes kept of what is refused", got)
	}
	h.OnUpdate(bad, small)
	h.OnDelete(large) // who says that an object is gone may say anything else of it
	if got := f.room.kept.Load(); got != 0 {
		t.Errorf("%d bytes kept of nothing", got)
	}
}

// TestRefusedIsSmall: of what is refused no more is kept than is counted, whatever it holds.
func TestRefusedIsSmall(t *testing.T) {
	long := strings.Repeat("1", 1<<20)
	for name, p := range map[string]*corev1.Pod{
		"version":   {ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p", ResourceVersion: long}},
		"name":      {ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: long, ResourceVersion: "1"}},
		"namespace": {ObjectMeta: metav1.ObjectMeta{Namespace: long, Name: "p", ResourceVersion: "1"}},
		"label":     {ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p", Labels: map[string]string{"l": long}}},
		"uid":       {ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p", UID: types.UID(long)}},
	} {
		f := NewFeed(world.NewStore(), "west", remoteKinds(), "isthmus-system")
		f.vetting = &vetting{refused: func() {}, changed: func() {}}
		s, ok := f.see(p)
		if !ok || s.refused() == nil {
			t.Errorf("%s: not refused", name)
			continue
		}
		m := s.GetObjectMeta()
		if n := len(m.GetNamespace()) + len(m.GetName()) + len(m.GetResourceVersion()) + len(s.refused().String()); n > refusedSize {
			t.Errorf("%s: %d bytes are kept, and %d are counted", name, n, refusedSize)
		}
		if again, _ := f.see(p); again.ref() != s.ref() {
			t.Errorf("%s: it has another name each time, %v and %v", name, s.ref(), again.ref())
		}
	}
}

var _ = Describe("A remote cluster that grows", Ordered, func() {
	It("is not followed beyond its room, and again when it fits", func(ctx SpecContext) {
		far := newFarProxy(west)
		follow := func(room int64) (*Remotes, func()) {
			r := NewRemotes(logr.Discard(), scheme, world.NewStore(), world.Config{LocalCluster: "east", SystemNamespace: system}, types.UID("east's own"), func(world.Cluster) {})
			r.room = room
			running, stop := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() { defer close(done); _ = r.Start(running) }()
			Eventually(r.Started).Should(BeTrue())
			r.Set(map[world.Cluster]Wish{"grows": {Kubeconfig: far.kubeconfig()}})
			Eventually(func() bool { s, _ := r.State("grows"); return s.InUse }).Should(BeTrue())
			return r, func() { stop(); <-done }
		}
		kept := func(r *Remotes) int64 {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.entries["grows"].live.feed.room.kept.Load()
		}
		reason := func(r *Remotes) func() string {
			return func() string { s, _ := r.State("grows"); return s.Health.reason }
		}
		first, stop := follow(1 << 40)
		present := kept(first)
		stop()
		Expect(present).To(BeNumerically(">", 0))

		r, stop := follow(present + 32<<10)
		DeferCleanup(stop)
		var services []*corev1.Service
		labels := map[string]string{}
		for i := range 30 {
			labels[fmt.Sprint("label", i)] = strings.Repeat("x", 60)
		}
		for i := range 30 {
			s := &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("grows-", i), Labels: labels},
				Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
			}
			Expect(west.Create(ctx, s)).To(Succeed())
			west.removeLater(s)
			services = append(services, s)
		}
		Eventually(reason(r)).Should(Equal(v1alpha1.ReasonTooLarge))
		Expect(r.store.Refs("grows")).NotTo(BeEmpty(), "what is known stays in use")
		for _, s := range services {
			Expect(west.Delete(ctx, s)).To(Succeed())
		}
		// The reflector pauses for up to a minute before it reads everything again.
		Eventually(reason(r), 7*soon).Should(BeEmpty())
		Expect(kept(r)).To(BeNumerically("<=", present+32<<10))
	})
})
