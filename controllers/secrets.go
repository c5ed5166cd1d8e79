// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

const (
	// secretPatience is how long what refers to one of them keeps what was in force before, and how long the first answer to proxies waits for it, as an answer without it would
	// end a listener's handshakes. It takes milliseconds, unless the API server does not answer.
	secretPatience = 5 * time.Second
	// maxWatchedSecrets bounds the watches. What is beyond is not asked for in the first place, and said on the Gateways.
	maxWatchedSecrets = translate.MaxSecrets
)

// Secrets reads the Secrets and ConfigMaps with certificates that are referred to and may be, and no others: each is watched by its name. It puts
// their certificates into the store, or that there are none, and takes away those that nobody refers to any more. One that cannot be read within secretPatience counts as absent until it can.
type Secrets struct {
	client kubernetes.Interface
	store  *world.Store
	log    logr.Logger
	news   chan struct{} // holds one token while want and watched differ

	mu     sync.Mutex
	wishes uint64                       // how many there were
	want   map[world.ObjectRef]uint64   // wanted → the wish's number: who is wanted again is read again, for what came meanwhile was not taken
	unread map[world.ObjectRef]struct{} // wanted, and nothing was put into the store for it yet
}

// NewSecrets makes a reader that wants nothing yet.
func NewSecrets(client kubernetes.Interface, store *world.Store, log logr.Logger) *Secrets {
	return &Secrets{client: client, store: store, log: log, news: make(chan struct{}, 1), want: map[world.ObjectRef]uint64{}, unread: map[world.ObjectRef]struct{}{}}
}

// NeedLeaderElection is false: every replica tells gateways what they prove by.
func (s *Secrets) NeedLeaderElection() bool { return false }

// Want takes in what is wanted now (true), and what no longer. It does not wait.
func (s *Secrets) Want(changes map[world.ObjectRef]bool) {
	if len(changes) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, wanted := range changes {
		switch {
		case !wanted:
			delete(s.want, k)
			delete(s.unread, k)
			s.store.Delete(k)
		case s.want[k] == 0:
			s.wishes++
			s.want[k], s.unread[k] = s.wishes, struct{}{}
		}
	}
	select {
	case s.news <- struct{}{}:
	default: // a token is there already
	}
}

// Start watches until ctx ends.
func (s *Secrets) Start(ctx context.Context) error {
	var wait sync.WaitGroup
	defer wait.Wait()
	type watch struct {
		wish   uint64
		cancel context.CancelFunc
	}
	watched := map[world.ObjectRef]watch{}
	for {
		select {
		case <-ctx.Done():
			for _, w := range watched {
				w.cancel()
			}
			return nil
		case <-s.news:
		}
		s.mu.Lock()
		want := maps.Clone(s.want)
		s.mu.Unlock()
		for k, w := range watched {
			if want[k] != w.wish {
				w.cancel()
				delete(watched, k)
			}
		}
		for k, wish := range want {
			if watched[k].wish == wish {
				continue
			}
			if len(watched) == maxWatchedSecrets {
				s.log.Error(nil, "too many Secrets and ConfigMaps are referred to: this one is not read", "object", k.String(), "most", maxWatchedSecrets)
				continue
			}
			one, cancel := context.WithCancel(ctx)
			watched[k] = watch{wish, cancel}
			wait.Go(func() { s.watch(one, k, wish) })
		}
	}
}

// watch follows one of them for a wish until ctx ends.
func (s *Secrets) watch(ctx context.Context, k world.ObjectRef, wish uint64) {
	put := func(o any) {
		if object, ok := o.(client.Object); ok {
			s.tell(k, wish, object)
		}
	}
	resource, empty := "secrets", client.Object(&corev1.Secret{})
	if k.Kind == world.KindAnchors {
		resource, empty = "configmaps", &corev1.ConfigMap{}
	}
	_, informer := toolscache.NewInformerWithOptions(toolscache.InformerOptions{
		ListerWatcher: toolscache.NewListWatchFromClient(s.client.CoreV1().RESTClient(), resource, k.Namespace, fields.OneTermEqualSelector("metadata.name", k.Name)),
		ObjectType:    empty,
		Handler: toolscache.ResourceEventHandlerFuncs{
			AddFunc: put, UpdateFunc: func(_, o any) { put(o) }, DeleteFunc: func(any) { s.tell(k, wish, nil) },
		},
	})
	var wait sync.WaitGroup
	defer wait.Wait()
	wait.Go(func() {
		within, cancel := context.WithTimeout(ctx, secretPatience)
		defer cancel()
		read := toolscache.WaitForCacheSync(within.Done(), informer.HasSynced)
		if ctx.Err() == nil && s.giveUp(k, wish) && !read {
			s.log.Error(nil, "cannot be read, and counts as absent until it can", "object", k.String(), "after", secretPatience.String())
		}
	})
	informer.RunWithContext(ctx)
}

// giveUp has one of them count as absent if nothing was heard of it, and says whether that is so.
func (s *Secrets) giveUp(k world.ObjectRef, wish uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, unread := s.unread[k]; !unread || s.want[k] != wish {
		return false
	}
	delete(s.unread, k)
	s.store.Put(world.NewAbsent(k))
	return true
}

// tell puts what one of them holds now into the store, if the wish stands; nil: there is none.
func (s *Secrets) tell(k world.ObjectRef, wish uint64, object client.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.want[k] != wish {
		return
	}
	delete(s.unread, k)
	switch o := object.(type) {
	case *corev1.Secret:
		s.store.Put(world.ReduceSecret(k.Cluster, o))
	case *corev1.ConfigMap:
		s.store.Put(world.ReduceAnchors(k.Cluster, o))
	default:
		s.store.Put(world.NewAbsent(k))
	}
}
