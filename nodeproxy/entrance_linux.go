// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// opening is one socket of an entrance.
type opening struct {
	// name is what the proxies of a node call it among each other.
	name string
	make func(*sockets, *Namespace) (fd int, err error)
	// optional ones may be missing: a kernel need not have IPv6.
	optional bool
}

var (
	openOutbound  = tcpOpening("tcp 15001", outboundPort, false)
	openPlaintext = tcpOpening("tcp 15006", plaintextPort, true)
	openHBONE     = tcpOpening("tcp 15008", mesh.HBONEPort, true)
	// openDNS are the openings for queries on each loopback address, over UDP and TCP.
	openDNS = [][2]opening{
		dnsOpenings("127.0.0.1 15053", netip.AddrFrom4([4]byte{127, 0, 0, 1}), false),
		dnsOpenings("::1 15053", netip.IPv6Loopback(), true),
	}
	openings = []opening{openOutbound, openPlaintext, openHBONE, openDNS[0][0], openDNS[0][1], openDNS[1][0], openDNS[1][1]}
)

func tcpOpening(name string, port uint16, transparent bool) opening {
	return opening{name: name, make: func(s *sockets, n *Namespace) (int, error) { return s.listen(n, port, transparent) }}
}

func dnsOpenings(name string, addr netip.Addr, optional bool) [2]opening {
	at := netip.AddrPortFrom(addr, dnsPort)
	return [2]opening{
		{name: "udp " + name, optional: optional, make: func(s *sockets, n *Namespace) (int, error) { return s.bound(n, at, unix.SOCK_DGRAM, false) }},
		{name: "tcp " + name, optional: optional, make: func(s *sockets, n *Namespace) (int, error) { return s.listenAt(n, at, false) }},
	}
}

// entrance is what is listened on in one network namespace. Its sockets are shared among the proxies of a node, so that what waits in them to be accepted belongs to no
// one of them: it is taken by whoever still takes, or by whoever does next.
type entrance struct {
	id NamespaceID
	// fds are by name. They are shared with other processes: nothing must ever change their mode.
	fds map[string]int
	// elsewhere says that another proxy served the namespace when this one got its sockets.
	elsewhere bool

	// entrances.mu guards the fields below.
	pods   int // of this process that use it
	leases map[*net.UnixConn]struct{}
	loan   *net.UnixConn // open for as long as the proxy that the sockets came from has them; nil if that was none
}

// listener accepts from one of the openings. It is closed without harm to others.
func (e *entrance) listener(o opening) (*net.TCPListener, error) {
	file, err := e.duplicate(o)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	l, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", o.name, err)
	}
	return l.(*net.TCPListener), nil
}

// packets does the same for UDP.
func (e *entrance) packets(o opening) (*net.UDPConn, error) {
	file, err := e.duplicate(o)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	pc, err := net.FilePacketConn(file)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", o.name, err)
	}
	return pc.(*net.UDPConn), nil
}

// has says whether an optional opening is there.
func (e *entrance) has(o opening) bool {
	_, ok := e.fds[o.name]
	return ok
}

func (e *entrance) duplicate(o opening) (*os.File, error) {
	fd, ok := e.fds[o.name]
	if !ok {
		return nil, fmt.Errorf("listen on %s: there is no such opening", o.name)
	}
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", o.name, os.NewSyscallError("fcntl F_DUPFD_CLOEXEC", err))
	}
	return os.NewFile(uintptr(own), o.name), nil
}

// close lets go of the sockets, and tells those who share them.
func (e *entrance) close() {
	for _, fd := range e.fds {
		discard(fd)
	}
	clear(e.fds)
	for lease := range e.leases {
		shut(lease) // its own goroutine takes it out
	}
	if e.loan != nil {
		shut(e.loan)
	}
}

// entrances are those that this process has.
type entrances struct {
	sockets *sockets
	// borrow asks another proxy for the sockets of a namespace, and fills in what that gives.
	borrow func(*Namespace, *entrance)

	borrowing sync.WaitGroup // one for each loan

	mu     sync.Mutex
	open   map[NamespaceID]*entrance
	ending bool // pods alone keep entrances open from here on
}

// enter gives the entrance of a namespace to a pod, which must leave it.
func (es *entrances) enter(n *Namespace) (*entrance, error) {
	es.mu.Lock()
	defer es.mu.Unlock()
	e, err := es.find(n)
	if err != nil {
		return nil, err
	}
	e.pods++
	return e, nil
}

// find gives the entrance that is open, or another proxy's, or a new one. es.mu is held.
func (es *entrances) find(n *Namespace) (*entrance, error) {
	if e := es.open[n.ID()]; e != nil {
		return e, nil
	}
	e := &entrance{id: n.ID(), fds: map[string]int{}, leases: map[*net.UnixConn]struct{}{}}
	es.borrow(n, e)
	for _, o := range openings {
		if e.has(o) {
			continue
		}
		fd, err := o.make(es.sockets, n)
		if err == nil {
			e.fds[o.name] = fd
		} else if !o.optional {
			e.close()
			return nil, err
		}
	}
	es.open[e.id] = e
	if loan := e.loan; loan != nil {
		es.borrowing.Go(func() {
			loan.Read(make([]byte, 1)) //nolint:errcheck // it says nothing: only its end counts
			shut(loan)
			es.mu.Lock()
			defer es.mu.Unlock()
			e.loan = nil
		})
	}
	return e, nil
}

// leave is for a pod that accepts no more.
func (es *entrances) leave(e *entrance) {
	es.mu.Lock()
	defer es.mu.Unlock()
	e.pods--
	es.tidy(e)
}

// tidy closes an entrance that nobody needs any more. es.mu is held.
func (es *entrances) tidy(e *entrance) {
	if e.pods == 0 && (len(e.leases) == 0 || es.ending) && es.open[e.id] == e {
		delete(es.open, e.id)
		e.close()
	}
}

// shared says whether another process has the sockets, too.
func (es *entrances) shared(e *entrance) bool {
	es.mu.Lock()
	defer es.mu.Unlock()
	return len(e.leases) > 0 || e.loan != nil
}

// heirs says of how many entrances that pods use another process has the sockets, too, and of how many none has.
func (es *entrances) heirs() (some, none int) {
	es.mu.Lock()
	defer es.mu.Unlock()
	for _, e := range es.open {
		switch {
		case e.pods == 0:
		case len(e.leases) > 0 || e.loan != nil:
			some++
		default:
			none++
		}
	}
	return some, none
}

// lend gives the sockets of a namespace to another process, by answer, for as long as lease is open. answer must not wait: the sockets may be closed when it has returned.
func (es *entrances) lend(n *Namespace, lease *net.UnixConn, answer func(e *entrance, served bool) error) (*entrance, error) {
	es.mu.Lock()
	defer es.mu.Unlock()
	if es.ending {
		return nil, errors.New("this proxy ends")
	}
	e, err := es.find(n)
	if err != nil {
		return nil, err
	}
	e.leases[lease] = struct{}{}
	if err := answer(e, e.pods > 0); err != nil {
		delete(e.leases, lease)
		es.tidy(e)
		return nil, err
	}
	return e, nil
}

// returned ends a lease.
func (es *entrances) returned(e *entrance, lease *net.UnixConn) {
	es.mu.Lock()
	defer es.mu.Unlock()
	delete(e.leases, lease)
	es.tidy(e)
}

// end closes each entrance with the last pod of this process in it, whoever else has the sockets: it is theirs now.
func (es *entrances) end() {
	es.mu.Lock()
	defer es.mu.Unlock()
	es.ending = true
	for _, e := range es.open {
		es.tidy(e)
	}
}
