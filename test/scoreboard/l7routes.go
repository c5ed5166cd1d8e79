// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/test/fleet"
)

const (
	manyRoutes       = 5000
	routesMore       = 120 // added under load, one after another
	routesLoadRate   = 1000.0
	routesLoadOn     = 32 // connections
	routesLookEvery  = 2 * time.Millisecond
	routesBetween    = 50 * time.Millisecond // from one change's effect to the next change
	routesStatusWait = 3 * time.Minute

	routesReadyGoal = 5.0   // s
	routesMoreGoal  = 200.0 // ms
)

// l7Routes starts a controller and a gateway in a cluster of 4,000 pods and 5,000 HTTPRoutes, each of a host of its own, and waits until each route was answered by. Then it
// adds routes, and removes them again, one at a time, while requests come by the others at a steady rate. An answer says by which route it came, so that one by a wrong
// one is told from a right one.
func l7Routes(ctx context.Context, out io.Writer) (_ result, err error) {
	defer debug.SetGCPercent(debug.SetGCPercent(propagateQuiet)) // the cluster is in this process, and so are the clients
	s, err := newRouteStage(ctx)
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	var names []string
	for i := range manyRoutes {
		names = append(names, fmt.Sprintf("route-%04d", i))
		if err := s.plane.local().Create(route(names[i], i)); err != nil {
			return result{}, err
		}
	}

	began := time.Now()
	if err := s.start(ctx); err != nil {
		return result{}, err
	}
	if err := s.awaitRoutes(ctx, names); err != nil {
		return result{}, err
	}
	ready := time.Since(began).Seconds()
	spent := s.spent()
	fmt.Fprintf(out, "all of %d routes are served %.2f s after the start of controller and gateway, in which they used %.2f s and %.2f s of processor\n", manyRoutes, ready, spent[0], spent[1])
	if err := s.awaitStatuses(ctx, names); err != nil {
		return result{}, err
	}
	fmt.Fprintf(out, "all of them have a status %.1f s after the start: these are written at the controller's rate for requests to its API server, and nothing that is served waits for them\n", time.Since(began).Seconds())

	load := startRouteLoad(ctx, s.dial, names, routesLoadOn, routesLoadRate)
	defer load.end()
	var added, removed []float64
	more := often(ctx, routesMore)
	spent = s.spent()
	err = s.observe(ctx, 20, func() error {
		for i := range more {
			if added, err = s.change(ctx, added, fmt.Sprintf("more-%04d", i), http.StatusOK, func(name string) error { return s.plane.local().Create(route(name, i)) }); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return result{}, err
	}
	controller, gateway := s.spent()[0]-spent[0], s.spent()[1]-spent[1]
	fmt.Fprintf(out, "one more route takes effect after %.0f ms (median), %.0f ms (99th percentile), %.0f ms (the longest of %d); processor time for each: controller %.0f ms, gateway %.0f ms with its requests\n",
		median(added), percentile(added, 99), percentile(added, 100), more, 1e3*controller/float64(more), 1e3*gateway/float64(more))
	for i := range more {
		if removed, err = s.change(ctx, removed, fmt.Sprintf("more-%04d", i), http.StatusNotFound, func(name string) error { return s.plane.local().Delete(route(name, i)) }); err != nil {
			return result{}, err
		}
	}
	fmt.Fprintf(out, "one route less takes effect after %.0f ms (median), %.0f ms (99th percentile)\n", median(removed), percentile(removed, 99))
	load.end()
	answered, dropped, wrong := load.answered.Load(), load.dropped.Load(), load.wrong.Load()
	fmt.Fprintf(out, "%d requests by the routes that stayed were answered as they should, %d were not answered, %d by another route or not by any\n", answered, dropped, wrong)
	if load.problem != "" {
		fmt.Fprintln(out, "the first that went wrong:", load.problem)
	}
	if answered < int64(routesLoadRate) {
		return result{}, errors.New("there was next to no load")
	}
	return absolute(out,
		figure{What: fmt.Sprintf("start to %d routes served", manyRoutes), Unit: "s", Ours: ready, Goal: routesReadyGoal},
		figure{What: "API write to the first answer by one more route, 99th percentile", Unit: "ms", Ours: percentile(added, 99), Goal: routesMoreGoal},
		figure{What: "requests dropped or wrongly answered", Ours: float64(dropped + wrong), Goal: 0},
	), nil
}

// awaitRoutes asks by each route until it is answered by.
func (s *routeStage) awaitRoutes(ctx context.Context, names []string) error {
	ctx, cancel := context.WithTimeout(ctx, discoveryWait)
	defer cancel()
	if err := s.awaitReady(ctx); err != nil {
		return err
	}
	const at = 8 // once
	errs := make([]error, at)
	var asking sync.WaitGroup
	for i := range at {
		asking.Go(func() {
			v := &routeVisitor{dial: s.dial}
			defer v.close()
			for n := i; n < len(names) && errs[i] == nil; n += at {
				errs[i] = s.await(ctx, v, names[n], http.StatusOK)
			}
		})
	}
	asking.Wait()
	return errors.Join(errs...)
}

// awaitReady waits until the gateway says that it may be sent requests.
func (s *routeStage) awaitReady(ctx context.Context) error {
	for {
		_, err := s.space.Get(ctx, "http://127.0.0.1:15021/healthz/ready")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the gateway is not ready: %w; its last words: %s", err, s.lastWords())
		case <-time.After(routesLookEvery):
		}
	}
}

// await asks for what a route is for until the status is as wished. With 200 the answer must be by that route; anything but that or 404 is wrong.
func (s *routeStage) await(ctx context.Context, v *routeVisitor, name string, wanted int) error {
	for {
		status, body, err := v.ask(ctx, name)
		switch {
		case err == nil && status == wanted && (status != http.StatusOK || body == name):
			return nil
		case err == nil && status != http.StatusOK && status != http.StatusNotFound || err == nil && status == http.StatusOK && body != name:
			return fmt.Errorf("%s: status %d, by route %q", name, status, body)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: not status %d: %w; last: %d; the gateway's last words: %s", name, wanted, errors.Join(err, ctx.Err()), status, s.lastWords())
		case <-time.After(routesLookEvery):
		}
	}
}

// change makes one change and adds the time from before that to its effect, in ms, to took.
func (s *routeStage) change(ctx context.Context, took []float64, name string, wanted int, write func(name string) error) ([]float64, error) {
	v := &routeVisitor{dial: s.dial}
	defer v.close()
	if _, _, err := v.ask(ctx, name); err != nil { // connects
		return took, err
	}
	began := time.Now()
	if err := write(name); err != nil {
		return took, err
	}
	if err := s.await(ctx, v, name, wanted); err != nil {
		return took, err
	}
	took = append(took, float64(time.Since(began).Microseconds())/1e3)
	select {
	case <-ctx.Done():
		return took, ctx.Err()
	case <-time.After(routesBetween):
		return took, nil
	}
}

// awaitStatuses waits until each route is said to be accepted.
func (s *routeStage) awaitStatuses(ctx context.Context, names []string) error {
	deadline := time.Now().Add(routesStatusWait)
	for _, name := range names {
		for {
			r, err := fleet.Get(s.plane.local().Server, &gatewayv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: routeNamespace, Name: name}})
			if err != nil {
				return err
			}
			if p := r.Status.Parents; len(p) == 1 && p[0].ControllerName == translate.ControllerName && meta.IsStatusConditionTrue(p[0].Conditions, string(gatewayv1.RouteConditionAccepted)) {
				break
			}
			if ctx.Err() != nil || time.Now().After(deadline) {
				return fmt.Errorf("%s has no status; the controller's last words: %s", name, s.plane.lastWords())
			}
			time.Sleep(routesLookEvery)
		}
	}
	return nil
}

// spent is the processor time of the controller and the gateway so far, in s; 0 if that cannot be read.
func (s *routeStage) spent() [2]float64 {
	controller, _ := s.plane.processor()
	gateway, _ := s.gateway.Usage()
	return [2]float64{controller.Seconds(), gateway.Processor.Seconds()}
}
