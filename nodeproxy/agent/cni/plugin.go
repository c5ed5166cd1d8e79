// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

const (
	// patience is how long the plugin waits for the agent's answer. The kubelet gives a sandbox 4 minutes and then tries again.
	patience = 60 * time.Second
	// maxRequest bounds what is read of a request, in bytes. One about a pod has a few KiB, and one that names all that the runtime still has on the node (GC) some 100 for each: 1 MiB are 10,000.
	maxRequest = 1 << 20
	// knock is the pause between attempts to reach an agent that is not there.
	knock = 100 * time.Millisecond
)

// Config is the plugin's entry in the node's list of plugins.
type Config struct {
	types.PluginConf
	// Socket is where the agent listens, a path on the node.
	Socket string `json:"socket"`
	// AgentWaitSeconds is how long to wait for an agent that is not there before the pod's start fails.
	AgentWaitSeconds int `json:"agentWaitSeconds,omitempty"`
	// ExcludeNamespaces are namespaces whose pods never are in the mesh, and start without asking the agent.
	ExcludeNamespaces []string `json:"excludeNamespaces,omitempty"`
}

// kubernetesArgs is what the runtime says about the pod in CNI_ARGS.
type kubernetesArgs struct {
	types.CommonArgs
	K8S_POD_NAME      types.UnmarshallableString
	K8S_POD_NAMESPACE types.UnmarshallableString
	K8S_POD_UID       types.UnmarshallableString
}

// Main is the plugin's main function: it reads a CNI request from the environment and the standard input, answers on the standard
// output, and ends the process with status 1 if that is an error.
func Main() {
	if err := boundInput(); err != nil {
		refuse(types.NewError(types.ErrIOFailure, "standard input", err.Error()))
	}
	nothing := func(*skel.CmdArgs) error { return nil }
	skel.PluginMainFuncs(skel.CNIFuncs{Add: add, Del: nothing, Check: check, GC: nothing, Status: status},
		version.All, "Isthmus: pods start when their traffic is captured")
}

// boundInput has the library, which reads all that there is, find no more than a request on the standard input. Whoever says more ends the process.
func boundInput() error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	in := os.Stdin
	os.Stdin = read
	go func() {
		defer write.Close()
		// What cannot be read or passed on is missing, and what is left is no request.
		if n, _ := io.Copy(write, io.LimitReader(in, maxRequest+1)); n > maxRequest {
			refuse(types.NewError(types.ErrDecodingFailure, fmt.Sprintf("request of more than %d bytes", maxRequest), ""))
		}
	}()
	return nil
}

// refuse answers with an error, and ends the process.
func refuse(e *types.Error) {
	_ = e.Print() // nobody hears it then, and the status says the same
	os.Exit(1)
}

func readConfig(args *skel.CmdArgs) (Config, error) {
	var conf Config
	if err := json.Unmarshal(args.StdinData, &conf); err != nil {
		return conf, types.NewError(types.ErrDecodingFailure, "configuration of "+PluginName, err.Error())
	}
	return conf, nil
}

// readPod reads the configuration and what pod it is about.
func readPod(args *skel.CmdArgs) (Config, Event, error) {
	conf, err := readConfig(args)
	if err != nil {
		return conf, Event{}, err
	}
	if at, found := nullIn("prevResult", conf.RawPrevResult); found {
		return conf, Event{}, types.NewError(types.ErrDecodingFailure, "result of the previous plugin", at+" is null")
	}
	if err := version.ParsePrevResult(&conf.PluginConf); err != nil {
		return conf, Event{}, types.NewError(types.ErrDecodingFailure, "result of the previous plugin", err.Error())
	}
	if conf.PrevResult == nil {
		return conf, Event{}, types.NewError(types.ErrInvalidNetworkConfig, PluginName+" must come after the plugin that makes the network", "")
	}
	event, err := newEvent(args, conf.PrevResult)
	return conf, event, err
}

// nullIn finds a list's element in a value that is nothing, and says where: the library, which makes pointers of elements, follows them without a look.
func nullIn(at string, value any) (string, bool) {
	switch v := value.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if where, found := nullIn(at+"."+key, v[key]); found {
				return where, true
			}
		}
	case []any:
		for i, element := range v {
			here := fmt.Sprintf("%s[%d]", at, i)
			if element == nil {
				return here, true
			}
			if where, found := nullIn(here, element); found {
				return where, true
			}
		}
	}
	return "", false
}

func add(args *skel.CmdArgs) error {
	conf, event, err := readPod(args)
	if err != nil {
		return err
	}
	if event.PodName != "" && !slices.Contains(conf.ExcludeNamespaces, event.PodNamespace) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := announce(ctx, conf, event); err != nil {
			return types.NewError(types.ErrTryAgainLater, fmt.Sprintf("pod %s/%s cannot start: %v", event.PodNamespace, event.PodName, err), "")
		}
	}
	return types.PrintResult(conf.PrevResult, conf.CNIVersion)
}

// newEvent gathers what the agent needs. Without a pod's name it is not Kubernetes that asks, and the event is empty.
func newEvent(args *skel.CmdArgs, previous types.Result) (Event, error) {
	var k kubernetesArgs
	if err := types.LoadArgs(args.Args, &k); err != nil {
		return Event{}, types.NewError(types.ErrInvalidEnvironmentVariables, "CNI_ARGS", err.Error())
	}
	if k.K8S_POD_NAME == "" || k.K8S_POD_NAMESPACE == "" {
		return Event{}, nil
	}
	result, err := current.NewResultFromResult(previous)
	if err != nil {
		return Event{}, types.NewError(types.ErrDecodingFailure, "result of the previous plugin", err.Error())
	}
	event := Event{Netns: filepath.Clean(args.Netns), PodName: string(k.K8S_POD_NAME), PodNamespace: string(k.K8S_POD_NAMESPACE), PodUID: string(k.K8S_POD_UID)}
	for _, ip := range result.IPs {
		addr, ok := netip.AddrFromSlice(ip.Address.IP)
		if !ok {
			continue
		}
		addr = addr.Unmap()
		ones, bits := ip.Address.Mask.Size()
		ones = max(ones-(bits-addr.BitLen()), 0) // of an IPv4 address that is written as one of IPv6, too
		a := Address{Interface: ip.Interface, Address: netip.PrefixFrom(addr, ones)}
		if ip.Gateway != nil {
			a.Gateway = ip.Gateway.String()
		}
		event.IPs = append(event.IPs, a)
	}
	return event, nil
}

// errAway says that no agent answered. Whether one heard us does not matter: to announce a pod again is harmless.
var errAway = errors.New("the isthmus agent of this node is not reachable")

// announce gives the event to the agent and waits until the pod may start. While the agent is being replaced it is tried again.
func announce(ctx context.Context, conf Config, event Event) error {
	end := time.Now().Add(time.Duration(min(conf.AgentWaitSeconds, int(patience/time.Second))) * time.Second)
	for {
		err := post(ctx, conf.Socket, AddPath, event)
		if !errors.Is(err, errAway) || time.Now().After(end) || ctx.Err() != nil {
			return err
		}
		time.Sleep(knock)
	}
}

// post tells of an event once.
func post(ctx context.Context, socket, path string, event Event) error {
	body, err := json.Marshal(event)
	if err != nil {
		return err
	}
	return ask(ctx, socket, http.MethodPost, path, body)
}

// ask asks once; an answer other than 200 is an error.
func ask(ctx context.Context, socket, method, path string, body []byte) error {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok {
			err = op.Err
		}
		return fmt.Errorf("%w at %s: %w", errAway, socket, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // what came of it is better than nothing
	return fmt.Errorf("the isthmus agent of this node answered: %s", strings.TrimSpace(string(text)))
}
