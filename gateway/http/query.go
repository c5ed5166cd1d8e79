// SPDX-License-Identifier: Apache-2.0

package http

import (
	"net/url"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// fewParameters is how many parameters of a query are looked through one after the other; of more, and there may be tens of thousands in 64 KiB, an index is made.
const fewParameters = 16

// query is what follows the question mark of a request. It is decoded when the first rule asks for it, once for all rules.
type query struct {
	raw  string
	read bool
	n    int // of few that are set
	few  [fewParameters]mesh.NameValue
	many map[string]string // all; nil: they are few
}

// fits says whether all wanted parameters are there. Of several of one name, the first counts.
func (q *query) fits(wanted []mesh.NameValue) bool {
	for i := range wanted {
		if value, ok := q.parameter(wanted[i].Name); !ok || value != wanted[i].Value {
			return false
		}
	}
	return true
}

func (q *query) parameter(name string) (string, bool) {
	if !q.read {
		q.parse()
	}
	if q.many != nil {
		value, ok := q.many[name]
		return value, ok
	}
	for i := range q.n {
		if q.few[i].Name == name {
			return q.few[i].Value, true
		}
	}
	return "", false
}

func (q *query) parse() {
	q.read = true
	for left := q.raw; left != ""; {
		var pair string
		pair, left, _ = strings.Cut(left, "&")
		key, value, _ := strings.Cut(pair, "=")
		if pair == "" {
			continue
		}
		key, value = plain(key), plain(value)
		if q.many == nil && q.n < fewParameters {
			q.few[q.n] = mesh.NameValue{Name: key, Value: value}
			q.n++
			continue
		}
		if q.many == nil {
			q.many = make(map[string]string, 2*fewParameters)
			for i := range q.few {
				q.first(q.few[i].Name, q.few[i].Value)
			}
		}
		q.first(key, value)
	}
}

// first adds to the index what is not there yet.
func (q *query) first(name, value string) {
	if _, there := q.many[name]; !there {
		q.many[name] = value
	}
}

// plain decodes a part of a query; one that cannot be decoded stays as it is.
func plain(s string) string {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s
	}
	if out, err := url.QueryUnescape(s); err == nil {
		return out
	}
	return s
}
