// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/test/rig"
)

const (
	crashRounds  = 10
	crashGoal    = 2 * time.Second
	crashClients = 8 // half of them with a connection for each question: 80 new connections a second
	// crashLife is how long a process lives before it is killed: a second more than what makes a crash one of a row, which the supervisor is slower to follow up.
	crashLife = 11 * time.Second
)

// nodeCrash kills a node proxy that knows 100,000 workloads below its supervisor, again and again, while connections are made between two pods of the node all the time. It
// measures for how long after that there were questions that were held up or had to be asked again. In every second round there is no control plane. Meanwhile the kernel
// counts what comes to the application otherwise than from its proxy; a pod outside of the mesh shows that it does.
func nodeCrash(ctx context.Context, out io.Writer) (_ result, err error) {
	// The control plane is on another machine usually, and has its own processors there.
	defer debug.SetGCPercent(debug.SetGCPercent(propagateQuiet))
	s, err := newCrashStage(ctx, out)
	if err != nil {
		return result{}, err
	}
	defer s.closeWith(&err)
	a := startAsking(ctx, s.client, s.server.Address.String(), crashClients)
	var took []float64
	for round := range often(ctx, crashRounds) {
		one, err := s.crash(ctx, out, a, round)
		if err != nil {
			_, _, more := a.end()
			return result{}, errors.Join(err, more)
		}
		took = append(took, one.Seconds())
	}
	asked, lost, err := a.end()
	if err != nil {
		return result{}, err
	}
	around, err := arrived(ctx, s.server)
	fmt.Fprintf(out, "%d questions, %d lost; half of the crashes were over after %.3f s\n", asked, lost, median(took))
	return absolute(out,
		figure{What: "crash to the last connection that it held up (worst)", Unit: "s", Ours: percentile(took, 100), Goal: crashGoal.Seconds()},
		figure{What: "packets to the application around its proxy", Ours: float64(around - s.plain)},
		figure{What: "requests lost, with retries", Ours: float64(lost)},
	), err
}

// crashStage is a node with a supervised proxy that knows a large world, and two pods of it that are part of the mesh.
type crashStage struct {
	rig            *rig.Rig
	proxy          *rig.Proxy
	client, server *rig.Pod
	keys           string
	began          time.Time // when the process began that serves
	plain          int       // packets that came to the application around its proxy because they were to
	listener       io.Closer
}

func newCrashStage(ctx context.Context, out io.Writer) (s *crashStage, err error) {
	s = &crashStage{}
	defer func() {
		if err != nil {
			s.closeWith(&err)
		}
	}()
	if s.rig, err = rig.New(); err != nil {
		return s, err
	}
	// Keys are kept in memory only, over a crash as in a DaemonSet's emptyDir.
	if s.keys, err = os.MkdirTemp("/dev/shm", "isthmus-keys-"); err != nil {
		return s, err
	}
	east := s.rig.Cluster("east")
	node, err := east.Node()
	if err != nil {
		return s, err
	}
	world := &bigWorld{}
	world.namespaces("east")
	for n := range worldWorkloads / bigPerService {
		world.service("east", n)
	}
	s.rig.Put(world.objects...)
	if s.client, err = node.EnrolledPod(ctx, "client"); err != nil {
		return s, err
	}
	if s.server, err = node.EnrolledPod(ctx, "server"); err != nil {
		return s, err
	}
	if s.listener, err = answerQuestions(ctx, s.server, 0); err != nil {
		return s, err
	}
	s.rig.Publish()
	if s.proxy, err = node.StartProxy(ctx, rig.ProxyOptions{Supervised: true, Keys: s.keys}); err != nil {
		return s, err
	}
	s.began = time.Now()
	if err := s.proxy.Ready(ctx); err != nil {
		return s, err
	}
	if err := s.until(ctx, "isthmus_snapshot_writes_total", 1, 1e9); err != nil {
		return s, err
	}
	known, err := metricOf(ctx, s.proxy.Space, "isthmus_xds_client_resources")
	if err != nil {
		return s, err
	}
	size, err := metricOf(ctx, s.proxy.Space, "isthmus_snapshot_bytes")
	if err != nil {
		return s, err
	}
	fmt.Fprintf(out, "the proxy knows %.0f resources, and keeps %.1f MiB\n", known, size/(1<<20))
	if known < worldWorkloads {
		return s, errors.New("that is less than it should")
	}
	return s, s.watch(ctx, node)
}

// watch has the kernel count what comes to the application from outside of its pod, which is where its own proxy's connections do not come from, and sees that it does.
func (s *crashStage) watch(ctx context.Context, node *rig.Node) error {
	err := s.server.Filter(ctx, "add table inet wire; add counter inet wire around; add chain inet wire in { type filter hook prerouting priority -310 ; }; "+
		"add rule inet wire in iifname eth0 tcp dport "+portEcho+" counter name around")
	if err != nil {
		return err
	}
	plain, err := node.Pod("plain")
	if err != nil {
		return err
	}
	c, err := plain.Dial(ctx, "tcp", s.server.Address.String()+":"+portEcho)
	if err != nil {
		return err
	}
	_, err = question(c, 1, askPatience)
	// Its link goes first, so that nothing of it comes later.
	if err = errors.Join(err, plain.Remove(ctx), c.Close()); err != nil {
		return err
	}
	if s.plain, err = arrived(ctx, s.server); err == nil && s.plain == 0 {
		err = errors.New("a connection around the proxy is not seen")
	}
	return err
}

// arrived is how many packets watch has seen.
func arrived(ctx context.Context, pod *rig.Pod) (packets int, err error) {
	text, err := pod.Nft(ctx, "list counter inet wire around")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if n, _ := fmt.Sscanf(strings.TrimSpace(line), "packets %d", &packets); n == 1 {
			return packets, nil
		}
	}
	return 0, fmt.Errorf("no counter in %q", text)
}

// until waits for a metric of the proxy to be within bounds.
func (s *crashStage) until(ctx context.Context, name string, least, most float64) error {
	for {
		v, err := metricOf(ctx, s.proxy.Space, name)
		if err == nil && least <= v && v <= most {
			return nil
		}
		if wait := pause(ctx, 50*time.Millisecond); wait != nil {
			return fmt.Errorf("%s is %v: %w", name, v, errors.Join(wait, err))
		}
	}
}

// crash is one round, and gives for how long questions were held up.
func (s *crashStage) crash(ctx context.Context, out io.Writer, a *asking, round int) (time.Duration, error) {
	if err := s.until(ctx, "isthmus_snapshot_restored", 0, 0); err != nil { // a controller has said all
		return 0, err
	}
	if err := pause(ctx, time.Until(s.began.Add(crashLife))); err != nil {
		return 0, err
	}
	away := round%2 == 1
	if away {
		s.proxy.Strand()
	}
	a.watch()
	if err := pause(ctx, failoverQuiet); err != nil {
		return 0, err
	}
	a.expect()
	if err := s.proxy.Crash(); err != nil {
		return 0, err
	}
	s.began = time.Now()
	interruption, worst, settled := time.Duration(0), hold{}, false
	for !settled {
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return 0, err
		}
		interruption, worst, settled = a.interrupted(failoverQuiet)
	}
	held, failures := a.heldUp()
	if held == 0 {
		return 0, errors.New("nobody noticed the crash")
	}
	for name, want := range map[string]float64{"isthmus_restarts": float64(round + 1), "isthmus_snapshot_refused_total": 0} {
		if err := s.until(ctx, name, want, want); err != nil {
			return 0, err
		}
	}
	known, err := metricOf(ctx, s.proxy.Space, "isthmus_xds_client_resources")
	if err == nil && known < worldWorkloads {
		err = fmt.Errorf("the next process knows %.0f resources", known)
	}
	if err == nil && away {
		err = s.proxy.Rejoin()
	}
	fmt.Fprintf(out, "round %d, control plane away %v: %.3f s until the last question was answered that was held up (%d were, %d attempts failed, the last one: %v)\n",
		round+1, away, interruption.Seconds(), held, failures, worst.err)
	return interruption, err
}

// closeWith takes the stage down, and tells if that fails.
func (s *crashStage) closeWith(err *error) {
	if s.listener != nil {
		s.listener.Close()
	}
	if s.rig != nil {
		*err = errors.Join(*err, s.rig.Close())
	}
	if s.keys != "" {
		*err = errors.Join(*err, os.RemoveAll(s.keys))
	}
}
