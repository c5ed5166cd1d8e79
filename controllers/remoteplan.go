// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

const (
	// remoteSecretLabel, with the value "true", marks Secrets whose every key is a cluster's id and every value its kubeconfig.
	remoteSecretLabel = "istio/multiCluster"
	// fromSecretLabel marks RemoteClusters that we made for a labelled Secret; they go with it.
	fromSecretLabel = "isthmus.dev/from-secret"
	// maxRemoteClusters bounds the clusters that are read. Each costs a cache in every replica.
	maxRemoteClusters = 256
)

// refusal says why a RemoteCluster is not followed.
type refusal struct{ reason, message string }

// remotePlan is what the labelled Secrets and the RemoteClusters together mean.
type remotePlan struct {
	wishes map[world.Cluster]Wish
	// named are the RemoteClusters that speak for the wishes.
	named  map[world.Cluster]string
	speaks []*v1alpha1.RemoteCluster // the same as objects, also those that are to be made
	// refused are RemoteClusters, by name, that are not followed.
	refused map[string]refusal
	create  []*v1alpha1.RemoteCluster
	remove  []string
}

// candidate is one kubeconfig that somebody wants used.
type candidate struct {
	remote *v1alpha1.RemoteCluster
	secret *corev1.Secret
	key    string
}

// planRemotes decides which kubeconfig counts for which cluster. Written RemoteClusters come before those made for Secrets, older
// objects before younger ones: the first to name a cluster has it, the others are told.
func planRemotes(secrets []corev1.Secret, remotes []v1alpha1.RemoteCluster, local world.Cluster) remotePlan {
	plan := remotePlan{wishes: map[world.Cluster]Wish{}, named: map[world.Cluster]string{}, refused: map[string]refusal{}}
	byName := map[string]*corev1.Secret{}
	for i := range secrets {
		byName[secrets[i].Name] = &secrets[i]
	}
	slices.SortStableFunc(remotes, func(a, b v1alpha1.RemoteCluster) int {
		return cmp.Or(cmp.Compare(made(&a), made(&b)), older(&a, &b))
	})

	var candidates []candidate
	claimed := map[string]bool{} // "secret/key" that some RemoteCluster names
	names := map[string]bool{}
	for i := range remotes {
		r := &remotes[i]
		names[r.Name] = true
		secret, key := byName[r.Spec.SecretRef.Name], r.ClusterID()
		_, has := secretData(secret)[key]
		switch {
		case has && made(r) == 1 && secret.Labels[remoteSecretLabel] != "true", !has && made(r) == 1:
			plan.remove = append(plan.remove, r.Name)
			continue
		case !has:
			plan.refused[r.Name] = refusal{v1alpha1.ReasonSecretNotFound,
				fmt.Sprintf("spec.secretRef: Secret %q in the system namespace has no key %q", r.Spec.SecretRef.Name, key)}
			if secret == nil {
				plan.refused[r.Name] = refusal{v1alpha1.ReasonSecretNotFound,
					fmt.Sprintf("spec.secretRef.name: there is no Secret %q in the system namespace", r.Spec.SecretRef.Name)}
			}
			continue
		}
		claimed[secret.Name+"/"+key] = true
		candidates = append(candidates, candidate{r, secret, key})
	}

	labelled := slices.DeleteFunc(slices.Clone(secrets), func(s corev1.Secret) bool { return s.Labels[remoteSecretLabel] != "true" })
	slices.SortStableFunc(labelled, func(a, b corev1.Secret) int { return older(&a, &b) })
	for i := range labelled {
		s := &labelled[i]
		for _, key := range slices.Sorted(maps.Keys(s.Data)) {
			if claimed[s.Name+"/"+key] {
				continue
			}
			r := remoteFor(s.Name, key, names)
			names[r.Name] = true
			plan.create = append(plan.create, r)
			candidates = append(candidates, candidate{r, s, key})
		}
	}

	owners := map[world.Cluster]candidate{}
	for _, c := range candidates {
		id := world.Cluster(c.key)
		owner, taken := owners[id]
		switch {
		case id == local:
			plan.refused[c.remote.Name] = refusal{v1alpha1.ReasonSelf, fmt.Sprintf("key %q of Secret %q is the id of this very cluster", c.key, c.secret.Name)}
		case taken && owner.secret.Name == c.secret.Name:
			plan.refused[c.remote.Name] = refusal{v1alpha1.ReasonDuplicate, fmt.Sprintf("cluster %q is already named by RemoteCluster %q", id, owner.remote.Name)}
		case taken:
			plan.refused[c.remote.Name] = refusal{v1alpha1.ReasonDuplicate, fmt.Sprintf("cluster %q is already read with Secret %q; Secret %q is not used", id, owner.secret.Name, c.secret.Name)}
		case len(plan.wishes) == maxRemoteClusters:
			plan.refused[c.remote.Name] = refusal{v1alpha1.ReasonLimitExceeded, fmt.Sprintf("%d clusters are read already", maxRemoteClusters)}
		default:
			owners[id] = c
			wish := Wish{Kubeconfig: c.secret.Data[c.key], Linked: c.remote.CreationTimestamp.Time, KnownUID: types.UID(c.remote.Status.ClusterUID)}
			if limit := c.remote.Spec.StalenessLimit; limit != nil {
				wish.StalenessLimit = limit.Duration
			}
			plan.wishes[id], plan.named[id] = wish, c.remote.Name
			plan.speaks = append(plan.speaks, c.remote)
		}
	}
	return plan
}

func secretData(s *corev1.Secret) map[string][]byte {
	if s == nil {
		return nil
	}
	return s.Data
}

// made is 1 for a RemoteCluster that we made for a Secret.
func made(r *v1alpha1.RemoteCluster) int {
	if _, ok := r.Labels[fromSecretLabel]; ok {
		return 1
	}
	return 0
}

// older orders objects by age, then name.
func older(a, b client.Object) int {
	at, bt := a.GetCreationTimestamp(), b.GetCreationTimestamp()
	return cmp.Or(at.Compare(bt.Time), cmp.Compare(a.GetName(), b.GetName()))
}

// remoteFor makes the RemoteCluster of a labelled Secret's key, called like the cluster unless that cannot be or is taken.
func remoteFor(secret, key string, taken map[string]bool) *v1alpha1.RemoteCluster {
	name := key
	if len(validation.IsDNS1123Subdomain(name)) > 0 || taken[name] {
		name = shortName(strings.ToLower(strings.Map(labelChar, key)), secret+"/"+key)
	}
	label := secret
	if len(validation.IsValidLabelValue(label)) > 0 {
		label = shortName(strings.Map(labelChar, secret), secret)
	}
	return &v1alpha1.RemoteCluster{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{fromSecretLabel: label}},
		Spec:       v1alpha1.RemoteClusterSpec{SecretRef: v1alpha1.SecretKeyReference{Name: secret, Key: key}},
	}
}

func labelChar(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
		return r
	}
	return '-'
}

// shortName gives at most 63 characters that begin like name and differ for different wholes. It is a valid label value, and a valid
// name if name holds lower-case letters, digits and hyphens only.
func shortName(name, whole string) string {
	sum := sha256.Sum256([]byte(whole))
	const hashLength = 8
	name = strings.Trim(name[:min(len(name), 63-1-hashLength)], "-")
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		name = "x" + name[:min(len(name), 63-2-hashLength)]
	}
	return name + "-" + hex.EncodeToString(sum[:])[:hashLength]
}
