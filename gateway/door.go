// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// door is a bound port for HTTP, TLS and TCP. What is behind it changes with the configuration, without a moment in which nobody listens.
type door struct {
	server *Server
	socket net.Listener
	bind   uint16
	behind atomic.Pointer[rooms]
}

// rooms are what a door leads to. If there are both, listeners for HTTPS and for TLS share the port: connections go to streams, which leaves those to web
// whose name belongs to a listener for HTTPS.
type rooms struct {
	web     *webPort
	streams *streamPort
}

// bindDoors makes the doors, and what is behind them, those of the configuration. Those of other protocols have given up their ports before.
func (s *Server) bindDoors(listeners []mesh.Listener) (failures error) {
	wanted := map[uint16][]mesh.Listener{}
	for _, l := range listeners {
		if l.Protocol.HTTP() || l.Protocol.TLS() || l.Protocol == mesh.ListenerTCP {
			wanted[l.Bind] = append(wanted[l.Bind], l)
		}
	}
	for bind, want := range wanted {
		d := s.doors[bind]
		if d == nil {
			socket, err := s.o.Listen(bind)
			if err != nil {
				failures = errors.Join(failures, fmt.Errorf("listener %q: listen on port %d: %w", want[0].Name, bind, err))
				continue
			}
			d = &door{server: s, socket: socket, bind: bind}
			d.behind.Store(&rooms{})
			d.configure(want)
			s.doors[bind] = d
			s.wait.Go(d.accept)
			s.o.Log.Info("listening", "listener", want[0].Name, "port", want[0].Port, "bind", bind)
			continue
		}
		d.configure(want)
	}
	for bind := range s.doors {
		if wanted[bind] == nil {
			s.dropDoor(bind)
		}
	}
	return failures
}

// configure puts behind the door what its listeners need. What stays goes on as it is, and what is not needed any more drains.
func (d *door) configure(listeners []mesh.Listener) {
	s := d.server
	was := d.behind.Load()
	now := &rooms{}
	for _, l := range listeners {
		if web := l.Protocol.HTTP(); web && now.web == nil {
			if now.web = was.web; now.web == nil {
				now.web = s.newWebPort(d.socket.Addr(), listeners)
			} else {
				now.web.port.Configure(listeners)
			}
		} else if !web && now.streams == nil {
			if now.streams = was.streams; now.streams == nil {
				now.streams = s.newStreamPort()
			}
		}
	}
	if now.streams != nil {
		ways, err := newWays(listeners, now.web, now.streams.ways.Load())
		if err != nil {
			s.o.Log.Error(err, "certificates cannot be used")
		}
		now.streams.ways.Store(ways)
	}
	d.behind.Store(now)
	if was.web != nil && now.web == nil {
		s.drop(d.bind, was.web.drain)
	}
	if was.streams != nil && now.streams == nil {
		s.drop(d.bind, was.streams.drain)
	}
}

// dropDoor closes a door, if there is one, and drains what is behind it.
func (s *Server) dropDoor(bind uint16) {
	if d := s.doors[bind]; d != nil {
		delete(s.doors, bind)
		d.socket.Close()
		s.drop(bind, d.behind.Load().drain)
	}
}

// drain takes no more connections and requests, and waits for those that run, until ctx ends, which cuts them.
func (r *rooms) drain(ctx context.Context) {
	var drains sync.WaitGroup
	if r.web != nil {
		drains.Go(func() { r.web.drain(ctx) })
	}
	if r.streams != nil {
		drains.Go(func() { r.streams.drain(ctx) })
	}
	drains.Wait()
}

func (d *door) accept() {
	s := d.server
	pause := 5 * time.Millisecond
	for {
		nc, err := d.socket.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // out of descriptors or memory: wait for others to give some back
			s.o.Log.Error(err, "accepting failed", "port", d.bind, "retryIn", pause.String())
			select {
			case <-time.After(pause):
			case <-s.hard.Done():
				return
			}
			pause = min(2*pause, time.Second)
			continue
		}
		pause = 5 * time.Millisecond
		if !s.takeStranger(nc.RemoteAddr()) {
			nc.Close()
			continue
		}
		if !d.lead(nc) {
			nc.Close()
			s.giveStranger(nc.RemoteAddr())
		}
	}
}

// lead brings a connection to what is behind the door; false: nothing is any more.
func (d *door) lead(nc net.Conn) bool {
	for {
		to := d.behind.Load()
		if to.streams != nil && to.streams.take(nc) || to.streams == nil && to.web.take(nc) {
			return true
		}
		if d.behind.Load() == to { // or else it has just been replaced
			return false
		}
	}
}
