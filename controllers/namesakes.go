// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
)

// obstacleWait is how soon it is looked again whether what stood in a Gateway's way has gone: nobody tells us of objects that are not ours. Of what an earlier Gateway of the name left we are told.
const obstacleWait = 10 * time.Second

// namesakes are the objects that a Gateway needs, exist, and are somebody else's: applying would take them over, and they would go with the Gateway. Each is "Kind namespace/name".
type namesakes struct {
	staying []string // somebody has to rename or delete them
	going   []string // are being deleted, or will be, as an earlier Gateway of the name was
	scaler  bool     // an autoscaler, which is no obstacle: it scales the gateway, as `kubectl autoscale` has it
	rivals  unscaled // what is said of autoscalers that do so beside us, or in our place and do not, and are no obstacle either
}

// wait is how soon to look again; 0: nothing is in the way.
func (n namesakes) wait() time.Duration {
	if len(n.staying)+len(n.going) > 0 {
		return obstacleWait
	}
	return 0
}

// text says what is in the way; "": nothing.
func (n namesakes) text() string {
	switch {
	case len(n.staying) > 0:
		return inTheName + strings.Join(n.staying, whyStays+"; ") + whyStays
	case len(n.going) > 0:
		return waitsForEnd + strings.Join(n.going, ", ") + ": an earlier Gateway's of the name, or being deleted"
	}
	return ""
}

// namesakes looks for what is in the way of a Gateway. An object without an owner that has our labels was left behind by an earlier Gateway of the name, and is taken.
func (r *GatewayReconciler) namesakes(ctx context.Context, gateway *gatewayv1.Gateway, plan *translate.GatewayPlan) (namesakes, error) {
	var out namesakes
	var errs []error
	for _, object := range provisioned() {
		if isAccount(object) && plan.ServiceAccount != plan.Name {
			continue
		}
		key := client.ObjectKey{Namespace: gateway.Namespace, Name: plan.Name}
		err := r.look(ctx, key, object)
		name := fmt.Sprintf("%s %s", reflect.TypeOf(object).Elem().Name(), key)
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			errs = append(errs, fmt.Errorf("look for %s: %w", name, err))
		case mayTake(object, gateway):
		case wasMadeFor(object, gateway):
			out.going = append(out.going, name)
		case isScaler(object):
			out.scaler = true
		case object.GetDeletionTimestamp() != nil:
			out.going = append(out.going, name)
		default:
			out.staying = append(out.staying, name)
		}
	}
	return out, errors.Join(errs...)
}

func isAccount(object client.Object) bool {
	_, is := object.(*corev1.ServiceAccount)
	return is
}

func isScaler(object client.Object) bool {
	_, is := object.(*autoscalingv2.HorizontalPodAutoscaler)
	return is
}

func mayTake(object client.Object, gateway *gatewayv1.Gateway) bool {
	if metav1.GetControllerOf(object) != nil {
		return metav1.IsControlledBy(object, gateway)
	}
	labels := object.GetLabels()
	return labels[translate.LabelManagedBy] == translate.ManagedBy && labels[gatewayNameLabel] == translate.ResourceName(gateway.Name)
}

// wasMadeFor says whether an object is that of an earlier Gateway of a Gateway's name: it is collected some time after it.
func wasMadeFor(object client.Object, gateway *gatewayv1.Gateway) bool {
	owner := metav1.GetControllerOf(object)
	if owner == nil || owner.Kind != "Gateway" || owner.Name != gateway.Name || owner.UID == gateway.UID {
		return false
	}
	group, _, _ := strings.Cut(owner.APIVersion, "/")
	return group == gatewayv1.GroupName
}
