// SPDX-License-Identifier: Apache-2.0

// Command scoreboard measures one promised figure:
//
//	go run ./test/scoreboard ROW
//
// Each row does its own set-up, checks itself against a control measured in the same run, and prints progress as it likes. The last line of
// standard output is one JSON object:
//
//	{"row":"…","value":…,"unit":"…","control":…,"goal":…,"pass":true}
//
// Figures are ratios where they can be, for absolute times say more about the machine than about us. The exit code is 0 if the row passed,
// 1 if it did not or could not be measured (then there is no JSON object), 2 for a row that does not exist. Without arguments the rows are listed.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/isthmus-mesh/isthmus/test/hostile"
)

// result is what a row found.
type result struct {
	// Value is the figure, in Unit.
	Value float64
	Unit  string
	// Control is the same measured of something known, in the same run; nil if there is nothing to compare with.
	Control *float64
	// Goal is what Value must reach, or stay below: Pass knows which.
	Goal float64
	Pass bool
}

// row is one promised figure.
type row struct {
	about string // what is measured, in one line
	// measure sets up, measures and cleans up, also when ctx ends early. It may write progress to out, one line at a time.
	measure func(ctx context.Context, out io.Writer) (result, error)
}

// rows are all figures, by name. A new one is a file beside this one and a line here.
var rows = map[string]row{
	"demo":          {"checks of the main job on two real clusters that pass", demo},
	"hbone-attacks": {"how much longer a good client waits (p99) while the server is attacked, over the worst of the attacks", hboneAttacks},
	"gateway-bulk":  {"processor time per byte through a gateway, as a multiple of a bare TLS forwarder's", gatewayBulk},
}

func main() {
	hostile.BeEnemy()
	beGoodClient()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run gives the exit code.
func run(ctx context.Context, args []string, out, problems io.Writer) int {
	if len(args) != 1 {
		fmt.Fprintln(problems, "usage: scoreboard ROW, where ROW is one of")
		for _, name := range slices.Sorted(maps.Keys(rows)) {
			fmt.Fprintf(problems, "  %-16s %s\n", name, rows[name].about)
		}
		return 2
	}
	r, ok := rows[args[0]]
	if !ok {
		fmt.Fprintf(problems, "scoreboard: there is no row %q; without arguments the rows are listed\n", args[0])
		return 2
	}
	found, err := r.measure(ctx, out)
	if err != nil {
		fmt.Fprintf(problems, "scoreboard: %s: %v\n", args[0], err)
		return 1
	}
	if err := report(out, args[0], found); err != nil {
		fmt.Fprintf(problems, "scoreboard: %s: %v\n", args[0], err)
		return 1
	}
	if !found.Pass {
		return 1
	}
	return 0
}

// report writes the last line.
func report(out io.Writer, name string, r result) error {
	line, err := json.Marshal(struct {
		Row     string   `json:"row"`
		Value   float64  `json:"value"`
		Unit    string   `json:"unit"`
		Control *float64 `json:"control"`
		Goal    float64  `json:"goal"`
		Pass    bool     `json:"pass"`
	}{name, r.Value, r.Unit, r.Control, r.Goal, r.Pass})
	if err != nil {
		return fmt.Errorf("encode the result: %w", err)
	}
	_, err = fmt.Fprintf(out, "%s\n", line)
	return err
}
