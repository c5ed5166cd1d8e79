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
//
//	go run ./test/scoreboard -profile FILE ROW
//
// also writes a profile of the processor time, in which `go tool pprof -tagfocus side=ours` (or side=control) tells the two sides apart.
//
//	go run ./test/scoreboard -subject FILE ROW
//
// is for rows whose subject is a process of its own, the controller: it writes a profile of that process's time in what the row measures (the last part of it, if
// there are several), and of its memory then to FILE.heap. Rows of connections through node proxies and gateways write one of each, to FILE.0, FILE.1 and so on.
//
//	go run ./test/scoreboard -n 5 ROW
//
// is for rows that do a thing many times and say so in the list: they do it so often instead.
//
//	go run ./test/scoreboard plot
//
// measures all rows of HBONE, a few minutes, writes what it found to docs/hbone-figures.json and draws docs/hbone-figures.svg. To draw that again without
// measuring:
//
//	go run ./test/scoreboard draw
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"runtime/pprof"
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
	// Figures are all that the row promises, if that is more than Value; Pass needs all of them.
	Figures []figure
}

// row is one promised figure.
type row struct {
	about string // what is measured, in one line
	// measure sets up, measures and cleans up, also when ctx ends early. It may write progress to out, one line at a time.
	measure func(ctx context.Context, out io.Writer) (result, error)
}

// rows are all figures, by name. A new one is a file beside this one and a line here.
var rows = map[string]row{
	"demo":                  {"checks of the main job on two real clusters that pass", demo},
	"discovery-big":         {"time of one endpoint's change in worlds of three sizes; a whole build and its memory", discoveryBig},
	"discovery-boot":        {"start of the controller to the first complete answer, with 10 clusters", discoveryBoot},
	"discovery-churn":       {"what is left of remote clusters after 1,000 were added, rotated and removed", discoveryChurn},
	"discovery-flood":       {"how much longer local changes take to reach proxies while another cluster sends 1,000 changes a second, or a million services", discoveryFlood},
	"discovery-remote-cpu":  {"processor time for each remote cluster of 300 services and 4,000 endpoints, at 10 changes a second", discoveryRemoteProcessor},
	"discovery-remote-mem":  {"memory for each remote cluster of 300 services and 4,000 endpoints", discoveryRemoteMemory},
	"discovery-propagate":   {"API event to every proxy having applied it: 10 clusters, 200 proxies, 100 changes a second", discoveryPropagate},
	"discovery-subscribers": {"from one change to 1,000 subscribers having applied it (p99), and how often it is encoded for them", discoverySubscribers},
	"ew-bulk":               {"one stream to another cluster through proxies and a gateway, against TLS-in-TLS relays; needs root", ewBulk},
	"ew-deputy":             {"of -n attempts (10,000) to get through a gateway and proxies where one may not, those that pass; needs root", ewDeputy},
	"ew-failover":           {"until requests succeed again after the loss of a gateway, a cluster, a link: p99 of -n rounds each (50); needs root", ewFailover},
	"ew-existing":           {"what another cluster adds to a request of 1 KiB at 1,000 a second, over the own one: p50; needs root", ewExisting},
	"ew-link":               {"one stream, and several at once, over lines of 3 delays and 3 shares of loss, against plain TCP; needs root", ewLink},
	"ew-new":                {"what another cluster adds to a new connection, over the own one: p50; needs root", ewNew},
	"ew-handshakes":         {"TLS handshakes for 10,000 connections to 10 pods in another cluster; needs root", ewHandshakes},
	"ew-roll":               {"connections lost and refused by -n rolling restarts (100) of a gateway under 500 streams and 200 new connections a second; needs root", ewRoll},
	"ew-spread":             {"busiest of 10 pods in another cluster, of the mean, for 100,000 connections; needs root", ewSpread},
	"ew-weights":            {"how far each of three clusters' share of 100,000 connections is off its part; needs root", ewWeights},
	"ew-wrong":              {"of -n deliveries (10 million), those to a wrong service or by a wrong identity, while addresses are used again; needs root", ewWrong},
	"gateway-bulk":          {"processor time per byte through a gateway, as a multiple of a bare TLS forwarder's", gatewayBulk},
	"hbone-allocs":          {"heap allocations per DATA frame, in bulk and in ping-pong", hboneAllocs},
	"hbone-attacks":         {"how much longer a good client waits (p99) while the server is attacked, over the worst of the attacks", hboneAttacks},
	"hbone-bulk":            {"processor time per byte through one stream, as a multiple of its TLS's; and throughput", hboneBulk},
	"hbone-bulk-8":          {"the same through eight streams of one connection at once", hboneBulk8},
	"hbone-double-bulk":     {"processor time per byte through a tunnel in a tunnel, as a multiple of TLS in TLS", hboneDoubleBulk},
	"hbone-idle-mem":        {"memory of an idle stream, and of a connection, both ends together", hboneIdleMemory},
	"hbone-open":            {"streams a second, each with a byte each way, as a multiple of x/net's; and the time of one", hboneOpen},
	"hbone-rr":              {"a round trip of 1 KiB on one stream, against TLS: median and 99th percentile", hboneRR},
	"hbone-rr-64":           {"round trips a second on 64 streams of one connection, as a multiple of x/net's", hboneRR64},
	"l7-grpc":               {"unary gRPC calls a second through a gateway, 64 at once, against Traefik", l7GRPC},
	"l7-match":              {"one match among 10,000 rules, and what it allocates", l7Match},
	"l7-p99":                {"the 99th percentile through a gateway at 60 % of what Traefik can, against Traefik", l7P99},
	"l7-routes":             {"5,000 HTTPRoutes: start to all served; one more under load to effect, p99; requests lost by that; needs root", l7Routes},
	"l7-rps":                {"requests a second through a gateway, 64 connections, 1 KiB, against Traefik, Caddy and HAProxy", l7RPS},
	"node-bulk":             {"one stream from pod to pod through two node proxies, against two TLS relays; needs root", nodeBulk},
	"node-connect":          {"new connections a second through a warm tunnel, against two TCP relays; and the time of one; needs root", nodeConnect},
	"node-cost":             {"processor and memory of each node proxy at 1,000 requests a second of 1 KiB; needs root", nodeCost},
	"node-crash":            {"node proxy of 100,000 workloads, killed -n times (10): until connections are made again (worst); needs root", nodeCrash},
	"node-pods":             {"250 pods join at once: memory of proxy and agent, time, idle processor; needs root", nodePods},
	"node-policy":           {"the verdict on a connection to a pod with 10,000 policies", nodePolicy},
	"node-rr":               {"what two node proxies add to a request of 1 KiB at 1,000 a second, against none: p50, p90; needs root", nodeRR},
	"node-upgrade":          {"connections lost and refused by 100 upgrades under 500 streams and 200 new connections a second; needs root", nodeUpgrade},
	"node-world":            {"memory of a directory of 100,000 workloads, and what lookups in it allocate", nodeWorld},
}

func main() {
	hostile.BeEnemy()
	beGoodClient()
	beChurnPlane()
	beBareReader()
	beNodeApp()
	beL7Gateway()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run gives the exit code.
func run(ctx context.Context, args []string, out, problems io.Writer) int {
	flags := flag.NewFlagSet("scoreboard", flag.ContinueOnError)
	flags.SetOutput(problems)
	flags.Usage = func() { usage(problems) }
	profile := flags.String("profile", "", "")
	subject := flags.String("subject", "", "")
	often := flags.Int("n", 0, "")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() != 1 {
		usage(problems)
		return 2
	}
	name := flags.Arg(0)
	failed := func(err error) int {
		fmt.Fprintf(problems, "scoreboard: %s: %v\n", name, err)
		return 1
	}
	switch name {
	case "plot":
		if err := plot(ctx, out); err != nil {
			return failed(err)
		}
		return 0
	case "draw":
		if err := redraw(); err != nil {
			return failed(err)
		}
		return 0
	}
	r, ok := rows[name]
	if !ok {
		fmt.Fprintf(problems, "scoreboard: there is no row %q; without arguments the rows are listed\n", name)
		return 2
	}
	ctx = withOften(withSubject(ctx, *subject), *often)
	found, err := profiled(*profile, func() (result, error) { return r.measure(ctx, out) })
	if err != nil {
		return failed(err)
	}
	if err := report(out, name, found); err != nil {
		return failed(err)
	}
	if !found.Pass {
		return 1
	}
	return 0
}

func usage(problems io.Writer) {
	fmt.Fprintln(problems, "usage: scoreboard [-profile FILE] [-subject FILE] [-n TIMES] ROW, or plot, or draw; ROW is one of")
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		fmt.Fprintf(problems, "  %-20s %s\n", name, rows[name].about)
	}
}

// profiled runs measure and writes the profile of its processor time to file, unless that is empty.
func profiled(file string, measure func() (result, error)) (result, error) {
	if file == "" {
		return measure()
	}
	f, err := os.Create(file)
	if err != nil {
		return result{}, err
	}
	defer f.Close()
	if err := pprof.StartCPUProfile(f); err != nil {
		return result{}, err
	}
	defer pprof.StopCPUProfile()
	return measure()
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
