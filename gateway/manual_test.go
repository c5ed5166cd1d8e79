// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// manual is what operators of gateways read.
func manual(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, page := range []string{"gateway", "gateway-api", "waypoint"} {
		text, err := os.ReadFile("../docs/" + page + ".md")
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}

// TestManualHasAllReasons looks for each Reason of this package in the manual.
func TestManualHasAllReasons(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "refusal.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	text, n := manual(t), 0
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); !ok || kind.Name != "Reason" {
			return true
		}
		for _, value := range spec.Values {
			word, err := strconv.Unquote(value.(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			if n++; !strings.Contains(text, "`"+word+"`") {
				t.Errorf("the manual does not say what %q means", word)
			}
		}
		return true
	})
	if n < 20 {
		t.Errorf("there are %d reasons?", n)
	}
}

// TestManualHasAllMetrics looks for each metric that a gateway has in the manual, with the prefix or in a table of those that have it.
func TestManualHasAllMetrics(t *testing.T) {
	described := make(chan *prometheus.Desc, 1000)
	newScene(t, nil).metrics.Describe(described)
	close(described)
	text, n := manual(t), 0
	for d := range described {
		_, name, _ := strings.Cut(d.String(), `fqName: "`)
		name, _, _ = strings.Cut(name, `"`)
		n++
		short, ok := strings.CutPrefix(name, "isthmus_gateway_")
		if !ok {
			t.Errorf("%s has another prefix", name)
		}
		forms := []string{name, "`" + short + "`", "`" + short + "{", "`…" + strings.TrimPrefix(short, "http")}
		if !slices.ContainsFunc(forms, func(form string) bool { return strings.Contains(text, form) }) {
			t.Errorf("the manual does not have %s", name)
		}
	}
	if n < 15 {
		t.Errorf("there are %d metrics?", n)
	}
}
