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

	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

const (
	// secretPatience is how long the first answer to proxies waits for one Secret, as an answer without it would end its listener's handshakes.
	secretPatience = 5 * time.Second
	// maxWatchedSecrets bounds the watches. What is beyond is not asked for in the first place, and said on the Gateways.
	maxWatchedSecrets = translate.MaxSecrets
)

// Secrets reads the Secrets that listeners refer to and may, and no others: each is watched by its name. It puts their certificates into
// the store, and takes away those that nobody refers to any more.
type Secrets struct {
	client kubernetes.Interface
	store  *world.Store
	log    logr.Logger
	news   chan struct{} // holds one token while want and watched differ

	mu     sync.Mutex
	wishes uint64                  // how many there were
	want   map[world.Key]uint64    // wanted → the wish's number: who is wanted again is read again, for what came meanwhile was not taken
	unread map[world.Key]time.Time // wanted, and neither read nor given up → since when
}

// NewSecrets makes a reader that wants nothing yet.
func NewSecrets(client kubernetes.Interface, store *world.Store, log logr.Logger) *Secrets {
	return &Secrets{client: client, store: store, log: log, news: make(chan struct{}, 1), want: map[world.Key]uint64{}, unread: map[world.Key]time.Time{}}
}

// NeedLeaderElection is false: every replica tells gateways what they prove by.
func (s *Secrets) NeedLeaderElection() bool { return false }

// Want takes in which Secrets are wanted now (true), and which no longer. It does not wait.
func (s *Secrets) Want(changes map[world.Key]bool) {
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
			s.store.Delete(world.ObjectRef{Kind: world.KindSecret, Key: k})
		case s.want[k] == 0:
			s.wishes++
			s.want[k], s.unread[k] = s.wishes, time.Now()
		}
	}
	select {
	case s.news <- struct{}{}:
	default: // a token is there already
	}
}

// Settled says whether every wanted Secret was read, or could not be within secretPatience.
func (s *Secrets) Settled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, since := range s.unread {
		if time.Since(since) < secretPatience {
			return false
		}
	}
	return true
}

// Start watches until ctx ends.
func (s *Secrets) Start(ctx context.Context) error {
	var wait sync.WaitGroup
	defer wait.Wait()
	type watch struct {
		wish   uint64
		cancel context.CancelFunc
	}
	watched := map[world.Key]watch{}
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
				s.log.Error(nil, "too many Secrets are referred to: this one is not read", "secret", k.String(), "most", maxWatchedSecrets)
				continue
			}
			one, cancel := context.WithCancel(ctx)
			watched[k] = watch{wish, cancel}
			wait.Go(func() { s.watch(one, k, wish) })
		}
	}
}

// watch follows one Secret for a wish until ctx ends.
func (s *Secrets) watch(ctx context.Context, k world.Key, wish uint64) {
	put := func(o any) {
		if secret, ok := o.(*corev1.Secret); ok {
			s.tell(k, wish, secret)
		}
	}
	_, informer := toolscache.NewInformerWithOptions(toolscache.InformerOptions{
		ListerWatcher: toolscache.NewListWatchFromClient(s.client.CoreV1().RESTClient(), "secrets", k.Namespace, fields.OneTermEqualSelector("metadata.name", k.Name)),
		ObjectType:    &corev1.Secret{},
		Handler: toolscache.ResourceEventHandlerFuncs{
			AddFunc: put, UpdateFunc: func(_, o any) { put(o) }, DeleteFunc: func(any) { s.tell(k, wish, nil) },
		},
	})
	go func() {
		if toolscache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.want[k] == wish {
				delete(s.unread, k)
			}
		}
	}()
	informer.RunWithContext(ctx)
}

// tell puts what a Secret holds now into the store, if the wish stands; nil: there is none.
func (s *Secrets) tell(k world.Key, wish uint64, secret *corev1.Secret) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.want[k] != wish:
	case secret == nil:
		s.store.Delete(world.ObjectRef{Kind: world.KindSecret, Key: k})
	default:
		s.store.Put(world.ReduceSecret(k.Cluster, secret))
	}
}
