// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
)

// accountPrefix begins the user name of every service account.
const accountPrefix = "system:serviceaccount:"

// claims are those of a token that the controller reads before it has it reviewed, and the pod that it is bound to.
type claims struct {
	Subject  string   `json:"sub"`
	Audience []string `json:"aud"`
	Expires  int64    `json:"exp"`
	Pod      string   `json:"pod"`
}

// Token is one that a Server's review accepts, of the node proxy in a pod of that name.
func Token(pod string) string { return TokenOf(SystemNamespace, "isthmus-nodeproxy", pod) }

// TokenOf is one that a Server's review accepts, of a service account in a pod. It has the form of a service account's, and nobody's signature.
func TokenOf(namespace, account, pod string) string {
	part := base64.RawURLEncoding.EncodeToString
	// Strings and numbers always encode.
	body, _ := json.Marshal(claims{Subject: accountPrefix + namespace + ":" + account, Audience: []string{"istio-ca"}, Expires: time.Now().Add(time.Hour).Unix(), Pod: pod})
	return part([]byte(`{"alg":"none"}`)) + "." + part(body) + "." + part([]byte("unsigned"))
}

// judge accepts what TokenOf made.
func judge(review *authenticationv1.TokenReview) {
	subject, pod, err := holderOf(review.Spec.Token)
	if err != nil {
		review.Status = authenticationv1.TokenReviewStatus{Error: err.Error()}
		return
	}
	review.Status = authenticationv1.TokenReviewStatus{
		Authenticated: true, Audiences: review.Spec.Audiences,
		User: authenticationv1.UserInfo{
			Username: subject,
			Extra: map[string]authenticationv1.ExtraValue{
				"authentication.kubernetes.io/pod-name":  {pod},
				"authentication.kubernetes.io/pod-uid":   {pod},
				"authentication.kubernetes.io/node-name": {"node-of-" + pod}, // one for each, as node proxies have
			},
		},
	}
}

// holderOf is the user that a token is of, and the pod that it is bound to.
func holderOf(token string) (subject, pod string, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", "", fmt.Errorf("token of %d parts", len(parts))
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", "", err
	}
	var c claims
	if err := json.Unmarshal(body, &c); err != nil {
		return "", "", err
	}
	if !strings.HasPrefix(c.Subject, accountPrefix) || c.Pod == "" {
		return "", "", fmt.Errorf("token of %q", c.Subject)
	}
	return c.Subject, c.Pod, nil
}
