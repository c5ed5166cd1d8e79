// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/meta"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// writer is a controller that is set up with what tells it news.
type writer interface {
	SetupWithManager(ctrl.Manager, *inbox) error
}

// whenServed sets up a controller that follows a kind of which the cluster may have no CRD, or an older one without the version that we read: at once if the API server
// serves the kind, or else as soon as it does, without a restart. A controller that waited for the kind by itself would end the process after a while. So it would if it were not let read the
// kind: also, if it is not nil, is asked about that.
func whenServed(mgr ctrl.Manager, log logr.Logger, kind client.Object, w writer, news *inbox, also func() error) error {
	gvk, err := apiutil.GVKForObject(kind, scheme)
	if err != nil {
		return err
	}
	ask := func() error { // unlike a feed, which finds out by trying, one of these must not be wrong
		if _, err := mgr.GetRESTMapper().RESTMapping(gvk.GroupKind(), gvk.Version); err != nil || also == nil {
			return err
		}
		return also()
	}
	if err = ask(); err == nil {
		return w.SetupWithManager(mgr, news)
	}
	log = log.WithValues("kind", gvk.Kind, "apiVersion", gvk.GroupVersion().String())
	if meta.IsNoMatchError(err) {
		log.Info("the API server does not serve a kind: nothing is done about it until its CRD is installed", "answer", err.Error())
	} else {
		log.Info("a kind cannot be read: nothing is done about it until it can be", "answer", err.Error())
	}
	return mgr.Add(everywhere(func(ctx context.Context) error { // who leads is asked by what is set up
		ticker := time.NewTicker(lookAgainEvery)
		defer ticker.Stop()
		for ask() != nil {
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
			}
		}
		log.Info("the API server serves a kind now, and lets us read it")
		if err := w.SetupWithManager(mgr, news); err != nil && ctx.Err() == nil {
			return fmt.Errorf("follow %s: %w", gvk.Kind, err)
		}
		<-ctx.Done()
		return nil
	}))
}
