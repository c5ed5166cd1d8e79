// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	control := 2.0
	for _, tc := range []struct {
		name    string
		args    []string
		found   result
		err     error
		code    int
		last    string
		problem string
	}{
		{"pass", []string{"x"}, result{Value: 1.5, Unit: "ratio", Control: &control, Goal: 1, Pass: true}, nil, 0, `{"row":"x","value":1.5,"unit":"ratio","control":2,"goal":1,"pass":true}`, ""},
		{"no control", []string{"x"}, result{Value: 1, Unit: "checks", Goal: 1, Pass: true}, nil, 0, `{"row":"x","value":1,"unit":"checks","control":null,"goal":1,"pass":true}`, ""},
		{"fail", []string{"x"}, result{Value: 0.5, Unit: "ratio", Control: &control, Goal: 1}, nil, 1, `{"row":"x","value":0.5,"unit":"ratio","control":2,"goal":1,"pass":false}`, ""},
		{"broken", []string{"x"}, result{}, errors.New("no such luck"), 1, "measuring", "x: no such luck"},
		{"unknown", []string{"y"}, result{}, nil, 2, "", `no row "y"`},
		{"list", nil, result{}, nil, 2, "", "x                    in words"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rows["x"] = row{"in words", func(_ context.Context, out io.Writer) (result, error) {
				_, _ = io.WriteString(out, "measuring\n")
				return tc.found, tc.err
			}}
			defer delete(rows, "x")
			var out, problems bytes.Buffer
			if code := run(t.Context(), tc.args, &out, &problems); code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			if last := lines[len(lines)-1]; last != tc.last {
				t.Errorf("last line %s, want %s", last, tc.last)
			}
			if !strings.Contains(problems.String(), tc.problem) {
				t.Errorf("problems %q, want %q", problems.String(), tc.problem)
			}
		})
	}
}
