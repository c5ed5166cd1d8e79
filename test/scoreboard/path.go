// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
)

// block is the size of each write, and of each reader's buffer, in bytes.
const block = 256 << 10

// path is a way for bytes from its writers to its readers, each of which has a buffer of its own.
type path struct {
	writers []io.Writer
	readers []io.Reader
	out, in [][]byte
}

func newPath[W io.Writer, R io.Reader](writers []W, readers []R) *path {
	p := new(path)
	for _, w := range writers {
		p.writers, p.out = append(p.writers, w), append(p.out, make([]byte, block))
	}
	for _, r := range readers {
		p.readers, p.in = append(p.readers, r), append(p.in, make([]byte, block))
	}
	return p
}

// send moves total bytes, an equal share through each writer and each reader, and returns when the last one was read.
func (p *path) send(total int) error {
	all := make([]func() error, 0, len(p.writers)+len(p.readers))
	for i, w := range p.writers {
		all = append(all, func() error { return fill(w, p.out[i], total/len(p.writers)) })
	}
	for i, r := range p.readers {
		all = append(all, func() error { return drain(r, p.in[i], total/len(p.readers)) })
	}
	return together(all...)
}

func fill(w io.Writer, b []byte, total int) error {
	for sent := 0; sent < total; {
		n, err := w.Write(b[:min(len(b), total-sent)])
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		sent += n
	}
	return nil
}

func drain(r io.Reader, b []byte, total int) error {
	for got := 0; got < total; {
		n, err := r.Read(b)
		got += n
		if err != nil && got < total {
			return fmt.Errorf("read: %w", err)
		}
	}
	return nil
}
