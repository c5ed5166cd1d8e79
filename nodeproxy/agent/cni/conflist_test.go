// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
)

// others gives what a list holds besides our plugin, numbers as they are written.
func others(t *testing.T, list []byte) (conf map[string]any, plugins []any, ours int) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(list))
	decoder.UseNumber()
	if err := decoder.Decode(&conf); err != nil {
		t.Fatalf("%s: %v", list, err)
	}
	all, _ := conf["plugins"].([]any)
	delete(conf, "plugins")
	for _, p := range all {
		if m, ok := p.(map[string]any); ok && m["type"] == PluginName {
			ours++
		} else {
			plugins = append(plugins, p)
		}
	}
	return conf, plugins, ours
}

// FuzzConfiguration has a node's configuration, whoever wrote it, keep all that is not ours: our plugin comes once, comes again without a change, and goes without a trace.
func FuzzConfiguration(f *testing.F) {
	for _, seed := range []string{
		lab, `{"name":"n","type":"bridge","mtu":1e400}`, `null`, `[]`, `{"plugins":null}`, `{"plugins":[null]}`, `{"plugins":[{"type":"isthmus-cni"}]}`,
		`{"plugins":[{"type":"isthmus-cni"},{"type":"ptp"},{"type":"isthmus-cni"}]}`, `{"plugins":[{"type":["a"]}]}`, `{"plugins":[{"type":"ptp"}]} and more`,
		`{"type":"\u0000<&>"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if with, _, err := withPlugin(in, entry); err == nil {
			wantConf, wantPlugins, _ := others(t, in)
			conf, plugins, ours := others(t, with)
			if ours != 1 || !reflect.DeepEqual(conf, wantConf) || !reflect.DeepEqual(plugins, wantPlugins) {
				t.Errorf("%s became %s", in, with)
			}
			if again, changed, err := withPlugin(with, entry); err != nil || changed || !bytes.Equal(again, with) {
				t.Errorf("%s became %s the second time: %v", with, again, err)
			}
			without, _, err := withoutPlugin(with)
			if err != nil {
				t.Fatal(err)
			}
			if conf, plugins, ours = others(t, without); ours != 0 || !reflect.DeepEqual(conf, wantConf) || !reflect.DeepEqual(plugins, wantPlugins) {
				t.Errorf("%s without ours is %s", with, without)
			}
		}
		if list, err := wrapped(in, entry); err == nil {
			single, _, _ := others(t, in)
			_, plugins, ours := others(t, list)
			if alone, _ := plugins[0].(map[string]any); ours != 1 || len(plugins) != 1 || alone["type"] != single["type"] {
				t.Errorf("%s in a list is %s", in, list)
			}
			if _, changed, err := withPlugin(list, entry); err != nil || changed {
				t.Errorf("the list %s changes: %v", list, err)
			}
		}
	})
}
