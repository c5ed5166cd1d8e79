// SPDX-License-Identifier: Apache-2.0

package http

import "time"

// Limits bound what clients may cost the gateway. The zero value of each field means its default.
type Limits struct {
	// HeaderBytes is how much a request's line and headers may hold; 64 KiB. Beyond it the answer is 431.
	HeaderBytes int
	// HeaderMemory is how much the lines and headers of all requests that run may hold together, in bytes, at 32 more for each header and 32 KiB for each request in HTTP/2, which is what one costs;
	// 512 MiB, or half of the process's limit of memory (runtime/debug.SetMemoryLimit) (see Server.MemoryChanged), if that is less. Without it they could hold 16 MiB for each connection of HTTP/2, Streams times HeaderBytes, and 128 GiB for 8192 of them. One client, by the identity that it has proved or else
	// by its address, has no more than is left to the others, so at most half; and of the last eighth only those get something who hold no more than 128 KiB with it, so that many clients with some requests each leave a few
	// to the next one. Beyond it the answer is 503.
	// It counts from when a request is whole until it has been answered. Headers that are still being read it does not know: of those each connection has one request's at a time, HeaderBytes,
	// 4 KiB more and at most 500 values, for HeaderTime in HTTP/1.1, and in HTTP/2 until its client is found to be gone (PingAfter); 8192 connections have 544 MiB at most. Nor does it know
	// requests in HTTP/2 whose client gave them up before they ran: they wait, at most four times Streams of a connection, until those before them, which then end, have ended. What a request
	// in HTTP/1.1 has besides its headers is its connection's. So how many connections there are has to be bounded by who hands them to a Port.
	HeaderMemory int64
	// HeaderTime is how long they, and a TLS handshake before them, may take; 10 s.
	HeaderTime time.Duration
	// BodyBytes is how much a request's body may hold; 0: any. Beyond it the answer is 413.
	BodyBytes int64
	// StallTime is how long a client may take to send or to take the next piece of a body; 1 min. An upgraded connection may be silent for
	// any time.
	StallTime time.Duration
	// IdleTime is how long a connection without a request is kept, or an eighth longer; 2 min.
	IdleTime time.Duration
	// PingAfter is how long a connection of HTTP/2 may be silent before its client is asked whether it is there; 30 s. PingWait is how long the client may take to say so; 15 s. Calls may be
	// silent for any time, so nothing else would find out that a client has vanished. A client in the middle of headers that do not end counts as silent, however much it sends of
	// them, and cannot answer: so empty pieces of headers, which the library reads without end for they hold nothing that it would have to keep, end their connection.
	PingAfter, PingWait time.Duration
	// LeaveTime is for how long clients of a port that drains are told so by answers to their next requests, before their connections are closed; 2 s.
	LeaveTime time.Duration
	// Streams is how many requests one HTTP/2 connection may have at once; 250.
	Streams int
	// ConnectTime is how long connecting to an endpoint may take; 5 s.
	ConnectTime time.Duration
	// AckTime is how long the machine of an endpoint may leave bytes of a connection of HTTP/2 unacknowledged (TCP's user timeout, RFC 5482) before that is given up, with its requests; 10 s, in which they are sent some five times again. All requests
	// to the endpoint use the connection, and would go on to a machine that has vanished for the 15 min that the system has hope. One that says nothing is asked by TCP after 30 s. PINGs of
	// HTTP/2 do not do: servers of gRPC allow one in five minutes, and end the connection for more.
	AckTime time.Duration
	// MirrorBytes is how large a body may be of which a copy is made, in memory; 1 MiB. Requests with larger ones, or ones of unknown size,
	// are not mirrored.
	MirrorBytes int64
	// RetryBytes is how much of a body is kept for another attempt, or in case that an endpoint in HTTP/2 says it has not processed the request, in bytes; 64 KiB. A request of which more was sent is not sent again.
	RetryBytes int64
	// BodyMemory is how much of bodies requests that run may keep together for copies, as much for other attempts, and as much in case that an endpoint in HTTP/2 has not processed a request, in bytes; 32 MiB. It counts what has come. Beyond it no copy is made,
	// and no second attempt with a body. Of this, and of Mirrors, requests to the routes of one namespace have no more than is left to the others, so at most half.
	BodyMemory int64
	// Mirrors is how many copies may be under way at once; 256.
	Mirrors int
}

func (l Limits) withDefaults() Limits {
	setDefault(&l.HeaderBytes, 64<<10)
	setDefault(&l.HeaderMemory, headMemory())
	setDefault(&l.HeaderTime, 10*time.Second)
	setDefault(&l.StallTime, time.Minute)
	setDefault(&l.IdleTime, 2*time.Minute)
	setDefault(&l.PingAfter, 30*time.Second)
	setDefault(&l.PingWait, 15*time.Second)
	setDefault(&l.LeaveTime, 2*time.Second)
	setDefault(&l.Streams, 250)
	setDefault(&l.ConnectTime, 5*time.Second)
	setDefault(&l.AckTime, 10*time.Second)
	setDefault(&l.MirrorBytes, 1<<20)
	setDefault(&l.RetryBytes, 64<<10)
	setDefault(&l.BodyMemory, 32<<20)
	setDefault(&l.Mirrors, 256)
	return l
}

func setDefault[T ~int | ~int64](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}
