// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"bytes"
	"container/list"
	"encoding/binary"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// keptAnswers is how many answers are kept for a pod. With the next two it bounds what that takes to 225 KiB, 55 MiB for 250 pods that ask for nothing twice; an answer with its question has
	// some 300 bytes as a rule.
	keptAnswers = 128
	// keptAnswer is how long an answer that is kept may be, in bytes: what servers send over UDP as a rule (DNS flag day 2020).
	keptAnswer = 1232
	// keptQuery is the same for its query, which has 300 at most without options.
	keptQuery = 512
)

// Cache keeps what servers told a pod, for that pod alone and for as long as they said that it may be kept (RFC 1035, section 3.2.1; for what is not there RFC 2308, section 5). Only who asks
// the same server the same, to the last letter and flag, is told the same again. Whatever is signed, has options, is cut short or says that something went wrong is asked for each time.
type Cache struct {
	mu     sync.Mutex
	places map[asking]*list.Element // of turns
	turns  *list.List               // of *kept, the one that was used last first
}

// NewCache makes one that keeps nothing yet.
func NewCache() *Cache { return &Cache{places: map[asking]*list.Element{}, turns: list.New()} }

// asking is what an answer is kept under.
type asking struct {
	server netip.AddrPort // the zero value: the proxy's own
	tcp    bool
	query  string // without its id
}

// kept is an answer, and when it came. It is not changed.
type kept struct {
	under    asking
	message  []byte
	ttls     []int // where TTLs are in it
	at, ends time.Time
}

// under is what the answer to a query is kept under, if it may be kept at all.
func under(q *Query) (at asking, ok bool) {
	if !q.plain || len(q.Raw) > keptQuery {
		return at, false
	}
	return asking{q.Asked, q.TCP, string(q.Raw[2:])}, true
}

// find gives the answer to a query that is kept, as it is to be said now; nil if none is. A nil Cache keeps nothing.
func (c *Cache) find(q *Query) []byte {
	at, ok := under(q)
	if !ok || c == nil {
		return nil
	}
	now := time.Now()
	k := c.use(at, now)
	if k == nil {
		return nil
	}
	answer := bytes.Clone(k.message)
	copy(answer, q.Raw[:2])
	age := uint32(now.Sub(k.at) / time.Second)
	for _, place := range k.ttls {
		ttl := answer[place : place+4]
		binary.BigEndian.PutUint32(ttl, binary.BigEndian.Uint32(ttl)-age) // the least of them is not over
	}
	return answer
}

// keep keeps the answer that a server gave to a query, if it may be kept.
func (c *Cache) keep(q *Query, answer []byte) {
	at, ok := under(q)
	if !ok || c == nil || len(answer) > keptAnswer {
		return
	}
	ttls, least, ok := lifetime(answer)
	if !ok || least == 0 {
		return
	}
	k := &kept{under: at, message: bytes.Clone(answer), ttls: ttls, at: time.Now()}
	k.ends = k.at.Add(time.Duration(least) * time.Second)
	k.message[2] &^= authoritative // it was; what is kept is not
	c.mu.Lock()
	defer c.mu.Unlock()
	if place := c.places[at]; place != nil { // somebody asked the same meanwhile
		c.drop(place)
	}
	c.places[at] = c.turns.PushFront(k)
	if c.turns.Len() > keptAnswers {
		c.drop(c.turns.Back())
	}
}

// use gives what is kept for a question whose time is not over, and notes that it was used; nil if there is none.
func (c *Cache) use(at asking, now time.Time) *kept {
	c.mu.Lock()
	defer c.mu.Unlock()
	place := c.places[at]
	if place == nil {
		return nil
	}
	k := place.Value.(*kept)
	if !now.Before(k.ends) {
		c.drop(place)
		return nil
	}
	c.turns.MoveToFront(place)
	return k
}

// drop forgets an answer. mu is held.
func (c *Cache) drop(place *list.Element) {
	delete(c.places, place.Value.(*kept).under)
	c.turns.Remove(place)
}

// Bits of a message's third byte (RFC 1035, section 4.1.1).
const (
	authoritative = 0x04
	cutShort      = 0x02
)

// lifetime finds the TTLs in an answer, and for how many seconds it may be kept. It says false of what may not be kept, or cannot be read.
func lifetime(m []byte) (ttls []int, least uint32, ok bool) {
	at, ok := questionEnd(m)
	if !ok || m[2]&cutShort != 0 {
		return nil, 0, false
	}
	rcode := int(m[3] & 0xf)
	if rcode != dns.RcodeSuccess && rcode != dns.RcodeNameError {
		return nil, 0, false
	}
	asked := binary.BigEndian.Uint16(m[at-4:])
	least = 1<<31 - 1
	found, denied := false, false
	for section := range 3 { // answer, authority, additional
		for range binary.BigEndian.Uint16(m[6+2*section:]) {
			r, ok := readRecord(m, at)
			if !ok {
				return nil, 0, false
			}
			at = r.end
			switch {
			case r.kind == dns.TypeOPT: // says other things where records have a TTL
				if binary.BigEndian.Uint32(m[r.ttl:])>>24 != 0 {
					return nil, 0, false // the rest of the code for what went wrong (RFC 6891, section 6.1.3)
				}
				continue
			case r.kind == dns.TypeTSIG || r.kind == dns.TypeSIG && section == 2:
				return nil, 0, false // holds for one query
			case r.kind == dns.TypeSOA && section == 1:
				if r.end-r.data < 4 {
					return nil, 0, false
				}
				denied = true
				least = min(least, binary.BigEndian.Uint32(m[r.end-4:]))
			case r.kind == asked && section == 0:
				found = true
			}
			ttl := binary.BigEndian.Uint32(m[r.ttl:])
			if ttl > 1<<31-1 {
				ttl = 0 // RFC 2181, section 8
			}
			least = min(least, ttl)
			ttls = append(ttls, r.ttl)
		}
	}
	if at != len(m) || (!found || rcode == dns.RcodeNameError) && !denied {
		return nil, 0, false // how long there is nothing, nobody has said
	}
	return ttls, least, true
}

// record is where the parts of a resource record are in a message.
type record struct {
	kind           uint16
	ttl, data, end int
}

// readRecord finds those of the one that begins at a place (RFC 1035, section 4.1.3).
func readRecord(m []byte, at int) (r record, ok bool) {
	for at < len(m) && m[at] != 0 && m[at] < 0xc0 { // labels up to the root or a pointer
		if m[at] > 63 {
			return r, false
		}
		at += 1 + int(m[at])
	}
	if at >= len(m) {
		return r, false
	}
	if m[at] >= 0xc0 {
		at++
	}
	at++
	if at+10 > len(m) {
		return r, false
	}
	r = record{kind: binary.BigEndian.Uint16(m[at:]), ttl: at + 4, data: at + 10}
	r.end = r.data + int(binary.BigEndian.Uint16(m[at+8:]))
	return r, r.end <= len(m)
}
