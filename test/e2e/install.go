// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

var (
	//go:embed manifests/app.yaml
	appManifest string
	//go:embed manifests/only-east.yaml
	onlyEastManifest string
	//go:embed manifests/gateway.yaml
	gatewayManifest string
)

// readerToken is how long the credential lives with which one cluster reads another.
const readerToken = 30 * 24 * time.Hour

// overlay says what differs between the clusters; everything else is config/default.
const overlay = `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
- %[1]s
patches:
- patch: |
    apiVersion: v1
    kind: Namespace
    metadata:
      name: isthmus-system
      labels:
        topology.istio.io/network: %[2]s
- patch: |
    apiVersion: v1
    kind: ConfigMap
    metadata:
      name: isthmus
      namespace: isthmus-system
    data:
      clusterID: %[2]s
      network: %[2]s
`

// install puts Isthmus on one cluster: the shared root's intermediate, then config/default with the cluster's name.
func install(ctx context.Context, c *cluster, root *rootCA, repository, scratch string) error {
	system := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: systemNamespace}}
	if err := client.IgnoreAlreadyExists(c.client.Create(ctx, system)); err != nil {
		return fmt.Errorf("namespace in %s: %w", c.Name, err)
	}
	data, err := root.cacerts(c.Name)
	if err != nil {
		return err
	}
	if err := putSecret(ctx, c, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "cacerts", Namespace: systemNamespace}, Data: data}); err != nil {
		return err
	}

	dir := filepath.Join(scratch, c.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	base, err := filepath.Rel(dir, filepath.Join(repository, "config", "default"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), fmt.Appendf(nil, overlay, base, c.Name), 0o644); err != nil {
		return err
	}
	if _, err := c.kubectl(ctx, "", "apply", "--server-side", "-k", dir); err != nil {
		return err
	}
	return nil
}

// link gives the cluster `reader` what it needs to read the cluster `read`: a labelled Secret with a kubeconfig, whose
// credential is a token of the service account that config/default made for this.
func link(ctx context.Context, reader, read *cluster) error {
	kubeconfig, err := remoteKubeconfig(ctx, read)
	if err != nil {
		return err
	}
	return putSecret(ctx, reader, remoteSecret(read.Name, kubeconfig))
}

func remoteSecret(name string, kubeconfig []byte) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name:      "isthmus-remote-" + name,
			Namespace: systemNamespace,
			Labels:    map[string]string{"istio/multiCluster": "true"},
		},
		Data: map[string][]byte{name: kubeconfig},
	}
}

func remoteKubeconfig(ctx context.Context, read *cluster) ([]byte, error) {
	internal, err := read.InternalKubeconfig()
	if err != nil {
		return nil, err
	}
	admin, err := clientcmd.Load(internal)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig of %s: %w", read.Name, err)
	}
	seconds := int64(readerToken / time.Second)
	token, err := read.clientset.CoreV1().ServiceAccounts(systemNamespace).CreateToken(ctx, "isthmus-reader",
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("token of the reader in %s: %w", read.Name, err)
	}
	far := admin.Clusters[admin.Contexts[admin.CurrentContext].Cluster]
	config := clientcmdapi.NewConfig()
	config.Clusters[read.Name] = &clientcmdapi.Cluster{Server: far.Server, CertificateAuthorityData: far.CertificateAuthorityData}
	config.AuthInfos["isthmus-reader"] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	config.Contexts[read.Name] = &clientcmdapi.Context{Cluster: read.Name, AuthInfo: "isthmus-reader"}
	config.CurrentContext = read.Name
	return clientcmd.Write(*config)
}

func putSecret(ctx context.Context, c *cluster, secret *corev1.Secret) error {
	err := c.client.Create(ctx, secret)
	if client.IgnoreAlreadyExists(err) == nil && err != nil {
		err = c.client.Update(ctx, secret)
	}
	if err != nil {
		return fmt.Errorf("secret %s in %s: %w", secret.Name, c.Name, err)
	}
	return nil
}
