// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"golang.org/x/net/http2"
)

// StreamError ends one stream and leaves its connection alone.
//
// A reset that came from the peer satisfies errors.Is(err, syscall.ECONNRESET); one of our own, errors.Is(err, net.ErrClosed).
type StreamError struct {
	// Code is the HTTP/2 error code of the RST_STREAM.
	Code uint32
	// Remote says that the peer sent it.
	Remote bool
	// Reason says what was wrong, if we found it ourselves.
	Reason string
}

func (e *StreamError) Error() string {
	who := "reset here"
	if e.Remote {
		who = "reset by peer"
	}
	text := "hbone: stream " + who + ": " + http2.ErrCode(e.Code).String()
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	return text
}

// Is maps the error to the TCP world, see StreamError.
func (e *StreamError) Is(target error) bool {
	if e.Remote {
		return target == syscall.ECONNRESET
	}
	return target == net.ErrClosed
}

// ConnError is why a connection ended. Every stream that was open on it ends with the same error.
//
// It satisfies errors.Is(err, net.ErrClosed) when this side ended it (Close, a drain, or a broken rule of the protocol), and
// errors.Is(err, syscall.ECONNRESET) when the peer did or when the transport broke.
type ConnError struct {
	// Code is the HTTP/2 error code of the GOAWAY, NO_ERROR for an orderly end or a broken transport.
	Code uint32
	// Remote says that the peer or the transport ended it.
	Remote bool
	// Reason says what was wrong.
	Reason string
	// Err is the transport's error, or a *BudgetError, if there was one.
	Err error

	event Event // to observe when it ends the connection, or ""
}

func (e *ConnError) Error() string {
	text := "hbone: connection ended"
	if e.Remote {
		text += " by peer"
	}
	if e.Code != uint32(http2.ErrCodeNo) {
		text += ": " + http2.ErrCode(e.Code).String()
	}
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap gives Err.
func (e *ConnError) Unwrap() error { return e.Err }

// Is maps the error to the TCP world, see ConnError.
func (e *ConnError) Is(target error) bool {
	if e.Remote {
		return target == syscall.ECONNRESET
	}
	return target == net.ErrClosed
}

// Timeout reports whether the peer was given up because it stayed silent.
func (e *ConnError) Timeout() bool { return e.Reason == reasonSilent }

// BudgetError says which budget or limit of Settings a peer exceeded, by the event that counts it. It is the Err of a ConnError with ENHANCE_YOUR_CALM.
type BudgetError struct{ Event Event }

func (e *BudgetError) Error() string { return "exceeded " + string(e.Event) }

// RefusedError is an answer to a CONNECT other than 200. The stream is over, the connection lives.
type RefusedError struct {
	Status int
	Header Header
}

func (e *RefusedError) Error() string {
	return "hbone: CONNECT refused with status " + strconv.Itoa(e.Status)
}

// UnprocessedError says that the peer did not act on a CONNECT, so that it may be sent again on another connection: it was never
// sent, or the peer refused it with REFUSED_STREAM or with a GOAWAY that does not cover it.
type UnprocessedError struct{ Err error }

func (e *UnprocessedError) Error() string { return "hbone: CONNECT not processed: " + e.Err.Error() }

// Unwrap gives the cause.
func (e *UnprocessedError) Unwrap() error { return e.Err }

var (
	// ErrDraining says that this connection or pool opens no more streams.
	ErrDraining = errors.New("hbone: draining")
	// ErrFull says that the connection carries as many streams as both sides allow, or that its queue is full.
	ErrFull = errors.New("hbone: no room for another stream")
	// ErrSilent says that nothing was heard of the peer since the request was sent, not even an answer to a PING. The request may be sent again elsewhere:
	// before a 200 no byte of the stream is under way.
	ErrSilent = errors.New("hbone: peer is silent")
	// ErrUnanswered says that a request was not answered in the time that its caller had, by a peer that gave signs of life meanwhile, or was found alive by a PING: what it does
	// for the request takes its time.
	ErrUnanswered = errors.New("hbone: peer lives and has not answered")
	// ErrAnswered says that a Request was accepted or rejected before.
	ErrAnswered = errors.New("hbone: request was answered already")
)

// acceptError is what Accept gives once the connection is over: always net.ErrClosed to errors.Is, whoever ended it.
type acceptError struct{ cause error }

func (e *acceptError) Error() string        { return fmt.Sprintf("hbone: accept: %v", e.cause) }
func (e *acceptError) Unwrap() error        { return e.cause }
func (e *acceptError) Is(target error) bool { return target == net.ErrClosed }

// Reasons of our own for ending a connection, as they appear in ConnError.Reason.
const (
	reasonClosed  = "closed"
	reasonDrained = "drained"
	reasonSilent  = "peer did not answer PING"
	reasonIdle    = "idle"
)
