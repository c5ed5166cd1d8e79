// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

const (
	l7Rounds = 7
	l7Slice  = 1500 * time.Millisecond
	l7Warm   = time.Second

	l7OverGo      = 1.3 // at least: of the better of the two that are written in Go
	l7OverHAProxy = 0.6 // at least

	l7Share = 0.6 // of what Traefik can, at which waiting times are compared: at a share of what the gateway can, Traefik might be at its end
)

// l7Compare starts the proxies, warms each, lets prepare look at them (nil: it need not), and has slice measure them in turns, once a round; out of it come each one's medians.
func l7Compare(ctx context.Context, out io.Writer, controls []string, prepare func(loads map[string]l7Load) error, slice func(ctx context.Context, l l7Load, p *l7Proxy) (float64, error)) (found map[string]float64, missing []string, err error) {
	backend, stop, err := l7Origin(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer stop()
	proxies, err := startProxies(ctx, out, backend, false, controls...)
	if err != nil {
		return nil, nil, err
	}
	defer proxies.stop()
	loads := map[string]l7Load{}
	for _, p := range proxies.list {
		load, err := newL7Load(ctx, p.address)
		if err != nil {
			return nil, nil, err
		}
		defer load.close()
		if _, err := load.flatOut(ctx, l7Warm); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", p.name, err)
		}
		loads[p.name] = load
	}
	if prepare != nil {
		if err := prepare(loads); err != nil {
			return nil, nil, err
		}
	}
	all := map[string][]float64{}
	for round := range l7Rounds {
		line := fmt.Sprintf("round %d:", round+1)
		for i := range proxies.list {
			p := proxies.list[(i+round)%len(proxies.list)]
			v, err := slice(ctx, loads[p.name], p)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", p.name, err)
			}
			all[p.name] = append(all[p.name], v)
			line += fmt.Sprintf(" %s %s", p.name, withUnit(v, ""))
		}
		fmt.Fprintln(out, line)
	}
	found = map[string]float64{}
	for name, v := range all {
		found[name] = median(v)
	}
	return found, proxies.missing, nil
}

// l7RPS asks through the gateway and its controls, one after another, as fast as each answers. All of them, the clients and the backend share the cores. What a request takes of
// the processors, with its client and its backend, says what the rates would be to each other if nobody else had the cores: unlike rates it can be compared on a busy machine.
func l7RPS(ctx context.Context, out io.Writer) (result, error) {
	cost, whole := map[string][]float64{}, map[string][]float64{} // in microseconds for a request
	found, missing, err := l7Compare(ctx, out, []string{"traefik", "caddy", "haproxy"}, nil, func(ctx context.Context, l l7Load, p *l7Proxy) (float64, error) {
		began, before, around := time.Now(), p.processorTime(), processorTime()
		rate, err := l.flatOut(ctx, l7Slice)
		if err == nil {
			requests := rate * time.Since(began).Seconds()
			took := p.processorTime() - before
			cost[p.name] = append(cost[p.name], float64(took.Microseconds())/requests)
			whole[p.name] = append(whole[p.name], float64((took+processorTime()-around).Microseconds())/requests)
		}
		return rate, err
	})
	if err != nil {
		return result{}, err
	}
	for _, name := range slices.Sorted(maps.Keys(cost)) {
		fmt.Fprintf(out, "%s takes %.1f us of processor time for a request, %.1f us with its client and its backend\n", name, median(cost[name]), median(whole[name]))
	}
	if v := whole["haproxy"]; len(v) > 0 {
		fmt.Fprintf(out, "by processor time the gateway's rate is %.2f of HAProxy's\n", median(v)/median(whole["gateway"]))
	}
	better := max(found["traefik"], found["caddy"])
	if better == 0 {
		return result{}, errors.New("neither Traefik nor Caddy is here to compare with")
	}
	value := found["gateway"] / better
	figures := []figure{atLeast("requests", "/s", found["gateway"], better, "the better of Traefik and Caddy", l7OverGo)}
	if found["haproxy"] > 0 {
		figures = append(figures, atLeast("requests", "/s", found["gateway"], found["haproxy"], "HAProxy", l7OverHAProxy))
	}
	pass := len(missing) == 0 // what was not measured did not hold
	for _, f := range figures {
		fmt.Fprintln(out, f)
		pass = pass && f.holds()
	}
	return result{Value: value, Unit: "ratio", Control: &better, Goal: l7OverGo, Pass: pass, Figures: figures}, nil
}

// l7P99 asks through the gateway and Traefik at 60 % of what Traefik can.
func l7P99(ctx context.Context, out io.Writer) (result, error) {
	var rate float64
	pace := func(loads map[string]l7Load) error {
		traefik, ok := loads["traefik"]
		if !ok {
			return errors.New("there is no Traefik to compare with")
		}
		var rates []float64
		for range l7Rounds {
			most, err := traefik.flatOut(ctx, l7Slice)
			if err != nil {
				return fmt.Errorf("traefik: %w", err)
			}
			rates = append(rates, most)
		}
		rate = l7Share * median(rates)
		fmt.Fprintf(out, "traefik answers %.0f requests a second; both are asked at %.0f\n", median(rates), rate)
		return nil
	}
	found, _, err := l7Compare(ctx, out, []string{"traefik"}, pace, func(ctx context.Context, l l7Load, _ *l7Proxy) (float64, error) {
		took, err := l.paced(ctx, rate, 2*l7Slice)
		if err != nil {
			return 0, err
		}
		return 1000 * percentile(took, 99), nil
	})
	if err != nil {
		return result{}, err
	}
	control := found["traefik"]
	f := atMost("p99", "ms", found["gateway"], control, "Traefik", 1)
	fmt.Fprintln(out, f)
	return result{Value: found["gateway"], Unit: "ms", Control: &control, Goal: control, Pass: f.holds(), Figures: []figure{f}}, nil
}
