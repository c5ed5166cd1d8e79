// SPDX-License-Identifier: Apache-2.0

// Package translate turns what the clusters say (package world) into what the proxies are told (package mesh), and into what
// users are told: conditions, counts, and plans of what to provision.
//
// It is pure: no client, no clock, no log, and no errors. Whatever is wrong with an object becomes a Finding on that object,
// and the rest of the world stays as it was.
//
// [Build] is the meaning: the whole answer for a whole state. [Engine] keeps the same answer up to date and does work in
// proportion to what a change touches. Both are made of the same functions of one key (one service, one pod, one slice, one
// cluster's imports); what the Engine adds is the knowledge of which keys a change can touch. Gateways and routes, of which anybody may have thousands, are all gone
// through for a change of one, so of each is remembered what was found as long as what it was found by is the same. A test with random changes
// holds the two together.
package translate
