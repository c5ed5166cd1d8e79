// SPDX-License-Identifier: Apache-2.0

// Package world is what the clusters say, reduced to what Isthmus reads.
//
// Every watched object becomes a small value (reduce*.go) that holds the fields that are read and nothing else, so that an
// update that changes nothing of them is no change at all. The Store takes values from any number of feeds, coalesces them
// and hands out one Delta at a time; a State is the sum of all Deltas.
//
// Values are immutable once they are handed over, and shared freely. What a cluster says is a claim: values from a remote
// cluster are bounded in size here and in meaning by package translate. The package knows no client and no clock.
package world
