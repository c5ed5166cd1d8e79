// SPDX-License-Identifier: Apache-2.0

package zds

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
)

// acceptInterval limits how fast proxies may connect: 5 in a second, so that one in a crash loop does not eat the node.
const acceptInterval = 200 * time.Millisecond

// holdTime is how long one that takes no confinements is not told of pods beside one that does: until all gateways know that it is on the node. They hear of that within a second
// or two of its pod's start (docs/hbone.md §13.9).
const holdTime = 5 * time.Second

// headStart is more than a proxy that is well needs to serve a pod, so that the one after it knows that the pod is served. A start is held up by a proxy that hangs for no longer.
const headStart = 500 * time.Millisecond

// ErrNoProxy says that no proxy is connected. The pod stays in the snapshot, and the next proxy to connect will get it.
var ErrNoProxy = errors.New("no node proxy is connected")

// RefusedError says that the proxy acknowledged a message with an error. The proxy keeps the pod and retries by itself.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return "node proxy refused: " + e.Reason }

// Server is the agent's half: it keeps the snapshot of this node's pods, and offers it to each proxy that connects. Add and Del go to all of them: during an
// upgrade two proxies overlap, either may be gone at the next moment, and the one that stays must have every pod. (Istio's agent tells the latest alone of new pods.)
// All methods may be called at any time from any goroutine; calls about one pod should come one after another.
type Server struct {
	path     string
	log      logr.Logger
	patience time.Duration // for one acknowledgement
	holding  time.Duration // see hold
	// headStart is how long a proxy has a new pod to itself before the one after it is told, too.
	headStart time.Duration

	mu       sync.Mutex
	pods     map[string]entry
	sessions []*serverSession // in the order in which they said hello
	changed  chan struct{}    // closed and replaced at what Changed tells of
}

// entry is one pod of the snapshot. A nil netns makes it a Keep.
type entry struct {
	workload Workload
	netns    *os.File
}

// NewServer makes a server for the socket at path; Run opens it. The snapshot can be filled before, and should be: what the first
// snapshot does not name, the proxy shuts down.
func NewServer(path string, log logr.Logger) *Server {
	return &Server{path: path, log: log, patience: answerTimeout, holding: holdTime, headStart: headStart, pods: map[string]entry{}, changed: make(chan struct{})}
}

// Stage puts a pod into the snapshot without sending it to the proxies that are connected now. It is what an agent does with the
// pods it finds at its start. netns is duplicated and stays the caller's; nil makes the pod a Keep.
func (s *Server) Stage(w Workload, netns *os.File) error {
	var own *os.File
	if netns != nil {
		var err error
		if own, err = duplicate(netns); err != nil {
			return fmt.Errorf("duplicate the network namespace of %s/%s: %w", w.Namespace, w.Name, err)
		}
	}
	s.mu.Lock()
	old := s.pods[w.UID]
	if own == nil && old.netns != nil {
		old.netns = nil // a Keep never replaces what is known better
	} else {
		s.pods[w.UID] = entry{workload: w, netns: own}
	}
	s.mu.Unlock()
	if old.netns != nil {
		old.netns.Close()
	}
	return nil
}

// Keep stages a pod of which only the uid is known: proxies that have it shall go on with it.
func (s *Server) Keep(uid string) error { return s.Stage(Workload{UID: uid}, nil) }

// Add puts a pod into the snapshot and sends it to every proxy. The first to have connected is told first, and the next when that one has refused, or has not answered for headStart, or at once
// if it owes answers. Add returns with the first acknowledgement; the proxies that have not been told by then are, as soon as they are not busy, without anybody waiting for it. A proxy that
// refused has the pod to itself to retry. netns is duplicated and stays the caller's.
// ErrNoProxy, also when the last one goes meanwhile, and a *RefusedError leave the pod in the snapshot.
func (s *Server) Add(ctx context.Context, w Workload, netns *os.File) error {
	return s.add(ctx, w, netns, nil)
}

// errBusy says that no proxy has answered for as long as an Offer waits.
var errBusy = errors.New("no node proxy has answered yet")

// Offer is an Add that waits for headStart and no longer: what comes next does not depend on a proxy, and is only better with one. Whoever has not answered by then has the pod as soon as it is not busy.
func (s *Server) Offer(ctx context.Context, w Workload, netns *os.File) error {
	enough := time.NewTimer(s.headStart)
	defer enough.Stop()
	return s.add(ctx, w, netns, enough.C)
}

// add is Add until enough comes, then errBusy.
func (s *Server) add(ctx context.Context, w Workload, netns *os.File, enough <-chan time.Time) error {
	if netns == nil {
		return fmt.Errorf("add %s/%s: no network namespace", w.Namespace, w.Name)
	}
	if err := s.Stage(w, netns); err != nil {
		return err
	}
	s.mu.Lock()
	sessions := slices.Clone(s.sessions)
	s.mu.Unlock()
	ctx, stopWaiting := context.WithCancel(ctx)
	defer stopWaiting() // who has not been told by then is owed it
	answers, returned := make(chan error), make(chan struct{})
	defer close(returned)
	ask := func(c *serverSession) {
		err := c.send(ctx, kindAdd, w.UID)
		select {
		case answers <- err:
		case <-returned:
			s.notTaken(w, err)
		}
	}
	asked, errs := 0, []error(nil)
	later := func() {
		for _, c := range sessions[asked:] {
			c.owe(w.UID)
		}
	}
	for len(errs) < len(sessions) {
		for hung := true; hung && asked < len(sessions); asked++ {
			go ask(sessions[asked])
			hung = sessions[asked].hung()
		}
		select {
		case err := <-answers:
			if err == nil {
				later()
				s.notTaken(w, errs...)
				return nil
			}
			errs = append(errs, err)
		case <-time.After(s.headStart):
		case <-enough:
			later()
			s.notTaken(w, errs...)
			return errBusy
		}
	}
	errs = slices.DeleteFunc(errs, func(err error) bool { return errors.Is(err, ErrNoProxy) })
	if len(errs) == 0 {
		return ErrNoProxy
	}
	return errors.Join(errs...)
}

// notTaken logs the errors of proxies about a pod that another one has.
func (s *Server) notTaken(w Workload, errs ...error) {
	errs = slices.DeleteFunc(errs, func(err error) bool { return errors.Is(err, ErrNoProxy) || errors.Is(err, context.Canceled) })
	if err := errors.Join(errs...); err != nil {
		s.log.Error(err, "pod not taken by every node proxy", "workload", w.Namespace+"/"+w.Name)
	}
}

// Del takes a pod out of the snapshot and tells every proxy. One that owes answers, or that is busy until ctx ends, is told as soon as it can be. It returns the errors after all were tried.
func (s *Server) Del(ctx context.Context, uid string) error {
	s.mu.Lock()
	old, known := s.pods[uid]
	delete(s.pods, uid)
	sessions := slices.Clone(s.sessions)
	s.mu.Unlock()
	if old.netns != nil {
		old.netns.Close()
	}
	if !known {
		return nil
	}
	errs := make([]error, len(sessions))
	var told sync.WaitGroup
	for i, c := range sessions {
		if c.hung() {
			c.owe(uid)
			continue
		}
		told.Go(func() {
			if err := c.send(ctx, kindDel, uid); err != nil && !errors.Is(err, ErrNoProxy) {
				errs[i] = fmt.Errorf("del %s: %w", uid, err)
			}
		})
	}
	told.Wait()
	return errors.Join(errs...)
}

// Connected says how many proxies are connected and have said hello.
func (s *Server) Connected() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// Proxies gives what those that are connected said of themselves, in the order in which they connected.
func (s *Server) Proxies() []Proxy {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Proxy, 0, len(s.sessions))
	for _, c := range s.sessions {
		out = append(out, c.proxy)
	}
	return out
}

// Unserved gives the uids of the pods that every proxy that is connected has refused; none while there is no proxy.
func (s *Server) Unserved() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sessions) == 0 {
		return nil
	}
	var uids []string
	for uid := range s.pods {
		if !slices.ContainsFunc(s.sessions, func(c *serverSession) bool { return !c.refuses(uid) }) {
			uids = append(uids, uid)
		}
	}
	return uids
}

// Changed gives a channel that is closed at the next connection or disconnection of a proxy, or when one refuses a pod that nobody waits for.
func (s *Server) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Len says how many pods are in the snapshot.
func (s *Server) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pods)
}

// Run opens the socket, removing one that a former agent left behind, and serves proxies until ctx ends. It waits for all that it
// started and closes the descriptors of the snapshot. The socket's file stays, so that an agent that already took over keeps its own.
func (s *Server) Run(ctx context.Context) error {
	defer s.forget()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := os.MkdirAll(filepath.Dir(s.path), 0o755); err != nil {
		return err
	}
	if err := os.Remove(s.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the former socket: %w", err)
	}
	listener, err := net.ListenUnix(network, &net.UnixAddr{Name: s.path, Net: network})
	if err != nil {
		return err
	}
	listener.SetUnlinkOnClose(false)
	defer listener.Close()
	// Whoever may connect gets descriptors of every pod's network: root alone.
	if err := os.Chmod(s.path, 0o600); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()

	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for {
		conn, err := listener.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept a node proxy: %w", err)
		}
		running.Go(func() { s.serve(ctx, conn) })
		select {
		case <-ctx.Done():
		case <-time.After(acceptInterval):
		}
	}
}

func (s *Server) serve(ctx context.Context, conn *net.UnixConn) {
	c := newServerSession(s, conn)
	err := c.run(ctx)
	s.remove(c)
	switch {
	case ctx.Err() != nil:
	case gone(err):
		s.log.Info("node proxy disconnected")
	default:
		s.log.Error(err, "node proxy connection ended")
	}
}

// hold keeps a proxy that takes no confinements from being ready, and so from taking connections, while one that does serves and gateways still confine connections to the node's pods.
func (s *Server) hold(ctx context.Context, newcomer Proxy) {
	if newcomer.Confines {
		return
	}
	over := time.NewTimer(s.holding)
	defer over.Stop()
	for {
		changed := s.Changed()
		if !slices.ContainsFunc(s.Proxies(), func(p Proxy) bool { return p.Confines }) {
			return
		}
		select {
		case <-changed:
		case <-over.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// join makes c the latest session and gives the uids of the snapshot it begins with. Both in one step: what changes later is sent
// to c as an increment.
func (s *Server) join(c *serverSession) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions = append(s.sessions, c)
	s.announce()
	uids := make([]string, 0, len(s.pods))
	for uid := range s.pods {
		uids = append(uids, uid)
	}
	slices.Sort(uids)
	return uids
}

func (s *Server) remove(c *serverSession) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.sessions, c); i >= 0 {
		s.sessions = slices.Delete(s.sessions, i, i+1)
		s.announce()
	}
}

// news says that a proxy has refused a pod.
func (s *Server) news() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.announce()
}

// announce is called with mu held.
func (s *Server) announce() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// has says whether a pod is in the snapshot.
func (s *Server) has(uid string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.pods[uid]
	return ok
}

// lookup gives a pod with a descriptor of its own, which the caller closes: the pod may be removed while it is being sent.
func (s *Server) lookup(uid string) (entry, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.pods[uid]
	if !ok || e.netns == nil {
		return e, ok, nil
	}
	own, err := duplicate(e.netns)
	e.netns = own
	return e, err == nil, err
}

func (s *Server) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for uid, e := range s.pods {
		if e.netns != nil {
			e.netns.Close()
		}
		delete(s.pods, uid)
	}
}
