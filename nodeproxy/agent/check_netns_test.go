// SPDX-License-Identifier: Apache-2.0

//go:build netns

package agent

import (
	"net/http"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/cni"
)

// TestCheckSaysWhatIsWrong asks as the plugin does on the runtime's CHECK.
func TestCheckSaysWhatIsWrong(t *testing.T) {
	n := newNode(t, namespace("shop", modeAmbient), namespace("plain", ""))
	pod, sandbox := n.pod(1, "10.1.0.1", nil), n.sandbox("10.1.0.1")
	out, other := n.pod(2, "10.1.0.2", map[string]string{labelMode: modeNone}), n.sandbox("10.1.0.2")
	late, third := n.pod(3, "10.1.0.3", nil), n.sandbox("10.1.0.3")
	n.process(uidOf(1), sandbox)
	n.start()
	p, _ := n.startProxy()
	n.until("pod to be served", func() bool { return p.served(pod) && n.annotation(pod) == redirectionEnabled })

	if code, text := n.post(cni.CheckPath, pod, sandbox, "10.1.0.1"); code != http.StatusOK {
		t.Errorf("as it should be: %d %s", code, text)
	}
	if code, text := n.post(cni.CheckPath, out, other, "10.1.0.2"); code != http.StatusOK {
		t.Errorf("outside of the mesh: %d %s", code, text)
	}
	// Its network namespace is in no process table, so the agent has not found it.
	if code, text := n.post(cni.CheckPath, late, third, "10.1.0.3"); code != http.StatusInternalServerError || !strings.Contains(text, errNotCaptured.Error()) {
		t.Errorf("not captured: %d %s", code, text)
	}
	deleteTable(t, sandbox, "isthmus-nat")
	// It may be put right before it is looked at: then there was nothing wrong any more.
	if code, text := n.post(cni.CheckPath, pod, sandbox, "10.1.0.1"); code != http.StatusOK && !strings.Contains(text, "table isthmus-nat is missing") {
		t.Errorf("damaged: %d %s", code, text)
	}
	n.until("the rules to be whole again", func() bool {
		code, _ := n.post(cni.CheckPath, pod, sandbox, "10.1.0.1")
		return code == http.StatusOK
	})
}
