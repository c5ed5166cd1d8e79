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

const proxyAccount = "system:serviceaccount:" + SystemNamespace + ":isthmus-nodeproxy"

// claims are those of a token that the controller reads before it has it reviewed, and the pod that it is bound to.
type claims struct {
	Subject  string   `json:"sub"`
	Audience []string `json:"aud"`
	Expires  int64    `json:"exp"`
	Pod      string   `json:"pod"`
}

// Token is one that a Server's review accepts, of the node proxy in a pod of that name. It has the form of a service account's, and nobody's signature.
func Token(pod string) string {
	part := base64.RawURLEncoding.EncodeToString
	// Strings and numbers always encode.
	body, _ := json.Marshal(claims{Subject: proxyAccount, Audience: []string{"istio-ca"}, Expires: time.Now().Add(time.Hour).Unix(), Pod: pod})
	return part([]byte(`{"alg":"none"}`)) + "." + part(body) + "." + part([]byte("unsigned"))
}

// judge accepts what Token made.
func judge(review *authenticationv1.TokenReview) {
	pod, err := podOf(review.Spec.Token)
	if err != nil {
		review.Status = authenticationv1.TokenReviewStatus{Error: err.Error()}
		return
	}
	review.Status = authenticationv1.TokenReviewStatus{
		Authenticated: true, Audiences: review.Spec.Audiences,
		User: authenticationv1.UserInfo{
			Username: proxyAccount,
			Extra: map[string]authenticationv1.ExtraValue{
				"authentication.kubernetes.io/pod-name":  {pod},
				"authentication.kubernetes.io/pod-uid":   {pod},
				"authentication.kubernetes.io/node-name": {"node-1"},
			},
		},
	}
}

func podOf(token string) (string, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", fmt.Errorf("token of %d parts", len(parts))
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", err
	}
	var c claims
	if err := json.Unmarshal(body, &c); err != nil {
		return "", err
	}
	if c.Subject != proxyAccount || c.Pod == "" {
		return "", fmt.Errorf("token of %q", c.Subject)
	}
	return c.Pod, nil
}
