// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

func planned(name string, age int, labelled bool, keys ...string) corev1.Secret {
	s := corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(1000-int64(age), 0))}, Data: map[string][]byte{}}
	if labelled {
		s.Labels = map[string]string{remoteSecretLabel: "true"}
	}
	for _, k := range keys {
		s.Data[k] = []byte("kubeconfig of " + k)
	}
	return s
}

func written(name, secret, key, from string) v1alpha1.RemoteCluster {
	r := v1alpha1.RemoteCluster{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.RemoteClusterSpec{SecretRef: v1alpha1.SecretKeyReference{Name: secret, Key: key}}}
	if from != "" {
		r.Labels = map[string]string{fromSecretLabel: from}
	}
	return r
}

func TestPlanRemotes(t *testing.T) {
	for _, tc := range []struct {
		name    string
		secrets []corev1.Secret
		remotes []v1alpha1.RemoteCluster
		wishes  []string // cluster=RemoteCluster
		refused []string // RemoteCluster=reason
		create  []string
		remove  []string
	}{
		{name: "nothing"},
		{name: "a labelled Secret is enough", secrets: []corev1.Secret{planned("s", 1, true, "west", "north")}, wishes: []string{"north=north", "west=west"}, create: []string{"north", "west"}},
		{name: "another Secret is nobody's business", secrets: []corev1.Secret{planned("s", 1, false, "west")}},
		{name: "a RemoteCluster names any Secret", secrets: []corev1.Secret{planned("s", 1, false, "west")}, remotes: []v1alpha1.RemoteCluster{written("far", "s", "west", "")}, wishes: []string{"west=far"}},
		{name: "the key is the object's name unless it says otherwise", secrets: []corev1.Secret{planned("s", 1, false, "west")}, remotes: []v1alpha1.RemoteCluster{written("west", "s", "", "")}, wishes: []string{"west=west"}},
		{name: "what exists is not made again", secrets: []corev1.Secret{planned("s", 1, true, "west")}, remotes: []v1alpha1.RemoteCluster{written("west", "s", "west", "s")}, wishes: []string{"west=west"}},
		{name: "what we made goes with its key", secrets: []corev1.Secret{planned("s", 1, true, "north")}, remotes: []v1alpha1.RemoteCluster{written("west", "s", "west", "s")}, wishes: []string{"north=north"}, create: []string{"north"}, remove: []string{"west"}},
		{name: "and with its label", secrets: []corev1.Secret{planned("s", 1, false, "west")}, remotes: []v1alpha1.RemoteCluster{written("west", "s", "west", "s")}, remove: []string{"west"}},
		{name: "what others wrote stays and says what is missing", remotes: []v1alpha1.RemoteCluster{written("west", "s", "west", "")}, refused: []string{"west=SecretNotFound"}},
		{name: "this cluster", secrets: []corev1.Secret{planned("s", 1, true, "east")}, refused: []string{"east=Self"}, create: []string{"east"}},
		{name: "the older of two Secrets", secrets: []corev1.Secret{planned("a", 1, true, "west"), planned("b", 2, true, "west")}, wishes: []string{"west=west"}, refused: []string{"west-*=Duplicate"}, create: []string{"west", "west-*"}},
		{name: "the written one before the made one", secrets: []corev1.Secret{planned("a", 2, true, "west"), planned("b", 1, false, "west")},
			remotes: []v1alpha1.RemoteCluster{written("west", "a", "west", "a"), written("far", "b", "west", "")}, wishes: []string{"west=far"}, refused: []string{"west=Duplicate"}},
		{name: "an id that is no name", secrets: []corev1.Secret{planned("s", 1, true, "West_1")}, wishes: []string{"West_1=west-1-*"}, create: []string{"west-1-*"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			plan := planRemotes(tc.secrets, tc.remotes, "east")
			var wishes, refused, create []string
			for id := range plan.wishes {
				wishes = append(wishes, string(id)+"="+short(plan.named[id]))
			}
			for name, r := range plan.refused {
				if r.message == "" {
					t.Errorf("%s is refused without a message", name)
				}
				refused = append(refused, short(name)+"="+r.reason)
			}
			for _, o := range plan.create {
				if bad := validation.IsDNS1123Subdomain(o.Name); len(bad) > 0 {
					t.Errorf("name %q: %v", o.Name, bad)
				}
				create = append(create, short(o.Name))
			}
			slices.Sort(wishes)
			slices.Sort(create)
			for _, d := range []string{cmp.Diff(tc.wishes, wishes), cmp.Diff(tc.refused, refused), cmp.Diff(tc.create, create), cmp.Diff(tc.remove, plan.remove)} {
				if d != "" {
					t.Error(d)
				}
			}
			var speaks []string
			for _, o := range plan.speaks {
				speaks = append(speaks, o.Name)
			}
			if !slices.Equal(slices.Sorted(slices.Values(speaks)), slices.Sorted(maps.Values(plan.named))) {
				t.Errorf("limits of %v count, and %v speak for clusters", speaks, plan.named)
			}
			again := planRemotes(tc.secrets, tc.remotes, "east")
			if !maps.Equal(plan.named, again.named) {
				t.Errorf("the same input was planned as %v and %v", plan.named, again.named)
			}
		})
	}
}

// short writes a hash at the end of a name as a star.
func short(name string) string {
	if i := strings.LastIndexByte(name, '-'); i >= 0 && len(name)-i == 9 {
		return name[:i+1] + "*"
	}
	return name
}

// TestLimitsOfTheRefused: of two RemoteClusters that name one cluster, only the limits of the one that speaks for it count.
func TestLimitsOfTheRefused(t *testing.T) {
	bounded := written("zz", "s", "west", "")
	bounded.Spec.Import = &v1alpha1.ImportLimits{Namespaces: []string{"shop"}}
	lax := written("west", "s", "west", "s") // made before, and first by name
	r := &RemoteReconciler{local: "east", store: world.NewStore()}
	limits := func(remotes ...v1alpha1.RemoteCluster) []string {
		r.limit(planRemotes([]corev1.Secret{planned("s", 1, true, "west")}, remotes, "east"))
		var out []string
		for _, ref := range r.store.Refs("east") {
			o, _ := r.store.Get(ref)
			out = append(out, ref.Name+"="+strings.Join(o.(*world.RemoteCluster).Namespaces, ","))
		}
		return out
	}
	for _, step := range []struct {
		remotes []v1alpha1.RemoteCluster
		want    []string
	}{
		{nil, []string{"west="}}, // is to be made
		{[]v1alpha1.RemoteCluster{lax}, []string{"west="}},
		{[]v1alpha1.RemoteCluster{lax, bounded}, []string{"zz=shop"}},
		{[]v1alpha1.RemoteCluster{lax}, []string{"west="}},
	} {
		if d := cmp.Diff(step.want, limits(step.remotes...)); d != "" {
			t.Error(d)
		}
	}
}
