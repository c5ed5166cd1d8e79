// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// reasonsIn are the constants of type Reason in a file of Go.
func reasonsIn(t *testing.T, path string) map[string]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Reason" {
			for _, value := range spec.Values {
				text, err := strconv.Unquote(value.(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				out[text] = true
			}
		}
		return true
	})
	return out
}

// Operators find each reason in the manual, and no other.
func TestReasonsAreDocumented(t *testing.T) {
	reasons := reasonsIn(t, "refusal.go")
	maps.Copy(reasons, reasonsIn(t, "../internal/reach/refusal.go"))
	text, err := os.ReadFile("../docs/nodeproxy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "<!-- reasons -->\n")
	if !found {
		t.Fatal("there is no table of reasons")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	var listed []string
	for line := range strings.Lines(table) {
		if name, ok := strings.CutPrefix(line, "| `"); ok {
			name, _, _ = strings.Cut(name, "`")
			listed = append(listed, name)
		}
	}
	slices.Sort(listed)
	if want := slices.Sorted(maps.Keys(reasons)); !slices.Equal(listed, want) || len(want) < 20 {
		t.Errorf("the manual lists\n%v, and there are\n%v", listed, want)
	}
}
