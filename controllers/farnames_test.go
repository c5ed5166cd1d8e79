// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/net/dns/dnsmessage"
)

// names are those that a DNS server of our own knows; it is the one that is asked for API servers' names here.
var names = &farNames{at: map[string]netip.Addr{}}

type farNames struct {
	mu sync.Mutex
	at map[string]netip.Addr
}

func (n *farNames) set(name, address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.at[name+"."] = netip.MustParseAddr(address)
}

// resolver asks the names, over a pipe each.
func (n *farNames) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go func() { // ends with the question's connection
			defer far.Close()
			// A pipe is a stream: messages have their length before them, as over TCP (RFC 1035 section 4.2.2).
			head := make([]byte, 2)
			for {
				if _, err := io.ReadFull(far, head); err != nil {
					return
				}
				question := make([]byte, int(head[0])<<8|int(head[1]))
				if _, err := io.ReadFull(far, question); err != nil {
					return
				}
				reply := n.reply(question)
				if _, err := far.Write(append([]byte{byte(len(reply) >> 8), byte(len(reply))}, reply...)); err != nil {
					return
				}
			}
		}()
		return near, nil
	}}
}

func (n *farNames) reply(question []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(question) != nil || len(m.Questions) != 1 {
		return nil
	}
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	n.mu.Lock()
	at, known := n.at[strings.ToLower(m.Questions[0].Name.String())]
	n.mu.Unlock()
	switch {
	case !known:
		m.RCode = dnsmessage.RCodeNameError
	case m.Questions[0].Type == dnsmessage.TypeA:
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET, TTL: 1},
			Body:   &dnsmessage.AResource{A: at.As4()},
		}}
	}
	out, err := m.Pack()
	if err != nil {
		return nil
	}
	return out
}
