// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"container/list"
	"net"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
)

// outer is an outer connection whose peer has proved who it is. It is never changed.
type outer struct {
	conn    *hbone.Conn
	peer    mesh.Identity
	proved  time.Time // end of the certificate that the peer showed: a proof counts no longer than what it rests on
	address net.Addr

	idle    *list.Element // of idlers, if it carries nothing
	running int           // streams that were admitted; -1: the connection is over
}

// drainInTime has the connection drained shortly before the peer's certificate ends; running streams go on. What the peer opens after the end, because it
// does not heed the drain, is refused. stop ends the wait.
func (o *outer) drainInTime(now time.Time) (stop func()) {
	timer := time.AfterFunc(mtls.DrainIn(o.proved, now), o.conn.Drain)
	return func() { timer.Stop() }
}
