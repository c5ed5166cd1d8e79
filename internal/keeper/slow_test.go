// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/workloadpb"
)

const (
	addressType = "type.googleapis.com/istio.workload.Address"
	policyType  = "type.googleapis.com/istio.security.Authorization"
)

// slow is a control plane that answers at once, and says the rest only when it may. All that it knows is the workload "b".
type slow struct {
	may  chan struct{}
	left chan struct{} // takes one if a client goes before it has heard all
}

func (s *slow) Register(r grpc.ServiceRegistrar) {
	discovery.RegisterAggregatedDiscoveryServiceServer(r, s)
}

func (s *slow) StreamAggregatedResources(discovery.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return nil
}

func (s *slow) DeltaAggregatedResources(stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	hello, err := stream.Recv()
	if err != nil {
		return err
	}
	body, err := proto.Marshal(&workloadpb.Address{Type: &workloadpb.Address_Workload{Workload: &workloadpb.Workload{Uid: "b", Name: "b", Namespace: "n", ClusterId: "east"}}})
	if err != nil {
		return err
	}
	err = stream.Send(&discovery.DeltaDiscoveryResponse{TypeUrl: addressType, Nonce: "1", SystemVersionInfo: "partial; more follows", Resources: []*discovery.Resource{
		{Name: "b", Version: "1", Resource: &anypb.Any{TypeUrl: addressType, Value: body}},
	}})
	if err != nil {
		return err
	}
	select {
	case <-s.may:
	case <-stream.Context().Done():
		select {
		case s.left <- struct{}{}:
		default:
		}
		return nil
	}
	rest := &discovery.DeltaDiscoveryResponse{TypeUrl: addressType, Nonce: "2"}
	for name := range hello.GetInitialResourceVersions() {
		if name != "b" {
			rest.RemovedResources = append(rest.RemovedResources, name)
		}
	}
	for _, r := range []*discovery.DeltaDiscoveryResponse{rest, {TypeUrl: policyType, Nonce: "3"}} {
		if err := stream.Send(r); err != nil {
			return err
		}
	}
	<-stream.Context().Done()
	return nil
}

// followed is a keeper of what a controller says, and the client that hears it, until the test ends.
func followed(t *testing.T, o Options, controller *slow) (k *Keeper, client *xds.Client, v *directory.Live) {
	t.Helper()
	files, err := ca.SelfSigned("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ca.NewSigner(files)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		served <- xds.Serve(ctx, l, ca.ServerConfig(func() *ca.Signer { return signer }, "localhost"), controller)
	}()
	v = directory.NewLive()
	o.View = v
	k = New(o)
	client = xds.NewClient(xds.ClientOptions{
		Log: logr.Discard(), Target: l.Addr().String(), ServerName: "localhost", RootCAs: signer.Roots, Token: func() (string, error) { return "any", nil }, Cluster: "east",
		Types: []xds.Type{xds.Addresses(), xds.Policies()}, Apply: func(d mesh.Delta) error { v.Apply(d); k.Note(d); return nil },
	})
	go func() { ended <- k.Follow(ctx, client) }()
	t.Cleanup(func() { cancel(); <-ended; <-served })
	return k, client, v
}

// Where there is no snapshot, nothing is gained by hanging up on a controller that takes long.
func TestControllerThatTakesLongWithoutSnapshot(t *testing.T) {
	never, _ := newTestKeeper(t)
	controller := &slow{may: make(chan struct{}), left: make(chan struct{}, 1)}
	k, client, v := followed(t, never.o, controller)
	select {
	case <-controller.left:
		t.Error("hung up on the controller")
	case <-k.Usable():
		t.Error("usable without a word")
	case <-time.After(3 * snapshotMoment): // it would have been by then
	}
	close(controller.may)
	select {
	case <-client.Synced():
	case <-time.After(time.Minute):
		t.Fatal("the controller is not believed")
	}
	if v.Load().Workload("b") == nil {
		t.Error("what the controller says is not known")
	}
}

// TestControllerThatTakesLong serves from the snapshot while a controller is still telling, and from its word alone as soon as it has said all.
func TestControllerThatTakesLong(t *testing.T) {
	former, view := newTestKeeper(t)
	told(view, former, "a")
	former.write()
	controller := &slow{may: make(chan struct{})}
	begun := time.Now()
	k, client, v := followed(t, former.o, controller)

	select {
	case <-k.Usable():
	case <-time.After(time.Minute):
		t.Fatal("not usable")
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("served after %v, although there was a snapshot", took)
	}
	if v.Load().Workload("a") == nil || v.Load().Workload("b") != nil || !k.Restored() {
		t.Errorf("what is known is not the snapshot: %v, %v; restored %v", v.Load().Workload("a"), v.Load().Workload("b"), k.Restored())
	}
	wait := time.After(time.Minute)
	for !client.Connected() { // again, after the snapshot was read
		select {
		case <-time.After(time.Millisecond):
		case <-wait:
			t.Fatal("the controller is not followed any more")
		}
	}
	if v.Load().Workload("a") == nil || v.Load().Workload("b") != nil {
		t.Error("half a word of the controller counts")
	}
	close(controller.may)
	select {
	case <-client.Synced():
	case <-wait:
		t.Fatal("the controller is not believed")
	}
	if v.Load().Workload("a") != nil || v.Load().Workload("b") == nil || k.Restored() {
		t.Errorf("what is known is not what the controller says: %v, %v; restored %v", v.Load().Workload("a"), v.Load().Workload("b"), k.Restored())
	}
}

// TestLargeSnapshotIsNotWaitedFor: what no controller tells in a moment is read at once, and the controller, who is there, is asked for what is different by now alone.
func TestLargeSnapshotIsNotWaitedFor(t *testing.T) {
	former, view := newTestKeeper(t)
	d, long := mesh.Delta{Workloads: map[string]*mesh.Workload{}}, strings.Repeat("x", 200)
	for i := range 16_000 {
		uid := fmt.Sprint("w", i)
		d.Workloads[uid] = &mesh.Workload{UID: uid, Name: uid, Namespace: "n", Cluster: "east", WorkloadName: long, CanonicalName: long, CanonicalRevision: long}
	}
	view.Apply(d)
	former.Note(d)
	former.write()
	if there, err := os.Stat(former.o.Path); err != nil || there.Size() <= largeSnapshot {
		t.Fatalf("not large: %v, %v", there, err)
	}
	controller := &slow{may: make(chan struct{}), left: make(chan struct{}, 1)}
	k, client, v := followed(t, former.o, controller)
	select {
	case <-k.Usable():
	case <-time.After(time.Minute):
		t.Fatal("not usable")
	}
	if v.Load().Workload("w0") == nil || !k.Restored() {
		t.Errorf("what is known is not the snapshot; restored %v", k.Restored())
	}
	close(controller.may)
	select {
	case <-client.Synced():
	case <-time.After(time.Minute):
		t.Fatal("the controller is not believed")
	}
	if v.Load().Workload("w0") != nil || v.Load().Workload("b") == nil || k.Restored() {
		t.Error("what is known is not what the controller says")
	}
	select {
	case <-controller.left:
		t.Error("a controller was asked for everything, and hung up on")
	default:
	}
}
