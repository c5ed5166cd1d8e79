// SPDX-License-Identifier: Apache-2.0

package world

// ListenerSet is a Gateway API ListenerSet of our own cluster, whose API server checked it: more listeners for a Gateway, perhaps of another namespace.
type ListenerSet struct {
	Key
	Generation int64
	Created    int64 // Unix seconds
	// Gateway is the one that the listeners are for; the zero Key: its parent is something else.
	Gateway   Key
	Listeners []Listener
}

// Ref names the set.
func (s *ListenerSet) Ref() ObjectRef { return ObjectRef{KindListenerSet, s.Key} }
