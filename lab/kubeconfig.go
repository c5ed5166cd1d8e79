// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"fmt"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// kubeconfig writes a self-contained kubeconfig: everything inline, no files, no programs.
func kubeconfig(cluster, user, server string, ca []byte, credentials pair) ([]byte, error) {
	config := api.NewConfig()
	config.Clusters[cluster] = &api.Cluster{Server: server, CertificateAuthorityData: ca}
	config.AuthInfos[user] = &api.AuthInfo{ClientCertificateData: credentials.certificate, ClientKeyData: credentials.key}
	config.Contexts[cluster] = &api.Context{Cluster: cluster, AuthInfo: user}
	config.CurrentContext = cluster
	data, err := clientcmd.Write(*config)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig of %s for %s: %w", cluster, user, err)
	}
	return data, nil
}

// withServer is the same kubeconfig, pointing to another address of the same API server.
func withServer(data []byte, server string) ([]byte, error) {
	config, err := clientcmd.Load(data)
	if err != nil {
		return nil, err
	}
	for _, cluster := range config.Clusters {
		cluster.Server = server
	}
	return clientcmd.Write(*config)
}
