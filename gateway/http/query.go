// SPDX-License-Identifier: Apache-2.0

package http

import (
	"net/url"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// queryFits says whether all wanted parameters are in a query. Of several of one name, the first counts.
func queryFits(wanted []mesh.NameValue, query string) bool {
	for _, w := range wanted {
		if value, ok := parameter(query, w.Name); !ok || value != w.Value {
			return false
		}
	}
	return true
}

func parameter(query, name string) (string, bool) {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		key, value, _ := strings.Cut(pair, "=")
		if plain(key) == name {
			return plain(value), true
		}
	}
	return "", false
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
