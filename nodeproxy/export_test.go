// SPDX-License-Identifier: Apache-2.0

package nodeproxy

// Cramped has each pod have so few connections through each of its listeners.
func (o Options) Cramped(connections int) Options {
	o.limits.connections = connections
	return o
}
