// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bufio"
	"bytes"
	"net/http"
	"net/textproto"
)

var (
	connectionField = []byte("connection:")
	closeOption     = []byte("close")
)

// readAnswer reads the head of an answer, with all that it says of its connection: the library takes the list of that away when the connection ends with the answer, and would leave what is listed.
func (c *directConn) readAnswer(r *http.Request) (*http.Response, error) {
	there, _ := c.r.Peek(c.r.Buffered())
	ends, whole := endsConnection(there)
	if whole && !ends {
		return http.ReadResponse(c.r, r)
	}
	c.taping, c.tape = true, bytes.Clone(there)
	response, err := http.ReadResponse(c.r, r)
	if err == nil && response.Close {
		if list := connectionList(c.tape); len(list) > 0 {
			response.Header["Connection"] = list
		}
	}
	c.taping, c.tape = false, nil
	return response, err
}

// endsConnection says whether the head of an answer that begins here may say that its connection ends, and whether all of it is there.
func endsConnection(b []byte) (ends, whole bool) {
	about := false // the connection
	for {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			return ends, false
		}
		line := bytes.TrimSuffix(b[:end], []byte("\r"))
		if b = b[end+1:]; len(line) == 0 {
			return ends, true
		}
		if line[0] != ' ' && line[0] != '\t' { // else it goes on with the one before it
			about = len(line) >= len(connectionField) && bytes.EqualFold(line[:len(connectionField)], connectionField)
		}
		ends = ends || about && hasWord(line, closeOption)
	}
}

// hasWord says whether a line has a word in it, in letters of either case.
func hasWord(line, word []byte) bool {
	for i := 0; i+len(word) <= len(line); i++ {
		if bytes.EqualFold(line[i:i+len(word)], word) {
			return true
		}
	}
	return false
}

// connectionList is what the head of an answer, which the library has read, says of its connection.
func connectionList(head []byte) []string {
	from := textproto.NewReader(bufio.NewReader(bytes.NewReader(head)))
	if _, err := from.ReadLine(); err != nil {
		return nil
	}
	h, err := from.ReadMIMEHeader()
	if err != nil {
		return nil
	}
	return h["Connection"]
}
