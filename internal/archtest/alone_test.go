// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"testing"
)

// TestTranslateIsAlone keeps internal/translate and its tests to one goroutine: `make test` runs them without the race detector, which could tell nothing of one, and
// would take several times as long.
func TestTranslateIsAlone(t *testing.T) {
	files, err := filepath.Glob("../translate/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		positions := token.NewFileSet()
		parsed, err := parser.ParseFile(positions, file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range company(parsed) {
			t.Errorf("%v: another goroutine: have the Makefile run these tests under the race detector again", positions.Position(at))
		}
	}
}

// TestCompanyIsSeen shows the judge what it must find.
func TestCompanyIsSeen(t *testing.T) {
	for _, source := range []string{
		`package p; func f() { go f() }`,
		`package p; import "sync"; func f(w *sync.WaitGroup) { w.Go(func() {}) }`,
		`package p; import "testing"; func TestIt(t *testing.T) { t.Parallel() }`,
		`package p; import "testing"; func BenchmarkIt(b *testing.B) { b.RunParallel(nil) }`,
	} {
		parsed, err := parser.ParseFile(token.NewFileSet(), "p.go", source, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(company(parsed)) == 0 {
			t.Errorf("nothing is found in %s", source)
		}
	}
}

// company finds where a file begins goroutines, or may have others do it.
func company(file *ast.File) (found []token.Pos) {
	for _, imported := range file.Imports {
		switch path, _ := strconv.Unquote(imported.Path.Value); path {
		case "sync", "sync/atomic", "context", "testing/synctest", "golang.org/x/sync/errgroup":
			found = append(found, imported.Pos())
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			found = append(found, n.Pos())
		case *ast.SelectorExpr:
			if n.Sel.Name == "Parallel" || n.Sel.Name == "RunParallel" {
				found = append(found, n.Pos())
			}
		}
		return true
	})
	return found
}
