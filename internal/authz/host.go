// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// hostForms are what patterns may call the host of a request.
type hostForms struct {
	made  bool
	forms []string // itself, in brackets if it is an address that needs them, and with its port; none: it is not there, or none of which there is one reading
	bare  string   // that which a port may follow; "" if one was named
}

// hosts are the forms of the request's host, made once for a judgement.
func (s *subject) hosts() *hostForms {
	h := &s.host
	if h.made {
		return h
	}
	h.made = true
	host, port, ok := mesh.PlainAuthority(s.request.Authority)
	if !ok {
		return h
	}
	h.forms = append(h.forms, host)
	if strings.IndexByte(host, ':') >= 0 {
		host = "[" + host + "]"
		h.forms = append(h.forms, host)
	}
	if port == "" {
		h.bare = host
	} else {
		h.forms = append(h.forms, host+":"+port)
	}
	return h
}

// hostFits looks at the host with its port and without: it is the same one. One that is none, or not there at all, is nobody knows whose.
func (s *subject) hostFits(in []mesh.StringMatch, wide bool) bool {
	if !s.spendOn(in, s.request.Authority) {
		return wide
	}
	h := s.hosts()
	if len(h.forms) == 0 {
		return wide
	}
	for i := range in {
		m := &in[i]
		for at, form := range h.forms {
			if fits(m, form) && (at > 0 || m.Kind != mesh.MatchSuffix || strings.IndexByte(form, ':') < 0) { // the end of an address without brackets would be a port
				return true
			}
		}
		if wide && h.bare != "" && h.mayBeAt(m) {
			return true
		}
	}
	return false
}

// mayBeAt says whether a host that was asked for without a port would fit with one: who names none may mean the one that is meant.
func (h *hostForms) mayBeAt(m *mesh.StringMatch) bool {
	switch m.Kind {
	case mesh.MatchExact, mesh.MatchPrefix:
		port, named := strings.CutPrefix(m.Value, h.bare)
		return named && strings.HasPrefix(port, ":")
	case mesh.MatchSuffix:
		at := strings.LastIndexByte(m.Value, ':')
		if at < 0 || strings.IndexByte(m.Value[at:], ']') >= 0 {
			return false
		}
		return strings.HasSuffix(h.bare, m.Value[:at])
	}
	return false
}
