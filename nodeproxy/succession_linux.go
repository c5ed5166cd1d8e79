// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"
)

const (
	// successionLook is how often a proxy looks whether it may begin to take connections. What comes until then waits in sockets that are open already.
	successionLook = 50 * time.Millisecond
	// loanTimeout bounds asking another process for sockets: it is on the same node, and opens seven at most.
	loanTimeout = time.Second
	// loanPatience is how long an elder that did not answer is not asked again: each question holds up all pods of the node.
	loanPatience = 30 * time.Second
	// lastTurns is how long a proxy that was told to end, and had to wait for the next one, still takes connections beside that one, which should be ready by then; and for how long, at the end of
	// its time to drain, it takes none any more if nobody has come.
	lastTurns = 10 * time.Second
	// loanVersion is the first byte of a question.
	loanVersion = 1
	// maxLoan bounds a packet of the loan's protocol, and maxLoanSockets the sockets in it.
	maxLoan, maxLoanSockets = 1024, 16

	// What an answer says first: whether whoever lends serves the namespace itself.
	loanServed, loanUnserved = "served", "unserved"
)

// succession is how the proxies of a node follow each other. One of them is the elder: it holds a lock that ends with its process, and lends the sockets that it listens on
// to those that come after it. They take no connections before they are ready, or the elder is no more.
//
// The question is a packet of one byte and the descriptor of a network namespace; the answer has a line that says whether the elder serves it, the names of sockets, one a line,
// and their descriptors in the same order. The connection is the lease: its end gives them back.
type succession struct {
	dir string // "": there are no others
	log logr.Logger

	mu       sync.Mutex
	claimed  bool          // claim was called before
	lock     *os.File      // while this is the elder
	awaited  *os.File      // the lock of the one before, while that has it
	over     chan struct{} // closed when it is the elder no more
	hung     time.Time     // when the elder last did not answer; zero: it does
	listener *net.UnixListener
	resigned bool
	lending  sync.WaitGroup
}

func (s *succession) lockPath() string   { return filepath.Join(s.dir, "elder.lock") }
func (s *succession) socketPath() string { return filepath.Join(s.dir, "elder.sock") }

// claim says whether this is the elder, and makes it be if there is none. What others ask it is for lend to answer. Where that cannot be found out the first time it is alone;
// later, with an elder that may well live, it can be found out the next time.
func (s *succession) claim(lend func(*net.UnixConn)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.resigned {
		return false
	}
	if s.dir == "" || s.lock != nil {
		return true
	}
	first := !s.claimed
	s.claimed = true
	lock, mine, err := s.inherit()
	if err != nil {
		if first {
			s.log.Error(err, "proxies of this node cannot follow each other, this one takes connections at once")
			s.dir = ""
		} else {
			s.log.V(1).Info("whether there is a proxy before this one cannot be found out at the moment", "cause", err.Error())
		}
		return first
	}
	if !mine {
		s.awaited = lock
		return false
	}
	s.lock, s.over = lock, make(chan struct{})
	s.log.Info("first proxy of the node")
	if err := s.listen(lend); err != nil {
		s.log.Error(err, "the next proxy does not get this one's listeners before this has been tried again with success")
	}
	s.lending.Go(func() { s.stayFound(lend) })
	return true
}

// listen answers those who come after. s.mu is held.
func (s *succession) listen(lend func(*net.UnixConn)) error {
	if err := os.Remove(s.socketPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: s.socketPath(), Net: "unixpacket"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false) // it may be the next one's by then
	// Whoever may connect can take the connections of every pod: root alone.
	if err := os.Chmod(s.socketPath(), 0o600); err != nil {
		shut(l)
		return err
	}
	s.listener = l
	s.lending.Go(func() {
		for {
			conn, err := l.AcceptUnix()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil { // out of descriptors, for example: who asks opens its own then
				time.Sleep(successionLook)
				continue
			}
			s.lending.Go(func() { lend(conn) })
		}
	})
	return nil
}

// resign lets another one be the elder.
func (s *succession) resign() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resigned = true
	if s.listener != nil {
		shut(s.listener)
	}
	if s.lock != nil {
		close(s.over)
		shut(s.lock)
		s.lock = nil
	}
	if s.awaited != nil {
		shut(s.awaited)
		s.awaited = nil
	}
}

// elder gives where the elder can be asked, "" if there is nobody to ask, or nobody who answers.
func (s *succession) elder() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dir == "" || s.lock != nil || !s.hung.IsZero() && time.Since(s.hung) < loanPatience {
		return ""
	}
	return s.socketPath()
}

// unanswered notes that the elder did not answer in time.
func (s *succession) unanswered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hung = time.Now()
}

// borrow asks the elder for what it listens on in a namespace. Without an answer the entrance stays as it is.
func (s *succession) borrow(n *Namespace, e *entrance) {
	elder := s.elder()
	if elder == "" {
		return
	}
	nc, err := (&net.Dialer{Timeout: loanTimeout}).Dial("unixpacket", elder)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return // there is none at the moment
	}
	if err == nil {
		conn := nc.(*net.UnixConn)
		if err = ask(conn, n, e); err == nil {
			e.loan = conn
			return
		}
		shut(conn)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.unanswered()
	}
	s.log.Error(err, "listeners of the proxy before this one cannot be had, others are opened beside them")
}

func ask(conn *net.UnixConn, n *Namespace, e *entrance) error {
	if err := conn.SetDeadline(time.Now().Add(loanTimeout)); err != nil {
		return err
	}
	raw, err := n.file.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Control(func(fd uintptr) { _, _, sent = conn.WriteMsgUnix([]byte{loanVersion}, unix.UnixRights(int(fd)), nil) })
	if err = errors.Join(err, sent); err != nil {
		return fmt.Errorf("ask for listeners: %w", err)
	}
	text, fds, err := receive(conn)
	if err != nil {
		return fmt.Errorf("wait for listeners: %w", err)
	}
	lines := strings.Split(string(text), "\n")
	said, names := lines[0], lines[1:]
	if said != loanServed && said != loanUnserved || len(names) != len(fds) {
		for _, fd := range fds {
			discard(fd)
		}
		return fmt.Errorf("listeners: answered %q with %d sockets", text, len(fds))
	}
	e.elsewhere = said == loanServed
	for i, name := range names {
		if slices.ContainsFunc(openings, func(o opening) bool { return o.name == name }) && !e.has(opening{name: name}) {
			e.fds[name] = fds[i]
		} else {
			discard(fds[i]) // of another version, which listens on more
		}
	}
	return conn.SetDeadline(time.Time{})
}

// receive reads one packet. The descriptors are the caller's.
func receive(conn *net.UnixConn) (text []byte, fds []int, err error) {
	packet, control := make([]byte, maxLoan), make([]byte, unix.CmsgSpace(4*maxLoanSockets))
	n, m, flags, _, err := conn.ReadMsgUnix(packet, control)
	if err != nil {
		return nil, nil, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:m])
	for i := range messages {
		rights, wrong := unix.ParseUnixRights(&messages[i])
		err = errors.Join(err, wrong)
		fds = append(fds, rights...)
	}
	if n == 0 {
		err = errors.Join(err, syscall.ECONNRESET)
	}
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = errors.Join(err, errors.New("packet is too long"))
	}
	if err != nil {
		for _, fd := range fds {
			discard(fd)
		}
		return nil, nil, err
	}
	return packet[:n], fds, nil
}

// lend answers one question of a proxy that comes after this one, and keeps what was lent open for as long as that one wants it.
func (x *Proxy) lend(conn *net.UnixConn) {
	defer shut(conn)
	if err := x.lease(conn); err != nil {
		x.o.Log.Error(err, "listeners not handed to the next proxy")
	}
}

func (x *Proxy) lease(conn *net.UnixConn) error {
	if err := conn.SetDeadline(time.Now().Add(loanTimeout)); err != nil {
		return err
	}
	text, fds, err := receive(conn)
	if err != nil {
		return err
	}
	if len(fds) != 1 || text[0] != loanVersion {
		for _, fd := range fds {
			discard(fd)
		}
		return fmt.Errorf("asked in version %d with %d descriptors", text[0], len(fds))
	}
	n, err := NewNamespace(os.NewFile(uintptr(fds[0]), "namespace"))
	if err != nil {
		return err
	}
	defer shut(n)
	e, err := x.entrances.lend(n, conn, func(e *entrance, served bool) error {
		said := loanUnserved
		if served {
			said = loanServed
		}
		var rights []int
		for name, fd := range e.fds {
			said += "\n" + name
			rights = append(rights, fd)
		}
		_, _, err := conn.WriteMsgUnix([]byte(said), unix.UnixRights(rights...), nil)
		return err
	})
	if err != nil {
		return err
	}
	defer x.entrances.returned(e, conn)
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	conn.Read(make([]byte, 1)) //nolint:errcheck // it says nothing: only its end counts
	return nil
}

// succeed begins to take connections once this proxy is ready, or there is none before it, and becomes the elder when there is none any more. It ends then, or with ctx.
func (x *Proxy) succeed(ctx context.Context) {
	look := time.NewTicker(successionLook)
	defer look.Stop()
	for {
		elder := x.succession.claim(x.lend)
		if elder || len(x.Waits()) == 0 {
			x.take(elder)
		}
		if elder {
			return
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
	}
}

// awaitSuccessor is for a proxy that was told to end and has nobody to leave all of its sockets to: it goes on taking connections, and lending, until there is somebody. It has no need to when nothing
// is open any more, as it ends at once then, and cannot when the time to drain is nearly over.
func (x *Proxy) awaitSuccessor(drain time.Duration) {
	over := time.After(drain - min(lastTurns, drain/4))
	look := time.NewTicker(successionLook)
	defer look.Stop()
	var came time.Time
	for {
		some, none := x.entrances.heirs()
		if none == 0 && came.IsZero() || x.connections.len() == 0 {
			return
		}
		if some > 0 && came.IsZero() {
			came = time.Now()
			x.o.Log.Info("the next proxy has come")
		}
		if !came.IsZero() && time.Since(came) >= min(lastTurns, drain/4) {
			return
		}
		x.succession.claim(x.lend) // the one before may have ended meanwhile
		select {
		case <-look.C:
		case <-over:
			return
		}
	}
}

// take begins to take connections.
func (x *Proxy) take(elder bool) {
	select {
	case <-x.taking:
	default:
		x.o.Log.Info("taking connections", "first", elder, "waits", strings.Join(x.Waits(), "; "))
		close(x.taking)
	}
}
