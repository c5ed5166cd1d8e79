// SPDX-License-Identifier: Apache-2.0

// Package relay copies bytes between two connections until both directions have ended.
//
// Each direction ends for itself: the end of what one side sends is passed on as the end of what we send to the other (CloseWrite), while the
// opposite direction goes on. An error ends both directions and is passed on as a reset where the connection knows one, so that nobody takes
// a broken stream for a complete one. A reset that only the connection itself can tell of, because its reader is stuck in a write to the other side, ends
// both once that side has taken nothing for 10 s.
//
// A copy needs two goroutines, the caller's and one more, which has ended when Copy returns. The package knows no protocol.
package relay
