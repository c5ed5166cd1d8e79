// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package stranger

import "context"

// Hello knows no way here to look at what has arrived: the handshake waits for it.
func (c *Conn) Hello(context.Context) error { return nil }

// ConfinedHello is Hello: what comes before a ClientHello fails the handshake.
func (c *Conn) ConfinedHello(ctx context.Context) (to string, err error) { return "", c.Hello(ctx) }
