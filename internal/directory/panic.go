// SPDX-License-Identifier: Apache-2.0

package directory

import "math"

// panicShare is the share of the capacity of a rank, as one in so much, that must be left for those who are passed over to be so. A fifth lets a service of five lose four; with more
// than that, so many failures rather are ours, or the network's, than theirs.
const panicShare = 5

// Heed says which endpoints a first attempt is for when some failed lately: those that did not, of the best rank of which enough is left. Of a rank too little is left if less than a
// fifth of its capacity is: the rest would have to carry what was meant for all of them, so the next rank takes it. If no rank has enough left, heed is false: it is best to try
// them all then, as if none had failed.
//
// at gives endpoint i of n: its rank, negative for one that does not count, its capacity, by which one that stands for nine pods counts nine times, and whether it failed. Where no
// capacity is told, all count the same.
func Heed(n int, at func(i int) (rank int, capacity uint64, out bool)) (rank int, heed bool) {
	for below := math.MaxInt; ; below = rank {
		var stay, count, left, weight uint64 // how many stay and how many there are, and the same weighed
		rank = -1
		for i := range n {
			r, capacity, out := at(i)
			if r < rank || r < 0 || r >= below {
				continue
			}
			if r > rank {
				rank, stay, count, left, weight = r, 0, 0, 0, 0
			}
			count, weight = count+1, weight+capacity
			if !out {
				stay, left = stay+1, left+capacity
			}
		}
		if weight == 0 {
			left, weight = stay, count
		}
		switch {
		case rank < 0:
			return 0, false
		case left*panicShare >= weight:
			return rank, true
		}
	}
}
