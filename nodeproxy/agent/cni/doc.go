// SPDX-License-Identifier: Apache-2.0

// Package cni is the part of the agent that the container runtime sees: a chained CNI plugin that holds a pod's start until the agent
// has captured its traffic, and its installation on the node.
//
// On the node, Installation keeps the plugin in whatever configuration the runtime uses, against whoever writes that anew, and touches
// nothing else in it. A network that is configured as a single plugin gets a list of ours before it.
//
// The plugin is the agent's own binary under another name (PluginName). It changes nothing itself: on ADD it posts the event to the
// agent's unix socket, waits, and passes the previous plugin's result on. When the agent does not answer, the pod does not start, so
// that a pod of the mesh never runs uncaptured; pods of the namespaces that the plugin's configuration excludes start without asking.
// All other commands succeed at once: what we put into a pod's namespace goes with it.
package cni
