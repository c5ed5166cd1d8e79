// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errTooManyNames ends the stream of a subscriber that asks for more names than maxSubscribedNames.
var errTooManyNames = status.Errorf(codes.ResourceExhausted, "too many names in one subscription: at most %d are accepted", maxSubscribedNames)

// errTooManyKnown ends the stream of a subscriber that says that it holds more than is accepted. It may begin anew without saying so.
var errTooManyKnown = status.Errorf(codes.ResourceExhausted,
	"too many names in initial_resource_versions: at most %d are accepted, or %d with a subscription to everything", maxHeldNames, maxKnownNames)

// errSilent ends the stream of a caller that asks for nothing.
var errSilent = status.Error(codes.DeadlineExceeded, "nothing was asked for")

// errLongName ends the stream of a subscriber that writes a name, or a version, which nothing has.
var errLongName = status.Errorf(codes.InvalidArgument, "a name has more than %d bytes, or a version more than %d", maxUID, maxName)

// errLongNode ends the stream of a subscriber that says that its node has a name which none has. It would be kept as long as the stream lasts.
var errLongNode = status.Errorf(codes.InvalidArgument, "the node's name has more than %d bytes", maxName)

type deltaStream = discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer

// subscriber is one stream. Its handler's goroutine sends, another receives.
type subscriber struct {
	server *Server
	stream deltaStream
	caller Caller
	log    logr.Logger
	wake   chan struct{} // capacity 1: something may be due, or serve is to look at something else
	// connection counts what was written to the subscriber, or nil.
	connection *countedAddr
	standing   standing // in places; written once, by enlist

	// Owned by serve.
	small   []string         // types of small responses that are due; only while they are sent
	turn    *turn            // to send a large response, waited for or held; nil if none is
	turnFor string           // type of the response that it is held for, or ""
	limit   <-chan time.Time // when it is looked at whether others want it back; nil while none is held
	pace    pace             // of that response

	waits bool // to be woken; guarded by rouser.mu

	// Owned by receive.
	walks   walks
	rest    time.Duration // how long nothing more is received
	delayed bool          // that was so once, and was logged

	inTurn  atomic.Bool // a turn is waited for or held, which a request may end
	looking atomic.Bool // it is time to look whether the peer is there

	mu    sync.Mutex // after Server.mu
	types map[string]*subscription
	node  string // what the client says that its node is
	words int    // bytes that it has in Server.words
	gone  bool   // it has them no more
}

// DeltaAggregatedResources serves one stream until it ends. It implements the gRPC service.
func (s *Server) DeltaAggregatedResources(stream deltaStream) error {
	caller, err := s.admit(stream.Context())
	if err != nil {
		s.metrics.refused.Inc()
		s.log.Info("stream refused", "peer", peerAddress(stream.Context()), "reason", err.Error())
		return err
	}
	select {
	case <-s.ready:
	case <-s.closed:
		return errClosing
	case <-stream.Context().Done():
		return stream.Context().Err()
	}
	sub := &subscriber{
		server: s,
		stream: stream,
		caller: caller,
		log:    s.log.WithValues("peer", peerAddress(stream.Context()), "pod", caller.Namespace+"/"+caller.Pod, "node", caller.Node),
		wake:   make(chan struct{}, 1),
		types:  map[string]*subscription{},

		connection: connectionOf(stream.Context()),
	}
	if err := s.enlist(sub); err != nil {
		s.metrics.refused.Inc()
		return err
	}
	defer s.dismiss(sub)
	return sub.serve()
}

// errClosing ends the streams of a server that is shut down; clients try elsewhere.
var errClosing = status.Error(codes.Unavailable, "discovery server is shutting down")

// admit asks who calls.
func (s *Server) admit(ctx context.Context) (Caller, error) {
	ctx, cancel := context.WithTimeout(ctx, s.options.AuthenticateTimeout)
	defer cancel()
	select {
	case s.admitting <- struct{}{}:
		defer func() { <-s.admitting }()
	case <-ctx.Done():
		return Caller{}, status.Error(codes.Unavailable, "too many streams are being authenticated")
	}
	caller, err := s.options.Authenticate(ctx)
	if err != nil {
		return Caller{}, refusal(err)
	}
	return caller, nil
}

// refusal keeps an error that is a gRPC status; an error of time says try again; any other one is the caller's fault.
func refusal(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return status.Error(codes.Unavailable, err.Error())
	}
	return status.Error(codes.Unauthenticated, err.Error())
}

// enlist makes Update tell sub, and counts the stream and its receiver, which serve starts.
func (s *Server) enlist(sub *subscriber) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return errClosing
	}
	sub.standing = s.standing(sub.caller)
	if err := s.places.take(sub.caller.owner(), sub.standing); err != nil {
		return err
	}
	s.receivers.Add(2)
	s.subscribers[sub] = struct{}{}
	s.metrics.subscribers.Set(float64(len(s.subscribers)))
	return nil
}

func (s *Server) dismiss(sub *subscriber) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.subscribers, sub)
	s.places.give(sub.caller.owner(), sub.standing)
	sub.mu.Lock()
	sub.leave()
	sub.mu.Unlock()
	s.metrics.subscribers.Set(float64(len(s.subscribers)))
	s.receivers.Done()
}

// notify wakes the sender. It never waits.
func (sub *subscriber) notify() {
	select {
	case sub.wake <- struct{}{}:
	default:
	}
}

// serve sends what is due, whenever it is due, until the stream ends. The receiver ends after it: gRPC ends the stream,
// and with it Recv, only when the handler returns.
//
// All that concerns it wakes it by one channel: with thousands of streams, to wait on five, two of them timers, takes more than to send.
func (sub *subscriber) serve() error {
	received := make(chan error, 1)
	go func() {
		defer sub.server.receivers.Done()
		received <- sub.receive()
		sub.notify()
	}()
	defer sub.endTurn()
	began, o := time.Now(), &sub.server.options
	look := time.AfterFunc(min(o.FirstRequest, o.AckTimeout/4), func() {
		sub.looking.Store(true)
		sub.notify()
	})
	defer look.Stop()
	for {
		if sub.turn == nil {
			<-sub.wake
		} else if woken, err := sub.waitInTurn(); err != nil {
			return err
		} else if !woken {
			continue
		}
		select {
		case err := <-received:
			return err
		default:
		}
		if sub.server.isClosed() {
			return errClosing
		}
		if sub.looking.Swap(false) {
			again, err := sub.look(time.Now(), began)
			if err != nil {
				return err
			}
			look.Reset(again)
		}
		if sub.turnFor != "" && sub.acknowledged(sub.turnFor) {
			sub.server.large.trust(sub.turn.of)
			sub.endTurn()
		}
		if err := sub.send(); err != nil {
			return err
		}
	}
}

// waitInTurn is how serve waits while a turn is waited for or held. It says whether serve was woken; else what concerns the turn was done.
func (sub *subscriber) waitInTurn() (woken bool, err error) {
	select {
	case <-sub.wake:
		return true, nil
	case <-sub.granted():
		return false, sub.takeTurn()
	case <-sub.limit:
		if sub.outstays() {
			return false, sub.abandon(sub.turnFor)
		}
		return false, nil
	}
}

// look gives the error that ends the stream of a peer that asks for nothing, or does not acknowledge; else how long it may take until the next look.
func (sub *subscriber) look(now, began time.Time) (again time.Duration, err error) {
	again = sub.server.options.AckTimeout / 4
	if sub.silent() {
		left := sub.server.options.FirstRequest - now.Sub(began)
		if left <= 0 {
			return 0, errSilent
		}
		again = min(again, left)
	}
	if url := sub.overdue(now); url != "" {
		return 0, sub.abandon(url)
	}
	return again, nil
}

// silent says whether nothing was asked for yet.
func (sub *subscriber) silent() bool {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	return len(sub.types) == 0
}

// overdue gives the type of a response that waits for its acknowledgement too long, or "".
func (sub *subscriber) overdue(now time.Time) string {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	for url, s := range sub.types {
		if s.nonce != "" && now.Sub(s.sentAt) > sub.server.options.AckTimeout {
			return url
		}
	}
	return ""
}

// tell sends the response of a type, if one is due.
func (sub *subscriber) tell(url string) error {
	response := sub.next(url)
	if response == nil {
		return nil
	}
	if url == sub.turnFor {
		sub.pace.begin(sub.written(), response.size())
	}
	deliver := sub.deliver
	if sub.fits() {
		deliver = sub.hand
	}
	if err := deliver(url, response); err != nil {
		return err
	}
	of := sub.server.metrics.of[url]
	of.responses.Inc()
	of.sent.Add(float64(len(response.entries)))
	if log := sub.log.V(1); log.Enabled() {
		log.Info("told", "type", short(url), "resources", len(response.entries), "removed", len(response.removed))
	}
	return nil
}

func (sub *subscriber) next(url string) *response {
	now := time.Now()
	sub.server.mu.RLock()
	defer sub.server.mu.RUnlock()
	sub.mu.Lock()
	defer sub.mu.Unlock()
	s := sub.types[url]
	if s == nil {
		return nil
	}
	response := s.next(sub.server.tables[url], sub.sees, now)
	if response != nil {
		s.sentAt = now
	}
	return response
}

// sees says whether the caller may know of an entry: a gateway's configuration is for that gateway alone.
func (sub *subscriber) sees(e *entry) bool {
	return e.kind != kindGateway || e.owner.Namespace == sub.caller.Namespace && e.owner.ServiceAccount == sub.caller.ServiceAccount
}

// receive takes requests until the stream ends. A nil error means that the client ended it.
func (sub *subscriber) receive() error {
	for {
		request, err := sub.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		due, err := sub.take(request)
		if err != nil {
			if !errors.Is(err, errClosing) {
				sub.server.metrics.refused.Inc()
			}
			return err
		}
		if due || sub.inTurn.Load() { // most acknowledgements are the end of it
			sub.notify()
		}
		sub.pause()
	}
}

// take notes what one request says, and says whether a response is due.
func (sub *subscriber) take(r *discovery.DeltaDiscoveryRequest) (due bool, err error) {
	now := time.Now()
	url := r.GetTypeUrl()
	sub.server.mu.RLock()
	defer sub.server.mu.RUnlock()
	sub.mu.Lock()
	defer sub.mu.Unlock()

	table := sub.server.tables[url]
	if table == nil {
		// Others' clients ask for more types than we have (ztunnel may get new ones): they are left without an answer.
		sub.log.V(1).Info("type is not served", "type", url)
		return false, nil
	}
	if n := r.GetNode(); n != nil && sub.node == "" {
		node := n.GetMetadata().GetFields()["NODE_NAME"].GetStringValue()
		if len(node) > maxName {
			return false, errLongNode
		}
		sub.node = node
	}
	s := sub.types[url]
	if s == nil {
		node := ""
		if url == addressURL {
			if node = sub.caller.Node; node == "" {
				node = sub.node
			}
		}
		s = newSubscription(url, node)
		sub.types[url] = s
		if err := s.first(r, table, now); err != nil {
			return false, err
		}
		s.walked = 0 // each stream begins once with each type
		return s.due(), sub.keep(s)
	}
	sent := s.sent
	if s.acknowledge(r.GetResponseNonce()) {
		sub.server.metrics.of[url].acknowledged.Observe(now.Sub(s.sentAt).Seconds())
		if d := r.GetErrorDetail(); d != nil {
			sub.server.metrics.rejected.WithLabelValues(short(url)).Inc()
			said := Rejection{sub.caller, short(url), rejected(sent, d.GetMessage()), clip(d.GetMessage())}
			sub.log.Info("subscriber rejects resources", "type", said.Type, "resources", said.Resources, "reason", said.Reason)
			if sub.server.options.Rejected != nil {
				sub.server.options.Rejected(said)
			}
		}
	}
	if err := s.more(r, table, now); err != nil {
		return false, err
	}
	sub.rest, s.walked = sub.walks.took(s.walked, sub.server.walkBurst, now), 0
	return s.due(), sub.keep(s)
}
