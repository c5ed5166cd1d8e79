// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// probeEvery is how often a remote API server is asked for its version: the time within which a loss is in status. It is a variable for
// tests, which set it before anything runs.
var probeEvery = 10 * time.Second

// remoteResolver finds remote API servers by name; nil is the system's. It is a variable for tests, like probeEvery.
var remoteResolver *net.Resolver

const (
	// probeTimeout is how long one question may take: a far cluster answers in well under a second.
	probeTimeout = 5 * time.Second
	// slowAnswer is how long an answer may take before status says that the server is slow.
	slowAnswer = 2 * time.Second
	// retryMin and retryMax bound the wait between attempts at what failed. Those to reach a remote cluster are no further apart than probeEvery.
	retryMin = time.Second
	retryMax = 30 * time.Second
	// tellsLeast is what a server that is too slow to answer must tell otherwise within probeTimeout to be there, in bytes. An event of a pod has about 4 KiB.
	tellsLeast = 1 << 10
	// silencesMost is how many questions in a row may go without an answer and a word before all connections are made anew: the name of the server may
	// lead elsewhere by now, and a way on which everything is lost is worth nothing.
	silencesMost = 2
	// remoteQPS and remoteBurst bound our requests to one remote API server per second. Watches count once.
	remoteQPS   = 20
	remoteBurst = 40
)

// phase is how far a connection came.
type phase uint8

const (
	phaseConnecting phase = iota // has not reached the API server yet
	phaseSyncing                 // reads everything for the first time
	phaseSynced                  // has read everything
	phaseRefused                 // reached the wrong cluster; waits for another kubeconfig
)

// health is what a connection knows of itself. It is a value.
type health struct {
	phase       phase
	reachable   bool
	reason      string // why it is not reachable or refused; empty when all is well
	message     string
	flooding    bool   // it sends more than is read of it at once
	concern     string // a reason that does not stop anything: Slow or ClockSkew
	concernText string
	version     string
	began       time.Time // the first read
	uid         types.UID // of the kube-system namespace: the cluster's identity
	lastContact time.Time
	lostAt      time.Time // since when it does not answer, zero while it does
}

// nothingWorks says whether whatever else is asked would fail like the last question.
func (h health) nothingWorks() bool {
	switch h.reason {
	case v1alpha1.ReasonUnreachable, v1alpha1.ReasonUntrusted, v1alpha1.ReasonUnauthorized, v1alpha1.ReasonOverloaded:
		return !h.reachable
	}
	return false // one right that is lacking, say, tells nothing of the others
}

// connection reads one remote cluster with one set of credentials. Whoever starts run waits for it: it returns after its context ended,
// and then nothing that belongs to the connection runs any more.
type connection struct {
	id        world.Cluster
	digest    [32]byte // of the kubeconfig
	config    *Kubeconfig
	scheme    *runtime.Scheme
	log       logr.Logger
	feed      *Feed
	claim     func(types.UID) (reason, message string) // says why this cluster must not be read, if so
	onRefused func(*connection)                        // called once if that turns out when it is read already
	onSynced  func(*connection)                        // called once, before phaseSynced is announced
	onChanged func()                                   // called after every change of health, without locks held
	budget    *budget                                  // of what is read, for all connections of the id
	pace      *pace

	cancel context.CancelFunc

	// Set by run before anything is asked.
	intake    *intake
	lines     *lines
	questions questions

	gate     gate
	silences int // questions in a row without an answer or a word; owned by run

	mu    sync.Mutex
	state health
}

// health gives the current state.
func (c *connection) health() health {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

func (c *connection) update(change func(*health)) {
	c.mu.Lock()
	before := c.state
	change(&c.state)
	after := c.state
	c.mu.Unlock()
	before.lastContact, after.lastContact = time.Time{}, time.Time{}
	if before != after {
		c.onChanged()
	}
}

// run connects, reads and watches until ctx ends. It never gives up on an unreachable server.
func (c *connection) run(ctx context.Context) {
	httpClient, lines, closeIdle, err := newHTTPClient(c.config.Config, c.pace)
	if err != nil {
		c.refuse(err)
		return
	}
	defer closeIdle()
	c.lines = lines
	c.intake = newIntake(candid{httpClient.Transport}, c.feed.room.most, c.budget)
	c.intake.full = c.feed.room.full
	httpClient.Transport = &patience{next: c.intake, follows: &c.intake.follows, gate: &c.gate, failed: c.judge}
	config := rest.CopyConfig(c.config.Config)
	config.QPS, config.Burst = remoteQPS, remoteBurst
	config.WarningHandler = rest.NoWarnings{} // which are for whoever writes, and would be logged, whatever they say
	if c.questions, err = newQuestions(config, httpClient); err != nil {
		c.refuse(err)
		return
	}
	if !c.connect(ctx) {
		return
	}
	c.watch(ctx, config, httpClient)
}

// refuse is about a kubeconfig of which nothing can be made.
func (c *connection) refuse(err error) {
	c.update(func(h *health) {
		h.phase, h.reason, h.message = phaseRefused, v1alpha1.ReasonInvalidKubeconfig, err.Error()
	})
}

// connect asks until the API server answers and the cluster turns out to be one that we may read.
func (c *connection) connect(ctx context.Context) bool {
	for failures := 1; ; failures++ {
		wait := pause(failures)
		err := c.probe(ctx)
		if ctx.Err() != nil {
			return false
		}
		if err == nil {
			reason, message := c.claim(c.health().uid)
			if reason == "" {
				return true
			}
			c.update(func(h *health) { h.phase, h.reason, h.message = phaseRefused, reason, message })
			wait = probeEvery
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
	}
}

// watch starts the cache, feeds from it, and goes on asking the server whether it is there.
func (c *connection) watch(ctx context.Context, config *rest.Config, httpClient *http.Client) {
	c.update(func(h *health) { h.phase, h.reason, h.message, h.began = phaseSyncing, "", "", time.Now() })
	objects, err := cache.New(config, cache.Options{
		HTTPClient: httpClient, Scheme: c.scheme, Mapper: remoteMapper(),
		DefaultTransform:         c.feed.shrink,
		DefaultWatchErrorHandler: c.noteWatchError,
		// The feed alone reads this cache, as a whole: nobody needs to find things in it by namespace.
		NewInformer: func(lw toolscache.ListerWatcher, like runtime.Object, resync time.Duration, _ toolscache.Indexers) toolscache.SharedIndexInformer {
			return toolscache.NewSharedIndexInformer(lw, like, resync, toolscache.Indexers{})
		},
	})
	if err != nil {
		c.refuse(err)
		return
	}

	var group sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer c.feed.Wait()
	defer group.Wait()
	defer cancel()
	group.Go(func() {
		if err := objects.Start(ctx); err != nil && ctx.Err() == nil {
			c.log.Error(err, "cache of a remote cluster ended", "cluster", c.id)
		}
	})
	group.Go(func() {
		if c.feed.Attach(ctx, objects, c.questions.serves) == nil {
			c.onSynced(c)
			c.pace.calm.Store(true)
			c.update(func(h *health) { h.phase, h.reason, h.message = phaseSynced, "", "" })
			c.log.Info("remote cluster synced", "cluster", c.id)
		}
	})
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			_ = c.probe(ctx) // what it finds is in health
			if c.isAnother() {
				return
			}
			c.judge()
		}
	}
}

// isAnother says whether the address leads to a cluster by now that must not be read. What was read goes out of use with it.
func (c *connection) isAnother() bool {
	h := c.health()
	if !h.reachable {
		return false
	}
	reason, message := c.claim(h.uid)
	if reason == "" {
		return false
	}
	c.log.Info("a remote cluster's address leads to another cluster", "cluster", c.id, "reason", reason, "message", message)
	c.onRefused(c)
	return true
}

// probe asks for the version and for the identity of the cluster and puts what it finds in health.
func (c *connection) probe(ctx context.Context) error {
	asked, came := time.Now(), c.intake.came.Load()
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	version, uid, err := c.questions.cluster(ctx)
	now := time.Now()
	ahead := time.Duration(c.intake.ahead.Load())
	tells := c.intake.came.Load()-came >= tellsLeast
	c.update(func(h *health) {
		h.concern, h.concernText = "", ""
		if unanswered(err) && h.reachable && tells {
			h.concern = v1alpha1.ReasonSlow
			h.concernText = fmt.Sprintf("%s does not answer a question within %s, but goes on telling what changes", c.config.Config.Host, probeTimeout)
			h.lastContact = now
			return
		}
		if err != nil {
			if h.reachable || h.lostAt.IsZero() {
				h.lostAt = now
			}
			h.reachable = false
			h.reason, h.message = c.config.explainLoss(err, now)
			return
		}
		if !h.reachable {
			h.reason, h.message = "", ""
		}
		h.reachable, h.version, h.uid, h.lastContact, h.lostAt = true, version, uid, now, time.Time{}
		if took := now.Sub(asked); took > slowAnswer {
			h.concern, h.concernText = v1alpha1.ReasonSlow, fmt.Sprintf("the API server took more than %s to answer", slowAnswer)
		}
		if ahead.Abs() > clockSlack {
			h.concern, h.concernText = v1alpha1.ReasonClockSkew, explainSkew(ahead)
		}
	})
	c.gate.set(!c.health().nothingWorks())
	if c.silences++; tells || !unanswered(err) {
		c.silences = 0
	}
	if c.silences >= silencesMost {
		c.silences = 0
		c.lines.cut()
	}
	return err
}

// newHTTPClient makes a client of its own transport, and a function that ends all that is left of it. It is read at a pace. client-go would keep transports in a cache that never forgets;
// a removed cluster must leave nothing behind.
func newHTTPClient(config *rest.Config, pace *pace) (*http.Client, *lines, func(), error) {
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("TLS settings: %w", err)
	}
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	connections := &lines{pace: pace, dial: (&net.Dialer{Timeout: probeTimeout, KeepAlive: 30 * time.Second, Resolver: remoteResolver}).DialContext}
	transport := &http.Transport{
		TLSClientConfig:     tlsConfig,
		TLSHandshakeTimeout: probeTimeout,
		// Questions come more often, so a connection in use is never idle for so long. One that is closed while its last stream is given up begins to wait
		// anew (net/http, forgetStreamID), and with it all that it holds of a cluster that was removed: that is not to be the usual 90 s.
		IdleConnTimeout: 15 * time.Second,
		DialContext:     connections.DialContext,
		Protocols:       protocols,

		MaxResponseHeaderBytes: maxHeaders,
		// A watch says nothing for minutes: a ping notices a dead path below it. 30 s + 15 s are client-go's own values.
		// What comes faster than it is read waits over there, not here: with the usual 4 MiB for each of eight watches, in pieces of which each read moves all, the first
		// read of ten clusters spent a tenth of its processor time on moving them.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second, MaxReceiveBufferPerStream: 1 << 20},
	}
	wrapped, err := rest.HTTPWrappersForConfig(config, transport)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("authentication settings: %w", err)
	}
	asker := &http.Client{
		Transport: wrapped,
		// An API server sends nobody elsewhere; one that does could have us ask addresses that only we reach, with its credentials.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return asker, connections, func() {
		transport.CloseIdleConnections()
		connections.closeAll()
	}, nil
}
