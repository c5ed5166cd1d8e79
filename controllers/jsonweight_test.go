// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"runtime"
	"strings"
	"testing"
)

// TestJSONIsAsHeavyAsWhatIsMadeOfIt has small texts that become large objects weigh about what these hold, as a client library that was given them would.
func TestJSONIsAsHeavyAsWhatIsMadeOfIt(t *testing.T) {
	many := func(element string, n int) string { return strings.Repeat(element+",", n-1) + element }
	const n = 1 << 14
	for name, text := range map[string]string{
		"a list of pods":                `{"apiVersion":"v1","kind":"PodList","items":[` + many("{}", n) + `]}`,
		"a list of services":            `{"apiVersion":"v1","kind":"ServiceList","items":[` + many("{}", n) + `]}`,
		"a list of gateways":            `{"apiVersion":"gateway.networking.k8s.io/v1","kind":"GatewayList","items":[` + many("{}", n) + `]}`,
		"a pod of many containers":      `{"apiVersion":"v1","kind":"Pod","spec":{"containers":[` + many("{}", n) + `]}}`,
		"a pod of many managers":        `{"apiVersion":"v1","kind":"Pod","metadata":{"managedFields":[` + many("{}", n) + `]}}`,
		"a gateway of many listeners":   `{"apiVersion":"gateway.networking.k8s.io/v1","kind":"Gateway","spec":{"listeners":[` + many(`{"tls":{"frontendValidation":{}},"allowedRoutes":{}}`, n) + `]}}`,
		"a gateway of many finalizers":  `{"apiVersion":"gateway.networking.k8s.io/v1","kind":"Gateway","metadata":{"finalizers":[` + many(`""`, n) + `]}}`,
		"a slice of many endpoints":     `{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","endpoints":[` + many(`{"conditions":{},"targetRef":{}}`, n) + `]}`,
		"an annotation for each letter": `{"apiVersion":"v1","kind":"Namespace","metadata":{"annotations":{` + annotations(n) + `}}}`,
	} {
		before := held()
		o, _, err := jsonWire.Decode([]byte(text), nil, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		after := held()
		if is, weight := after-before, jsonWeight([]byte(text)); is > 3*weight {
			t.Errorf("%s holds %d bytes, and weighs %d", name, is, weight)
		}
		runtime.KeepAlive(o)
	}
}

// annotations are so many, each of a few letters.
func annotations(n int) string {
	var out strings.Builder
	for i := range n {
		if i > 0 {
			out.WriteByte(',')
		}
		out.WriteString(`"` + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676)) + `":""`)
	}
	return out.String()
}

// held is how many bytes are in use.
func held() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
