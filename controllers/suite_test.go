// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/internal/world"
	"github.com/isthmus-mesh/isthmus/test/apiserver"
)

const (
	system = "isthmus-system"
	// soon is how long anything may take here: the machine may be busy with other tests.
	soon = 30 * time.Second
	tick = 20 * time.Millisecond
)

// The suite has two clusters with real API servers. Our control plane runs for east; west is the remote one.
var (
	east, west *cluster
	control    *controlPlane
)

// cluster is an API server and clients for it.
type cluster struct {
	*apiserver.Server
	client.Client
	clientset *kubernetes.Clientset
	tokenLife int64 // in seconds, beyond an hour, of the next token
}

// controlPlane is a running Run.
type controlPlane struct {
	address string
	stop    context.CancelFunc
	done    chan struct{}
	err     error // of Run; read after done
}

func TestControllers(t *testing.T) {
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(soon)
	SetDefaultEventuallyPollingInterval(tick)
	SetDefaultConsistentlyPollingInterval(tick)
	RunSpecs(t, "controllers")
}

var _ = BeforeSuite(func() {
	ctrl.SetLogger(testLog())
	probeEvery = time.Second
	quietWatch = 6 * time.Second
	automaticGrace = time.Second
	lookAgainEvery = time.Second
	versionsEvery = time.Second
	remoteResolver = names.resolver()
	started := make(chan *cluster, 2)
	for range 2 {
		go func() {
			defer GinkgoRecover()
			defer func() { started <- nil }()
			started <- startCluster()
		}()
	}
	clusters := []*cluster{}
	for ended := 0; ended < 2; { // each says so, also one that fails
		if c := <-started; c != nil {
			clusters = append(clusters, c)
		} else {
			ended++
		}
	}
	Expect(clusters).To(HaveLen(2), "API servers must start")
	east, west = clusters[0], clusters[1]
	east.prepare("east")
	west.prepare("west")
	control = startControlPlane(east, "east")
})

var _ = AfterSuite(func() {
	if control != nil {
		control.end()
	}
	for _, c := range []*cluster{east, west} {
		if c != nil {
			Expect(c.Stop()).To(Succeed())
		}
	}
})

func testLog() logr.Logger {
	if os.Getenv("ISTHMUS_TEST_VERBOSE") == "" {
		return logr.Discard()
	}
	return funcr.New(func(prefix, args string) { GinkgoWriter.Println(prefix, args) }, funcr.Options{})
}

func startCluster(without ...string) *cluster {
	server, err := apiserver.Start(without...)
	Expect(err).NotTo(HaveOccurred())
	c, err := client.New(server.Config, client.Options{Scheme: scheme})
	Expect(err).NotTo(HaveOccurred())
	clientset, err := kubernetes.NewForConfig(server.Config)
	Expect(err).NotTo(HaveOccurred())
	return &cluster{Server: server, Client: c, clientset: clientset}
}

// prepare makes what config/default would: the system namespace with the network's label. Gateways of the namespace "default" may lead into the cluster, too.
func (c *cluster) prepare(network string) {
	ordinary := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	edit(c, ordinary, func(n *corev1.Namespace) { n.Labels[world.LabelEastWestGateways] = "true" })
	c.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: system, Labels: map[string]string{networkLabel: network}}})
	c.apply("config", "rbac", "reader.yaml")
	c.apply("config", "rbac", "controller.yaml")
}

// apply creates every object of a file of the source tree.
func (c *cluster) apply(path ...string) {
	GinkgoHelper()
	for _, o := range documents(path...) {
		c.create(o)
	}
}

// documents reads the objects of a file of the source tree.
func documents(path ...string) []*unstructured.Unstructured {
	GinkgoHelper()
	root, err := apiserver.Repository()
	Expect(err).NotTo(HaveOccurred())
	data, err := os.ReadFile(filepath.Join(append([]string{root}, path...)...))
	Expect(err).NotTo(HaveOccurred())
	var objects []*unstructured.Unstructured
	for _, document := range strings.Split(string(data), "\n---\n") {
		o := &unstructured.Unstructured{}
		Expect(yaml.Unmarshal([]byte(document), &o.Object)).To(Succeed())
		objects = append(objects, o)
	}
	return objects
}

func (c *cluster) create(objects ...client.Object) {
	GinkgoHelper()
	for _, o := range objects {
		Expect(c.Create(context.Background(), o)).To(Succeed())
	}
}

// removeLater deletes objects at the end of the spec. Nobody ends pods here, so they get no time for it.
func (c *cluster) removeLater(objects ...client.Object) {
	DeferCleanup(func() {
		for _, o := range objects {
			Expect(client.IgnoreNotFound(c.Delete(context.Background(), o, client.GracePeriodSeconds(0)))).To(Succeed())
		}
	})
}

// with creates objects and deletes them at the end of the spec.
func (c *cluster) with(objects ...client.Object) {
	GinkgoHelper()
	c.create(objects...)
	c.removeLater(objects...)
}

// edit changes an object until that meets no other writer.
func edit[O client.Object](c *cluster, o O, change func(O)) {
	GinkgoHelper()
	Eventually(func() error {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		change(o)
		return c.Update(context.Background(), o)
	}).Should(Succeed())
}

// editStatus changes an object's status until that meets no other writer.
func editStatus[O client.Object](c *cluster, o O, change func(O)) {
	GinkgoHelper()
	Eventually(func() error {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		change(o)
		return c.Status().Update(context.Background(), o)
	}).Should(Succeed())
}

func startControlPlane(c *cluster, id world.Cluster) *controlPlane {
	GinkgoHelper()
	// With the rights that config/rbac gives and no others.
	config := rest.CopyConfig(c.Config)
	config.Impersonate = rest.ImpersonationConfig{
		UserName: accountPrefix + system + ":isthmus-controller",
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + system, "system:authenticated"},
	}
	return startReplica(config, id, nil)
}

// startReplica runs a control plane; term is nil for the usual one.
func startReplica(config *rest.Config, id world.Cluster, term *officeTimes, change ...func(*Options)) *controlPlane {
	GinkgoHelper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	Expect(err).NotTo(HaveOccurred())
	ctx, stop := context.WithCancel(context.Background())
	p := &controlPlane{address: listener.Addr().String(), stop: stop, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		options := Options{
			Log: testLog(), Rest: config, Discovery: listener,
			World:        world.Config{LocalCluster: id, TrustDomain: "cluster.local", ClusterDomain: "cluster.local", SystemNamespace: system},
			GatewayImage: "isthmus.dev/gateway:dev",
			Proxies:      []string{system + "/isthmus-nodeproxy"},
			LeaderElect:  true,
			term:         term,
		}
		for _, f := range change {
			f(&options)
		}
		p.err = Run(ctx, options)
	}()
	return p
}

// end stops the control plane and waits until nothing of it runs.
func (p *controlPlane) end() {
	GinkgoHelper()
	p.stop()
	Eventually(p.done).Should(BeClosed())
	Expect(p.err).NotTo(HaveOccurred())
}

// get reads an object, for Eventually.
func get[O client.Object](c *cluster, o O) func() (O, error) {
	return func() (O, error) {
		err := c.Get(context.Background(), client.ObjectKeyFromObject(o), o)
		return o, err
	}
}
