// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// agentWait is how long a starting pod waits for an agent that is being replaced, in seconds. Without it the pod would fail at once and
// be tried again by the kubelet, later each time.
const agentWait = 30

// Entry is what the agent wants the plugin's configuration on the node to be.
type Entry struct {
	Socket            string
	ExcludeNamespaces []string
}

func (e Entry) plugin() map[string]any {
	excluded := make([]any, 0, len(e.ExcludeNamespaces))
	for _, n := range e.ExcludeNamespaces {
		excluded = append(excluded, n)
	}
	return map[string]any{"type": PluginName, "socket": e.Socket, "agentWaitSeconds": agentWait, "excludeNamespaces": excluded}
}

// withPlugin gives a list of plugins with ours as its last, and whether that is a change. Everything else in it is kept.
func withPlugin(list []byte, e Entry) ([]byte, bool, error) {
	return edit(list, func(others []any) []any { return append(others, e.plugin()) })
}

// withoutPlugin gives a list of plugins without ours, and whether that is a change.
func withoutPlugin(list []byte) ([]byte, bool, error) {
	return edit(list, func(others []any) []any { return others })
}

// wrapped gives a list of a single plugin and ours, which is the network of that plugin: of its name, which its addresses are kept under,
// and of its version.
func wrapped(single []byte, e Entry) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(single))
	decoder.UseNumber()
	var conf map[string]any
	if err := decoder.Decode(&conf); err != nil {
		return nil, err
	}
	if kind, ok := conf["type"].(string); !ok || kind == "" || kind == PluginName {
		return nil, errors.New("no plugin that makes the network")
	}
	list := map[string]any{"name": conf["name"], "cniVersion": conf["cniVersion"], "plugins": []any{conf, e.plugin()}}
	for key, v := range list {
		if v == nil {
			delete(list, key)
		}
	}
	out, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write list of plugins: %w", err)
	}
	return append(out, '\n'), nil
}

// edit gives change the plugins that are not ours.
func edit(list []byte, change func(others []any) []any) ([]byte, bool, error) {
	decoder := json.NewDecoder(bytes.NewReader(list))
	decoder.UseNumber() // numbers stay as they are written
	var conf map[string]any
	if err := decoder.Decode(&conf); err != nil {
		return nil, false, err
	}
	plugins, ok := conf["plugins"].([]any)
	if !ok {
		return nil, false, errors.New("no list of plugins")
	}
	others := slices.Clone(plugins)
	others = slices.DeleteFunc(others, func(p any) bool {
		m, ok := p.(map[string]any)
		return ok && m["type"] == PluginName
	})
	if len(others) == 0 {
		return nil, false, errors.New("no plugin that makes the network")
	}
	conf["plugins"] = change(others)
	before, err := json.Marshal(plugins)
	if err != nil {
		return nil, false, err
	}
	after, err := json.Marshal(conf["plugins"])
	if err != nil {
		return nil, false, err
	}
	if bytes.Equal(before, after) {
		return list, false, nil
	}
	out, err := json.MarshalIndent(conf, "", "  ")
	if err != nil {
		return nil, false, fmt.Errorf("write list of plugins: %w", err)
	}
	return append(out, '\n'), true, nil
}
