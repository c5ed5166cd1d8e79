// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// parentWait is how soon it is asked again about a parent of which we said something, which is there, and of which nothing was found: news of it are on their way, unless it goes before they come.
const parentWait = 10 * time.Second

// parentReader asks the API server itself whether parents of routes are there and ours: caches, and what was translated from them, may be behind what another replica has seen.
type parentReader struct{ client.Reader }

// gone says whether a route's parent, which was ours, is so no more: not there, being deleted, or of another controller's class. It is not if there is an error.
func (r parentReader) gone(ctx context.Context, namespace string, ref gatewayv1.ParentReference) (bool, error) {
	p := world.ReduceParent(namespace, ref)
	name := types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
	if p.Group != gatewayv1.GroupName {
		return false, nil // a Service: of each, there or not, something is found once the route is known
	}
	if p.Kind == string(world.KindListenerSet) {
		var set gatewayv1.ListenerSet
		if there, err := r.there(ctx, name, &set); !there {
			return err == nil, err
		}
		if name = parentOf(&set); name.Name == "" {
			return true, nil
		}
	}
	var gateway gatewayv1.Gateway
	if there, err := r.there(ctx, name, &gateway); !there {
		return err == nil, err
	}
	if gateway.DeletionTimestamp != nil {
		return true, nil
	}
	var class gatewayv1.GatewayClass
	if there, err := r.there(ctx, types.NamespacedName{Name: string(gateway.Spec.GatewayClassName)}, &class); !there {
		return err == nil, err
	}
	return class.Spec.ControllerName != translate.ControllerName, nil
}

// there reads an object, if it is there.
func (r parentReader) there(ctx context.Context, name types.NamespacedName, o client.Object) (bool, error) {
	err := r.Get(ctx, name, o)
	if apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %T %s: %w", o, name, err)
	}
	return true, nil
}
