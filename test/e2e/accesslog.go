// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// streamOpened is the message of a gateway's line about a stream that begins.
const streamOpened = "stream opened"

// connection is one line of an access log, as far as the demo reads it.
type connection struct {
	Message   string `json:"msg"`
	Direction string `json:"direction"`
	Tunnel    string `json:"tunnel"`
	Peer      string `json:"peer"`
	Service   string `json:"service"`
	Workload  string `json:"workload"`
	Network   string `json:"network"`
	Outer     string `json:"outer"`
	Status    int    `json:"status"`
	Reason    string `json:"reason"`
}

// accessLog gives the connections, and the streams of gateways that were opened, that the pods with the given labels have logged since then, and the raw logs.
func accessLog(ctx context.Context, c *cluster, labels string, since time.Time) ([]connection, []byte, error) {
	pods, err := c.clientset.CoreV1().Pods(systemNamespace).List(ctx, metav1.ListOptions{LabelSelector: labels})
	if err != nil {
		return nil, nil, err
	}
	if len(pods.Items) == 0 {
		return nil, nil, fmt.Errorf("no pod in %s has the labels %s", c.Name, labels)
	}
	var (
		connections []connection
		raw         []byte
	)
	for _, pod := range pods.Items {
		text, err := podLog(ctx, c, pod.Name, since)
		if err != nil {
			return nil, nil, err
		}
		raw = append(raw, text...)
		for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
			var line connection
			if json.Unmarshal(lines.Bytes(), &line) == nil && (line.Message == "connection" || line.Message == streamOpened) {
				connections = append(connections, line)
			}
		}
	}
	return connections, raw, nil
}

func podLog(ctx context.Context, c *cluster, pod string, since time.Time) ([]byte, error) {
	at := metav1.NewTime(since)
	stream, err := c.clientset.CoreV1().Pods(systemNamespace).GetLogs(pod, &corev1.PodLogOptions{SinceTime: &at}).Stream(ctx)
	if err != nil {
		return nil, fmt.Errorf("log of %s in %s: %w", pod, c.Name, err)
	}
	defer stream.Close()
	return io.ReadAll(stream)
}
