// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/controllers"
)

// patience is how long anything may take here.
const patience = 30 * time.Second

func startSmall(t *testing.T) (*Cluster, client.Client, cache.Cache) {
	t.Helper()
	c, err := NewCluster(1, "west", Size{Services: 3, Endpoints: 7})
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(c.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	writer, err := client.New(config, client.Options{Scheme: controllers.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	objects, err := cache.New(config, cache.Options{Scheme: controllers.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- objects.Start(ctx) }()
	if !objects.WaitForCacheSync(ctx) {
		t.Fatal("the cache does not start")
	}
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c, writer, objects
}

func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// TestCachesFollow has Kubernetes' own client read and follow: built-in kinds in protobuf, others in JSON.
func TestCachesFollow(t *testing.T) {
	c, writer, objects := startSmall(t)
	ctx := context.Background()
	var pods corev1.PodList
	if err := objects.List(ctx, &pods); err != nil || len(pods.Items) != 7 {
		t.Fatalf("%d pods, %v", len(pods.Items), err)
	}
	var scopes v1alpha1.ServiceScopeList
	if err := objects.List(ctx, &scopes); err != nil || len(scopes.Items) != 1 {
		t.Fatalf("%d scopes, %v", len(scopes.Items), err)
	}
	ready := func() bool {
		var pod corev1.Pod
		if err := objects.Get(ctx, c.PodName(4), &pod); err != nil {
			t.Fatal(err)
		}
		for _, condition := range pod.Status.Conditions {
			if condition.Type == corev1.PodReady {
				return condition.Status == corev1.ConditionTrue
			}
		}
		return false
	}
	for _, want := range []bool{false, true} {
		if err := c.Flip(4, want); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the cache knows", func() bool { return ready() == want })
	}

	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "new"}}
	if err := writer.Create(ctx, space); err != nil {
		t.Fatal(err)
	}
	there := func() bool { return objects.Get(ctx, client.ObjectKeyFromObject(space), &corev1.Namespace{}) == nil }
	eventually(t, "a new namespace is seen", there)
	if err := writer.Create(ctx, space.DeepCopy()); !apierrors.IsAlreadyExists(err) {
		t.Errorf("twice: %v", err)
	}
	if err := writer.Delete(ctx, space); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its end is seen", func() bool { return !there() })
}

// TestWritesAreChecked writes as the controllers do.
func TestWritesAreChecked(t *testing.T) {
	_, writer, _ := startSmall(t)
	ctx := context.Background()
	r := &v1alpha1.RemoteCluster{ObjectMeta: metav1.ObjectMeta{Name: "north"}, Spec: v1alpha1.RemoteClusterSpec{SecretRef: v1alpha1.SecretKeyReference{Name: "s"}}}
	if err := writer.Create(ctx, r); err != nil {
		t.Fatal(err)
	}
	stale := r.DeepCopy()
	r.Status.Services = 3
	r.Spec.SecretRef.Name = "not by way of the status"
	if err := writer.Status().Update(ctx, r); err != nil {
		t.Fatal(err)
	}
	if r.Status.Services != 3 || r.Spec.SecretRef.Name != "s" || r.Generation != 1 {
		t.Errorf("after an update of the status: %+v", r)
	}
	if err := writer.Status().Update(ctx, stale); !apierrors.IsConflict(err) {
		t.Errorf("an update of what is no longer so: %v", err)
	}
}

// TestOldWatchIsGone begins a watch behind more changes than are remembered.
func TestOldWatchIsGone(t *testing.T) {
	c, _, _ := startSmall(t)
	config, err := clientcmd.RESTConfigFromKubeConfig(c.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	for i := range historyLength + 1 {
		if err := c.Flip(0, i%2 == 0); err != nil {
			t.Fatal(err)
		}
	}
	_, err = set.CoreV1().Pods("").Watch(context.Background(), metav1.ListOptions{ResourceVersion: "1"})
	if !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
		t.Errorf("got %v, want that it is gone", err)
	}
}

// TestListsInPages asks for pages of three.
func TestListsInPages(t *testing.T) {
	_, reader, _ := startSmall(t)
	names := map[string]bool{}
	var sizes []int
	var page corev1.PodList
	for more := true; more; more = page.Continue != "" {
		if err := reader.List(context.Background(), &page, client.Limit(3), client.Continue(page.Continue)); err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(page.Items))
		for i := range page.Items {
			names[page.Items[i].Name] = true
		}
	}
	if !slices.Equal(sizes, []int{3, 3, 1}) || len(names) != 7 {
		t.Errorf("pages of %v with %d pods", sizes, len(names))
	}
}
