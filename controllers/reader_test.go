// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

var _ = Describe("The reader account", func() {
	It("has the rights that are used, and no others", func(ctx SpecContext) {
		asked := map[apiCall]int{}
		for _, age := range []string{"a new API server", "one that cannot stream lists"} {
			By(age)
			proxy := newFarProxy(west)
			if age != "a new API server" {
				proxy.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
					if r.URL.Query().Get("sendInitialEvents") == "" {
						return false
					}
					w.Header().Set("Content-Type", "application/json")
					w.WriteHeader(http.StatusUnprocessableEntity)
					fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422,"message":"sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"}`)
					return true
				})
			}
			secret := remoteSecret("recorded", map[string][]byte{"west": proxy.kubeconfig()})
			east.create(secret)
			Eventually(remoteVerdict("west", "Synced")).Should(HavePrefix("True/Synced"))
			Expect(remoteVerdict("west", "Ready")()).NotTo(ContainSubstring("Forbidden"))
			// A list is followed by a watch that may not have begun yet.
			Eventually(func() int {
				watches := 0
				for c := range proxy.recorded() {
					if c.verb == "watch" {
						watches++
					}
				}
				return watches
			}).Should(Equal(len(remoteKinds())))
			maps.Copy(asked, proxy.recorded())
			Expect(east.Delete(ctx, secret)).To(Succeed())
			Eventually(stacks).ShouldNot(ContainSubstring("controllers.(*connection)"))
			Eventually(remoteVerdict("west", "Ready")).Should(ContainSubstring("not found"))
		}

		needed := map[string]bool{}
		for c := range asked {
			if c.path != "" {
				// Every account has these by system:discovery and system:public-info-viewer, which Kubernetes binds itself.
				Expect(c.verb).To(Equal("get"))
				Expect(c.path).To(Or(Equal("/version"), Equal("/api"), Equal("/apis"), HavePrefix("/apis/"), HavePrefix("/api/")))
				continue
			}
			needed[strings.TrimSuffix(fmt.Sprintf("%s %s.%s %s", c.verb, c.resource, c.group, c.name), " ")] = true
		}
		granted := map[string]bool{}
		for _, o := range documents("config", "rbac", "reader.yaml") {
			if o.GetKind() != "ClusterRole" {
				continue
			}
			var role rbacv1.ClusterRole
			Expect(runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &role)).To(Succeed())
			for _, rule := range role.Rules {
				names := rule.ResourceNames
				if len(names) == 0 {
					names = []string{""}
				}
				for _, group := range rule.APIGroups {
					for _, resource := range rule.Resources {
						for _, verb := range rule.Verbs {
							for _, name := range names {
								granted[strings.TrimSuffix(fmt.Sprintf("%s %s.%s %s", verb, resource, group, name), " ")] = true
							}
						}
					}
				}
				Expect(rule.NonResourceURLs).To(BeEmpty())
			}
		}
		Expect(slices.Sorted(maps.Keys(granted))).To(Equal(slices.Sorted(maps.Keys(needed))))
		Expect(granted).NotTo(BeEmpty())
	})
})
